// A whole server on a free port with embedded defaults, and a real browser.
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

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
  const port = await freePort();
  const folder = mkdtempSync(join(tmpdir(), 'cr-portal-'));
  const base = `http://127.0.0.1:${port}`;
  const child = spawn(binary, ['serve'], {
    env: { ...process.env, HTTP_ADDR: `127.0.0.1:${port}`, DATA_DIR: folder, LOG_LEVEL: 'warn', DATABASE_URL: '', REDIS_URL: '' },
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  for (let tries = 0; ; tries++) {
    if (child.exitCode !== null || tries > 300) throw new Error('the server did not start');
    if (await fetch(`${base}/readyz`).then((r) => r.ok, () => false)) break;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return {
    base,
    async stop() {
      child.kill('SIGTERM');
      await ended;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Opens a browser: CHROMIUM names it, else Debian's. */
export function browse() {
  const executablePath = process.env.CHROMIUM || ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(existsSync);
  if (!executablePath) throw new Error('no Chromium: install one, or name it in CHROMIUM');
  const args = '--no-sandbox --disable-gpu --disable-quic --disable-background-networking --disable-component-update --disable-sync --no-first-run --disable-dev-shm-usage'.split(' ');
  return chromium.launch({ executablePath, args });
}

/** A page whose errors fail the test: a script that threw, a refused resource. */
export async function open(browser, base, options = {}) {
  const context = await browser.newContext({ baseURL: base, viewport: { width: 1280, height: 900 }, locale: 'en-US', ...options });
  const page = await context.newPage();
  const errors = [];
  page.on('pageerror', (e) => errors.push(String(e)));
  page.on('console', (m) => m.type() === 'error' && !/Failed to load resource/.test(m.text()) && errors.push(m.text()));
  return { context, page, errors };
}
