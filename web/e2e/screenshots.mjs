// Takes the pictures of the main pages that the README shows: npm run screenshots.
import { mkdirSync } from 'node:fs';
import { browse, call, open, serve, signUp } from './harness.mjs';

const folder = new URL('../screenshots/', import.meta.url).pathname;
mkdirSync(folder, { recursive: true });
const [server, browser] = await Promise.all([serve(), browse()]);
try {
  const { page, close } = await open(browser, server.base, { reducedMotion: 'reduce', colorScheme: 'light' });
  // JPEG is a quarter of the PNG; the README shows them small.
  const take = async (name) => {
    await page.waitForLoadState('networkidle');
    await page.evaluate(() => document.fonts.ready);
    await page.screenshot({ path: `${folder}${name}.jpg`, type: 'jpeg', quality: 80 });
  };
  await page.goto('/');
  await page.getByRole('button', { name: 'Match', exact: true }).click();
  await page.getByText('Jaro-Winkler').first().waitFor();
  await take('front');

  await signUp(page, 'Northbridge Compliance');
  const { slug } = await call(page, 'GET', '/api/v1/tenant');
  await server.operate('admin', 'plan', '--tenant', slug, '--plan', 'business');
  const { data } = await call(page, 'GET', '/api/v1/catalog');
  const { dataset } = await call(page, 'POST', `/api/v1/catalog/${data[0].slug}/subscribe`);

  await page.goto('/app/match');
  await page.getByRole('textbox', { name: 'Name' }).fill('Zagros Center for Composit Research');
  await page.keyboard.press('Enter');
  await page.getByText('Zagros Centre for Composite Research').first().waitFor();
  await take('match');

  await page.goto('/app/research');
  await page.getByRole('textbox', { name: 'Institution or organisation' }).fill('Northmere University');
  const concerns = ['Qinglan University of Aerospace Technology', 'Yunqi Institute of Applied Propulsion', 'Hengyue Precision Instruments Group', 'Calder & Voss Holdings', 'Volgoterm Machine Works'];
  await page.getByRole('textbox', { name: /Organisations of concern/ }).fill(concerns.join('\n'));
  await page.getByRole('button', { name: 'Start' }).click();
  await page.getByText('Done', { exact: true }).first().waitFor();
  await page.getByRole('button', { name: /joint laboratory/ }).first().click();
  await take('research');
  await page.getByRole('heading', { name: 'Findings' }).scrollIntoViewIfNeeded();
  await page.evaluate(() => scrollBy(0, 600));
  await take('evidence');

  await page.goto(`/app/datasets/${dataset.id}`);
  await page.getByRole('tab', { name: 'Statistics' }).click();
  await page.getByRole('img', { name: /A map of/ }).waitFor();
  await take('dataset');

  await page.goto('/app/usage');
  await page.locator('figure').waitFor();
  await take('usage');
  await page.goto('/app/billing');
  await page.getByRole('heading', { name: 'Plans' }).waitFor();
  await take('billing');

  await page.emulateMedia({ colorScheme: 'dark' });
  await page.goto('/app/team');
  await page.getByRole('table').waitFor();
  await take('team-dark');
  await page.getByRole('button', { name: '切换到中文' }).click();
  await page.goto('/app/match');
  await page.getByRole('textbox', { name: '名称' }).fill('青岚航空航天大学');
  await page.keyboard.press('Enter');
  await page.getByText('Jaro-Winkler').first().waitFor();
  await take('match-chinese');
  await close();
} finally {
  await browser.close();
  await server.stop();
}
