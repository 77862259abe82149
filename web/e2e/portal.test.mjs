// What a visitor, an analyst and an administrator do in the portal, in a real
// browser against the real server.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';
import { browse, open, serve } from './harness.mjs';

const axeSource = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
let server;
let browser;
let people = 0;

before(async () => {
  [server, browser] = await Promise.all([serve(), browse()]);
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

/** Signs a new person up and leaves the page at /app. */
async function signUp(page) {
  await page.goto('/sign-up');
  await page.locator('input[name=full_name]').fill('Ada Example');
  await page.locator('input[name=workspace_name]').fill(`Lab ${++people}`);
  await page.locator('input[name=email]').fill(`ada${people}.${Date.now()}@example.org`);
  await page.locator('input[name=password]').fill('correct horse battery staple');
  await page.locator('input[type=checkbox]').check();
  await page.locator('form button[type=submit]').click();
  await page.waitForURL('**/app');
}

const noErrors = (errors) => assert.deepEqual(errors, [], 'the page logged errors');

test('a visitor sees why a name matches before signing up', async () => {
  const { context, page, errors } = await open(browser, server.base);
  await page.goto('/');
  await page.getByRole('button', { name: 'Match', exact: true }).click();
  await page.getByText('Qinglan University of Aerospace Technology').first().waitFor();
  await page.getByText('Jaro-Winkler').first().waitFor();
  noErrors(errors);
  await context.close();
});

test('sign-up to first match takes at most six clicks', async () => {
  const { context, page, errors } = await open(browser, server.base);
  await page.addInitScript(() => {
    sessionStorage.clicks ??= '0';
    addEventListener('pointerdown', () => (sessionStorage.clicks = String(Number(sessionStorage.clicks) + 1)), true);
  });
  await page.goto('/');
  await page.getByRole('link', { name: 'Start free' }).click();
  await page.locator('input[name=full_name]').fill('Ada');
  await page.locator('input[name=workspace_name]').fill('Clicks');
  await page.locator('input[name=email]').fill(`clicks.${Date.now()}@example.org`);
  await page.locator('input[name=password]').fill('correct horse battery staple');
  await page.locator('input[type=checkbox]').click();
  await page.locator('form button[type=submit]').click();
  await page.getByRole('button', { name: 'Use the sample list' }).click();
  await page.waitForURL('**/app/match');
  await page.locator('main input').first().fill('Zagros Center for Composit Research');
  await page.keyboard.press('Enter');
  await page.getByText('Zagros Centre for Composite Research').first().waitFor();
  const clicks = Number(await page.evaluate(() => sessionStorage.clicks));
  assert.ok(clicks <= 6, `${clicks} clicks`);
  noErrors(errors);
  await context.close();
});

test('the same by keyboard alone', async () => {
  const { context, page } = await open(browser, server.base);
  await page.goto('/sign-up');
  await page.locator('input[name=full_name]').focus();
  const next = async (text) => {
    await page.keyboard.type(text);
    await page.keyboard.press('Tab');
  };
  await next('Ada Keys');
  await next('Keys');
  await next(`keys.${Date.now()}@example.org`);
  await next('correct horse battery staple');
  await page.locator('input[type=checkbox]').focus(); // past the button that shows the password
  await page.keyboard.press('Space');
  await page.keyboard.press('Enter');
  await page.waitForURL('**/app');
  const sample = page.getByRole('button', { name: 'Use the sample list' });
  await sample.waitFor();
  for (let i = 0; i < 40 && !(await sample.evaluate((e) => e === document.activeElement)); i++) await page.keyboard.press('Tab');
  assert.ok(await sample.evaluate((e) => e === document.activeElement), 'the button cannot be reached by Tab');
  await page.keyboard.press('Enter');
  await page.waitForURL('**/app/match');
  const name = page.locator('main input').first();
  await name.waitFor();
  for (let i = 0; i < 40 && !(await name.evaluate((e) => e === document.activeElement)); i++) await page.keyboard.press('Tab');
  await page.keyboard.type('Academy of Marine Materials');
  await page.keyboard.press('Enter');
  await page.getByText('Academy of Marine Materials (AMM)').first().waitFor();
  await context.close();
});

test('a file is shown as it was read, then imported, then searched; bad rows are told', async () => {
  const { context, page, errors } = await open(browser, server.base);
  await signUp(page);
  await page.goto('/app/datasets');
  await page.getByRole('button', { name: 'New dataset' }).first().click();
  await page.getByRole('dialog').getByRole('textbox', { name: 'Name' }).fill('Partners');
  await page.getByRole('button', { name: 'Create' }).click();
  await page.waitForURL('**/app/datasets/ds_*');
  const file = { name: 'partners.csv', mimeType: 'text/csv', buffer: Buffer.from('organisation,aka,Country\nOrbital Dynamics Bureau,ODB; Бюро орбитальной динамики,Russia\n,nameless,Iran\nHelix Instruments,,China\n') };
  await page.locator('input[type=file]').setInputFiles(file);
  await page.getByText('2 rows can be imported, 1 cannot').waitFor();
  await page.getByRole('button', { name: 'Add 2 rows' }).click();
  await page.getByText('2 accepted, 1 rejected').waitFor();
  await page.getByText('Done', { exact: true }).waitFor();
  await page.getByRole('tab', { name: 'Entries' }).click();
  await page.getByRole('textbox', { name: 'Search this list' }).fill('orbital');
  await page.getByRole('cell', { name: 'Orbital Dynamics Bureau' }).waitFor();
  await page.getByRole('cell', { name: 'Helix Instruments' }).waitFor({ state: 'detached' });
  noErrors(errors);
  await context.close();
});

test('an API key is shown once and works', async () => {
  const { context, page, errors } = await open(browser, server.base);
  await signUp(page);
  await page.goto('/app/api-keys');
  await page.getByRole('button', { name: 'New key' }).first().click();
  await page.getByRole('dialog').getByRole('textbox', { name: 'Name' }).fill('ci');
  await page.getByRole('button', { name: 'Create' }).click();
  const shown = page.getByRole('dialog').locator('pre').first();
  await shown.waitFor();
  const key = await shown.textContent();
  const answer = await fetch(`${server.base}/api/v1/datasets`, { headers: { 'X-API-Key': key } });
  assert.equal(answer.status, 200);
  await page.getByRole('button', { name: 'I have saved it' }).click();
  await page.getByRole('cell', { name: 'ci', exact: false }).first().waitFor();
  assert.ok(!(await page.content()).includes(key), 'the key is still on the page');
  noErrors(errors);
  await context.close();
});

test('a reload keeps the session; signing out ends it', async () => {
  const { context, page } = await open(browser, server.base);
  await signUp(page);
  await page.reload();
  await page.getByRole('heading', { level: 1 }).waitFor();
  assert.match(page.url(), /\/app$/);
  await page.getByRole('button', { name: /Workspace Lab/ }).click();
  await page.getByRole('menuitem', { name: 'Sign out' }).click();
  await page.waitForURL(server.base + '/');
  await page.goto('/app');
  await page.waitForURL('**/sign-in**');
  await context.close();
});

const publicPages = ['/', '/plans', '/status', '/privacy', '/terms', '/sign-in', '/sign-up', '/forgot-password', '/reset-password', '/verify-email', '/no-such-page'];
const appPages = ['/app', '/app/match', '/app/research', '/app/datasets', '/app/team', '/app/usage', '/app/api-keys', '/app/audit', '/app/account'];

test('every page is accessible, whole and translated, in both languages and appearances, wide and narrow', async () => {
  // Without motion: a layout under way is no layout.
  const { context, page, errors } = await open(browser, server.base, { reducedMotion: 'reduce' });
  const check = async (path, language, scheme) => {
    await page.goto(path);
    await page.locator('h1, h2').first().waitFor();
    await page.waitForLoadState('networkidle');
    const where = `${path} in ${language}, ${scheme}`;
    for (const width of [1280, 360]) {
      await page.setViewportSize({ width, height: 900 });
      const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      assert.ok(over <= 0, `${where} is ${over} px too wide at ${width} px`);
      const found = await page.evaluate(`(async () => { ${axeSource}; return (await axe.run()).violations.map((v) => v.id + ': ' + v.nodes.map((n) => n.html).join(' ')); })()`);
      assert.deepEqual(found, [], `${where} at ${width} px`);
    }
    const text = await page.locator('body').innerText();
    assert.doesNotMatch(text, /\b(nav|action|field|home|error|state|meter|keys|match|dataset|upload|preview|account|audit|start|plans|team|research|run)\.[a-z]\w+/, `${where} shows a key instead of a sentence`);
    if (language === 'zh-CN') assert.match(text, /[\u4e00-\u9fff]/, `${where} has no Chinese`);
  };
  const all = async (paths) => {
    for (const language of ['en', 'zh-CN'])
      for (const scheme of ['light', 'dark']) {
        await page.emulateMedia({ colorScheme: scheme });
        await page.evaluate((lng) => localStorage.setItem('language', lng), language);
        for (const path of paths) await check(path, language, scheme);
      }
  };
  await page.goto('/');
  await all(publicPages);
  await page.evaluate(() => localStorage.setItem('language', 'en'));
  await signUp(page);
  await all(appPages);
  noErrors(errors);
  await context.close();
});
