// What a visitor, an analyst and an administrator do in the portal, in a real
// browser against the real server. Each test is a person with a workspace of
// their own; two of them work at a time.
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { browse, call, down, holds, open, password, serve, signUp } from './harness.mjs';

let server;
let browser;

before(async () => {
  [server, browser] = await Promise.all([serve(), browse()]);
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

describe('the portal', { concurrency: 2 }, () => {
  // Without motion: a layout under way is no layout.
  const still = { reducedMotion: 'reduce' };

  const site = ['/', '/plans', '/status', '/privacy', '/terms', '/sign-in', '/sign-up', '/sso?step=signup', '/forgot-password', '/reset-password', '/verify-email', '/no-such-page'];
  const work = ['', '/match', '/research', '/datasets'];
  const workspace = ['/team', '/usage', '/billing', '/api-keys', '/webhooks', '/audit', '/sign-on', '/workspace', '/notifications', '/account', '/security', '/privacy'];
  const administration = ['tenants', 'people', 'plans', 'payments', 'record', 'business', 'services', 'alerts', 'jobs', 'providers'].map((p) => `/app/admin/${p}`);
  const walk = async (page, paths, how = '') => {
    for (const path of paths) {
      await page.goto(path);
      await page.locator('h1, h2').first().waitFor();
      await page.waitForLoadState('networkidle');
      await holds(page, `${path} ${how}`);
    }
  };
  /** The pages when the server does not answer: each says so and can be asked again, or needs no answer. */
  const walkDown = async (page, paths, silent) => {
    await down(page);
    for (const path of paths) {
      await walk(page, [path], 'without its data');
      assert.equal((await page.getByText('req_of_the_test').count()) > 0, !silent.includes(path), `${path} says that the server does not answer`);
    }
  };

  test('the first page is under 200 kB of script', async () => {
    const { page, close } = await open(browser, server.base);
    const scripts = [];
    page.on('response', (res) => /\.js$/.test(new URL(res.url()).pathname) && scripts.push(res.url()));
    await page.goto('/');
    await page.waitForLoadState('networkidle');
    let bytes = 0;
    for (const url of new Set(scripts)) bytes += gzipSync(await (await page.request.get(url)).body()).length;
    assert.ok(bytes < 200_000, `${bytes} bytes of script, gzipped`);
    await close();
  });

  test('a visitor sees why a name matches before signing up', async () => {
    const { page, close } = await open(browser, server.base);
    await page.goto('/');
    await page.getByRole('button', { name: 'Match', exact: true }).click();
    await page.getByText('Qinglan University of Aerospace Technology').first().waitFor();
    await page.getByText('Jaro-Winkler').first().waitFor();
    await close();
  });

  test('sign-up to first match takes at most six clicks', async () => {
    const { page, close } = await open(browser, server.base);
    await page.addInitScript(() => {
      sessionStorage.clicks ??= '0';
      addEventListener('pointerdown', () => (sessionStorage.clicks = String(Number(sessionStorage.clicks) + 1)), true);
    });
    await page.goto('/');
    await page.getByRole('link', { name: 'Start free' }).click();
    await page.locator('input[name=full_name]').fill('Ada');
    await page.locator('input[name=workspace_name]').fill('Clicks');
    await page.locator('input[name=email]').fill('clicks@example.org');
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
    await close();
  });

  test('the same by keyboard alone', async () => {
    const { page, close } = await open(browser, server.base);
    await page.goto('/sign-up');
    await page.locator('input[name=full_name]').focus();
    const next = async (text) => {
      await page.keyboard.type(text);
      await page.keyboard.press('Tab');
    };
    await next('Ada Keys');
    await next('Keys');
    await next('keys@example.org');
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
    await close();
  });

  test('a file is shown as it was read, then imported, then searched; bad rows are told', async () => {
    const { page, close } = await open(browser, server.base);
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
    // Who started it is told, until they have read it, and as they wish.
    await page.reload();
    await page.getByRole('link', { name: 'Notifications: 1 not read' }).click();
    await page.getByRole('link', { name: 'The import into “Partners” is done: 2 rows were taken and 1 were not.' }).click();
    await page.waitForURL('**/app/datasets/ds_*');
    await page.locator('header').getByRole('link', { name: 'Notifications', exact: true }).click();
    await page.getByRole('button', { name: 'Mark all as read' }).isDisabled();
    await page.getByRole('link', { name: 'How you are told' }).click();
    await page.getByRole('switch', { name: 'Shown here: An import is done' }).click();
    await page.reload();
    await page.getByRole('switch', { name: 'Shown here: An import is done', checked: false }).waitFor();
    await close();
  });

  const { path: real, missing } = realList('japan_meti_russian_list_2025-03-14.csv');
  test('a real list is read as what it is, imported, and found in', { skip: missing }, async () => {
    const { page, close } = await open(browser, server.base, still);
    await signUp(page);
    const { id } = await call(page, 'POST', '/api/v1/datasets', { name: 'METI' });
    await page.goto(`/app/datasets/${id}`);
    await page.locator('input[type=file]').setInputFiles(real);
    await page.getByText(/^\d+ rows can be imported, 0 cannot\. Format csv, encoding utf-8\./i).waitFor();
    await page.getByRole('row', { name: /^aliases aliases/ }).waitFor();
    await page.getByRole('row', { name: /^program_ids a property, kept as it is/ }).waitFor();
    await holds(page, 'a preview');
    await page.getByRole('button', { name: /^Add \d+ rows$/ }).click();
    await page.getByText('Done', { exact: true }).waitFor();
    await page.goto(`/app/match?dataset=${id}`);
    await page.getByRole('textbox', { name: 'Name', exact: true }).fill('JSC Research & Production Assoc. of Measuring Equipment');
    await page.keyboard.press('Enter');
    await page.getByRole('group', { name: 'Joint Stock Company Research and Production Association of Measuring Equipment' }).waitFor();
    await close();
  });

  test('an API key is shown once and works', async () => {
    const { page, close } = await open(browser, server.base);
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
    await close();
  });

  test('matches are decided on by keys, with notes, taken back, kept, and exported', async () => {
    const { page, close } = await open(browser, server.base, still);
    await staffed(page);
    await page.goto('/app/match');
    const name = page.getByRole('textbox', { name: 'Name', exact: true });
    const ask = async (text) => {
      await name.fill(text);
      await name.press('Enter');
      await page.getByText(/\d+ match/).first().waitFor();
    };
    await ask('Zagros Center for Composit Research');
    await name.press('ArrowDown');
    const pair = page.getByRole('group', { name: 'Zagros Centre for Composite Research' });
    await pair.getByRole('table', { name: 'Asked and listed, side by side' }).waitFor();
    await pair.getByRole('textbox', { name: 'Note' }).fill('spelled by hand');
    await pair.getByRole('textbox', { name: 'Note' }).press('Enter');
    await page.keyboard.press('y');
    const is = (verdict) => pair.getByRole('button', { name: verdict, exact: true, pressed: true }).waitFor();
    await is('Same');
    await page.keyboard.press('k'); // where there is one before
    await pair.focus();
    await page.keyboard.press('n');
    await is('Different');
    await page.keyboard.press('Control+z');
    await is('Same');
    await holds(page, 'a decision');

    await page.reload();
    await ask('zagros center for composit research');
    await is('Same');
    assert.equal(await pair.getByRole('textbox', { name: 'Note' }).inputValue(), 'spelled by hand');
    await page.route('**/decisions/export', (route) => route.fulfill({ status: 503, contentType: 'application/problem+json', body: JSON.stringify({ title: 'Not available', status: 503, detail: 'The export is away.', code: 'x', request_id: 'r' }) }));
    await page.getByRole('button', { name: 'Export decisions' }).click();
    await page.getByText('The export is away.').waitFor();
    await page.unroute('**/decisions/export');
    const [file] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Export decisions' }).click()]);
    assert.match(readFileSync(await file.path(), 'utf8'), /Zagros Center for Composit Research,,ds_.*,same,spelled by hand,/);

    // Many names: j goes on from the last match of one to the first of the next.
    await page.getByRole('tab', { name: 'Many names' }).click();
    await page.getByRole('textbox', { name: 'One name a line' }).fill('Zagros Center for Composit Research\nNobody at all\nAcademy of Marine Materials');
    await page.getByRole('button', { name: 'Match 3 names' }).click();
    await page.getByRole('button', { name: 'Decide about Zagros Center for Composit Research' }).click();
    await is('Same');
    const next = page.getByText(/^3 of 3: /);
    while (!(await next.isVisible())) await page.keyboard.press('j');
    await page.keyboard.press('h');
    await page.getByRole('button', { name: 'Unsure', pressed: true }).waitFor();
    await page.getByRole('button', { name: 'All names' }).click();
    await page.getByRole('button', { name: 'Decide about Academy of Marine Materials' }).getByText(/^1 of/).waitFor();

    // A slider's effect on all of them is seen at once, and nothing is asked again.
    let asked = 0;
    page.on('request', (request) => (asked += /matches\/batch/.test(request.url()) ? 1 : 0));
    await page.getByText('3 names, 2 with a match').waitFor();
    await page.getByRole('button', { name: 'Lists, threshold and weights' }).click();
    await page.getByRole('slider', { name: 'Threshold' }).press('End');
    await page.getByText(/^3 names, [01] with a match · as the sliders stand/).waitFor();
    await page.getByRole('button', { name: 'Back to the workspace’s settings' }).click();
    await page.getByText('3 names, 2 with a match', { exact: true }).waitFor();
    // What it makes of the parts is what the server makes of them.
    await page.getByRole('slider', { name: 'Words' }).press('Home');
    await page.getByText(/with a match · as the sliders stand/).waitFor();
    const moved = await page.getByRole('row').filter({ hasText: 'Zagros Center for Composit Research' }).innerText();
    const { weights } = await call(page, 'GET', '/api/v1/matching/settings');
    const { matches } = await call(page, 'POST', '/api/v1/matches', { query: { name: 'Zagros Center for Composit Research' }, weights: { ...weights, word: 0 } });
    assert.ok(weights.word > 0 && moved.includes(matches[0].score.toFixed(2)), `${moved}: the server says ${matches[0].score}`);
    await page.getByRole('button', { name: 'Back to the workspace’s settings' }).click();
    await page.getByText('3 names, 2 with a match', { exact: true }).waitFor();
    assert.equal(asked, 0);

    // A file is matched in the background; each of its answers comes apart too.
    await page.getByRole('tab', { name: 'A file' }).click();
    await page.locator('input[type=file]').setInputFiles({ name: 'partners.csv', mimeType: 'text/csv', buffer: Buffer.from('name,country\nZagros Center for Composit Research,\nNobody at all,\n') });
    await page.getByText('2 rows, 1 with a match, 0 rejected').waitFor();
    await holds(page, 'a matched file');
    await page.getByRole('button', { name: 'Open the answers of partners.csv' }).click();
    await page.getByRole('button', { name: 'Decide about Zagros Center for Composit Research' }).click();
    await is('Same');
    await page.getByText('Jaro-Winkler').first().waitFor();
    await close();
  });

  test('a reload keeps the session; signing out ends it', async () => {
    const { page, close } = await open(browser, server.base);
    await signUp(page);
    await page.reload();
    await page.getByRole('heading', { level: 1 }).waitFor();
    assert.match(page.url(), /\/app$/);
    await page.getByRole('button', { name: /^Workspace / }).click();
    await page.getByRole('menuitem', { name: 'Sign out' }).click();
    await page.waitForURL(server.base + '/');
    await page.goto('/app');
    await page.waitForURL('**/sign-in**');
    await close();
  });

  test('a plan is bought in the sandbox’s Checkout: the limit is raised; it is changed, cancelled and kept', async () => {
    const { page, close } = await open(browser, server.base);
    await signUp(page);
    const limit = async () => (await call(page, 'GET', '/api/v1/usage')).data.find((m) => m.meter === 'match').limit;
    assert.equal(await limit(), 1000);
    await page.goto('/app/billing');
    await page.getByRole('button', { name: 'Buy Pro' }).click();
    await page.getByRole('button', { name: /Pay|Subscribe/ }).click();
    await page.waitForURL('**/app/billing');
    await page.getByText('Active', { exact: true }).waitFor();
    await page.getByText(/Renews on/).waitFor();
    assert.equal(await limit(), 100_000);
    await page.getByRole('table', { name: 'Invoices' }).getByText('Paid').waitFor();

    await page.getByRole('button', { name: 'Change to Business' }).click();
    await page.getByRole('dialog').getByText('Due now').waitFor();
    await page.getByRole('button', { name: 'Change the plan' }).click();
    await page.getByText('The plan is changed.').waitFor();
    await page.getByText('Business', { exact: true }).first().waitFor();
    assert.equal(await limit(), 2_000_000);

    await page.getByRole('button', { name: 'Cancel the plan' }).click();
    await page.getByRole('button', { name: 'Cancel at the period’s end' }).click();
    await page.getByText(/^Ends on/).waitFor();
    await page.getByRole('button', { name: 'Undo what is planned' }).click();
    await page.getByText(/^Renews on/).waitFor();
    await close();
  });

  test('a second factor is set up by its code; a recovery code opens the account once; a passkey by itself', async () => {
    const { context, page, close } = await open(browser, server.base);
    const { email } = await signUp(page);
    await page.goto('/app/security');
    await page.getByRole('button', { name: 'Set up' }).click();
    await page.getByRole('img', { name: 'QR code of the secret' }).waitFor();
    const secret = await page.getByRole('dialog').locator('code').innerText();
    await page.getByRole('textbox', { name: 'Code of the app' }).fill(totp(secret));
    await page.getByRole('button', { name: 'Turn it on' }).click();
    await page.getByText('Recovery codes').waitFor();
    const [recovery] = (await page.getByRole('dialog').locator('pre').first().innerText()).split('\n');
    await page.getByRole('button', { name: 'I have saved it' }).click();
    await page.getByText(/^On since/).waitFor();

    const devtools = await context.newCDPSession(page);
    await devtools.send('WebAuthn.enable');
    await devtools.send('WebAuthn.addVirtualAuthenticator', { options: { protocol: 'ctap2', transport: 'internal', hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true } });
    await page.getByRole('button', { name: 'Add a passkey' }).click();
    await page.getByRole('dialog').getByRole('textbox', { name: 'Name' }).fill('my laptop');
    await page.getByRole('button', { name: 'Create' }).click();
    await page.getByRole('cell', { name: 'my laptop', exact: true }).waitFor();

    const signOut = async () => {
      await page.getByRole('button', { name: /^Workspace / }).click();
      await page.getByRole('menuitem', { name: 'Sign out' }).click();
      await page.waitForURL(server.base + '/');
      await page.goto('/sign-in');
    };
    await signOut();
    await page.getByRole('button', { name: 'Sign in with a passkey' }).click();
    await page.waitForURL('**/app');
    await signOut();
    await page.locator('input[name=email]').fill(email);
    await page.locator('input[name=password]').fill(password);
    await page.locator('form button[type=submit]').click();
    await page.getByRole('textbox', { name: /Code from your app/ }).fill(recovery);
    await page.locator('form button[type=submit]').click();
    await page.waitForURL('**/app');
    await close();
  });

  test('a deep run is watched to its end through two cuts and a reload; asked again, it says what changed', async () => {
    const { page, close } = await open(browser, server.base, still);
    await signUp(page);
    // The stream of events is cut off twice after its first lines.
    const asked = [];
    await page.route('**/runs/*/events', async (route) => {
      const last = route.request().headers()['last-event-id'] ?? '';
      asked.push(last);
      if (asked.length > 2) return route.fallback();
      const all = await route.fetch({ timeout: 60_000 }).then((r) => r.text());
      await route.fulfill({ contentType: 'text/event-stream', body: all.split('\n\n').slice(0, 4).join('\n\n') + '\n\n' });
    });
    await page.goto('/app/research');
    await page.getByRole('textbox', { name: 'Institution or organisation' }).fill('Northmere University');
    await page.getByRole('textbox', { name: /Organisations of concern/ }).fill('Qinglan University of Aerospace Technology\nCalder & Voss Holdings');
    await page.getByRole('button', { name: 'Start' }).click();
    await page.waitForURL('**/research/run_*');
    await page.getByText('Done', { exact: true }).first().waitFor();
    await page.locator('[role=log]').getByText('Done', { exact: true }).waitFor();
    assert.ok(asked.length >= 3, `the stream was asked for ${asked.length} times`);
    assert.ok(asked[1] && asked[2], 'it went on after the last event that was seen');
    const numbers = await page.locator('[data-event]').evaluateAll((rows) => rows.map((r) => r.dataset.event));
    assert.equal(new Set(numbers).size, numbers.length, 'an event is shown twice');

    // The list beside the picture has what the picture has, and its evidence.
    await page.getByRole('img', { name: /relations; the list beside it/ }).waitFor();
    await page.getByRole('button', { name: /joint laboratory/ }).first().click();
    await page.getByRole('button', { name: 'Read it there' }).first().click();
    await page.getByRole('dialog').locator('mark').waitFor();
    await page.keyboard.press('Escape');
    await page.getByRole('button', { name: 'Close' }).click();
    await holds(page, 'a run');

    await page.reload();
    await page.getByRole('button', { name: 'Run again' }).click();
    await page.getByRole('heading', { name: 'What changed since the run before' }).waitFor();
    await page.getByText('Nothing changed.').waitFor();
    await close();
  });

  test('a colleague is invited, joins by the mail’s link, and has a role', async () => {
    const owner = await open(browser, server.base);
    const { workspace } = await signUp(owner.page, 'Two Of Us');
    await owner.page.goto('/app/team');
    await owner.page.getByRole('button', { name: 'Invite' }).click();
    const email = 'grace@example.org';
    await owner.page.getByRole('dialog').getByRole('textbox', { name: 'E-mail' }).fill(email);
    await owner.page.getByRole('button', { name: 'Send the invitation' }).click();
    await owner.page.getByText(email, { exact: true }).waitFor();

    const guest = await open(browser, server.base);
    await guest.page.goto(await mailed(guest.page, email, /\/invitation#[\w.-]+/));
    await guest.page.getByText(`Join ${workspace} as ${email}`).waitFor();
    await guest.page.getByRole('textbox', { name: 'Your name' }).fill('Grace Example');
    await guest.page.locator('input[type=password]').fill(password);
    await guest.page.locator('input[type=checkbox]').check();
    await guest.page.locator('form button[type=submit]').click();
    await guest.page.waitForURL('**/app');
    await owner.page.reload();
    await owner.page.getByRole('cell', { name: /^Grace Example/ }).waitFor();

    // A role of the workspace's own is given to her; then the workspace is.
    await owner.page.getByRole('button', { name: 'New role' }).click();
    await owner.page.getByRole('dialog').getByRole('textbox', { name: 'Name' }).fill('Reader of lists');
    await owner.page.getByRole('checkbox', { name: 'read datasets' }).check();
    await owner.page.getByRole('button', { name: 'Save' }).click();
    await owner.page.getByRole('button', { name: 'Change Reader of lists' }).waitFor();
    await owner.page.getByRole('combobox', { name: 'Role of Grace Example' }).click();
    await owner.page.getByRole('option', { name: 'Reader of lists' }).click();
    const allowed = async () => (await call(guest.page, 'GET', '/api/v1/me')).permissions;
    while ((await allowed()).join() !== 'dataset:read') await owner.page.waitForTimeout(700); // every process knows of it within a second
    await owner.page.getByRole('button', { name: 'Make Grace Example the owner' }).click();
    await owner.page.getByRole('dialog').getByRole('button', { name: 'Make owner' }).click();
    await owner.page.getByText('Grace Example is the owner now.').waitFor();
    await owner.page.getByRole('button', { name: 'Make Grace Example the owner' }).waitFor({ state: 'detached' });
    await owner.close();
    await guest.close();
  });

  test('a workspace adds its own identity provider and its directory; what a quota has left is said on every page', async () => {
    const { page, close } = await open(browser, server.base, still);
    await staffed(page);
    await page.goto('/app/sign-on');
    await page.getByRole('button', { name: 'Add a provider' }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByText('SAML', { exact: true }).click();
    await dialog.getByRole('textbox', { name: 'Metadata' }).waitFor();
    await dialog.getByText('OpenID Connect', { exact: true }).click();
    await dialog.getByRole('textbox', { name: 'Name' }).fill('Helix ID');
    await dialog.getByRole('textbox', { name: 'Issuer' }).fill('https://login.helix.example');
    await dialog.getByRole('textbox', { name: 'Client ID' }).fill('chain');
    await dialog.locator('input[type=password]').fill('s3cret');
    await dialog.getByRole('button', { name: 'Add a provider' }).click();
    await dialog.getByText('No OpenID Connect provider answers at this address.').waitFor(); // which is true
    await page.keyboard.press('Escape');
    const connection = { id: 'sso_1', kind: 'oidc', name: 'Helix ID', issuer: 'https://login.helix.example', client_id: 'chain', default_role: 'viewer', enabled: true, created_at: '2026-11-01T00:00:00Z', updated_at: '2026-11-01T00:00:00Z', start_url: '/', callback_url: `${server.base}/api/v1/auth/oidc/sso_1/callback` };
    await page.route('**/api/v1/tenant/sso', (route) => route.fulfill({ json: { data: [connection], next_cursor: null } }));
    const group = { id: 'scg_1', name: 'Research desk', role: null, members: 3, created_at: '2026-11-01T00:00:00Z', updated_at: '2026-11-01T00:00:00Z' };
    await page.route('**/api/v1/tenant/scim-groups?*', (route) => route.fulfill({ json: { data: [group], next_cursor: null } }));
    await page.route('**/api/v1/tenant/scim-groups/scg_1', (route) => {
      group.role = route.request().postDataJSON().role;
      return route.fulfill({ json: group });
    });
    await page.reload();
    const gives = page.getByRole('combobox', { name: 'Role of the group Research desk' });
    for (const role of ['Analyst', 'Gives no role']) {
      await gives.click();
      await page.getByRole('option', { name: role, exact: true }).click();
      while ((await gives.inputValue()) !== role) await page.waitForTimeout(100);
    }
    assert.equal(group.role, null);
    await page.getByRole('switch', { name: 'Helix ID may sign people in' }).waitFor();
    await page.getByRole('button', { name: 'New token' }).click();
    await dialog.getByRole('textbox', { name: 'Name' }).fill('our directory');
    await dialog.getByRole('button', { name: 'New token' }).click();
    await dialog.getByRole('alert').waitFor(); // the plan has none, and says so
    await page.keyboard.press('Escape');
    await holds(page, 'identity providers');

    await page.route('**/api/v1/billing/subscription', async (route) => {
      const answer = await route.fetch();
      const banners = [{ code: 'payment_failed', action: 'update_card', url: '', until: '2026-12-01T00:00:00Z' }, { code: 'usage', action: 'upgrade', url: '', until: '2026-12-01T00:00:00Z', meter: 'match', percent: 80 }];
      return route.fulfill({ response: answer, json: { ...(await answer.json()), banners } });
    });
    await page.goto('/app');
    await page.getByText('The last payment failed.').waitFor();
    await page.getByText('80% of the quota is used: Matches.').waitFor();
    await holds(page, 'banners');
    await page.getByRole('link', { name: 'See larger plans' }).click();
    await page.waitForURL('**/app/billing');
    await close();
  });

  test('everything is taken out; an erasure says what will be gone, is scheduled, and taken back', async () => {
    const { page, close } = await open(browser, server.base);
    const { email, workspace } = await signUp(page);
    await page.goto('/app/privacy');
    await page.getByRole('button', { name: 'Export the workspace' }).click();
    await page.goto(await mailed(page, email, /\/app\/privacy/)); // where the mail leads
    const [archive] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Download' }).click()]);
    assert.equal(readFileSync(await archive.path()).subarray(0, 2).toString(), 'PK');
    await page.getByRole('switch', { name: 'News of the product' }).click({ force: true });
    await page.getByRole('button', { name: 'History' }).waitFor();

    await page.getByRole('button', { name: 'Erase the workspace' }).click();
    await page.getByRole('dialog').getByText('Rows kept').waitFor();
    assert.ok(await page.getByRole('button', { name: 'Erase', exact: true }).isDisabled());
    await page.getByRole('textbox', { name: 'Confirmation' }).fill(workspace);
    await page.getByRole('button', { name: 'Erase', exact: true }).click();
    await page.getByText(/Scheduled/).first().waitFor();
    await page.getByRole('button', { name: 'Take it back' }).click();
    await page.getByText(/Taken back/).first().waitFor();
    await close();
  });

  test('a person without an account confirms their request by the mail’s link; the workspace that lists them answers', async () => {
    const owner = await open(browser, server.base);
    const { email } = await staffed(owner.page);
    const { page, close } = await open(browser, server.base, still);
    const asked = await page.request.post('/api/v1/privacy/person-requests', { data: { kind: 'objection', name: 'Zagros Centre for Composite Research', email: 'director@zagros.example', message: 'We build bridges.' } });
    assert.equal(asked.status(), 202);
    await page.goto(await mailed(page, 'director@zagros.example', /\/privacy-request#[\w-]+/));
    await page.getByRole('button', { name: 'Confirm' }).waitFor();
    await holds(page, '/privacy-request');
    await page.getByRole('button', { name: 'Confirm' }).click();
    await page.getByText(/^Your request is passed on/).waitFor();
    await page.reload();
    await page.getByRole('button', { name: 'Confirm' }).click();
    await page.getByText(/^This link is used/).waitFor();
    await close();

    await owner.page.goto(await mailed(owner.page, email, /\/app\/privacy/));
    await owner.page.getByRole('button', { name: 'Answer Zagros Centre for Composite Research' }).click();
    await owner.page.getByText('We build bridges.').waitFor();
    await owner.page.getByRole('textbox', { name: 'Your answer' }).fill('You are on the list no more.');
    await owner.page.getByRole('dialog').getByRole('button', { name: 'Answer' }).click();
    await owner.page.getByRole('cell', { name: 'Fulfilled' }).waitFor();
    await owner.close();
  });

  test('a workspace that asks for a second factor leads to where one is added', async () => {
    const { page, close } = await open(browser, server.base);
    await signUp(page);
    const { settings } = await call(page, 'GET', '/api/v1/tenant');
    await call(page, 'PATCH', '/api/v1/tenant', { settings: { ...settings, require_mfa: true } });
    const refused = () => call(page, 'GET', '/api/v1/datasets').then(() => false, (e) => /mfa_enrolment_required/.test(e));
    while (!(await refused())) await page.waitForTimeout(100); // every process knows of it within a second
    await page.goto('/app/team');
    await page.getByRole('alert').getByRole('link', { name: 'Security' }).click();
    await page.getByRole('button', { name: 'Set up' }).click();
    const secret = await page.getByRole('dialog').locator('code').innerText();
    await page.getByRole('textbox', { name: 'Code of the app' }).fill(totp(secret));
    await page.getByRole('button', { name: 'Turn it on' }).click();
    await page.getByRole('button', { name: 'I have saved it' }).click();
    await page.getByRole('link', { name: 'Team' }).click();
    await page.getByRole('cell', { name: /^Ada Example/ }).waitFor();
    await close();
  });

  test('a factor is asked for once, however many requests want it; an upload outlives its token', async () => {
    const { page, close } = await open(browser, server.base);
    await signUp(page);
    const dataset = await call(page, 'POST', '/api/v1/datasets', { name: 'Partners' });
    // Each address is refused once, as the server refuses.
    const refuse = async (address, status, code) => {
      let refused = false;
      await page.route(address, (route) => {
        if (refused || !route.request().headers().authorization) return route.fallback();
        refused = true;
        return route.fulfill({ status, contentType: 'application/problem+json', body: JSON.stringify({ type: 'about:blank', title: 'Not allowed', status, detail: 'Not so.', code, instance: '', request_id: 'r' }) });
      });
    };
    await refuse('**/api/v1/tenant/members?*', 403, 'step_up_required');
    await refuse('**/api/v1/tenant/roles', 403, 'step_up_required');
    await page.goto('/app/team');
    await page.getByRole('dialog', { name: 'Is it you?' }).locator('input').fill(password);
    await page.getByRole('button', { name: 'Go on' }).click();
    await page.getByRole('dialog', { name: 'Is it you?' }).waitFor({ state: 'detached' });
    await page.getByRole('cell', { name: /^Ada Example/ }).waitFor();

    await refuse('**/api/v1/datasets/*/imports?*', 401, 'token_expired');
    await page.goto(`/app/datasets/${dataset.id}`);
    await page.locator('input[type=file]').setInputFiles({ name: 'more.csv', mimeType: 'text/csv', buffer: Buffer.from('name\nHelix Instruments\n') });
    await page.getByText('1 row can be imported, 0 cannot').waitFor();
    await close();
  });

  test('an administrator writes a plan, publishes it, gives it to a tenant, and acts for a person; every page of theirs holds', async () => {
    const customer = await open(browser, server.base);
    const { email, workspace } = await signUp(customer.page, 'Customer Lab');
    const { page, close } = await open(browser, server.base, still);
    const admin = await signUp(page, 'Operations');
    await server.operate('admin', 'create', '--email', admin.email);
    await page.goto('/app/security');
    await page.getByRole('button', { name: 'Set up' }).click();
    const secret = await page.getByRole('dialog').locator('code').innerText();
    await page.getByRole('textbox', { name: 'Code of the app' }).fill(totp(secret));
    await page.getByRole('button', { name: 'Turn it on' }).click();
    await page.getByRole('button', { name: 'I have saved it' }).click();

    await page.goto('/app/admin/plans');
    await page.getByRole('button', { name: 'Write a draft of enterprise' }).click();
    await page.getByRole('dialog').getByRole('textbox', { name: 'Matches' }).fill('4321');
    await page.getByRole('button', { name: 'Keep the draft' }).click();
    await page.getByText(/4,321 matches/).waitFor();
    await page.getByRole('button', { name: 'Publish the draft of enterprise' }).click();
    await page.getByText('The draft is published.').waitFor();

    await page.goto('/app/admin/tenants');
    await page.getByRole('textbox', { name: 'Find by name' }).fill(workspace);
    await page.getByRole('link', { name: workspace, exact: true }).click();
    await page.getByRole('button', { name: 'Give a plan' }).click();
    await page.getByRole('combobox', { name: 'Plan' }).click();
    await page.getByRole('option', { name: 'enterprise' }).click();
    await page.getByRole('textbox', { name: 'Reason' }).fill('a pilot');
    await page.getByRole('dialog').getByRole('button', { name: 'Give a plan' }).click();
    await page.getByText('The plan is given.').waitFor();
    const tenantPage = new URL(page.url()).pathname;
    const usage = await call(customer.page, 'GET', '/api/v1/usage');
    assert.equal(usage.data.find((m) => m.meter === 'match').limit, 4321);

    // The public page of status and theirs of services have each their own answer.
    await page.goto('/status');
    await page.getByRole('status').waitFor();
    await page.getByRole('link', { name: 'Open' }).click();
    await page.getByRole('link', { name: 'Services' }).click();
    await page.getByRole('heading', { level: 1, name: 'Services' }).waitFor();

    await page.getByRole('link', { name: 'Alerts' }).click();
    await page.getByRole('button', { name: 'Silence', exact: true }).click();
    await page.getByRole('textbox', { name: 'Rule' }).fill('disk_free');
    await page.getByRole('textbox', { name: 'Reason' }).fill('a bigger disk is on its way');
    await holds(page, 'a dialog');
    await page.getByRole('dialog').getByRole('button', { name: 'Silence' }).click();
    await page.getByRole('button', { name: 'End the silence of disk_free, every one' }).click();
    await page.getByText('There is none.').waitFor();
    await page.getByRole('link', { name: 'Jobs' }).click();
    await page.getByText('Mails and webhooks').first().waitFor();
    await page.getByRole('combobox', { name: 'State' }).click();
    await page.getByRole('option', { name: 'Done', exact: true }).click();
    await page.getByRole('cell', { name: /job_\d+ · Mails and webhooks/ }).first().waitFor();

    await walk(page, administration);
    await page.goto('/app/admin/people');
    await page.getByRole('row', { name: new RegExp(email) }).getByRole('button', { name: 'Ada Example' }).click();
    await page.getByRole('dialog').getByRole('link', { name: workspace }).waitFor();
    await holds(page, 'a person');
    await page.goto(tenantPage);
    await page.getByText(email).waitFor();
    await holds(page, 'a tenant');
    await page.getByRole('button', { name: `Act as ${email}` }).click();
    await page.getByRole('textbox', { name: 'Reason' }).fill('they asked for help');
    await page.getByRole('dialog').getByRole('button', { name: 'Act as' }).click();
    await page.getByText(`You act as ${email} in ${workspace}.`).waitFor();
    await page.getByRole('button', { name: 'End it' }).click();
    await page.waitForURL('**/app/admin/tenants');
    await page.getByText('You act as').waitFor({ state: 'detached' });
    await walkDown(page, [...administration, tenantPage], []);
    await close();
    await customer.close();
  });

  test('a webhook’s secret is shown once, and a delivery that failed can be sent again', async () => {
    const { page, close } = await open(browser, server.base);
    await signUp(page);
    await page.goto('/app/webhooks');
    await page.getByRole('button', { name: 'Add an endpoint' }).click();
    await page.getByRole('textbox', { name: 'Web address' }).fill('https://hooks.example.org/in');
    await page.getByRole('button', { name: 'Create' }).click();
    const secret = await page.getByRole('dialog').locator('pre').first().innerText();
    assert.match(secret, /^whsec_/);
    await page.getByRole('button', { name: 'I have saved it' }).click();
    assert.ok(!(await page.content()).includes(secret), 'the secret is still on the page');
    await page.getByRole('button', { name: 'Send a test' }).click();
    await page.getByRole('button', { name: /webhook\.test/ }).first().click();
    await page.getByText('"webhook.test"').first().waitFor();
    await close();
  });

  test('a workspace gets another name; a sensitive action asks who it is', async () => {
    const { page, close } = await open(browser, server.base);
    await signUp(page);
    await page.goto('/app/workspace');
    await page.locator('main').getByRole('textbox', { name: 'Name' }).fill('Renamed Lab');
    await page.getByRole('button', { name: 'Save' }).click();
    await page.getByRole('button', { name: 'Workspace Renamed Lab: switch or sign out' }).waitFor();
    // The server is asked once; what it refuses is asked again with a factor.
    let refused = 0;
    await page.route('**/api/v1/auth/mfa/totp', (route) =>
      refused++ ? route.fallback() : route.fulfill({ status: 403, contentType: 'application/problem+json', body: JSON.stringify({ type: 'about:blank', title: 'Not allowed', status: 403, detail: 'Show it again.', code: 'step_up_required', instance: '', request_id: 'r' }) }),
    );
    await page.goto('/app/security');
    await page.getByRole('button', { name: 'Set up' }).click();
    await page.getByRole('dialog', { name: 'Is it you?' }).locator('input').fill(password);
    await page.getByRole('button', { name: 'Go on' }).click();
    await page.getByRole('img', { name: 'QR code of the secret' }).waitFor();
    await close();
  });

  test('every public page is accessible, whole and translated', async () => {
    const { page, close } = await open(browser, server.base, still);
    await walk(page, site);
    await walkDown(page, ['/', '/plans', '/status'], ['/', '/status']); // which has words of its own for it
    await close();
  });

  test('so is every page of the work', async () => {
    const { page, close } = await open(browser, server.base, still);
    const { dataset } = await staffed(page);
    await walk(page, work.map((p) => `/app${p}`));
    await page.goto(`/app/datasets/${dataset.id}`);
    await page.getByRole('table').waitFor();
    await holds(page, 'a dataset');
    await page.getByRole('tab', { name: 'Statistics' }).click();
    await page.getByRole('img', { name: /A map of/ }).waitFor();
    await holds(page, 'its statistics');
    await close();
  });

  test('so is every page of the workspace', async () => {
    const { page, close } = await open(browser, server.base, still);
    await staffed(page);
    await walk(page, workspace.map((p) => `/app${p}`));
    await close();
  });

  test('so is a workspace that is new, and one whose server does not answer', async () => {
    const { page, close } = await open(browser, server.base, still);
    await signUp(page);
    const { id } = await call(page, 'POST', '/api/v1/datasets', { name: 'Nothing yet' });
    const pages = [...work, ...workspace].map((p) => `/app${p}`);
    await walk(page, [...pages, `/app/datasets/${id}`], 'with nothing in it');
    for (const tab of ['Entries', 'Statistics']) {
      await page.getByRole('tab', { name: tab }).click();
      await page.waitForLoadState('networkidle');
      await holds(page, `${tab} of an empty list`);
    }
    await walkDown(page, [...pages, `/app/datasets/${id}`, '/app/research/run_1'], []);
    // Who is signed in is not known either: nobody is signed out by that.
    await page.route('**/api/v1/me', (route) => route.fulfill({ status: 503, contentType: 'application/problem+json', body: '{"status":503,"title":"Busy","detail":"Busy.","code":"dependency_unavailable","request_id":"req_of_the_test"}' }));
    await walk(page, ['/app/team'], 'of nobody');
    await page.unroute('**/api/v1/me');
    await page.getByRole('button', { name: 'Try again' }).click();
    await page.getByRole('heading', { level: 1, name: 'Team' }).waitFor();
    await close();
  });
});

/** A workspace on a plan without walls, with a list in it. */
async function staffed(page) {
  const { email } = await signUp(page);
  const { slug } = await call(page, 'GET', '/api/v1/tenant');
  await server.operate('admin', 'plan', '--tenant', slug, '--plan', 'business');
  const { data } = await call(page, 'GET', '/api/v1/catalog');
  const { dataset } = await call(page, 'POST', `/api/v1/catalog/${data[0].slug}/subscribe`);
  return { email, dataset };
}

/** A list as its publisher gives it: of shared/data beside this checkout or above it, or under CR_SHARED. */
function realList(name) {
  const above = [];
  for (let dir = import.meta.dirname; dir !== dirname(dir); dir = dirname(dir)) above.push(join(dir, 'shared'));
  const path = (process.env.CR_SHARED ? [process.env.CR_SHARED] : above).map((dir) => join(dir, 'data', name)).find(existsSync);
  return { path, missing: path ? false : `SKIPPED, NOT TESTED: there is no shared/data/${name} beside this checkout, and CR_SHARED is not set` };
}

/** The link of a mail that the development server kept. */
async function mailed(page, to, link) {
  for (const until = Date.now() + 120_000; Date.now() < until; ) {
    const list = await page.request.get(`${server.base}/sandbox/mail`).then((r) => r.text());
    for (const row of list.split('<tr>').filter((r) => r.includes(to))) {
      const id = row.match(/\/sandbox\/mail\/([^"]+)/)[1];
      const found = (await page.request.get(`${server.base}/sandbox/mail/${id}`).then((r) => r.text())).match(link);
      if (found) return found[0].replaceAll('&amp;', '&');
    }
    await page.waitForTimeout(100);
  }
  throw new Error(`no mail to ${to}`);
}

/** The code of the moment (RFC 6238) of a base-32 secret. */
function totp(secret) {
  const bits = [...secret.replace(/[\s=]/g, '')].map((c) => 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'.indexOf(c).toString(2).padStart(5, '0')).join('');
  const key = Buffer.from(bits.match(/.{8}/g).map((b) => parseInt(b, 2)));
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30_000)));
  const hash = createHmac('sha1', key).update(counter).digest();
  return String((hash.readUInt32BE(hash[19] & 15) & 0x7fffffff) % 1_000_000).padStart(6, '0');
}
