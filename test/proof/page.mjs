// SPDX-License-Identifier: 0BSD
// The page in a browser: does it bring every visitor back, and can everybody read it?
// "make page" installs the npm packages in PLAYWRIGHT_DIR. The rest is Debian's: chromium, and, if
// they are installed, firefox-esr and java.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import http from 'node:http';
import { createRequire } from 'node:module';
import { resolve } from 'node:path';
import { after, describe, test } from 'node:test';

const patience = 1000 * (process.env.PATIENCE ?? 300); // For a busy machine: only a fault takes it.
const html = readFileSync('maintenance.html', 'utf8');
const packages = resolve(process.env.PLAYWRIGHT_DIR ?? '.', 'node_modules');
const { chromium, _bidiFirefox } = createRequire(`${packages}/`)('playwright-core');
const firefox = process.env.FIREFOX ?? '/usr/bin/firefox-esr';
const Chromium = await chromium.launch({ executablePath: '/usr/bin/chromium' });
const Firefox = existsSync(firefox) ? await _bidiFirefox.launch({ executablePath: firefox }) : null;
const browsers = { Chromium, Firefox };

const checks = []; // run at the end
const check = (name, body, skip = false) => checks.push([name, skip, body]);

// ---- What answers at the port -------------------------------------------------------------------
// Answers at `port` by `answer(response, line)`. `log` has a line for each request: "ask" where a
// script has sent it, "load" where the browser shows the answer. `next(key)` is the next request of
// this kind or URL, and its response.
async function standIn(port, answer) {
  const log = [];
  const server = http.createServer((request, response) => {
    const word = request.headers['sec-fetch-mode'] === 'navigate' ? 'load' : 'ask';
    log.push(`${word} ${request.method} ${request.url}`);
    request.resume();
    answer(response, log.at(-1));
    for (const key of [word, request.url]) server.emit(key, { request, response });
  }).listen(port);
  await once(server, 'listening');
  const stop = () => new Promise(done => { server.close(done); server.closeAllConnections(); });
  return { log, stop, next: async key => (await once(server, key))[0] };
}
const says = (status, body = '', more = {}) => response => response
  .writeHead(status, { 'Content-Type': 'text/html', 'Connection': 'close', ...more }).end(body);
const down = says(503, html, { 'Retry-After': '60', 'Cache-Control': 'no-store' });
const site = says(200, '<!doctype html><link rel="icon" href="data:,">Welcome');

// ---- The visitor --------------------------------------------------------------------------------
const link = page => page.getByRole('link', { name: 'Try again now' });
const tells = (page, text) => page.getByRole('status').filter({ hasText: text }).waitFor();
const unasked = /^Please try again in a few minutes\.$/, promise = /^Keep this page open: it br/;
const asked = /^Asked at .*\d.*: not back yet\.\s*$/, askedAgain = /^Asked at .*: not .*Keep this/;
const move = (page, time) => page.evaluate(ms => window.__pwClock.controller.runFor(ms), time);
const letAsk = page => move(page, 13000)
  .then(() => page.evaluate(() => window.answer.catch(() => {})));
async function letReturn(page, url) {
  await move(page, 30000).catch(() => {}); // It may leave at once.
  await page.getByText('Welcome').waitFor();
  assert.equal(page.url(), url);
}

// A test in each browser: maintd answers at `origin`, and a tab is open. Its clock stands still
// until it is moved. Its first waits last 12 s. `take(answer)` puts a stand-in into the place of
// what has the port, `take()` nothing.
function story(name, tell, options = {}) {
  for (const [engine, browser] of Object.entries(browsers))
    check(`${name} (${engine})`, async t => {
      const maintd = spawn('./maintd', ['-p', '0', 'maintenance.html']);
      let now = { stop: () => maintd.kill() && once(maintd, 'exit') };
      t.after(() => now?.stop());
      const [line] = await once(maintd.stderr, 'data');
      const port = Number(/:(\d+)\//.exec(line)?.[1]);
      assert.ok(port, `a first line with the URL, not: ${line}`);
      const context = await browser.newContext(options);
      t.after(() => context.close());
      context.setDefaultTimeout(patience);
      await context.clock.install({ time: 0 }).then(() => context.clock.pauseAt(1000));
      await context.addInitScript(() => {
        const { fetch } = window;
        window.fetch = (...request) => window.answer = fetch(...request);
        Math.random = () => 0.5;
        delete AbortSignal.timeout; // It has a clock of its own.
      });
      const page = await context.newPage();
      const take = async answer => {
        await now?.stop();
        return now = answer && await standIn(port, answer);
      };
      await tell({ page, take, context, origin: `http://127.0.0.1:${port}` });
    }, !browser && `${engine} is not installed`);
}

story('a visitor that follows a link returns', async ({ page, take, context, origin }) => {
  await context.addCookies([{ name: 'visitor', value: 'known', url: origin }]);
  await page.goto(`${origin}/page?token=once#part`);
  await tells(page, unasked);
  const endless = await take(response => response.writeHead(503).write('no end'));
  const [{ request, response }] = await Promise.all([endless.next('ask'), letAsk(page)]);
  const { cookie, 'cache-control': cache } = request.headers;
  assert.deepEqual([cookie, cache], ['visitor=known', 'no-cache']);
  // The header is enough. Once Firefox has the body so far, it hangs up only when more comes.
  if (!response.closed) await Promise.all([once(response, 'close'), response.write('more')]);
  await tells(page, promise);
  const entries = await page.evaluate(() => history.length), { log } = await take(site);
  await letReturn(page, `${origin}/page?token=once#part`);
  assert.deepEqual(log, ['ask GET /page', 'load GET /page?token=once']);
  assert.equal(await page.evaluate(() => history.length), entries);
  assert.ok(await page.evaluate(() => sessionStorage.maintd > 60000)); // in case it was in vain
});

story('a visitor that sends a form may press the link', async ({ page, take, ...s }) => {
  const url = `${s.origin}/page?from=here#part`, card = page.locator('main');
  await page.setContent(`<form method="post" action="${url}"><button>Send</button></form>`);
  await Promise.all([page.waitForURL(url), page.getByRole('button').click()]);
  const { width } = await card.boundingBox();
  await take();
  await link(page).press('Enter');
  await tells(page, asked);
  const slow = await take(response => slow.log.length !== 2 && down(response));
  await letAsk(page);
  await tells(page, askedAgain);
  const [{ response }] = await Promise.all([slow.next('ask'), move(page, 13000)]);
  await link(page).click(); // while the question is under way
  await tells(page, /^Asking now/);
  down(response);
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
    const { log } = await s.take(response => log.length > 2 ? site(response) :
      says(code, 'Welcome', { Location: '/elsewhere' })(response));
    await letReturn(s.page, origin + there);
    assert.equal(log[1], `load GET ${address.replace(/#.*/, '')}`);
  });

story('a service worker that has stored the page does not keep it', async s => {
  const worker = says(200, `onfetch = e => e.respondWith(caches.open('all').then(async cache => {
    if (!await cache.match(e.request)) await cache.put(e.request, await fetch(e.request));
    return cache.match(e.request);
  }));`, { 'Content-Type': 'text/javascript' });
  const { next } = await s.take((response, line) =>
    (line === 'ask GET /worker' ? worker : down)(response));
  await s.page.goto(`${s.origin}/page?a`);
  await s.page.evaluate(() => navigator.serviceWorker.register('/worker')
    .then(() => navigator.serviceWorker.ready));
  await s.page.reload(); // Now the page comes from the worker.
  await s.page.evaluate(() => fetch('/other'));
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
    await window.answer; // It comes too early to lead to anything.
    await fetch('/later');
  }));
  const up = await s.take((response, line) => line.startsWith('load') || site(response));
  const late = answer => Promise.all([up.next('load'), up.next('/later')])
    .then(([{ response }]) => answer(response));
  await Promise.all([late(says(204)), s.page.evaluate(() => { location.href = '/other'; })]);
  await Promise.all([late(site), letReturn(s.page, `${s.origin}/page#part`)]);
  const log = up.log.filter(line => line !== 'ask GET /later').join();
  assert.match(log, /(ask GET .page,.*){2}load GET .page$/);
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
// The page's script without a browser: `answer()` is what the site says to a question, and time
// passes at once. Returns when the page asks. If it loads the site, that is in vain.
const script = new Function('self', `with (self) {${/<script>([^]*)<\/script>/.exec(html)[1]}}`);
async function simulate(until, answer, random = Math.random) {
  let now = 0;
  const timers = [], asks = [], self = {
    Math: Object.assign(Object.create(Math), { random }), Date: { now: () => now },
    navigator: {}, sessionStorage: {}, history: { replaceState() {} },
    document: { URL: '/', querySelector: () => ({ dataset: {} }) },
    location: { origin: '', pathname: '/', replace: () => script(self) },
    setTimeout: (call, wait) => timers.push({ call, at: now + wait }),
    AbortSignal: { timeout: time => ({ time }) },
    fetch: async (page, { signal }) => {
      assert.equal(signal.time, 120000); // time to type a password; else nothing is asked
      asks.push(now / 1000);
      return answer();
    },
  };
  script(self);
  while (timers.sort((a, b) => a.at - b.at)[0].at < until * 1000) {
    const { call, at } = timers.shift();
    now = at;
    call();
    await new Promise(setImmediate);
  }
  return asks;
}
const answer = (status, after) => () => ({ status, headers: { get: () => after } });

// Of the waits the first and the longest, and how often the page asks in an hour.
for (const [status, after, ...expected] of [[429, '60', 12, 120, 47], [503, '3600', 12, 442, 35],
  [500, '-5', 12, 12, 299], [599, 'Fri, 01 Jan 2100 00:00:00 GMT', 12, 120, 47]])
  check(`${status} and Retry-After: ${after} make the right waits`, async () => {
    const asks = await simulate(3600, answer(status, after), () => 0.5);
    const waits = asks.map((time, i) => Math.round(time - (asks[i - 1] ?? 0)));
    assert.deepEqual([waits[0], Math.max(...waits), asks.length], expected);
  });

check('loads in vain become rare', async () => { // Each answer leads to one.
  const { length } = await simulate(400, answer(200), () => 0.5);
  assert.ok(length > 4 && length <= 10, `${length} loads`);
});

check('50,000 visitors ask seldom enough, and are soon back', async t => {
  const visits = (count, until, after) => Promise.all(Array.from({ length: count }, () =>
    simulate(until, answer(503, after))));
  const rate = (await visits(200, 3600, '60')).flat().length / 200 * 50000 / 3600;
  const most = Math.max(...(await visits(100, 3600, '3600')).map(asks => asks.length));
  const all = await visits(4000, 180, '60'), seconds = new Array(181).fill(0);
  for (const asks of all) {
    const come = Math.random(); // All come within a second.
    for (const time of asks) seconds[Math.floor(come + time)] += 50000 / all.length;
  }
  const busiest = Math.max(...seconds);
  const back = asks => asks.some(time => time > 120 && time < 130); // after 120 s of upgrade
  const soon = all.filter(back).length / all.length;
  t.diagnostic(JSON.stringify({ rate, busiest, soon, most }));
  assert.ok(rate < 800 && busiest < 7000 && soon > 0.5 && most <= 45);
});

// ---- How it looks and reads ---------------------------------------------------------------------
const full = html.replace(/<!-- ?(<p>.*<\/p>|, at .*UTC|<a .*<\/a>) ?-->/g, '$1') // all hints
  .replace('Example Library', 'Donaudampfschifffahrtsgesellschaftsbibliothek');

for (const options of [{}, { colorScheme: 'dark' }, { forcedColors: 'active' }])
  check(`axe-core finds nothing, and all can be seen, ${JSON.stringify(options)}`, async () => {
    const page = await Chromium.newPage(options), button = '[href=""]';
    const style = (selector, ...names) => page.locator(selector)
      .evaluate((element, all) => all.map(name => getComputedStyle(element)[name]), names);
    page.setDefaultTimeout(patience);
    await page.setContent(full);
    await page.addScriptTag({ path: `${packages}/axe-core/axe.min.js` });
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

check('vnu finds nothing', async () => {
  for (const input of [html, full]) {
    const vnu = spawn('java', ['-jar', `${packages}/vnu-jar/build/dist/vnu.jar`, '--stdout', '-']);
    vnu.stdin.end(input);
    const [[status], found] = await Promise.all([once(vnu, 'exit'), vnu.stdout.toArray()]);
    assert.deepEqual([status, `${found}`], [0, '']);
  }
}, spawnSync('java', ['-version']).status !== 0 && 'default-jre-headless is not installed');

describe('the page', { concurrency: 4 }, () => { // They wait for the browsers most of the time.
  after(() => Promise.all(Object.values(browsers).map(browser => browser?.close())));
  for (const [name, skip, body] of checks) test(name, { skip, timeout: patience }, body);
});
