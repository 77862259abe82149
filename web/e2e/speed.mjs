// How long the portal makes its reader wait, with a list and answers of 10,000 rows
// and a graph of 1,000 nodes: the longest time from an event to what it paints, of
// each interaction (Event Timing, as Interaction to Next Paint has it), in
// multiples of 8 ms. npm run speed. Nothing is asserted: machines differ.
import { loadavg } from 'node:os';
import { browse, call, open, serve, signUp } from './harness.mjs';

const rows = 10_000;
const nodes = 1_000;

const [server, browser] = await Promise.all([serve(), browse()]);
try {
  const { page, context, close } = await open(browser, server.base, { reducedMotion: 'reduce' });
  await context.addInitScript(() => {
    window.waits = [];
    new PerformanceObserver((list) => window.waits.push(...list.getEntries().map((e) => e.duration))).observe({ type: 'event', durationThreshold: 16, buffered: true });
  });
  /** Does it, and says how long the longest of its events took to be painted. */
  const took = async (what, act) => {
    await page.evaluate(() => void (window.waits = []));
    await act();
    await page.evaluate(() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(drawn, 200)))));
    const longest = await page.evaluate(() => Math.max(0, ...window.waits));
    console.log(`${String(longest || '< 16').padStart(6)} ms  ${what}`);
  };
  const names = (n) => `name,country\n${Array.from({ length: n }, (_, i) => `Institute ${i} of ${['Applied Optics', 'Marine Materials', 'Propulsion', 'Signals'][i % 4]},China`).join('\n')}\n`;

  await signUp(page);
  const { slug } = await call(page, 'GET', '/api/v1/tenant');
  await server.operate('admin', 'plan', '--tenant', slug, '--plan', 'business');
  console.log(`load ${loadavg()[0].toFixed(1)}; the longest time from an event to its paint`);

  const list = await call(page, 'POST', '/api/v1/datasets', { name: 'Ten thousand' });
  await page.goto(`/app/datasets/${list.id}`);
  await page.locator('input[type=file]').setInputFiles({ name: 'list.csv', mimeType: 'text/csv', buffer: Buffer.from(names(rows)) });
  await page.getByRole('button', { name: 'Add 10,000 rows' }).click();
  await page.getByText('10,000 accepted, 0 rejected').waitFor();
  await page.getByRole('tab', { name: 'Entries' }).click();
  const more = page.getByRole('button', { name: 'Show more' });
  await more.waitFor();
  for (let i = 0; i < 10; i++) {
    await more.click();
    await page.waitForLoadState('networkidle');
  }
  await took(`a list of ${rows}: more of it, 550 lines shown`, async () => {
    await more.click();
    await page.waitForLoadState('networkidle');
  });
  await took(`a list of ${rows}: each letter of a search`, async () => {
    await page.getByRole('textbox', { name: 'Search this list' }).pressSequentially('institute 77', { delay: 60 });
    await page.waitForLoadState('networkidle');
  });

  await page.goto('/app/match');
  await page.getByRole('tab', { name: 'A file' }).click();
  await page.locator('input[type=file]').setInputFiles({ name: 'partners.csv', mimeType: 'text/csv', buffer: Buffer.from(names(rows)) });
  await page.getByRole('button', { name: 'Open the answers of partners.csv' }).click({ timeout: 600_000 });
  await page.getByText(/^10,000 names/).waitFor({ timeout: 600_000 });
  await page.getByRole('button', { name: 'Lists, threshold and weights' }).click();
  for (const dial of ['Threshold', 'Words']) {
    await took(`${rows} answers: ten steps of the slider ${dial}`, async () => {
      for (let i = 0; i < 10; i++) await page.getByRole('slider', { name: dial }).press('ArrowRight');
    });
  }
  await took(`${rows} answers: more lines`, () => page.getByRole('button', { name: 'Show more' }).click());
  await took(`${rows} answers: one opened, then the next twenty by j`, async () => {
    await page.getByRole('button', { name: /^Decide about/ }).first().click();
    for (let i = 0; i < 20; i++) await page.keyboard.press('j');
  });

  await page.goto('/app/research');
  await page.getByRole('textbox', { name: 'Institution or organisation' }).fill('Northmere University');
  await page.getByRole('textbox', { name: /Organisations of concern/ }).fill('Qinglan University of Aerospace Technology');
  await page.getByRole('button', { name: 'Start' }).click();
  await page.getByText('Done', { exact: true }).first().waitFor();
  // The run's own graph, with a thousand more of what is in it.
  await page.route('**/runs/*/graph', async (route) => {
    const graph = await route.fetch().then((r) => r.json());
    const [node, edge] = [graph.nodes.find((n) => n.role === 'intermediary') ?? graph.nodes[0], graph.edges[0]];
    while (graph.nodes.length < nodes) {
      const at = graph.nodes.length;
      graph.nodes.push({ ...node, id: `n${at}`, label: `Laboratory ${at}` });
      for (const other of [at - 1, (at * 7) % at]) graph.edges.push({ ...edge, id: `e${graph.edges.length}`, source: `n${at}`, target: graph.nodes[other].id });
    }
    await route.fulfill({ json: graph });
  });
  await page.reload();
  await page.getByRole('img', { name: /relations; the list beside it/ }).waitFor();
  await page.getByText(/^Laboratory 999/).first().waitFor();
  await took(`${nodes} nodes: each letter of a search`, () => page.getByRole('textbox', { name: 'Search in it' }).first().pressSequentially('laboratory 77', { delay: 60 }));
  await took(`${nodes} nodes: the search emptied`, () => page.getByRole('textbox', { name: 'Search in it' }).first().fill(''));
  await took(`${nodes} nodes: a line picked`, () => page.getByRole('button', { name: /^Laboratory 500/ }).first().click());
  await took(`${nodes} nodes: larger, smaller, all of it`, async () => {
    for (const name of ['Larger', 'Smaller', 'All of it']) await page.getByRole('button', { name, exact: true }).click();
  });
  await close();
} finally {
  await browser.close();
  await server.stop();
}
