// The page in a browser: does it bring every visitor back, and can everybody read it?
// "make page" installs the npm packages in PLAYWRIGHT_DIR. The rest is Debian's: chromium, and, if
// they are installed, firefox-esr and java. MAINTD and CHROMIUM name other binaries. In a story, a
// stand-in takes the port of a real maintd. Time stands still until the test moves it.

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import http from 'node:http';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { after, test } from 'node:test';
import vm from 'node:vm';

const binary = process.env.MAINTD ?? './maintd';
const html = readFileSync('maintenance.html', 'utf8');
const packages = resolve(process.env.PLAYWRIGHT_DIR ?? '.', 'node_modules');

const { chromium, _bidiFirefox } = createRequire(join(packages, '.'))('playwright-core');
const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
const browsers = { Chromium: await chromium.launch({ executablePath, args: ['--no-sandbox'] }) };
const firefox = ['/usr/bin/firefox-esr', '/usr/bin/firefox'].find(existsSync);
if (firefox) browsers.Firefox = await _bidiFirefox.launch({ executablePath: firefox });
const both = Object.keys(browsers);
after(() => Promise.all(Object.values(browsers).map(browser => browser.close())));

const java = spawnSync('java', ['-version']).status === 0;
test('Firefox takes part', { skip: !firefox && 'firefox-esr is not installed' });

// ---- What answers at the port -------------------------------------------------------------------

// Starts maintd with its own page on a free port.
async function startMaintd() {
  const child = spawn(binary, ['-p', '0'], { stdio: ['ignore', 'ignore', 'pipe'] });
  const exit = once(child, 'exit');
  const [first] = await Promise.race([once(child.stderr, 'data'), exit]);
  const port = Number(/:(\d+)\//.exec(first)?.[1]);
  assert.ok(port, `a first line with the URL, not: ${first}`);
  return { port, stop: async () => { child.kill(); await exit; } };
}

// Answers at `port` by `answer(request, response, isLoad)`. `log` has a line for each request:
// "ask" where a script has sent it, "load" where the browser shows the answer.
async function standIn(port, answer) {
  const log = [];
  const server = http.createServer((request, response) => {
    const isLoad = request.headers['sec-fetch-mode'] === 'navigate';
    log.push(`${isLoad ? 'load' : 'ask'} ${request.method} ${request.url}`);
    request.resume();
    answer(request, response, isLoad);
  });
  server.listen(port);
  await once(server, 'listening');
  const stop = () => new Promise(done => {
    server.close(done);
    server.closeAllConnections();
  });
  const count = word => log.filter(line => line.startsWith(word)).length;
  return { log, server, stop, asks: () => count('ask'), loads: () => count('load') };
}

const says = (status, body = '', more = {}) => (request, response) => response
  .writeHead(status, { 'Content-Type': 'text/html', 'Connection': 'close', ...more }).end(body);
const down = says(503, html, { 'Retry-After': '120', 'Cache-Control': 'no-store' });
const sitePage = `<!doctype html><title>The site</title><link rel="icon" href="data:,">
  <p style="height: 3000px">Welcome<p style="height: 3000px" id="part">Part`;
const site = says(200, sitePage);

// ---- The visitor --------------------------------------------------------------------------------

// Opens a tab. The page's first waits last 10 s. Its clock stands still, or leaps over every wait.
async function openTab(context, trouble, leaps) {
  if (!leaps) await context.clock.install({ time: 0 }).then(() => context.clock.pauseAt(1000));
  await context.addInitScript(leap => {
    const { fetch, setTimeout } = window;
    let now = 0, answers = 0;
    const sleep = (call, wait) => setTimeout(() => { now += wait; call(); }, wait / 100);
    if (leap) Date.now = () => now;
    if (leap) window.setTimeout = (call, wait) => wait < 120000 && sleep(call, wait);
    Math.random = () => 0.125;
    window.answered = 0; // how many answers the page has got, once no question is in flight
    window.fetch = (...request) => {
      const answer = fetch(...request), count = () => answers += 1;
      window.answered = answer.then(count, count);
      return answer;
    };
  }, leaps);
  const page = await context.newPage();
  const expected = /^Failed to load|Security.Policy|settings blocked|U\+0040|Invalid or unexpected/;
  const report = text => expected.test(text) || trouble.push(text);
  page.on('dialog', dialog => report(`a question: ${dialog.message()}`));
  page.on('pageerror', error => report(error.message));
  page.on('console', message => message.type() === 'error' && report(message.text()));
  return page;
}

const link = page => page.getByRole('link', { name: 'Try again now' });
const promise = /brings you back by itself/;

// Moves the page's clock until `done(answers)` is true, but not while a question is in flight. A
// step is shorter than a wait, so no question follows. The page may go away meanwhile.
async function run(page, done) {
  const gone = error => assert.match(error.message, /destroyed|navigat/i);
  let over = false;
  while (!over) {
    await page.clock.runFor(5000);
    over = await page.evaluate(() => window.answered).then(done).catch(gone);
  }
}

// Moves the page's clock until the page has got `count` answers more.
async function letAsk(page, count = 1) {
  const enough = count + await page.evaluate(() => window.answered);
  await run(page, answers => answers >= enough);
}

// Moves the page's clock until the page knows that the site is back, and waits for the site.
async function letReturn(page, url) {
  await run(page, () => page.getByText(/^The site is back|^Welcome/).count());
  await page.getByText('Welcome').waitFor();
  assert.deepEqual([page.url(), await page.title()], [url, 'The site']);
}

// Changes what the page believes about its tab: a headless tab is always in front.
const setHidden = (page, hidden) => page.evaluate(value => {
  Object.defineProperty(document, 'hidden', { configurable: true, value });
  document.dispatchEvent(new Event('visibilitychange'));
}, hidden);

// A test: maintd answers at `origin`, and a tab is open. `take(answer)` puts a stand-in into the
// place of the server that has the port, `take()` none.
function story(name, engines, tell, leaps = false) {
  for (const engine of engines)
    test(`${name} (${engine})`, { timeout: 30000 }, async t => {
      let now = await startMaintd();
      t.after(() => now?.stop());
      const context = await browsers[engine].newContext();
      t.after(() => context.close());
      const trouble = [], { port } = now;
      const page = await openTab(context, trouble, leaps);
      const take = async answer => {
        await now?.stop();
        return now = answer && await standIn(port, answer);
      };
      await tell({ page, take, context, origin: `http://127.0.0.1:${port}` });
      assert.deepEqual(trouble, []);
    });
}

const arrivals = {
  'follows a link': (page, url) => page.goto(url),
  'sends a form': async (page, url) => {
    await page.setContent(`<form method="post" action="${url}"><button>Send</button></form>`);
    await Promise.all([page.waitForURL(url), page.getByRole('button').click()]);
  },
};

// ---- The visitor is brought back ----------------------------------------------------------------

for (const [how, arrive] of Object.entries(arrivals))
  for (const address of ['/login?token=once', '/page?from=here#part'])
    story(`a visitor that ${how} to ${address} returns`, both, async ({ page, take, origin }) => {
      await arrive(page, origin + address);
      const entries = await page.evaluate(() => history.length);
      await page.getByText('Please try again in a few minutes.').waitFor(); // and no promise yet
      await take(down);
      await letAsk(page);
      await page.getByText(promise).waitFor();
      await take();
      await letAsk(page);
      const { log } = await take(site);
      await letReturn(page, origin + address);
      const target = address.replace(/#.*/, '');
      assert.deepEqual(log, [`ask GET ${target.replace(/\?.*/, '')}`, `load GET ${target}`]);
      assert.equal(await page.evaluate(() => history.length), entries);
      if (address !== target) await page.waitForFunction(() => scrollY > 2000);
    });

for (const [address, code, there = address, user = ''] of [
  ['/', 200], ['/#part', 401], ['/page#', 403], ['/page?', 404], ['/page?#part', 405],
  ['//a//b#part', 200], ['/p?a&#x', 200], ['/page#part', 302, '/elsewhere#part'],
  ['/page#part', 200, '/page#part', 'user:secret@'],
])
  story(`${user}${address} is loaded to the letter when it says ${code}`, both, async s => {
    const origin = s.origin.replace('//', `//${user}`);
    await s.page.goto(origin + address);
    const { log } = await s.take((request, response) =>
      says(log.length < 3 ? code : 200, sitePage, { Location: '/elsewhere' })(request, response));
    await letReturn(s.page, origin + there);
    assert.equal(log[1], `load GET ${address.replace(/#.*/, '')}`);
  });

story('it asks with cookies, past caches, for two minutes', both, async ({ page, ...s }) => {
  await s.context.addCookies([{ name: 'visitor', value: 'known', url: s.origin }]);
  await page.goto(s.origin);
  const slow = await s.take((request, response) =>
    slow.asks() === 1 || response.writeHead(503).write('a body that does not end'));
  const asked = once(slow.server, 'request');
  await page.clock.runFor(10000);
  const [{ headers }, response] = await asked;
  assert.deepEqual([headers.cookie, headers['cache-control']], ['visitor=known', 'no-cache']);
  await link(page).click();
  await page.dispatchEvent('html', 'visibilitychange');
  await page.clock.runFor(119000); // in which the visitor may type a password
  assert.deepEqual([slow.asks(), response.closed], [1, false]);
  await Promise.all([page.waitForEvent('requestfailed'), page.clock.runFor(1000)]);
  await Promise.all([page.waitForEvent('requestfailed'), letAsk(page)]); // the header is enough
});

story('a service worker that has stored the page does not keep it', both, async s => {
  const worker = `oninstall = () => skipWaiting(); onactivate = e => e.waitUntil(clients.claim());
    onfetch = e => e.respondWith(caches.open('all').then(async cache => {
      if (!await cache.match(e.request)) await cache.put(e.request, await fetch(e.request));
      return cache.match(e.request);
    }));`;
  const script = says(200, worker, { 'Content-Type': 'text/javascript' });
  await s.take((request, response) =>
    (request.url === '/worker.js' ? script : site)(request, response));
  await s.page.goto(`${s.origin}/first`);
  await s.page.evaluate(() => new Promise(done => {
    navigator.serviceWorker.oncontrollerchange = () => done();
    navigator.serviceWorker.register('/worker.js');
  }));
  await s.take(down);
  await s.page.goto(`${s.origin}/page?a`);
  await letAsk(s.page, 2);
  const { log } = await s.take(site);
  await letReturn(s.page, `${s.origin}/page?a`);
  assert.equal(log.filter(line => line.endsWith('/page?a')).length, 1); // loaded once
});

for (const [what, answer] of [
  ['a download', says(200, 'data', { 'Content-Disposition': 'attachment' })],
  ['no page (204)', says(204)],
])
  story(`${what} loads once for each change from down to up`, both, async ({ page, ...s }) => {
    const url = `${s.origin}/page?a#part`;
    await page.goto(url);
    for (let change = 0; change < 2; ++change) {
      const up = await s.take(answer);
      await letAsk(page, 4);
      const status = await page.getByRole('status').innerText();
      assert.deepEqual([up.loads(), page.url(), status], [1, url, 'The site is back.']);
      await s.take(down);
      await letAsk(page);
      await page.getByText(promise).waitFor();
    }
  });

// A load is held back until the page has asked several times more.
for (const [what, address, before] of [
  ['a page that takes minutes to come', '/page', 200],
  ['a slow address that the visitor opens meanwhile', '/other', 503],
])
  story(`${what} is waited for`, both, async ({ page, take, origin }) => {
    await page.goto(`${origin}/page`);
    let pending, later = 0;
    const slow = await take((request, response, isLoad) => {
      if (isLoad) pending = response;
      else if (pending && ++later === 4) site(request, pending);
      else says(pending ? 200 : before)(request, response);
    });
    const loaded = page.waitForEvent('load');
    if (address !== '/page') await page.evaluate(url => { location.href = url; }, address);
    await loaded;
    assert.deepEqual([page.url(), slow.loads()], [origin + address, 1]);
  }, true);

story('the waits grow over loads in vain', both, async ({ page, take, origin }) => {
  await page.goto(`${origin}/page#part`);
  const up = await take((request, response, isLoad) => (isLoad ? down : site)(request, response));
  const times = [0];
  while (times.length < 7) {
    await Promise.all([page.waitForEvent('load'), run(page, () => up.asks() === times.length)]);
    times.push(await page.evaluate(() => Date.now()) / 1000);
  }
  assert.ok(times[6] - times[5] > 20, `loaded after ${times} s`);
  await take(site);
  await letReturn(page, `${origin}/page#part`);
});

// ---- How often it asks --------------------------------------------------------------------------

// The page's script without a browser: `answer(seconds)` is the site, time passes at once.
const script = new vm.Script(/<script>([^]*)<\/script>/.exec(html)[1]);
async function simulate(until, answer, random = Math.random) {
  const start = Date.UTC(2026, 0), timers = [], asked = [], loaded = [];
  let now = start;
  const seconds = () => (now - start) / 1000;
  const self = {
    origin: 'http://site', AbortController, navigator: {}, sessionStorage: {},
    Math: Object.assign(Object.create(Math), { random }),
    Date: class extends Date { static now() { return now; } },
    document: { URL: '/', querySelector: () => ({ dataset: {} }), addEventListener() {} },
    location: { origin: 'http://site', pathname: '/', replace: () => loaded.push(seconds()) },
    history: { replaceState() {} },
    setTimeout: (call, wait) => timers.push({ call, at: now + wait }),
    fetch: async () => { asked.push(seconds()); return answer(seconds()); },
  };
  script.runInNewContext(Object.assign(self, { window: self }));
  while (timers.length && seconds() < until) {
    const { call, at } = timers.sort((a, b) => b.at - a.at).pop();
    now = at;
    call();
    await new Promise(setImmediate);
  }
  return { asked, loaded, waits: asked.map((time, i) => time - (asked[i - 1] ?? 0)) };
}
const answers = (status, after = null) => ({ status, headers: { get: () => after } });

for (const [luck, share] of [[0, 0.5], [0.125, 1], [1 - Number.EPSILON, 1.5]])
  test(`at random, a wait may be ${share} times an eighth of the time so far`, async () => {
    const { asked, waits } = await simulate(1500, () => answers(503, '3600'), () => luck);
    const usual = asked.map((_, i) => Math.max(10, (asked[i - 1] ?? 0) / 8));
    const near = waits.every((wait, i) => Math.abs(wait - share * usual[i]) < 0.01);
    assert.ok(near && waits.length > 9, `${waits}`);
  });

for (const [status, after, most] of [
  [429, '3600', 300], [500, '60', 60], [501, '1', 30], [502, '0', 30], [503, '-5', 30],
  [504, null, 300], [520, 'soon', 300], [599, 'Fri, 01 Jan 2100 00:00:00 GMT', 300],
  [503, 'Thu, 01 Jan 1970 00:00:00 GMT', 30],
])
  test(`${status} with Retry-After: ${after} means down, with waits up to ${most} s`, async () => {
    const { waits, loaded } = await simulate(6000, () => answers(status, after));
    assert.deepEqual([Math.max(...waits).toFixed(2), loaded], [most.toFixed(2), []]);
  });

test('a load that leaves the page open is followed by a minute without a question', async () => {
  const { asked, loaded } = await simulate(300, () => answers(200));
  assert.ok(loaded.length === 1 && asked[1] - loaded[0] > 60, `${loaded}; ${asked}`);
});

test('50,000 visitors that wait for an hour ask fewer than 500 times a second', async t => {
  let asked = 0;
  for (let visitor = 0; visitor < 300; ++visitor)
    asked += (await simulate(3600, () => answers(503, '3600'))).asked.length;
  const rate = asked / 300 * 50000 / 3600;
  assert.ok(rate < 500, t.diagnostic(`${rate.toFixed(0)} times a second`));
});

test('the median visitor of a two-minute upgrade is back within 10 s', async t => {
  const delays = []; // of visitors that have come when it began
  while (delays.length < 5001)
    delays.push((await simulate(200, time => answers(time < 120 ? 503 : 200))).loaded[0] - 120);
  const median = delays.sort((a, b) => a - b)[2500];
  assert.ok(median < 10, t.diagnostic(`${median.toFixed(1)} s`));
});

story('a hidden tab asks only when it is looked at', both, async ({ page, take, origin }) => {
  await page.goto(`${origin}/page#part`);
  await setHidden(page, true);
  const { log } = await take(site);
  await page.clock.runFor(3600000);
  await page.dispatchEvent('html', 'online');
  assert.deepEqual(log, []);
  await Promise.all([page.waitForEvent('load'), setHidden(page, false)]);
  assert.equal(page.url(), `${origin}/page#part`);
});

for (const type of ['visibilitychange', 'online', 'pageshow'])
  story(`${type} asks at once, not twice in 5 s`, ['Chromium'], async ({ page, take, origin }) => {
    await page.goto(origin);
    const proxy = await take(down);
    const nudge = () => page.dispatchEvent('html', type); // and its document and window
    for (const asks of [0, 1, 2]) {
      await page.clock.runFor(4900);
      await nudge();
      assert.equal(proxy.asks(), asks);
      await page.clock.runFor(200);
      await nudge();
      assert.equal(await page.evaluate(() => window.answered), asks + 1);
    }
  });

story('a network that comes back brings several tabs back', ['Chromium'], async s => {
  const tabs = [s.page, await s.context.newPage()];
  for (const tab of tabs) await tab.goto(s.origin);
  await s.take(site);
  await s.context.setOffline(true);
  for (const tab of tabs) await letAsk(tab);
  const returns = tabs.map(tab => letReturn(tab, `${s.origin}/`));
  await Promise.all([...returns, s.context.setOffline(false)]);
});

// ---- The link -----------------------------------------------------------------------------------

for (const [how, arrive] of Object.entries(arrivals))
  story(`a visitor that ${how} may press the link`, both, async ({ page, take, origin }) => {
    await arrive(page, `${origin}/page?from=here#part`);
    await take();
    await link(page).press('Enter');
    await page.getByText(/^Asked at .*\d.*: not back yet\.\s*$/).waitFor(); // and no promise
    await take(down);
    await letAsk(page);
    await page.getByText(/^Asked at .*\d.*: not back yet\. Keep this page open/).waitFor();
    assert.equal(await page.evaluate(() => document.activeElement.innerText), 'Try again now');
    const { log, server } = await take(site);
    await Promise.all([once(server, 'request'), link(page).click({ modifiers: ['Control'] })]);
    await Promise.all([page.waitForEvent('load'), link(page).dblclick()]);
    assert.equal(page.url(), `${origin}/page?from=here#part`);
    const load = 'load GET /page?from=here';
    assert.deepEqual(log, [load, 'ask GET /page', load]); // the first in another tab
  });

// Where the page cannot ask: what stands before its script, and the policy of a proxy.
for (const [why, before, policy] of [
  ['there is no fetch', 'delete window.fetch;'],
  ['there is no AbortController', 'delete window.AbortController;'],
  ['the browser does not know the syntax', '@'],
  ['scripts are forbidden', '', "script-src 'none'"],
  ['every request is forbidden', '', "connect-src 'none'"],
  ['the page is sandboxed', '', 'sandbox allow-scripts'],
])
  story(`where ${why}, the text is true and the link works`, both, async ({ page, ...s }) => {
    const body = html.replace('<script>', `$&${before}`);
    await s.take(says(503, body, policy && { 'Content-Security-Policy': policy }));
    await page.goto(`${s.origin}/page?from=here`);
    await page.clock.runFor(60000);
    await page.getByText('Please try again in a few minutes.').waitFor();
    await s.take(site);
    await Promise.all([page.waitForEvent('load'), link(page).click()]);
    assert.equal(await page.title(), 'The site');
  });

// ---- How it looks and reads ---------------------------------------------------------------------

// What the comment at the top offers, put where it says, and two translations.
const offered = [...html.matchAll(/^.*?: (<.*>)(?: -->)?$/gm)].slice(0, 3)
  .map(match => match[1].replace('Example', 'Donaudampfschifffahrtsgesellschafts'));
const full = text => text.replace('  <h1', `  ${offered[0]}\n  <h1`)
  .replace('</h1>', `</h1>\n  ${offered[1]}`).replace('</a></p>', `</a> ${offered[2]}</p>`);
const translate = (attributes, ...words) => [
  'Down for maintenance', 'We are working on this site and will be back shortly.',
  'Please try again in a few minutes.', 'Try again now',
  'If you have just sent a form, it has not arrived. Please send it again later.',
].reduce((text, old, i) => text.replaceAll(old, words[i]), html.replace('lang="en"', attributes));
const variants = {
  'as it is': html,
  'with name, time and status': full(html),
  'in German': translate('lang="de"', 'Wegen Wartungsarbeiten vorübergehend nicht erreichbar',
    'Wir arbeiten an dieser Website und sind in Kürze wieder für Sie da.',
    'Bitte versuchen Sie es in einigen Minuten noch einmal.', 'Jetzt erneut versuchen',
    'Ein eben abgeschicktes Formular ist nicht angekommen. Bitte senden Sie es später erneut.'),
  'in Arabic': full(translate('lang="ar" dir="rtl"', 'الموقع قيد الصيانة',
    'نعمل حاليًا على تحسين الموقع وسنعود قريبًا.', 'يرجى المحاولة مرة أخرى بعد بضع دقائق.',
    'حاول الآن', 'إذا أرسلت نموذجًا للتو فإنه لم يصل. يرجى إرساله مرة أخرى لاحقًا.')),
};
const sizes = [[320, 640], [360, 740], [768, 1024], [1440, 900], [3840, 2160], [640, 320],
  [300, 150], [320, 256]]; // the last is 1280 by 1024 pixels at 400 %

// What is wrong with the layout: for example, a text that ends in a line of one word.
const faults = page => page.evaluate(() => {
  const range = document.createRange(), box = part => part.getBoundingClientRect();
  const ends = ({ firstChild }) => [...firstChild.data.matchAll(/\S+/g)].map(({ index }) => {
    range.setStart(firstChild, index);
    range.setEnd(firstChild, index + 1);
    return box(range).top;
  });
  const lone = tops => tops.length > 3 && tops.at(-1) > tops.at(-2) + 3;
  const outside = ({ left, right }) => left < 8 || right > innerWidth - 8;
  const small = ({ width, height }) => Math.min(width, height) < 44;
  const all = selector => [...document.querySelectorAll(selector)];
  return [
    ...all('main :not(:has(*))').filter(part => lone(ends(part))),
    ...all('main > *').filter(part => outside(box(part))), ...all('a').filter(a => small(box(a))),
    ...all('body').filter(body => body.scrollWidth > innerWidth ||
      parseFloat(getComputedStyle(body).fontSize) < innerWidth / 120),
  ].map(part => part.outerHTML);
});

for (const [variant, text] of Object.entries(variants)) {
  for (const engine of both)
    test(`nothing is cut off or lost, ${variant} (${engine})`, async () => {
      const page = await browsers[engine].newPage();
      for (const [width, height] of sizes) {
        await page.setViewportSize({ width, height });
        await page.setContent(text);
        assert.deepEqual(await faults(page), [], `at ${width} by ${height}`);
      }
    });

  for (const options of [{}, { colorScheme: 'dark' }, { forcedColors: 'active' }])
    test(`axe-core finds nothing, ${variant} ${JSON.stringify(options)}`, async () => {
      const page = await browsers.Chromium.newPage(options);
      await page.setContent(text);
      await page.addScriptTag({ path: join(packages, 'axe-core', 'axe.min.js') });
      const runOnly = ['wcag2a', 'wcag2aa', 'wcag2aaa', 'wcag21a', 'wcag21aa', 'wcag22aa'];
      const { violations, passes } = await page.evaluate(run => window.axe.run(run), { runOnly });
      assert.deepEqual(violations.map(({ id, nodes }) => [id, nodes[0].html]), []);
      assert.ok(options.forcedColors || passes.some(({ id }) => id === 'color-contrast-enhanced'));
    });
}

test('vnu finds nothing', { skip: !java && 'default-jre-headless is not installed' }, () => {
  const jar = join(packages, 'vnu-jar', 'build', 'dist', 'vnu.jar');
  for (const input of [html, full(html)]) {
    const { status, stdout } = spawnSync('java', ['-jar', jar, '--stdout', '-'], { input });
    assert.deepEqual([status, `${stdout}`], [0, '']);
  }
});

test('accent, focus and hover are seen, in forced colours and in print', async () => {
  const page = await browsers.Chromium.newPage({ colorScheme: 'dark' });
  const style = (selector, ...names) => page.locator(selector).first()
    .evaluate((element, all) => all.map(name => getComputedStyle(element)[name]), names);
  await page.setContent(html);
  const [before] = await style('a', 'backgroundColor');
  await page.hover('a');
  assert.notEqual((await style('a', 'backgroundColor'))[0], before);
  await page.keyboard.press('Tab');
  assert.deepEqual(await style('a', 'outlineStyle', 'outlineOffset'), ['solid', '3px']);
  await page.emulateMedia({ forcedColors: 'active' });
  assert.notEqual(...await style('main', 'borderTopColor', 'backgroundColor'));
  assert.deepEqual(await style('main', 'borderTopStyle'), ['solid']);
  await page.emulateMedia({ forcedColors: null, media: 'print' });
  for (const selector of ['h1', 'p', 'a']) // nearly black on white
    assert.ok(Math.max(...(await style(selector, 'color'))[0].match(/\d+/g)) < 90, selector);
});
