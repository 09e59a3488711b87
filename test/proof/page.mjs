// The page in a browser: does it bring every visitor back, and can everybody read it?
//
//     npm install --prefix DIR playwright-core@1.56.1 axe-core@4.10.3 vnu-jar@24.10.17
//     PLAYWRIGHT_DIR=DIR node --test test/proof/page.mjs
//
// It needs Chromium; firefox-esr and java are used where they are installed. MAINTD names another
// binary than ./maintd, CHROMIUM another browser than /usr/bin/chromium.
//
// A story begins with a real maintd on a free port. It is stopped, and others take its port. The
// page's timers run only when the test moves them, so that an hour takes no time.

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import vm from 'node:vm';

const binary = process.env.MAINTD ?? fileURLToPath(new URL('../../maintd', import.meta.url));
const html = readFileSync(new URL('../../maintenance.html', import.meta.url), 'utf8');
const packages = resolve(process.env.PLAYWRIGHT_DIR ?? '.', 'node_modules');
const limit = 10000; // milliseconds; far more than any event takes

const { chromium, _bidiFirefox } = createRequire(join(packages, '.'))('playwright-core');
const axe = readFileSync(join(packages, 'axe-core', 'axe.min.js'), 'utf8');
const firefoxPath = ['/usr/bin/firefox-esr', '/usr/bin/firefox'].find(existsSync);
const java = spawnSync('java', ['-version']).status === 0;
const left = [!firefoxPath && 'Firefox (install firefox-esr)', !java && 'vnu (install java)'];
if (left.some(Boolean)) console.log(`page.mjs leaves out: ${left.filter(Boolean).join(', ')}`);

const browsers = {
  Chromium: await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox'],
  }),
};
if (firefoxPath) browsers.Firefox = await _bidiFirefox.launch({ executablePath: firefoxPath });
after(() => Promise.all(Object.values(browsers).map(browser => browser.close())));

// ---- What answers at the port -------------------------------------------------------------------

// Starts maintd with its own page on a free port.
async function startMaintd() {
  const child = spawn(binary, ['-p', '0'], { stdio: ['ignore', 'ignore', 'pipe'] });
  const exit = once(child, 'exit'); // rejected where there is no such program
  const lines = createInterface({ input: child.stderr })[Symbol.asyncIterator]();
  const { value: first } = await Promise.race([lines.next(), exit]);
  const port = Number(/:(\d+)\//.exec(first)?.[1]);
  assert.ok(port, `a first line with the URL, not: ${first}`);
  const stop = async () => { child.kill(); await exit; };
  return { port, stop };
}

// Answers at `port` by `answer(request, response, isLoad)`. `log` has a line for each request:
// "ask" where a script has sent it, "load" where the browser shows the answer.
async function standIn(port, answer) {
  const log = [], headers = [];
  const server = http.createServer((request, response) => {
    const isLoad = request.headers['sec-fetch-mode'] === 'navigate';
    log.push(`${isLoad ? 'load' : 'ask'} ${request.method} ${request.url}`);
    headers.push(request.headers);
    request.resume();
    response.setHeader('Content-Type', 'text/html');
    response.setHeader('Connection', 'close');
    answer(request, response, isLoad);
  });
  server.listen(port);
  await once(server, 'listening');
  const stop = async () => {
    const closed = once(server, 'close');
    server.close();
    server.closeAllConnections();
    await closed;
  };
  const count = word => log.filter(line => line.startsWith(word)).length;
  return { log, headers, server, stop, asks: () => count('ask'), loads: () => count('load') };
}

const says = (status, body = '', more = {}) => (request, response) =>
  response.writeHead(status, more).end(body);
const down = says(503, html, { 'Retry-After': '120', 'Cache-Control': 'no-store' });

// The site: an anchor far down shows whether the browser went to the fragment.
const sitePage = `<!doctype html><title>The site</title><link rel="icon" href="data:,">
  <div style="height: 3000px">Welcome</div><div style="height: 3000px" id="part">Part</div>`;
const site = says(200, sitePage);

// ---- The visitor --------------------------------------------------------------------------------

// Opens a tab. Its clock stands still, or runs 1000 times as fast.
async function openTab(context, trouble, lapse) {
  context.setDefaultTimeout(limit);
  if (lapse) {
    await context.addInitScript(() => {
      const now = Date.now, start = now(), set = setTimeout;
      Date.now = () => start + (now() - start) * 1000;
      window.setTimeout = (call, wait) => set(call, wait / 1000);
    });
  } else {
    await context.clock.install({ time: 0 });
    await context.clock.pauseAt(1000);
  }
  await context.addInitScript(() => { // counts the answers that the page has got
    const send = window.fetch;
    window.answered = 0;
    window.fetch = (...request) => {
      const answer = send(...request), count = () => { window.answered += 1; };
      answer.then(count, count);
      return answer;
    };
  });
  const page = await context.newPage();
  page.on('dialog', dialog => {
    if (dialog.type() !== 'beforeunload') trouble.push(`a question: ${dialog.message()}`);
    dialog.dismiss().catch(() => {});
  });
  const report = (kind, text) => {
    const expected = /^Failed to load resource|Content.Security.Policy|settings blocked|U\+0040|Invalid or u/;
    if (!expected.test(text)) trouble.push(`${kind}: ${text}`);
  };
  page.on('pageerror', error => report('a script error', error.message));
  page.on('console', message => message.type() === 'error' && report('an error', message.text()));
  return page;
}

const status = page => page.getByRole('status').innerText();
const link = page => page.getByRole('link', { name: 'Try again now' });
const promise = /brings you back by itself/;

// Lets the page's clock run in steps until `done`. The clock may be gone before it can answer: with
// the page, or in Chromium as long as a load is pending.
async function run(page, done, step = 5000) {
  let over = false;
  const end = Date.now() + limit;
  done = Promise.resolve(done).finally(() => { over = true; });
  while (!over && Date.now() < end) {
    const moved = page.clock.runFor(step).catch(error => {
      if (!over && !/destroyed|navigat|closed|detached/i.test(error.message)) throw error;
    });
    await Promise.race([moved, done]);
    await Promise.race([new Promise(setImmediate), done]);
  }
  return done;
}

// Lets the clock run until the page has got `count` answers more.
async function letAsk(page, count = 1) {
  const enough = count + await page.evaluate(() => window.answered);
  await run(page, page.waitForFunction(least => window.answered >= least, enough, { polling: 20 }));
}

async function letReturn(page, url) {
  await run(page, page.waitForEvent('load'));
  assert.equal(page.url(), url);
  assert.equal(await page.title(), 'The site');
}

// Changes what the page believes about its tab: a headless tab is always in front.
const setHidden = (page, hidden) => page.evaluate(value => {
  Object.defineProperty(document, 'hidden', { configurable: true, value });
  document.dispatchEvent(new Event('visibilitychange'));
}, hidden);

// A test: maintd answers at `origin`, and a visitor's tab is open. `take(answer)` lets a stand-in
// have the port in the place of the server that has it; `take()` leaves it to nobody.
const both = Object.keys(browsers);
function story(name, where, tell, { lapse, ...options } = {}) {
  for (const [engine, browser] of Object.entries(browsers).filter(([key]) => where.includes(key)))
    test(`${name} (${engine})`, { timeout: 2 * limit }, async () => {
      const trouble = [];
      const maintd = await startMaintd();
      const context = await browser.newContext(options);
      let now = maintd;
      try {
        const page = await openTab(context, trouble, lapse);
        const take = async answer => {
          await now?.stop();
          now = answer && await standIn(maintd.port, answer);
          return now;
        };
        await tell({ page, take, context, engine, origin: `http://127.0.0.1:${maintd.port}` });
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
    await page.getByRole('button').click();
    await page.waitForURL(url);
  },
};

// ---- The visitor is brought back ----------------------------------------------------------------

for (const [how, arrive] of Object.entries(arrivals))
  for (const address of ['/login?token=once', '/page?from=here#part'])
    story(`a visitor that ${how} to ${address} returns, and its query is used once`, both, async s => {
      const url = s.origin + address;
      await arrive(s.page, url);
      const entries = await s.page.evaluate(() => history.length);
      assert.match(await status(s.page), /try again in a few minutes/, 'no promise before an answer');
      const proxy = await s.take(down);
      await letAsk(s.page);
      await s.page.getByText(promise).waitFor();
      await s.take();
      await s.page.clock.runFor(20000);
      const { log } = await s.take(site);
      await letReturn(s.page, url);
      const target = address.replace(/#.*/, '');
      assert.deepEqual(log, [`ask GET ${target.replace(/\?.*/, '')}`, `load GET ${target}`]);
      assert.equal(await s.page.evaluate(() => history.length), entries);
      if (address.includes('#')) await s.page.waitForFunction(() => scrollY > 2000, null, { polling: 20 });
    });

for (const address of ['/', '/#part', '/page#', '/page?', '/page?#part', '//a//b#part', '/p?a&#part'])
  story(`the address ${address} is kept to the letter`, both, async s => {
    await s.page.goto(s.origin + address);
    const { log } = await s.take(site);
    await letReturn(s.page, s.origin + address);
    assert.equal(log.at(-1), `load GET ${address.replace(/#.*/, '')}`);
  });

story('an address with a password is no obstacle', both, async s => {
  await s.page.goto(`${s.origin}/page#part`.replace('://', '://user:secret@'));
  await s.take(site);
  await letReturn(s.page, s.page.url());
});

for (const code of [200, 302, 401, 403, 404, 405])
  story(`a site that says ${code} is back`, both, async s => {
    await s.page.goto(`${s.origin}/page#part`);
    const more = code === 302 ? { Location: '/elsewhere' } : {};
    const { log } = await s.take((request, response, isLoad) =>
      says(request.url === '/elsewhere' ? 200 : code, sitePage, more)(request, response));
    await letReturn(s.page, `${s.origin}/${code === 302 ? 'elsewhere' : 'page'}#part`);
    assert.deepEqual(log.slice(0, 2), ['ask GET /page', 'load GET /page']);
  });

story('a site that says 429 or any 5xx is not', ['Chromium'], async s => {
  const codes = [429, 500, 501, 502, 503, 504, 520, 599];
  await s.page.goto(s.origin);
  const proxy = await s.take((request, response) => says(codes[proxy.asks() - 1] ?? 500)(request, response));
  await letAsk(s.page, codes.length);
  assert.equal(proxy.loads(), 0);
});

story('an asking ends at the header, and carries the cookies of the visitor', both, async s => {
  await s.context.addCookies([{ name: 'visitor', value: 'known', url: s.origin }]);
  await s.page.goto(s.origin);
  let cut;
  const endless = await s.take((request, response, isLoad) => {
    if (isLoad) return site(request, response);
    cut = once(response, 'close').then(() => response.writableEnded);
    response.writeHead(200).write('a body that does not end');
  });
  await letReturn(s.page, `${s.origin}/`);
  assert.equal(await cut, false, 'closed by the browser');
  assert.equal(endless.headers[0].cookie, 'visitor=known');
  assert.match(endless.headers[0]['cache-control'], /no-cache/);
});

story('a service worker that has stored the maintenance page does not keep it', both, async s => {
  const worker = `oninstall = () => skipWaiting(); onactivate = e => e.waitUntil(clients.claim());
    onfetch = e => e.respondWith(caches.open('all').then(async cache => {
      const stored = await cache.match(e.request);
      if (stored) return stored;
      const answer = await fetch(e.request);
      await cache.put(e.request, answer.clone());
      return answer;
    }));`;
  await s.take((request, response) => request.url === '/worker.js' ?
    says(200, worker, { 'Content-Type': 'text/javascript' })(request, response) :
    site(request, response));
  await s.page.goto(`${s.origin}/first`);
  await s.page.evaluate(async () => {
    const claimed = new Promise(done => { navigator.serviceWorker.oncontrollerchange = done; });
    await navigator.serviceWorker.register('/worker.js');
    await claimed;
  });
  const proxy = await s.take(down);
  await s.page.goto(`${s.origin}/page?a`);
  await letAsk(s.page, 2);
  const back = await s.take(site);
  await letReturn(s.page, `${s.origin}/page?a`);
  await s.page.reload();
  assert.equal(await s.page.title(), 'The site');
  assert.equal(back.log.filter(line => line.endsWith('/page?a')).length, 1, back.log.join());
});

for (const [what, answer] of [
  ['a download', says(200, 'data', { 'Content-Disposition': 'attachment' })],
  ['no page (204)', says(204)],
])
  story(`an address that is ${what} loads once for each change from down to up`, both, async s => {
    const url = `${s.origin}/page?a#part`;
    await s.page.goto(url);
    for (let change = 0; change < 2; ++change) {
      const up = await s.take(answer);
      await letAsk(s.page, 4);
      assert.equal(up.loads(), 1);
      assert.equal(s.page.url(), url);
      assert.equal(await status(s.page), 'The site is back.');
      const proxy = await s.take(down);
      await letAsk(s.page);
      await s.page.getByText(promise).waitFor();
    }
  });

// In both stories the load is held back until the page has asked in vain to load once more.
story('a page that takes minutes to come is waited for', both, async s => {
  await s.page.goto(`${s.origin}/page#part`);
  let pending, slow;
  slow = await s.take((request, response, isLoad) => {
    if (isLoad) pending = response;
    else if (slow.asks() === 4) pending.end(sitePage);
    else site(request, response);
  });
  await s.page.waitForEvent('load');
  assert.equal(await s.page.title(), 'The site');
  assert.equal(slow.loads(), 1);
}, { lapse: true });

story('a slow address that the visitor opens meanwhile is waited for', both, async s => {
  await s.page.goto(`${s.origin}/page`);
  let pending, slow;
  slow = await s.take((request, response, isLoad) => {
    if (isLoad) pending = response;
    else if (slow.asks() === 5) pending.end(sitePage);
    else says(pending ? 200 : 503)(request, response);
  });
  await Promise.all([s.page.waitForEvent('load'), s.page.goto(`${s.origin}/other`)]);
  assert.equal(new URL(s.page.url()).pathname, '/other');
  assert.equal(slow.loads(), 1);
}, { lapse: true });

story('the waits grow over loads in vain', both, async s => {
  await s.page.goto(`${s.origin}/page#part`);
  await s.take((request, response, isLoad) => (isLoad ? down : site)(request, response));
  const times = [];
  for (let i = 0; i < 7; ++i) {
    await run(s.page, s.page.waitForEvent('load'), 1000);
    times.push(await s.page.evaluate(() => Date.now()) / 1000);
  }
  const waits = times.map((time, i) => time - (times[i - 1] ?? 0));
  assert.ok(waits[6] > 1.5 * waits[0], `waits of ${waits} s`);
  await s.take(site);
  await letReturn(s.page, `${s.origin}/page#part`);
});

story('a password may be typed for two minutes, while nothing else is asked', both, async s => {
  await s.page.goto(s.origin);
  const silent = await s.take(() => {});
  const request = once(silent.server, 'request');
  const [, response] = await run(s.page, request);
  let closed = false;
  response.on('close', () => { closed = true; });
  await s.page.clock.runFor(105000);
  await link(s.page).click();
  await setHidden(s.page, false);
  assert.equal(silent.asks(), 1);
  assert.equal(closed, false);
  const gone = once(response, 'close');
  await s.page.clock.runFor(15000);
  await gone;
  await s.take(down);
  await letAsk(s.page);
});

// ---- How often it asks --------------------------------------------------------------------------

// The page's script without a browser: `answer(now)` is the site, timers run as fast as they can.
const script = new vm.Script(/<script>([^]*)<\/script>/.exec(html)[1]);
async function simulate(until, answer) {
  const start = Date.UTC(2026, 0);
  let now = start;
  const timers = [], asked = [], loaded = [];
  const element = { dataset: new Proxy({}, { get: (_, name) => String(name) }) };
  class Clock extends Date { static now() { return now; } }
  const self = {
    origin: 'http://site', AbortController, Date: Clock, navigator: {}, sessionStorage: {},
    document: { URL: 'http://site/', querySelector: () => element, addEventListener() {} },
    location: { origin: 'http://site', pathname: '/', search: '', replace: () => loaded.push(now) },
    history: { replaceState() {} },
    setTimeout: (call, wait) => timers.push({ call, at: now + wait }),
    fetch: async () => { asked.push((now - start) / 1000); return answer(asked.at(-1)); },
  };
  script.runInNewContext(Object.assign(self, { window: self }));
  while (timers.length) {
    timers.sort((a, b) => b.at - a.at);
    const { call, at } = timers.pop();
    if (at > start + until * 1000) break;
    now = at;
    call();
    await new Promise(setImmediate);
  }
  return { asked, loaded: loaded.map(time => (time - start) / 1000) };
}
const answers = (code, after = null) => ({ status: code, headers: { get: () => after } });

test('the waits are an eighth of the time so far, give or take half of it', async () => {
  const shares = [];
  for (let i = 0; i < 50; ++i) {
    const { asked } = await simulate(2000, () => answers(503, '3600'));
    for (const [k, time] of asked.entries()) {
      const start = asked[k - 1] ?? 0, usual = Math.max(10, start / 8);
      shares.push((time - start) / usual);
    }
  }
  assert.ok(Math.min(...shares) >= 0.499 && Math.max(...shares) <= 1.501);
  assert.ok(shares.filter(share => share < 0.9).length > shares.length / 20, 'at random');
  assert.ok(shares.filter(share => share > 1.4).length > shares.length / 20, 'at random');
});

for (const [after, most] of [
  ['3600', 300], ['60', 60], ['1', 30], ['0', 30], ['-5', 30], [null, 300], ['soon', 300],
  ['Fri, 01 Jan 2100 00:00:00 GMT', 300], ['Thu, 01 Jan 1970 00:00:00 GMT', 30],
])
  test(`Retry-After: ${after} bounds the waits of a long maintenance by ${most} s`, async () => {
    const { asked } = await simulate(6000, () => answers(503, after));
    const waits = asked.map((time, i) => time - (asked[i - 1] ?? 0)).slice(-8);
    assert.ok(Math.max(...waits) <= most + 0.001 && Math.max(...waits) > most * 0.8, `${waits} s`);
  });

test('50,000 visitors who wait for an hour ask fewer than 500 times a second', async t => {
  const visitors = 300;
  let asked = 0;
  for (let i = 0; i < visitors; ++i)
    asked += (await simulate(3600, () => answers(503, '3600'))).asked.length;
  const rate = asked / visitors * 50000 / 3600;
  t.diagnostic(`${rate.toFixed(0)} times a second`);
  assert.ok(rate < 500, `${rate} times a second`);
});

test('the median visitor of a two-minute upgrade is back within 10 s', async t => {
  const delays = [];
  for (let i = 0; i < 301; ++i) { // each has seen the upgrade from its beginning
    const { loaded } = await simulate(200, now => answers(now < 120 ? 503 : 200, '120'));
    delays.push(loaded[0] - 120);
  }
  const median = delays.sort((a, b) => a - b)[150];
  t.diagnostic(`${median.toFixed(1)} s`);
  assert.ok(median < 10, `${median} s`);
});

story('a hidden tab does not ask, but does at once when it is looked at', both, async s => {
  await s.page.goto(`${s.origin}/page#part`);
  await setHidden(s.page, true);
  const { log } = await s.take(site);
  await s.page.clock.runFor(3600000);
  await s.page.evaluate(() => dispatchEvent(new Event('online')));
  assert.deepEqual(log, []);
  const loaded = s.page.waitForEvent('load');
  await setHidden(s.page, false).catch(() => {});
  await loaded;
  assert.equal(s.page.url(), `${s.origin}/page#part`);
});

story('a tab that is looked at, or returned to, or online again asks once in 5 s', ['Chromium'], async s => {
  await s.page.addInitScript(() => { Math.random = () => 1 - Number.EPSILON; });
  await s.page.goto(s.origin);
  const proxy = await s.take(down);
  const nudge = () => s.page.evaluate(() => {
    for (const target of [document, window])
      for (const type of ['visibilitychange', 'online', 'pageshow'])
        target.dispatchEvent(new Event(type));
  });
  for (let asks = 0; asks < 3; ++asks) {
    await s.page.clock.runFor(4900);
    await nudge();
    assert.equal(proxy.asks(), asks);
    await s.page.clock.runFor(200);
    await nudge();
    await s.page.waitForFunction(count => window.answered === count, asks + 1, { polling: 20 });
  }
});

story('a visitor without a network returns as soon as there is one', ['Chromium'], async s => {
  await s.page.goto(`${s.origin}/page#part`);
  await s.take(site);
  await s.context.setOffline(true);
  await s.page.clock.runFor(60000);
  const loaded = s.page.waitForEvent('load');
  await s.context.setOffline(false);
  await run(s.page, loaded);
  assert.equal(await s.page.title(), 'The site');
});

story('several tabs return', ['Chromium'], async s => {
  const other = await s.context.newPage();
  await s.page.goto(`${s.origin}/one`);
  await other.goto(`${s.origin}/two`);
  await s.take(site);
  await run(s.page, Promise.all([s.page, other].map(page => page.waitForEvent('load'))));
  assert.deepEqual([await s.page.title(), await other.title()], ['The site', 'The site']);
});

// ---- The link -----------------------------------------------------------------------------------

for (const [how, arrive] of Object.entries(arrivals))
  story(`a visitor that ${how} and presses the link stays until the site is back`, both, async s => {
    const url = `${s.origin}/page?from=here#part`;
    await arrive(s.page, url);
    await s.take();
    await link(s.page).focus();
    await s.page.keyboard.press('Enter');
    await s.page.getByText(/^Asked at .*\d.*: not back yet\.\s*$/).waitFor(); // and no promise
    await link(s.page).dblclick();
    await s.take(down);
  await letAsk(s.page);
    await s.page.getByText(/^Asked at .*\d.*: not back yet\. Keep this page open/).waitFor();
    assert.equal(await s.page.evaluate(() => document.activeElement.textContent), 'Try again now');
    const { log } = await s.take(site);
    await Promise.all([s.page.waitForEvent('load'), link(s.page).dblclick()]);
    assert.equal(s.page.url(), url);
    assert.deepEqual(log, ['ask GET /page', 'load GET /page?from=here']);
  });

story('with a modifier, the link opens as usual', ['Chromium'], async s => {
  await s.page.goto(`${s.origin}/page`);
  const { log } = await s.take(site);
  const [tab] = await Promise.all([
    s.context.waitForEvent('page'), link(s.page).click({ modifiers: ['Control'] }),
  ]);
  await tab.waitForLoadState();
  assert.deepEqual(log, ['load GET /page']);
});

// Where the page cannot ask: what is sent in the place of the page, and what runs before it.
const script_ = text => html.replace('<script>', `<script>${text}`);
for (const [why, body, headers] of [
  ['there is no fetch', script_('delete window.fetch;')],
  ['there is no AbortController', script_('delete window.AbortController;')],
  ['the browser does not know the syntax', script_('@')],
  ['scripts are forbidden', html, { 'Content-Security-Policy': "script-src 'none'" }],
  ['a policy forbids every request', html, { 'Content-Security-Policy': "connect-src 'none'" }],
  ['a policy sandboxes the page', html, { 'Content-Security-Policy': 'sandbox allow-scripts' }],
])
  story(`where ${why}, the text stays as it is and the link works`, both, async s => {
    await s.take(says(503, body, headers));
    await s.page.goto(`${s.origin}/page?from=here`);
    await s.page.clock.runFor(60000);
    await s.page.getByText('Please try again in a few minutes.').waitFor();
    await s.take(site);
    await Promise.all([s.page.waitForEvent('load'), link(s.page).click()]);
    assert.equal(await s.page.title(), 'The site');
  });

// ---- How it looks and reads ---------------------------------------------------------------------

// What the comment at the top offers, put where it says, and two translations.
const offered = [...html.matchAll(/^.*: (<.*>)(?: -->)?$/gm)].slice(0, 3).map(match => match[1]);
const full = text => text.replace('  <h1', `  ${offered[0]}\n  <h1`)
  .replace('</h1>', `</h1>\n  ${offered[1]}`).replace('</a></p>', `</a> ${offered[2]}</p>`);
const inWords = (attributes, ...words) => {
  const old = [
    'Down for maintenance', 'We are working on this site and will be back shortly.',
    'Please try again in a few minutes.', 'Try again now',
    'If you have just sent a form, it has not arrived. Please send it again later.',
  ];
  return old.reduce((text, part, i) => text.replaceAll(part, words[i]), html)
    .replace('lang="en"', attributes);
};
const variants = {
  'as it is': html,
  'with name, time and status': full(html),
  'in German': inWords('lang="de"', 'Wegen Wartungsarbeiten vorübergehend nicht erreichbar',
    'Wir arbeiten an dieser Website und sind in Kürze wieder für Sie da.',
    'Lassen Sie diese Seite offen: Sie bringt Sie von selbst zurück.', 'Jetzt erneut versuchen',
    'Ein eben abgeschicktes Formular ist nicht angekommen. Bitte senden Sie es später noch einmal.'),
  'in Arabic': full(inWords('lang="ar" dir="rtl"', 'الموقع قيد الصيانة',
    'نعمل حاليًا على تحسين الموقع وسنعود قريبًا.', 'يرجى المحاولة مرة أخرى بعد بضع دقائق.',
    'حاول الآن', 'إذا أرسلت نموذجًا للتو فإنه لم يصل. يرجى إرساله مرة أخرى لاحقًا.')),
};
const sizes = [
  [320, 640], [360, 740], [768, 1024], [1440, 900], [3840, 2160], [640, 320], [300, 150],
  [320, 256], // 1280 by 1024 pixels at 400 %
];

// The measures of the page, and the blocks of text that end in a line of one word.
const measure = page => page.evaluate(() => {
  const range = document.createRange();
  const boxes = [], lone = [];
  const tree = document.createTreeWalker(document.querySelector('main'), NodeFilter.SHOW_TEXT);
  while (tree.nextNode()) {
    const tops = [...tree.currentNode.data.matchAll(/\S+/g)].map(({ index, 0: word }) => {
      range.setStart(tree.currentNode, index);
      range.setEnd(tree.currentNode, index + word.length);
      boxes.push(...range.getClientRects());
      return range.getBoundingClientRect().top;
    });
    const last = tops.filter(top => top > tops.at(-1) - 3).length;
    if (last === 1 && tops.length > 3) lone.push(tree.currentNode.data);
  }
  const links = [...document.links].map(link => link.getBoundingClientRect());
  return {
    lone, scroll: document.documentElement.scrollWidth,
    left: Math.min(...boxes.map(box => box.left)), right: Math.max(...boxes.map(box => box.right)),
    link: Math.min(...links.map(box => Math.min(box.width, box.height))),
    font: parseFloat(getComputedStyle(document.body).fontSize),
  };
});

for (const [variant, text] of Object.entries(variants)) {
  for (const engine of both)
    test(`nothing is cut off or lost, ${variant} (${engine})`, async () => {
      const page = await browsers[engine].newPage();
      for (const [width, height] of sizes) {
        await page.setViewportSize({ width, height });
        await page.setContent(text);
        const seen = await measure(page);
        const where = `at ${width} by ${height}: ${JSON.stringify(seen)}`;
        assert.ok(seen.scroll <= width && seen.left >= 8 && seen.right <= width - 8, where);
        assert.ok(seen.link >= 44 && seen.font >= (width > 3000 ? 32 : 17), where);
        assert.deepEqual(seen.lone, [], where);
      }
      await page.close();
    });

  for (const options of [{}, { colorScheme: 'dark' }, { forcedColors: 'active' }])
    test(`axe-core finds nothing, ${variant} ${JSON.stringify(options)}`, async () => {
      const page = await browsers.Chromium.newPage(options);
      await page.setContent(text);
      await page.evaluate(axe);
      const { violations, passes } = await page.evaluate(() => window.axe.run({
        runOnly: ['wcag2a', 'wcag2aa', 'wcag2aaa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'],
      }));
      assert.deepEqual(violations.map(({ id, nodes }) => [id, nodes[0].html]), []);
      const contrast = passes.some(({ id }) => id === 'color-contrast-enhanced'); // 7 to 1
      assert.ok(contrast || options.forcedColors);
      await page.close();
    });
}

test('vnu finds nothing', { skip: !java }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'maintd-page-'));
  const files = Object.entries(variants).map(([name, text]) => {
    writeFileSync(join(folder, `${name}.html`), text);
    return join(folder, `${name}.html`);
  });
  const jar = join(packages, 'vnu-jar', 'build', 'dist', 'vnu.jar');
  const { stdout, stderr, status: code } = spawnSync('java', ['-jar', jar, '--stdout', ...files]);
  rmSync(folder, { recursive: true });
  assert.deepEqual([code, `${stdout}`, `${stderr}`], [0, '', '']);
});

test('the accent, the focus and the hover are seen, in forced colours and in print', async () => {
  const page = await browsers.Chromium.newPage({ colorScheme: 'dark' });
  const style = (selector, name) => page.locator(selector).first()
    .evaluate((element, key) => getComputedStyle(element)[key], name);
  await page.setContent(html);
  const before = await style('a', 'backgroundColor');
  await page.hover('a');
  assert.notEqual(await style('a', 'backgroundColor'), before);
  await page.keyboard.press('Tab');
  assert.equal(await style('a', 'outlineStyle'), 'solid');
  assert.ok(parseFloat(await style('a', 'outlineOffset')) >= 2);
  await page.emulateMedia({ forcedColors: 'active' });
  assert.ok(parseFloat(await style('main', 'borderTopWidth')) >= 3);
  assert.notEqual(await style('main', 'borderTopColor'), await style('main', 'backgroundColor'));
  await page.emulateMedia({ forcedColors: null, media: 'print' });
  for (const selector of ['h1', 'p', 'a'])
    assert.ok(Math.max(...(await style(selector, 'color')).match(/\d+/g)) < 90, `${selector} is dark`);
  await page.close();
});
