// SPDX-License-Identifier: 0BSD
// The page in a browser: does it bring every visitor back, and can everybody read it?
// "make page" installs the npm packages in PLAYWRIGHT_DIR. The rest is Debian's: chromium, and, if
// they are installed, firefox-esr and java. In a story, a stand-in takes the port of a real maintd.
// Time stands still until the test moves it.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import http from 'node:http';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { after, describe, test } from 'node:test';

const patience = 1000 * (process.env.PATIENCE ?? 300); // For a busy machine: only a fault takes it.
const html = readFileSync('maintenance.html', 'utf8');
const packages = resolve(process.env.PLAYWRIGHT_DIR ?? '.', 'node_modules');
const { chromium, _bidiFirefox } = createRequire(join(packages, '.'))('playwright-core');
const executablePath = '/usr/bin/chromium';
const browsers = { Chromium: await chromium.launch({ executablePath, args: ['--no-sandbox'] }) };
const firefox = ['/usr/bin/firefox-esr', '/usr/bin/firefox'].find(existsSync);
if (firefox) browsers.Firefox = await _bidiFirefox.launch({ executablePath: firefox });

const checks = []; // run at the end
const check = (name, body, skip = false) => checks.push([name, skip, body]);
check('Firefox takes part', () => {}, !firefox && 'firefox-esr is not installed');

// ---- What answers at the port -------------------------------------------------------------------
async function startMaintd() {
  const child = spawn('./maintd', ['-p', '0'], { stdio: ['ignore', 'ignore', 'pipe'] });
  const [line] = await once(child.stderr, 'data');
  const port = Number(/:(\d+)\//.exec(line)?.[1]);
  assert.ok(port, `a first line with the URL, not: ${line}`);
  return { port, stop: () => child.kill() && once(child, 'exit') };
}

// Answers at `port` by `answer(request, response, isLoad)`. `log` has a line for each request:
// "ask" where a script has sent it, "load" where the browser shows the answer. `next(key)` is the
// next request of this kind or URL, and its response.
async function standIn(port, answer) {
  const log = [];
  const server = http.createServer((request, response) => {
    const word = request.headers['sec-fetch-mode'] === 'navigate' ? 'load' : 'ask';
    log.push(`${word} ${request.method} ${request.url}`);
    answer(request.resume(), response, word === 'load');
    for (const key of [word, request.url]) server.emit(key, { request, response });
  }).listen(port);
  await once(server, 'listening');
  const stop = () => new Promise(done => { server.close(done); server.closeAllConnections(); });
  return { log, stop, next: async key => (await once(server, key))[0] };
}
const says = (status, body = '', more = {}) => (request, response) => response
  .writeHead(status, { 'Content-Type': 'text/html', 'Connection': 'close', ...more }).end(body);
const down = says(503, html, { 'Retry-After': '60', 'Cache-Control': 'no-store' });
const site = says(200, `<!doctype html><title>The site</title><link rel="icon" href="data:,">
  <p style="height: 3000px">Welcome<p style="height: 3000px" id="part">Part`);

// ---- The visitor --------------------------------------------------------------------------------
const link = page => page.getByRole('link', { name: 'Try again now' });
const tells = (page, text) => page.getByRole('status').filter({ hasText: text }).waitFor();
const unasked = /^Please try again in a few minutes\.$/, promise = /^Keep this page open: it br/;
const asked = /^Asked at .*\d.*: not back yet\.\s*$/, askedAgain = /^Asked at .*: not .*Keep this/;
const move = (page, time) => page.evaluate(ms => window.__pwClock.controller.runFor(ms), time);
async function letAsk(page) {
  await move(page, 13000);
  await page.evaluate(() => window.answer.catch(() => {}));
}
async function letReturn(page, url) {
  await move(page, 30000).catch(() => {}); // It may leave at once.
  await page.getByText('Welcome').waitFor();
  assert.equal(page.url(), url);
}

// A test in each browser: maintd answers at `origin`, and a tab is open. Its clock stands still.
// Its first waits last 12 s. `take(answer)` puts a stand-in into the place of what has the port,
// `take()` nothing.
function story(name, tell, options = {}) {
  const prepare = () => {
    const { fetch } = window;
    window.fetch = (...request) => window.answer = fetch(...request);
    Math.random = () => 0.5;
    delete AbortSignal.timeout; // It has a clock of its own.
  };
  for (const [engine, browser] of Object.entries(browsers))
    check(`${name} (${engine})`, async t => {
      let now = await startMaintd();
      t.after(() => now?.stop());
      const { port } = now, context = await browser.newContext(options);
      t.after(() => context.close());
      context.setDefaultTimeout(patience);
      await context.clock.install({ time: 0 }).then(() => context.clock.pauseAt(1000));
      await context.addInitScript(prepare);
      const page = await context.newPage();
      const take = async answer => {
        await now?.stop();
        return now = answer && await standIn(port, answer);
      };
      await tell({ page, take, context, origin: `http://127.0.0.1:${port}` });
    });
}

story('a visitor that follows a link returns', async ({ page, take, context, origin }) => {
  await context.addCookies([{ name: 'visitor', value: 'known', url: origin }]);
  await page.goto(`${origin}/page?token=once#part`);
  await tells(page, unasked);
  const endless = await take((request, response) => response.writeHead(503).write('no end'));
  const [{ request, response }] = await Promise.all([endless.next('ask'), letAsk(page)]);
  const { cookie, 'cache-control': cache } = request.headers;
  assert.deepEqual([cookie, cache], ['visitor=known', 'no-cache']);
  // The header is enough. Once Firefox has the body so far, it hangs up only when more comes.
  if (!response.closed) await Promise.all([once(response, 'close'), response.write('more')]);
  await tells(page, promise);
  await take(); // A gap takes nothing back.
  await letAsk(page);
  await tells(page, promise);
  const entries = await page.evaluate(() => history.length), { log } = await take(site);
  await letReturn(page, `${origin}/page?token=once#part`);
  assert.deepEqual(log, ['ask GET /page', 'load GET /page?token=once']);
  assert.equal(await page.evaluate(() => history.length), entries);
  assert.ok(await page.evaluate(() => sessionStorage.maintd > 60000)); // in case it was in vain
  await page.waitForFunction(() => scrollY > 2000);
});

story('a visitor that sends a form may press the link', async ({ page, take, ...s }) => {
  const url = `${s.origin}/page?from=here#part`, card = page.locator('main');
  await page.setContent(`<form method="post" action="${url}"><button>Send</button></form>`);
  await Promise.all([page.waitForURL(url), page.getByRole('button').click()]);
  const { width } = await card.boundingBox();
  await take();
  await link(page).press('Enter');
  await tells(page, asked);
  const slow = await take((request, response) => slow.log.length !== 2 && down(request, response));
  await letAsk(page);
  await tells(page, askedAgain);
  const [{ response }] = await Promise.all([slow.next('ask'), move(page, 13000)]);
  await link(page).click(); // while the question is under way
  await tells(page, /^Asking now/);
  down(null, response);
  await tells(page, askedAgain);
  await take(); // After an answer, no press leads to the browser's error page.
  await letAsk(page);
  await link(page).click();
  await tells(page, askedAgain);
  assert.equal(await page.evaluate(() => document.activeElement.innerText), 'Try again now');
  assert.equal((await card.boundingBox()).width, width);
  const { log, next } = await take(site), load = 'load GET /page?from=here';
  await Promise.all([next('load'), link(page).click({ modifiers: ['Control'] })]); // another tab
  await page.evaluate(() => dispatchEvent(new Event('beforeunload'))); // comes to nothing
  await Promise.all([page.waitForEvent('load'), link(page).click()]);
  assert.deepEqual([page.url(), log], [url, [load, 'ask GET /page', load]]);
});

for (const [address, code, there = address, user = ''] of [
  ['/#part', 401], ['/page?', 404], ['//a//b?#part', 405], ['/page#part', 302, '/elsewhere#part'],
  ['/page?a#part', 200, '/page?a#part', 'user:secret@'],
])
  story(`${user}${address} is loaded to the letter when it says ${code}`, async s => {
    const origin = s.origin.replace('//', `//${user}`);
    await s.page.goto(origin + address);
    const { log } = await s.take((request, response) => log.length > 2 ? site(request, response) :
      says(code, 'Welcome', { Location: '/elsewhere' })(request, response));
    await letReturn(s.page, origin + there);
    assert.equal(log[1], `load GET ${address.replace(/#.*/, '')}`);
  });

story('a service worker that has stored the page does not keep it', async s => {
  const worker = says(200, `oninstall = () => skipWaiting(); onactivate = () => clients.claim();
    onfetch = e => e.respondWith(caches.open('all').then(async cache => {
      if (!await cache.match(e.request)) await cache.put(e.request, await fetch(e.request));
      return cache.match(e.request);
    }));`, { 'Content-Type': 'text/javascript' });
  const { next } = await s.take((request, response) =>
    (request.url === '/worker' ? worker : down)(request, response));
  await s.page.goto(`${s.origin}/page?a`);
  await s.page.evaluate(() => new Promise(done => {
    navigator.serviceWorker.oncontrollerchange = done;
    navigator.serviceWorker.register('/worker');
  }));
  await s.page.evaluate(() => Promise.all([fetch('/page?a'), fetch('/other')]));
  await Promise.all([next('ask'), move(s.page, 13000)]);
  await tells(s.page, promise);
  const { log } = await s.take(site);
  await letReturn(s.page, `${s.origin}/page?a`);
  assert.equal(log.filter(line => line.endsWith('/page?a')).length, 1); // loaded once
  assert.ok(await s.page.evaluate(() => caches.match('/other'))); // what else it has stored
});

story('a download is loaded once, and again by the link', async ({ page, ...s }) => {
  await page.goto(`${s.origin}/page?a#part`);
  const up = await s.take(says(200, 'data', { 'Content-Disposition': 'attachment' }));
  await Promise.all([up.next('load'), letAsk(page)]);
  await move(page, 1000);
  await Promise.all([up.next('load'), link(page).click()]);
  await link(page).dispatchEvent('click', { detail: 2 }); // the second half of a double click
  await move(page, 600000);
  await tells(page, /^The site is back/);
  assert.equal(page.url(), `${s.origin}/page?a#part`);
  assert.deepEqual(up.log, ['ask GET /page', 'load GET /page?a', 'load GET /page?a']);
});

story('a slow page comes in the end, and so does another that the visitor wants', async s => {
  await s.page.goto(`${s.origin}/page#part`);
  // The page moves its clock by itself, because Chromium takes no order from outside during a load.
  await s.page.evaluate(() => addEventListener('beforeunload', async () => {
    await window.__pwClock.controller.runFor(110000);
    await fetch('/later');
  }));
  const up = await s.take((request, response, isLoad) => isLoad || site(request, response));
  const late = async answer => {
    const [{ response }] = await Promise.all([up.next('load'), up.next('/later')]);
    answer(null, response);
  };
  await Promise.all([late(says(204)), s.page.evaluate(() => { location.href = '/other'; })]);
  await Promise.all([late(site), letReturn(s.page, `${s.origin}/page#part`)]);
  assert.deepEqual(up.log.filter(line => line.startsWith('load')),
    ['load GET /other', 'load GET /page']);
});

story('a hidden tab asks only when it is looked at', async ({ page, take, origin }) => {
  const look = hidden => page.evaluate(value => {
    Object.defineProperty(document, 'hidden', { configurable: true, value });
    document.dispatchEvent(new Event('visibilitychange'));
  }, hidden);
  await page.goto(`${origin}/page#part`);
  await look(true);
  const { log, next } = await take(down);
  await move(page, 3600000);
  assert.deepEqual(log, []);
  await Promise.all([next('ask'), look(false)]);
  await tells(page, promise);
  await take(site);
  await page.evaluate(() => dispatchEvent(new Event('online'))); // The network has come back.
  await page.getByText('Welcome').waitFor();
});

// Where the page cannot ask: what stands before its script, and the policy of a proxy.
for (const [why, before, policy, options] of [
  ['a question hangs', 'window.fetch = () => new Promise(() => {});'],
  ['there is no fetch', 'delete window.fetch;'], ['the syntax is unknown', '@'],
  ['no script may run', '', "script-src 'none'"], ['nothing is allowed', '', "default-src 'none'"],
  ['nothing may be asked', '', "connect-src 'none'"], ['it is boxed', '', 'sandbox allow-scripts'],
  ['there is no script', '', '', { javaScriptEnabled: false }],
])
  story(`where ${why}, the text is true and the link works`, async ({ page, ...s }) => {
    const body = html.replace('<script>', `$&${before}`);
    await s.take(says(503, body, policy && { 'Content-Security-Policy': policy }));
    await page.goto(`${s.origin}/page?from=here`);
    if (!options) await move(page, 60000);
    await tells(page, unasked);
    await s.take(site);
    await link(page).click();
    await page.getByText('Welcome').waitFor();
  }, options);

// ---- How often it asks --------------------------------------------------------------------------
// The page's script without a browser: `answer(seconds)` is the site, time passes at once.
const script = new Function('self', `with (self) {${/<script>([^]*)<\/script>/.exec(html)[1]}}`);
async function simulate(until, answer, start = {}) {
  const timers = [], asks = [], self = {
    now: 0, loaded: undefined, navigator: {}, sessionStorage: {}, Math,
    Date: { now: () => self.now },
    document: { URL: '/', querySelector: () => ({ dataset: {} }) }, history: { replaceState() {} },
    location: { origin: '', pathname: '/', replace() { self.loaded = self.now / 1000; } },
    setTimeout: (call, wait) => timers.push({ call, at: self.now + wait }),
    AbortSignal: { timeout: time => ({ time }) },
    fetch: async (page, { signal }) => {
      assert.equal(signal.time, 120000); // time to type a password; else nothing is asked
      asks.push(self.now / 1000);
      return answer(self.now / 1000);
    },
    ...start,
  };
  script(self);
  while (self.loaded === undefined && timers[0].at < until * 1000) {
    const { call, at } = timers.pop();
    self.now = at;
    call();
    await new Promise(setImmediate);
  }
  return { asks, loaded: self.loaded };
}
const answer = (status, after) => () => ({ status, headers: { get: () => after } });
const average = { Math: { max: Math.max, min: Math.min, random: () => 0.5 } };

// Of the waits the first and the longest, and how often the page asks in an hour.
for (const [status, after, ...expected] of [[429, '60', 12, 120, 47], [503, '3600', 12, 442, 35],
  [500, '-5', 12, 12, 299], [599, 'Fri, 01 Jan 2100 00:00:00 GMT', 12, 120, 47]])
  check(`${status} and Retry-After: ${after} make the right waits`, async () => {
    const { asks } = await simulate(3600, answer(status, after), average);
    const waits = asks.map((time, i) => Math.round(time - (asks[i - 1] ?? 0)));
    assert.deepEqual([waits[0], Math.max(...waits), asks.length], expected);
  });

check('loads in vain become rare', async () => {
  let loads = 0;
  for (const start = { ...average, now: 0, sessionStorage: {} }; start.now < 400000; ++loads)
    start.now = (await simulate(400, answer(200), start)).loaded * 1000 || 400000;
  assert.ok(loads > 4 && loads <= 10, `${loads}`);
});

check('50,000 visitors ask seldom enough, and are soon back', async t => {
  const visits = (count, after) => Promise.all(Array.from({ length: count }, () =>
    simulate(3600, answer(503, after)).then(({ asks }) => asks)));
  const all = await visits(4000, '60'), seconds = new Array(3601).fill(0);
  for (const asks of all) {
    const come = Math.random(); // All come within a second.
    for (const time of asks) seconds[Math.floor(come + time)] += 50000 / all.length;
  }
  const back = all.map(asks => asks.find(time => time > 120) - 120).sort((a, b) => a - b);
  const figures = {
    rate: seconds.reduce((sum, each) => sum + each) / 3600, busiest: Math.max(...seconds),
    median: back[all.length / 2], // of an upgrade that takes two minutes
    most: Math.max(...(await visits(100, '3600')).map(asks => asks.length)),
  };
  t.diagnostic(JSON.stringify(figures));
  const { rate, busiest, median, most } = figures;
  assert.ok(rate < 800 && busiest < 7000 && median < 10 && most <= 45);
});

// ---- How it looks and reads ---------------------------------------------------------------------
const full = html.replace(/<!-- ?(<p>.*<\/p>|, at .*UTC|<a .*<\/a>) ?-->/g, '$1') // all hints
  .replace('Example Library', 'Donaudampfschifffahrtsgesellschaftsbibliothek');

for (const options of [{}, { colorScheme: 'dark' }, { forcedColors: 'active' }])
  check(`axe-core finds nothing, and all can be seen, ${JSON.stringify(options)}`, async () => {
    const page = await browsers.Chromium.newPage(options), button = '[href=""]';
    const style = (selector, ...names) => page.locator(selector)
      .evaluate((element, all) => all.map(name => getComputedStyle(element)[name]), names);
    page.setDefaultTimeout(patience);
    await page.setContent(full);
    await page.addScriptTag({ path: join(packages, 'axe-core', 'axe.min.js') });
    const { violations, passes } = await page.evaluate(() => window.axe.run({ runOnly: ['wcag2a',
      'wcag2aa', 'wcag2aaa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }));
    assert.deepEqual(violations.map(({ id, nodes }) => [id, nodes[0].html]), []);
    await page.setViewportSize({ width: 320, height: 256 }); // 1280 by 1024 pixels at 400 %
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
    const [card, edge] = await style('main', 'backgroundColor', 'borderTopColor');
    if (options.forcedColors) return assert.notEqual(card, edge);
    assert.ok(passes.some(({ id }) => id === 'color-contrast-enhanced'));
    const [accent] = await style('svg', 'color');
    assert.notEqual(card, accent);
    assert.deepEqual(await style(button, 'backgroundColor', 'color'), [accent, card]);
    await page.keyboard.press('Tab');
    await page.hover(button);
    assert.deepEqual(await style(button, 'color', 'outlineColor', 'borderTopColor',
      'outlineStyle'), [accent, accent, accent, 'solid']);
    await page.mouse.move(0, 0);
    await page.emulateMedia({ media: 'print' });
    for (const selector of ['h1', button]) // nearly black on white
      assert.ok(Math.max(...(await style(selector, 'color'))[0].match(/\d+/g)) < 90, selector);
  });

check('vnu finds nothing', () => {
  const jar = join(packages, 'vnu-jar', 'build', 'dist', 'vnu.jar');
  for (const input of [html, full]) {
    const { status, stdout } = spawnSync('java', ['-jar', jar, '--stdout', '-'], { input });
    assert.deepEqual([status, `${stdout}`], [0, '']);
  }
}, spawnSync('java', ['-version']).status !== 0 && 'default-jre-headless is not installed');

describe('the page', { concurrency: 4 }, () => { // They wait for the browsers most of the time.
  after(() => Promise.all(Object.values(browsers).map(browser => browser.close())));
  for (const [name, skip, body] of checks) test(name, { skip, timeout: patience }, body);
});
