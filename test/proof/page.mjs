// The page in a browser: does it bring every visitor back, and can everybody read it?
//
//     npm install --prefix DIR playwright-core@1.56.1 axe-core@4.14.1 vnu-jar@26.9.27
//     PLAYWRIGHT_DIR=DIR node --test test/proof/page.mjs
//
// It needs Chromium; firefox-esr and java are used where they are installed. MAINTD names another
// binary than ./maintd, CHROMIUM another browser than /usr/bin/chromium. A story begins with a real
// maintd, others take its port later. Timers run only when the test moves them.

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import http from 'node:http';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import vm from 'node:vm';

const binary = process.env.MAINTD ?? fileURLToPath(new URL('../../maintd', import.meta.url));
const html = readFileSync(new URL('../../maintenance.html', import.meta.url), 'utf8');
const packages = resolve(process.env.PLAYWRIGHT_DIR ?? '.', 'node_modules');
const limit = 10000, polling = 20; // milliseconds; no event takes as long as the limit

const { chromium, _bidiFirefox } = createRequire(join(packages, '.'))('playwright-core');
const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
const browsers = { Chromium: await chromium.launch({ executablePath, args: ['--no-sandbox'] }) };
const firefox = ['/usr/bin/firefox-esr', '/usr/bin/firefox'].find(existsSync);
if (firefox) browsers.Firefox = await _bidiFirefox.launch({ executablePath: firefox });
const both = Object.keys(browsers);
after(() => Promise.all(Object.values(browsers).map(browser => browser.close())));

const java = spawnSync('java', ['-version']).status === 0;
const left = [firefox || 'Firefox (firefox-esr)', java || 'vnu (default-jre-headless)'];
if (!firefox || !java) console.log(`Left out: ${left.filter(text => / /.test(text)).join(', ')}`);

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
    response.setHeader('Content-Type', 'text/html');
    response.setHeader('Connection', 'close');
    answer(request, response, isLoad);
  });
  server.listen(port);
  await once(server, 'listening');
  const stop = async () => {
    server.close();
    server.closeAllConnections();
    await once(server, 'close');
  };
  const count = word => log.filter(line => line.startsWith(word)).length;
  return { log, server, stop, asks: () => count('ask'), loads: () => count('load') };
}

const says = (status, body = '', more = {}) => (request, response) =>
  response.writeHead(status, more).end(body);
const down = says(503, html, { 'Retry-After': '120', 'Cache-Control': 'no-store' });
const sitePage = `<!doctype html><title>The site</title><link rel="icon" href="data:,">
  <p style="height: 3000px">Welcome<p style="height: 3000px" id="part">Part`;
const site = says(200, sitePage);

// ---- The visitor --------------------------------------------------------------------------------

// Opens a tab. Its clock stands still, or runs 100 times as fast.
async function openTab(context, trouble, lapse) {
  context.setDefaultTimeout(limit);
  if (!lapse) await context.clock.install({ time: 0 }).then(() => context.clock.pauseAt(1000));
  await context.addInitScript(fast => {
    const { fetch, setTimeout } = window, { now } = Date, start = now();
    if (fast) Date.now = () => start + (now() - start) * 100;
    if (fast) window.setTimeout = (call, wait) => setTimeout(call, wait / 100);
    window.answered = 0; // as far as the page knows
    window.fetch = (...request) => {
      const answer = fetch(...request), count = () => { window.answered += 1; };
      answer.then(count, count);
      return answer;
    };
  }, lapse);
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
// Moves the page's clock until `done`. The clock may be gone with the page before it can answer.
async function run(page, done, step = 5000) {
  let over = false;
  const end = Date.now() + limit;
  done = Promise.resolve(done).finally(() => { over = true; });
  while (!over && Date.now() < end) {
    const moved = page.clock.runFor(step).catch(error => {
      if (!/destroyed|navigat|closed|detached/i.test(error.message)) throw error;
    });
    await Promise.race([moved, done]);
  }
  assert.ok(over, 'it has come in time');
  return done;
}

// Moves the page's clock until the page has got `count` answers more.
async function letAsk(page, count = 1) {
  const enough = count + await page.evaluate(() => window.answered);
  await run(page, page.waitForFunction(least => window.answered >= least, enough, { polling }));
}

async function letReturn(page, url) {
  await run(page, page.waitForEvent('load'));
  assert.deepEqual([page.url(), await page.title()], [url, 'The site']);
}

// Changes what the page believes about its tab: a headless tab is always in front.
const setHidden = (page, hidden) => page.evaluate(value => {
  Object.defineProperty(document, 'hidden', { configurable: true, value });
  document.dispatchEvent(new Event('visibilitychange'));
}, hidden);

// A test: maintd answers at `origin`, and a tab is open. `take(answer)` puts a stand-in into the
// place of the server that has the port, `take()` none.
function story(name, engines, tell, lapse = false) {
  for (const engine of engines)
    test(`${name} (${engine})`, { timeout: 2 * limit }, async () => {
      const trouble = [];
      let now = await startMaintd();
      const { port } = now;
      const context = await browsers[engine].newContext();
      try {
        const page = await openTab(context, trouble, lapse);
        const take = async answer => {
          await now?.stop();
          return now = answer && await standIn(port, answer);
        };
        await tell({ page, take, context, origin: `http://127.0.0.1:${port}` });
        assert.deepEqual(trouble, []);
      } finally {
        await context.close();
        await now?.stop();
      }
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
      if (address !== target) await page.waitForFunction(() => scrollY > 2000, null, { polling });
    });

for (const [address, code, there = address] of [
  ['/', 200], ['/#part', 401], ['/page#', 403], ['/page?', 404], ['/page?#part', 405],
  ['//a//b#part', 200], ['/p?a&#x', 200], ['/page#part', 302, '/elsewhere#part'],
])
  story(`${address} is loaded to the letter when it says ${code}`, both, async s => {
    await s.page.goto(s.origin + address);
    const { log } = await s.take((request, response) =>
      says(log.length < 3 ? code : 200, sitePage, { Location: '/elsewhere' })(request, response));
    await letReturn(s.page, s.origin + there);
    assert.equal(log[1], `load GET ${address.replace(/#.*/, '')}`);
  });

story('a password in the address is no obstacle', both, async s => {
  await s.page.goto(`${s.origin.replace('//', '//user:secret@')}/page#part`);
  await s.take(site);
  await letReturn(s.page, s.page.url());
});

story('it asks with cookies and past caches, until the header', both, async ({ page, ...s }) => {
  await s.context.addCookies([{ name: 'visitor', value: 'known', url: s.origin }]);
  await page.goto(s.origin);
  let headers;
  await s.take((request, response) => {
    ({ headers } = request);
    response.writeHead(503).write('a body that does not end');
  });
  await Promise.all([page.waitForEvent('requestfailed'), letAsk(page)]);
  assert.deepEqual([headers.cookie, headers['cache-control']], ['visitor=known', 'no-cache']);
});

story('a service worker that has stored the page does not keep it', both, async s => {
  const worker = `oninstall = () => skipWaiting(); onactivate = e => e.waitUntil(clients.claim());
    onfetch = e => e.respondWith(caches.open('all').then(async cache => {
      const stored = await cache.match(e.request);
      if (stored) return stored;
      const answer = await fetch(e.request);
      await cache.put(e.request, answer.clone());
      return answer;
    }));`;
  await s.take((request, response) => {
    if (request.url !== '/worker.js') return site(request, response);
    says(200, worker, { 'Content-Type': 'text/javascript' })(request, response);
  });
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
    let pending;
    const slow = await take((request, response, isLoad) => {
      if (isLoad) pending = response;
      else if (slow.asks() === 5) site(request, pending);
      else says(pending ? 200 : before)(request, response);
    });
    const loaded = page.waitForEvent('load');
    if (address !== '/page') await page.evaluate(url => { location.href = url; }, address);
    await loaded;
    assert.deepEqual([page.url(), slow.loads()], [origin + address, 1]);
  }, true);

story('the waits grow over loads in vain', both, async ({ page, take, origin }) => {
  await page.addInitScript(() => { Math.random = () => 0; });
  await page.goto(`${origin}/page#part`);
  await take((request, response, isLoad) => (isLoad ? down : site)(request, response));
  const times = [0];
  while (times.length < 7) {
    await run(page, page.waitForEvent('load'), 2000);
    times.push(await page.evaluate(() => Date.now()) / 1000);
  }
  assert.ok(times[6] - times[5] > 10, `loaded after ${times} s`);
  await take(site);
  await letReturn(page, `${origin}/page#part`);
});

story('a password may be typed for two minutes, in peace', both, async ({ page, take, origin }) => {
  await page.goto(origin);
  const silent = await take(() => {});
  const [, response] = await run(page, once(silent.server, 'request'));
  await page.clock.runFor(105000);
  await link(page).click();
  await setHidden(page, false);
  assert.deepEqual([silent.asks(), response.closed], [1, false]);
  await Promise.all([page.waitForEvent('requestfailed'), page.clock.runFor(15000)]);
  await take(down);
  await letAsk(page);
});

// ---- How often it asks --------------------------------------------------------------------------

// The page's script without a browser: `answer(seconds)` is the site, time passes at once.
const script = new vm.Script(/<script>([^]*)<\/script>/.exec(html)[1]);
async function simulate(until, answer) {
  const start = Date.UTC(2026, 0), timers = [], asked = [], loaded = [];
  let now = start;
  const seconds = () => (now - start) / 1000;
  const self = {
    origin: 'http://site', AbortController, navigator: {}, sessionStorage: {},
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

test('a wait is an eighth of the time so far, give or take half, at random', async () => {
  const shares = [];
  for (let i = 0; i < 50; ++i) {
    const { asked, waits } = await simulate(2000, () => answers(503, '3600'));
    waits.forEach((wait, k) => shares.push(wait / Math.max(10, (asked[k - 1] ?? 0) / 8)));
  }
  const [least, most] = [Math.min(...shares), Math.max(...shares)];
  assert.ok(least > 0.499 && least < 0.8 && most > 1.4 && most < 1.501, `${least} to ${most}`);
});

for (const [after, most] of [
  ['3600', 300], ['60', 60], ['1', 30], ['0', 30], ['-5', 30], [null, 300], ['soon', 300],
  ['Fri, 01 Jan 2100 00:00:00 GMT', 300], ['Thu, 01 Jan 1970 00:00:00 GMT', 30],
])
  test(`Retry-After: ${after} allows waits of ${most} s`, async () => {
    const { waits } = await simulate(6000, () => answers(503, after));
    const longest = Math.max(...waits);
    assert.ok(longest < most + 0.001 && longest > most * 0.8, `${longest} s`);
  });

for (const status of [429, 500, 501, 502, 503, 504, 520, 599])
  test(`${status} means that it is not back`, async () =>
    assert.deepEqual((await simulate(100, () => answers(status))).loaded, []));

test('50,000 visitors that wait for an hour ask fewer than 500 times a second', async t => {
  let asked = 0;
  for (let visitor = 0; visitor < 300; ++visitor)
    asked += (await simulate(3600, () => answers(503, '3600'))).asked.length;
  const rate = asked / 300 * 50000 / 3600;
  assert.ok(rate < 500, t.diagnostic(`${rate.toFixed(0)} times a second`));
});

test('the median visitor of a two-minute upgrade is back within 10 s', async t => {
  const delays = []; // of visitors that have come when it began
  while (delays.length < 1001)
    delays.push((await simulate(200, time => answers(time < 120 ? 503 : 200))).loaded[0] - 120);
  const median = delays.sort((a, b) => a - b)[500];
  assert.ok(median < 10, t.diagnostic(`${median.toFixed(1)} s`));
});

story('a hidden tab asks only when it is looked at', both, async ({ page, take, origin }) => {
  await page.goto(`${origin}/page#part`);
  await setHidden(page, true);
  const { log } = await take(site);
  await page.clock.runFor(3600000);
  await page.evaluate(() => dispatchEvent(new Event('online')));
  assert.deepEqual(log, []);
  await Promise.all([page.waitForEvent('load'), setHidden(page, false)]);
  assert.equal(page.url(), `${origin}/page#part`);
});

for (const type of ['visibilitychange', 'online', 'pageshow'])
  story(`${type} asks at once, not twice in 5 s`, ['Chromium'], async ({ page, take, origin }) => {
    await page.addInitScript(() => { Math.random = () => 1 - Number.EPSILON; });
    await page.goto(origin);
    const proxy = await take(down);
    const nudge = () => page.evaluate(name =>
      [document, window].forEach(target => target.dispatchEvent(new Event(name))), type);
    for (const asks of [0, 1, 2]) {
      await page.clock.runFor(4900);
      await nudge();
      assert.equal(proxy.asks(), asks);
      await page.clock.runFor(200);
      await nudge();
      await page.waitForFunction(count => window.answered === count, asks + 1, { polling });
    }
  });

story('a network that comes back brings several tabs back', ['Chromium'], async s => {
  const tabs = [s.page, await s.context.newPage()];
  for (const tab of tabs) await tab.goto(s.origin);
  await s.take(site);
  await s.context.setOffline(true);
  for (const tab of tabs) await letAsk(tab);
  await s.page.clock.runFor(5000);
  await Promise.all([...tabs.map(tab => tab.waitForEvent('load')), s.context.setOffline(false)]);
  for (const tab of tabs) assert.equal(await tab.title(), 'The site');
});

// ---- The link -----------------------------------------------------------------------------------

for (const [how, arrive] of Object.entries(arrivals))
  story(`a visitor that ${how} may press the link`, both, async ({ page, take, origin }) => {
    await arrive(page, `${origin}/page?from=here#part`);
    await take();
    await link(page).focus();
    await page.keyboard.press('Enter');
    await page.getByText(/^Asked at .*\d.*: not back yet\.\s*$/).waitFor(); // and no promise
    await take(down);
    await letAsk(page);
    await page.getByText(/^Asked at .*\d.*: not back yet\. Keep this page open/).waitFor();
    assert.equal(await page.evaluate(() => document.activeElement.innerText), 'Try again now');
    const { log } = await take(site);
    await Promise.all([page.waitForEvent('load'), link(page).dblclick()]);
    assert.equal(page.url(), `${origin}/page?from=here#part`);
    assert.deepEqual(log, ['ask GET /page', 'load GET /page?from=here']);
  });

story('with a modifier, the link opens as usual', ['Chromium'], async s => {
  await s.page.goto(`${s.origin}/page`);
  const { server, log } = await s.take(site);
  await Promise.all([once(server, 'request'), link(s.page).click({ modifiers: ['Control'] })]);
  assert.deepEqual(log, ['load GET /page']);
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
      const contrast = passes.some(({ id }) => id === 'color-contrast-enhanced'); // 7 to 1
      assert.ok(contrast || options.forcedColors);
    });
}

test('vnu finds nothing', { skip: !java }, () => {
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
