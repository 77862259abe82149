// A whole server on a free port with embedded defaults, and a real browser.
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { chromium } from 'playwright-core';
import { catalogue } from './sentences.mjs';

const binary = new URL('../../bin/chainreactions', import.meta.url).pathname;

const freePort = () =>
  new Promise((resolve, reject) => {
    const probe = createServer().once('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const { port } = probe.address();
      probe.close(() => resolve(port));
    });
  });

/** Starts the server; stop() ends it and takes its folder away. */
export async function serve() {
  // Another program may take the port between our look and the server's.
  for (let attempt = 1; ; attempt++) {
    const server = await serveOn(await freePort());
    if (server) return server;
    if (attempt === 5) throw new Error('the server did not start');
  }
}

async function serveOn(port) {
  const folder = mkdtempSync(join(tmpdir(), 'cr-portal-'));
  const base = `http://localhost:${port}`; // a name, since passkeys want one
  const env = { ...process.env, HTTP_ADDR: `127.0.0.1:${port}`, BASE_URL: base, DATA_DIR: folder, LOG_LEVEL: 'error', DATABASE_URL: '', REDIS_URL: '', TRUSTED_PROXIES: '127.0.0.1' };
  const child = spawn(binary, ['serve'], { env, stdio: ['ignore', 'inherit', 'inherit'] });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  const stop = async () => {
    child.kill('SIGTERM');
    await ended;
    rmSync(folder, { recursive: true, force: true });
  };
  while (!(await fetch(`${base}/readyz`).then((r) => r.ok, () => false)) || child.exitCode !== null) {
    if (child.exitCode !== null) {
      await stop();
      return null;
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  /** Runs the program on the server's own data, as an operator does. */
  const operate = (...args) => promisify(execFile)(binary, args, { env });
  return { base, operate, stop };
}

/** Opens a browser: CHROMIUM names it, else Debian's. */
export function browse() {
  const executablePath = process.env.CHROMIUM || ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(existsSync);
  if (!executablePath) throw new Error('no Chromium: install one, or name it in CHROMIUM');
  const args = '--no-sandbox --disable-gpu --disable-quic --disable-background-networking --disable-component-update --disable-sync --no-first-run --disable-dev-shm-usage'.split(' ');
  return chromium.launch({ executablePath, args });
}

let callers = 0;

/**
 * A page whose errors fail the test: a script that threw, a refused resource.
 * Each comes from an address of its own: the server lets no address sign up as
 * often as these tests do.
 */
export async function open(browser, base, options = {}) {
  const extraHTTPHeaders = { 'X-Forwarded-For': `198.51.100.${++callers}` };
  const context = await browser.newContext({ baseURL: base, viewport: { width: 1280, height: 900 }, locale: 'en-US', extraHTTPHeaders, ...options });
  context.setDefaultTimeout(120_000); // of what hangs; a busy machine is only slow
  const page = await context.newPage();
  const errors = [];
  page.on('pageerror', (e) => errors.push(String(e)));
  page.on('console', (m) => m.type() === 'error' && !/Failed to load resource/.test(m.text()) && errors.push(m.text()));
  return {
    context,
    page,
    async close() {
      await context.close();
      assert.deepEqual(errors, [], 'the page logged errors');
    },
  };
}

export const password = 'correct horse battery staple';
let people = 0;

/** Signs a new person up and leaves the page at /app. */
export async function signUp(page, workspace = `Lab ${people + 1}`) {
  const email = `ada${++people}@example.org`;
  await page.goto('/sign-up');
  await page.locator('input[name=full_name]').fill('Ada Example');
  await page.locator('input[name=workspace_name]').fill(workspace);
  await page.locator('input[name=email]').fill(email);
  await page.locator('input[name=password]').fill(password);
  await page.locator('input[type=checkbox]').check();
  await page.locator('form button[type=submit]').click();
  await page.waitForURL('**/app');
  return { email, workspace };
}

/** What the API answers to whoever is signed in on the page. */
export async function call(page, method, path, body) {
  return page.evaluate(
    async ([method, path, body]) => {
      const renewed = await fetch('/api/v1/auth/refresh', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: '{}' }).then((r) => r.json());
      const headers = { Authorization: `Bearer ${renewed.access_token}`, ...(body ? { 'Content-Type': 'application/json' } : {}) };
      const res = await fetch(path, { method, headers, ...(body ? { body: JSON.stringify(body) } : {}) });
      const text = await res.text();
      if (!res.ok) throw new Error(`${method} ${path}: ${res.status} ${text}`);
      return text ? JSON.parse(text) : null;
    },
    [method, path, body],
  );
}

const sentences = catalogue('en');
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

// A page is looked at in one language, width and appearance, which its name picks:
// PORTAL_FULL=1, which is make check-portal, takes all eight of every page.
const every = ['en', 'zh-CN'].flatMap((language) => [1280, 360].flatMap((width) => ['light', 'dark'].map((scheme) => ({ language, width, scheme }))));
const views = (where) => (process.env.PORTAL_FULL ? every : [every[[...where].reduce((sum, c) => sum + c.charCodeAt(0), 0) % every.length]]);

/** Turns the page to a language, and waits until that is kept: a reload may follow. */
async function speak(page, language) {
  if ((await page.evaluate(() => document.documentElement.lang)) === language) return;
  await page.locator('button.language').first().evaluate((button) => button.click()); // a dialog may be before it
  await page.waitForFunction((lng) => document.documentElement.lang === lng, language);
}

/**
 * Holds the page as it stands to accessibility, to its width and to its
 * sentences, in both languages and appearances, wide and narrow. Each is turned
 * to in place, as a reader does.
 */
export async function holds(page, where) {
  await page.evaluate(axe);
  for (const { language, width, scheme } of views(where)) {
    await page.setViewportSize({ width, height: 900 });
    await speak(page, language);
    await page.emulateMedia({ colorScheme: scheme });
    await page.waitForFunction((now) => document.documentElement.dataset.mantineColorScheme === now, scheme);
    const found = await page.evaluate(async () => {
      await new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)));
      const over = document.documentElement.scrollWidth - document.documentElement.clientWidth;
      const { violations } = await window.axe.run({ resultTypes: ['violations'], preload: false });
      return { over, text: document.body.innerText, violations: violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.html).join(' ')}`) };
    });
    const how = `${where} in ${language}, ${scheme}, ${width} px`;
    assert.ok(found.over <= 0, `${how} is ${found.over} px too wide`);
    assert.deepEqual(found.violations, [], how);
    assert.doesNotMatch(found.text, /\{\{/, `${how} shows a blank that was not filled`);
    assert.deepEqual(found.text.split(/\s+/).filter((word) => sentences.has(word)), [], `${how} shows a key instead of a sentence`);
    if (language === 'zh-CN') assert.match(found.text, /[\u4e00-\u9fff]/, `${how} has no Chinese`);
  }
  await speak(page, 'en');
  await page.setViewportSize({ width: 1280, height: 900 });
}

/**
 * From now on the server is as good as down for the page: what it asks is
 * answered 503, but for who is signed in. What waits a while before it asks
 * again does not wait.
 */
export async function down(page) {
  await page.addInitScript(() => {
    const later = window.setTimeout;
    window.setTimeout = (run, ms, ...rest) => later(run, ms >= 500 && ms <= 10_000 ? 20 : ms, ...rest);
  });
  const body = JSON.stringify({ type: 'about:blank', title: 'Not available', status: 503, detail: 'A part of the service does not answer.', code: 'dependency_unavailable', instance: '', request_id: 'req_of_the_test' });
  await page.route(/\/api\/(?!v1\/(me|auth\/refresh)$)/, (route) => route.fulfill({ status: 503, contentType: 'application/problem+json', body }));
}
