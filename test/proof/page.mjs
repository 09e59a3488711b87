// The page in a browser: does it bring its visitor back, and can everybody read it?
//
//     npm install --prefix /tmp/playwright playwright-core
//     PLAYWRIGHT_DIR=/tmp/playwright node test/proof/page.mjs
//
// MAINTD names another binary than ../maintd, CHROMIUM another browser than /usr/bin/chromium.
//
// Every story begins with a real maintd on a free port. It is stopped, and others take its port: a
// proxy, or the site. The visitor's timers run only when a story lets them (Playwright's clock), so
// a minute of waiting takes no time; the network is real. Nothing sleeps: what is waited for is an
// event, and a story in which it does not happen fails after `limit`.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import http from 'node:http';
import { createRequire } from 'node:module';
import { resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const binary = process.env.MAINTD ?? fileURLToPath(new URL('../maintd', import.meta.url));
const limit = 10000; // milliseconds; far more than any event takes

let chromium;
try {
  const from = resolve(process.env.PLAYWRIGHT_DIR ?? '.', 'package.json');
  ({ chromium } = createRequire(from)('playwright-core'));
} catch {
  console.error('page.mjs: "npm install --prefix DIR playwright-core" and set PLAYWRIGHT_DIR=DIR');
  process.exit(1);
}

let browser;
before(async () => {
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: [
      '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
      '--disable-background-networking', '--disable-component-update', '--disable-sync',
    ],
  });
});
after(() => browser?.close());

// ---- Who answers at the port --------------------------------------------------------------------

// Starts maintd with its own page on a free port.
async function startMaintd() {
  const child = spawn(binary, ['-p', '0'], { stdio: ['ignore', 'ignore', 'pipe'] });
  const exit = once(child, 'exit'); // rejected where there is no such program
  const lines = createInterface({ input: child.stderr })[Symbol.asyncIterator]();
  const { value: first } = await Promise.race([lines.next(), exit]);
  const port = Number(/:(\d+)\/$/.exec(first)?.[1]);
  assert.ok(port, `a first line that ends with the URL, not: ${first}`);
  return {
    port,
    // Ends it, and returns how many requests it says to have answered.
    async stop() {
      child.kill();
      const { value: last } = await lines.next();
      await exit;
      return Number(/(\d+) requests? answered/.exec(last)?.[1]);
    },
    kill: () => child.kill('SIGKILL'),
  };
}

// Answers at `port` by `answer(request, response)`; `log` has a line for each request.
async function standIn(port, answer) {
  const log = [];
  const server = http.createServer((request, response) => {
    log.push(`${request.method} ${request.url}`);
    request.resume();
    response.setHeader('Content-Type', 'text/html');
    answer(request, response);
  });
  server.listen(port);
  await once(server, 'listening');
  return {
    log,
    asked: () => log.filter(line => line.startsWith('HEAD ')).length,
    got: () => log.filter(line => !line.startsWith('HEAD ')),
    async stop() {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

const says = status => (request, response) => response.writeHead(status).end();

// The site: an anchor far down shows whether the browser went to the fragment.
const sitePage = `<!doctype html><title>The site</title><link rel="icon" href="data:,">
  <div style="height: 3000px">Welcome</div>
  <div style="height: 3000px" id="part">Part</div>`;

// Answers with the site's page and `status`; a redirect leads to /elsewhere.
const site = (status = 200) => (request, response) => {
  const moved = status === 302 && request.url !== '/elsewhere';
  if (moved) response.setHeader('Location', '/elsewhere');
  response.writeHead(status === 302 && !moved ? 200 : status).end(sitePage);
};

// ---- The visitor --------------------------------------------------------------------------------

// Opens a tab whose timers stand still. `trouble` collects what no visitor should ever meet.
async function openTab(options, trouble) {
  const context = await browser.newContext(options);
  context.setDefaultTimeout(limit);
  await context.clock.install({ time: 0 });
  await context.clock.pauseAt(1000);
  await context.addInitScript(() => { // notes when the page asks (by its own clock)
    const send = window.fetch;
    Object.assign(window, { asked: [], answered: 0 });
    window.fetch = (...request) => {
      window.asked.push(performance.now());
      const answer = send(...request);
      const count = () => { window.answered += 1; };
      answer.then(count, count);
      return answer;
    };
  });
  const page = await context.newPage();
  page.on('dialog', dialog => {
    trouble.push(`a question: ${dialog.message()}`);
    dialog.dismiss();
  });
  page.on('pageerror', error => trouble.push(`a script error: ${error}`));
  page.on('console', message => {
    const expected = message.text().startsWith('Failed to load resource'); // a 503, a refusal
    if (message.type() === 'error' && !expected) trouble.push(`on the console: ${message.text()}`);
  });
  context.on('request', request => {
    if (request.url().startsWith('data:') || request.isNavigationRequest()) return;
    if (request.redirectedFrom()) return; // reported, but not sent: the page does not follow it
    const [asked, own] = [request.url(), page.url()].map(url => new URL(url));
    const same = asked.origin === own.origin && asked.pathname === own.pathname;
    if (request.method() !== 'HEAD' || !same || asked.search !== own.search)
      trouble.push(`a request: ${request.method()} ${request.url()}`);
  });
  return page;
}

// Lets the page's clock run for as long as the page may take to ask, and waits for an answer.
// While the site is down, that is: the page must still be there afterwards.
async function letAsk(page) {
  const before = await page.evaluate(() => window.answered);
  await page.clock.runFor(15000);
  await page.waitForFunction(count => window.answered > count, before);
}

// Lets the page's clock run in the same way, and waits until the browser has loaded `url`.
async function letReturn(page, url) {
  const loaded = page.waitForEvent('load');
  await Promise.all([loaded, page.clock.runFor(15000).catch(leftMeanwhile)]);
  assert.equal(page.url(), url);
  assert.equal(await page.title(), 'The site');
}

// The clock that was asked to run may be gone with the page before it can say so.
function leftMeanwhile(error) {
  if (!/context was destroyed|navigat/i.test(error.message)) throw error;
}

async function onThePage(page) {
  await page.getByRole('heading', { name: 'Down for maintenance' }).waitFor();
}

// Changes what the page believes about its tab: headless tabs are always in front.
async function setHidden(page, hidden) {
  await page.evaluate(value => {
    Object.defineProperty(document, 'hidden', { configurable: true, value });
    const state = value ? 'hidden' : 'visible';
    Object.defineProperty(document, 'visibilityState', { configurable: true, value: state });
    document.dispatchEvent(new Event('visibilitychange'));
  }, hidden);
}

// A test: maintd answers at `origin`, and a visitor's tab is open. `take(answer)` lets a stand-in
// have the port in the place of whoever has it; `take()` leaves it to nobody.
function story(name, tell, options = {}) {
  test(name, { timeout: 2 * limit }, async () => {
    const trouble = [];
    const maintd = await startMaintd();
    let now = maintd;
    let page;
    try {
      page = await openTab(options, trouble);
      const take = async answer => {
        await now?.stop();
        now = answer && await standIn(maintd.port, answer);
        return now;
      };
      await tell({ page, take, maintd, origin: `http://127.0.0.1:${maintd.port}` });
      assert.deepEqual(trouble, []);
    } finally {
      await page?.context().close();
      maintd.kill();
      if (now !== maintd) await now?.stop();
    }
  });
}

const ways = {
  'follows a link': (page, url) => page.goto(url),
  'sends a form': async (page, url) => {
    await page.setContent(`<form method="post" action="${url}"><button>Send</button></form>`);
    await page.getByRole('button').click();
  },
};

// ---- The visitor is brought back ----------------------------------------------------------------

for (const [how, arrive] of Object.entries(ways))
  for (const address of ['/page?from=here', '/page?from=here#part'])
    for (const status of [200, 302, 404])
      story(`who ${how} to ${address} returns when the site says ${status}`, async s => {
        const url = s.origin + address;
        await arrive(s.page, url);
        await onThePage(s.page);
        const entries = await s.page.evaluate(() => history.length);
        await letAsk(s.page);

        await s.take();
        const refused = s.page.waitForEvent('requestfailed');
        await letAsk(s.page);
        assert.equal((await refused).failure().errorText, 'net::ERR_CONNECTION_REFUSED');

        const proxy = await s.take(says(502));
        await letAsk(s.page);
        await letAsk(s.page);
        assert.ok(proxy.asked() >= 2);
        assert.deepEqual(proxy.got(), []);
        assert.equal(s.page.url(), url);

        const { log } = await s.take(site(status));
        const there = status === 302 ? url.replace(/(\/[^/#]*)(#|$)/, '/elsewhere$2') : url;
        await letReturn(s.page, there);
        const target = address.replace(/#.*/, '');
        const expected = [`HEAD ${target}`, `GET ${target}`];
        if (status === 302) expected.push('GET /elsewhere');
        assert.deepEqual(log, expected);
        assert.equal(await s.page.evaluate(() => history.length), entries);
        if (address.includes('#'))
          await s.page.waitForFunction(() => scrollY > 2000, null, { polling: 20 });
      });

const oddities = ['/#part', '/page#', '/page?', '/page?#part', '//a//b#part', '/page?a&#part'];
for (const address of ['/', ...oddities])
  story(`the address ${address} is kept to the letter`, async s => {
    await s.page.goto(s.origin + address);
    const { log } = await s.take(site());
    await letReturn(s.page, s.origin + address);
    assert.equal(log.at(-1), `GET ${address.replace(/#.*/, '')}`);
  });

story('an address with a password is no obstacle', async s => {
  await s.page.goto(`${s.origin}/page#part`.replace('://', '://user:secret@'));
  await onThePage(s.page);
  await s.take(site());
  await letReturn(s.page, s.page.url());
});

story('a fragment that is changed meanwhile is the one to return to', async s => {
  await s.page.goto(`${s.origin}/page#old`);
  await s.page.goto(`${s.origin}/page#part`);
  await s.take(site());
  await letReturn(s.page, `${s.origin}/page#part`);
});

for (const status of [200, 301, 401, 403, 404, 405])
  story(`HEAD answered with ${status} means that the site is back`, async s => {
    await s.page.goto(s.origin);
    await s.take((request, response) =>
      request.method === 'HEAD' ? says(status)(request, response) : site()(request, response));
    await letReturn(s.page, `${s.origin}/`);
  });

story('429 and every 5xx mean that it is not', async s => {
  let status;
  await s.page.goto(s.origin);
  const proxy = await s.take((request, response) => says(status)(request, response));
  for (status of [429, 500, 501, 502, 503, 504, 520, 599])
    await letAsk(s.page);
  assert.ok(proxy.asked() >= 8);
  assert.deepEqual(proxy.got(), []);
  await onThePage(s.page);
});

story('an asking without an answer is given up, and the next one follows', async s => {
  await s.page.goto(s.origin);
  const silent = await s.take(() => {});
  const first = s.page.waitForRequest(request => request.method() === 'HEAD');
  await s.page.clock.runFor(15000);
  await first;
  const givenUp = s.page.waitForEvent('requestfailed');
  await s.page.clock.runFor(30000);
  assert.equal((await givenUp).failure().errorText, 'net::ERR_ABORTED');
  assert.equal(silent.asked(), 1);
  await s.take(site());
  await letReturn(s.page, `${s.origin}/`);
});

story('a site that goes down again at once is waited for again', async s => {
  const address = `${s.origin}/page#part`;
  const maintenance = await (await fetch(s.origin)).text();
  await s.page.goto(address);
  let visits = 0;
  await s.take((request, response) => {
    if (request.method === 'GET' && ++visits === 1) response.writeHead(503).end(maintenance);
    else site()(request, response);
  });
  const loaded = s.page.waitForEvent('load');
  await Promise.all([loaded, s.page.clock.runFor(15000).catch(leftMeanwhile)]);
  await onThePage(s.page);
  await letReturn(s.page, address);
});

// The clock cannot be run while a page loads, so the timer is looked at instead.
story('a slow site is announced, and has a minute before it is asked again', async s => {
  await s.page.addInitScript(() => {
    const set = window.setTimeout;
    window.setTimeout = (call, delay) => {
      window.lastDelay = delay;
      return set(call, delay);
    };
  });
  await s.page.goto(`${s.origin}/page?a#part`);
  let letGo;
  const got = new Promise(resolve => { letGo = resolve; });
  const slow = await s.take((request, response) => {
    const answer = () => site()(request, response);
    if (request.method === 'GET') letGo(answer);
    else answer();
  });
  const heard = s.page.evaluate(() => new Promise(resolve => {
    const status = document.querySelector('[role=status]');
    const hear = () => resolve([status.textContent, window.lastDelay]);
    new MutationObserver(hear).observe(status, { childList: true });
  }));
  await s.page.clock.runFor(15000);
  const [text, delay] = await heard;
  assert.equal(text, 'The site is back.');
  assert.ok(delay >= 60000, `${delay} ms until it is asked again`);
  const loaded = s.page.waitForEvent('load');
  (await got)();
  await loaded;
  assert.equal(s.page.url(), `${s.origin}/page?a#part`);
  assert.deepEqual(slow.log, ['HEAD /page?a', 'GET /page?a']);
});

for (const [what, user] of [['an address', ''], ['an address with a password', 'user:secret@']])
  story(`${what} that opens no page keeps the visitor, itself, and on asking`, async s => {
    await s.page.goto(`${s.origin}/page#part`.replace('://', `://${user}`));
    const address = await s.page.evaluate(() => document.URL);
    const empty = await s.take(says(204));
    const gone = s.page.waitForRequest(request => request.isNavigationRequest());
    await s.page.clock.runFor(15000);
    await (await gone).response();
    await s.page.clock.runFor(1000);
    assert.equal(await s.page.evaluate(() => document.URL), address);
    const again = s.page.waitForRequest(request => request.method() === 'HEAD');
    await s.page.clock.runFor(90000);
    await again;
    assert.equal(empty.got()[0], 'GET /page');
  });

story('an asking carries the cookies of the visitor, and no cache may answer it', async s => {
  await s.page.context().addCookies([{ name: 'visitor', value: 'known', url: s.origin }]);
  await s.page.goto(s.origin);
  let headers;
  await s.take((request, response) => {
    headers = request.headers;
    says(502)(request, response);
  });
  await letAsk(s.page);
  assert.equal(headers.cookie, 'visitor=known');
  assert.equal(headers['cache-control'], 'no-cache');
});

// ---- How often it asks --------------------------------------------------------------------------

// The pauses between `count` askings, by the page's own clock.
async function pauses(page, count) {
  while (await page.evaluate(() => window.answered) < count)
    await letAsk(page);
  return page.evaluate(() => window.asked.map((time, i) => time - (window.asked[i - 1] ?? 0)));
}

for (const [luck, value, expected] of [['least', 0, 5000], ['greatest', 1 - Number.EPSILON, 15000]])
  story(`the ${luck} random number makes a pause of ${expected / 1000} s`, async s => {
    await s.page.addInitScript(value => { Math.random = () => value; }, value);
    await s.page.goto(s.origin);
    await s.page.clock.runFor(expected - 10);
    assert.equal(await s.page.evaluate(() => window.asked.length), 0);
    await s.page.clock.runFor(20);
    assert.equal(await s.page.evaluate(() => window.asked.length), 1);
    await s.page.waitForFunction(() => window.answered === 1);
    await s.page.clock.runFor(expected - 30);
    assert.equal(await s.page.evaluate(() => window.asked.length), 1);
    await s.page.clock.runFor(40);
    assert.equal(await s.page.evaluate(() => window.asked.length), 2);
  });

story('every pause is another, and maintd is asked for nothing else', async s => {
  await s.page.addInitScript(() => {
    const random = Math.random;
    window.drawn = [];
    Math.random = () => {
      window.drawn.push(random());
      return window.drawn.at(-1);
    };
  });
  await s.page.goto(s.origin);
  for (let i = 0; i < 5; ++i) await letAsk(s.page);
  const [asked, drawn] = await s.page.evaluate(() => [window.asked.length, window.drawn]);
  assert.equal(drawn.length, asked + 1, 'one number for each pause');
  assert.equal(new Set(drawn).size, drawn.length);
  assert.equal(await s.maintd.stop(), 1 + asked, 'the page itself, and the askings');
});

story('a tab that comes to the front, or a network, asks at once but not twice', async s => {
  await s.page.addInitScript(() => { Math.random = () => 0.99; });
  await s.page.goto(s.origin);
  const asked = () => s.page.evaluate(() => window.asked.length);
  const nudge = () => s.page.evaluate(() => {
    for (let i = 0; i < 50; ++i) {
      window.dispatchEvent(new Event('online'));
      document.dispatchEvent(new Event('visibilitychange'));
    }
  });
  await s.page.clock.runFor(4900);
  await nudge();
  assert.equal(await asked(), 0, 'not within 5 s of the beginning');
  await s.page.clock.runFor(200);
  await nudge();
  assert.equal(await asked(), 1, 'at once after 5 s');
  await s.page.waitForFunction(() => window.answered === 1);
  await s.page.clock.runFor(4900);
  await nudge();
  assert.equal(await asked(), 1, 'not within 5 s of the last time');
  await s.page.clock.runFor(9000);
  assert.equal(await asked(), 1, 'the former timer is gone');
  await s.page.clock.runFor(1000);
  assert.equal(await asked(), 2, 'and a new one runs');
});

story('a tab in the background goes on asking, and returns there', async s => {
  await s.page.goto(`${s.origin}/page#part`);
  await setHidden(s.page, true);
  await letAsk(s.page);
  await s.take(says(502));
  await letAsk(s.page);
  await s.take(site());
  await letReturn(s.page, `${s.origin}/page#part`);
});

story('a tab whose timers sleep in the background returns when it is looked at', async s => {
  await s.page.addInitScript(() => { Math.random = () => 0.99; });
  await s.page.goto(`${s.origin}/page#part`);
  await setHidden(s.page, true);
  const { log } = await s.take(site());
  await s.page.clock.runFor(6000); // past the least pause, before the timer
  assert.deepEqual(log, []);
  const loaded = s.page.waitForEvent('load');
  await setHidden(s.page, false);
  await loaded;
  assert.equal(s.page.url(), `${s.origin}/page#part`);
});

story('a visitor without a network returns as soon as there is one', async s => {
  await s.page.addInitScript(() => { Math.random = () => 0.99; });
  await s.page.goto(`${s.origin}/page#part`);
  const { log } = await s.take(site());
  await s.page.context().setOffline(true);
  await letAsk(s.page);
  await s.page.clock.runFor(6000); // past the least pause, before the timer
  assert.deepEqual(log, []);
  const loaded = s.page.waitForEvent('load');
  await s.page.context().setOffline(false);
  await loaded;
  assert.equal(s.page.url(), `${s.origin}/page#part`);
});

// ---- The link -----------------------------------------------------------------------------------

for (const [how, arrive] of Object.entries(ways)) {
  story(`who ${how} may press the link, and the fragment is kept`, async s => {
    const address = `${s.origin}/page?from=here#part`;
    await arrive(s.page, address);
    const { log } = await s.take(site());
    const loaded = s.page.waitForEvent('load');
    await s.page.getByRole('link').click();
    await loaded;
    assert.equal(s.page.url(), address);
    assert.deepEqual(log, ['GET /page?from=here']);
  });

  story(`who ${how} without script is told to come back, and the link works`, async s => {
    await arrive(s.page, `${s.origin}/page?from=here`);
    await s.page.getByRole('status').filter({ hasText: 'try again in a few minutes' }).waitFor();
    const { log } = await s.take(site());
    await s.page.getByRole('link').click();
    await s.page.waitForURL(`${s.origin}/page?from=here`);
    await s.page.getByText('Welcome').waitFor();
    assert.deepEqual(log, ['GET /page?from=here']);
  }, { javaScriptEnabled: false });
}

// ---- How it looks and reads ---------------------------------------------------------------------

story('it is one small English document, with one heading and a status', async s => {
  const response = await s.page.goto(s.origin);
  assert.equal(response.status(), 503);
  assert.ok((await response.body()).length < 4096, 'under 4 KB');
  assert.equal(await s.page.evaluate(() => document.compatMode), 'CSS1Compat');
  assert.equal(await s.page.evaluate(() => document.characterSet), 'UTF-8');
  assert.equal(await s.page.locator('html').getAttribute('lang'), 'en');
  assert.equal(await s.page.title(), 'Down for maintenance');
  assert.equal(await s.page.getByRole('main').count(), 1);
  assert.equal(await s.page.locator('h1').count(), 1);
  assert.equal(await s.page.getByRole('main').getByRole('heading', { level: 1 }).count(), 1);
  assert.match(await s.page.getByRole('main').innerText(), /back shortly/);
  assert.equal(await s.page.getByRole('status').count(), 1);
  assert.match(await s.page.getByRole('status').innerText(), /by itself/);
});

for (const width of [320, 360])
  story(`nothing is cut off at ${width} pixels, and nothing scrolls sideways`, async s => {
    await s.page.goto(s.origin);
    const { scroll, client, right, left } = await s.page.evaluate(() => {
      const range = document.createRange();
      range.selectNodeContents(document.querySelector('main'));
      const boxes = [...range.getClientRects()];
      return {
        scroll: document.documentElement.scrollWidth, client: document.documentElement.clientWidth,
        left: Math.min(...boxes.map(box => box.left)),
        right: Math.max(...boxes.map(box => box.right)),
      };
    });
    assert.equal(client, width, 'the page is not zoomed out');
    assert.ok(scroll <= width, `${scroll} pixels wide`);
    assert.ok(left >= 0 && right <= width, `text from ${left} to ${right}`);
  }, { viewport: { width, height: 640 }, isMobile: true, hasTouch: true });

// The relative luminance of a colour, and the contrast of two (WCAG 2.2).
function luminance(rgb) {
  const linear = part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  const [r, g, b] = rgb.map(part => linear(part / 255));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
function contrast(one, other) {
  const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (light + 0.05) / (dark + 0.05);
}

// For each text: its colour, and each colour that was painted behind it. The latter is read from a
// screenshot without the letters, so that it includes whatever the browser paints by itself.
async function colours(page) {
  await page.evaluate(() => {
    const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
    window.texts = [];
    const walker = document.createTreeWalker(document.querySelector('main'), NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      if (!walker.currentNode.data.trim()) continue;
      const range = document.createRange();
      range.selectNodeContents(walker.currentNode);
      canvas.clearRect(0, 0, 1, 1);
      canvas.fillStyle = getComputedStyle(walker.currentNode.parentElement).webkitTextFillColor;
      canvas.fillRect(0, 0, 1, 1);
      let alpha = 1;
      for (let at = walker.currentNode.parentElement; at; at = at.parentElement)
        alpha *= getComputedStyle(at).opacity;
      const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
      window.texts.push({
        text: walker.currentNode.data.trim(), colour: [r, g, b], alpha: alpha * a / 255,
        boxes: [...range.getClientRects()].map(({ x, y, width, height }) => [x, y, width, height]),
      });
    }
  });
  await page.addStyleTag({ content: '* { -webkit-text-fill-color: transparent !important }' });
  const picture = (await page.screenshot()).toString('base64');
  return page.evaluate(async picture => {
    const image = new Image();
    image.src = `data:image/png;base64,${picture}`;
    await image.decode();
    const canvas = document.createElement('canvas');
    Object.assign(canvas, { width: image.width, height: image.height });
    const context = canvas.getContext('2d', { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    return window.texts.map(({ text, colour, alpha, boxes }) => {
      const grounds = new Set();
      for (const [x, y, width, height] of boxes) {
        const { data } = context.getImageData(x, y, width, height);
        for (let i = 0; i < data.length; i += 4) grounds.add(data.slice(i, i + 3).join());
      }
      return {
        text, colour, alpha,
        grounds: [...grounds].map(ground => ground.split(',').map(Number)),
      };
    });
  }, picture);
}

for (const colorScheme of ['light', 'dark'])
  story(`every text stands out by 4.5 to 1 in a ${colorScheme} browser`, async s => {
    await s.page.goto(s.origin);
    const texts = await colours(s.page);
    assert.ok(texts.length >= 4);
    for (const { text, colour, alpha, grounds } of texts) {
      assert.ok(grounds.length > 0, `"${text}" is in view`);
      for (const ground of grounds) {
        assert.equal(luminance(ground) > 0.5, colorScheme === 'light', `ground of "${text}"`);
        const seen = colour.map((part, i) => part * alpha + ground[i] * (1 - alpha));
        const ratio = contrast(seen, ground);
        assert.ok(ratio >= 4.5, `"${text}": ${ratio.toFixed(2)} to 1`);
      }
    }
  }, { colorScheme });
