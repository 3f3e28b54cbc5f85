// Does the status page show in a real browser what is so, follow it by itself, and serve everybody who may look at it? A real
// walcast with real servers, and a crowd of light ones.
import { mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, expect } from 'vitest';
import type { Locator } from 'playwright-core';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import { formatLsn, INVALID_LSN, parseLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { openBrowser, PHONE } from '../harness/browser.ts';
import type { TestBrowser, Viewer, WatchedPage } from '../harness/browser.ts';
import { openManyStandbys } from '../harness/many-standbys.ts';
import { openValuesRig, STANDBYS } from '../harness/values-rig.ts';
import type { ValuesRig } from '../harness/values-rig.ts';
import { startWriteLoad } from '../harness/write-load.ts';
import type { WriteLoad } from '../harness/write-load.ts';
import { walcast } from '../support/cli.ts';
import { NEWEST_MAJOR, requires } from '../support/requirements.ts';

const IMAGES = fileURLToPath(new URL('../../docs/images', import.meta.url));

/** Generated files are written anew. */
const IS_UPDATE = process.env['WALCAST_TEST_UPDATE'] === '1';

/** What the page shows is a second old at most, on a machine that has nothing else to do. */
const WAIT_MS = 15_000;

/** Nobody is there to be asked, and the browser says so by itself. */
const OUTAGE = /net::ERR_|Failed to load resource/;

const needs = requires('chromium', `postgres-${NEWEST_MAJOR}`);

needs.describe('the status page', { timeout: 120_000 }, () => {
  let rig: ValuesRig;
  let load: WriteLoad;
  let browser: TestBrowser;
  let watched: WatchedPage;

  beforeAll(async () => {
    [rig, browser] = await Promise.all([openValuesRig({ major: NEWEST_MAJOR }), openBrowser()]);
    load = await startWriteLoad(() => rig.primary, 1, 20);
  });

  afterAll(async () => {
    await browser?.[Symbol.asyncDispose]();
    await load?.stop();
    await rig?.[Symbol.asyncDispose]();
  });

  beforeEach(async () => {
    watched = await look();
  });

  afterEach(async () => {
    const complaints = watched.takeComplaints();
    await watched[Symbol.asyncDispose]();
    expect(complaints).toEqual([]);
  });

  /** Opens the page and waits until it shows something. */
  async function look(viewer: Viewer = {}): Promise<WatchedPage> {
    const one = await browser.open(`${rig.relay.url}/`, viewer);
    await one.page.locator('#content').waitFor({ timeout: WAIT_MS });
    return one;
  }

  /** Waits until the part of the page has these words. */
  async function shows(
    selector: string,
    words: string | RegExp,
    timeoutMs = WAIT_MS,
  ): Promise<void> {
    const there = watched.page.locator(selector, { hasText: words }).first();
    await there.waitFor({ timeout: timeoutMs }).catch(async (error: unknown) => {
      const text = await watched.page.locator(selector).allInnerTexts();
      throw new Error(`${selector} never said ${words}, but ${JSON.stringify(text)}`, {
        cause: error,
      });
    });
  }

  /** Waits until the page says that walcast has WAL up to there on its disk. The server may write more at any time. */
  async function reaches(endLsn: Lsn): Promise<void> {
    const topology = watched.page.locator('#topology');
    await pollUntil(
      `${formatLsn(endLsn)} on the page`,
      async () => {
        const shown = /Durable\s+(\S+)/.exec(await topology.innerText())?.[1] ?? '';
        return (parseLsn(shown) ?? INVALID_LSN) >= endLsn ? true : null;
      },
      { timeoutMs: WAIT_MS },
    );
  }

  /** The line of `walcast health`. */
  async function health(): Promise<string> {
    return (await walcast(['health', '--url', rig.relay.url])).out;
  }

  /** The row of a standby. */
  function row(name: string): Locator {
    return watched.page.locator('#standby-table tbody tr:not(.details)', { hasText: name });
  }

  it('asks nobody but walcast for anything, and for its document once', async () => {
    await shows('#topology', 'standby_a');
    const { origin } = new URL(rig.relay.url);
    expect(watched.requests.filter((url) => !/^(data|blob):/.test(url))).not.toEqual([]);
    for (const url of watched.requests) {
      if (!/^(data|blob):/.test(url)) expect(new URL(url).origin).toBe(origin);
    }
    const paths = watched.requests
      .filter((url) => url.startsWith(origin))
      .map((url) => new URL(url).pathname);
    expect(paths.filter((path) => !path.startsWith('/api/v1/'))).toEqual(['/']);
  });

  it('shows upstream, walcast and standbys with their states, and what is acknowledged', async () => {
    const status = await rig.relay.status();
    await shows('#topology', `127.0.0.1:${rig.primary.port}`);
    await shows('#topology', `walcast ${status.version}`);
    for (const name of STANDBYS) {
      await shows('#topology', name);
      await row(name).filter({ hasText: 'streaming' }).waitFor({ timeout: WAIT_MS });
      await shows('#slot-table', name);
    }
    await shows('#identity', status.system_identifier ?? 'none');
    await shows('#store', String(status.store.segments));
  });

  it('gets on by itself: positions, throughput and the history follow the load', async () => {
    await load.waitForCommits(20);
    const endLsn = await rig.primary.walPosition();
    await reaches(endLsn);
    await load.waitForCommits(20);
    const nextLsn = await rig.primary.walPosition();
    expect(nextLsn).toBeGreaterThan(endLsn);
    await reaches(nextLsn);
    await shows('#topology', /[1-9][0-9.]* (B|kB|MB)\/s/);
    expect(watched.requests.filter((url) => url.endsWith('/'))).toHaveLength(1);
    expect(await watched.page.locator('#charts canvas').count()).toBeGreaterThan(0);
  });

  it('a standby that is stopped is told as away, and as streaming when it is back', async () => {
    await row('standby_a').filter({ hasText: 'streaming' }).waitFor({ timeout: WAIT_MS });
    await rig.standby('standby_a').stop('fast');
    await shows('#findings', /standby standby_a has not been connected/i);
    await row('standby_a').filter({ hasNotText: 'streaming' }).waitFor({ timeout: WAIT_MS });
    await rig.standby('standby_a').start();
    await row('standby_a').filter({ hasText: 'streaming' }).waitFor({ timeout: WAIT_MS });
    await watched.page
      .locator('#findings', { hasNotText: 'standby_a' })
      .waitFor({ timeout: WAIT_MS });
  });

  it('a standby that takes nothing falls behind, comes first, and catches up', async () => {
    const goOn = await rig.stopWalReceiver('standby_b');
    try {
      await load.waitForCommits(100);
      const first = watched.page.locator('#standby-table tbody tr:not(.details)').first();
      await first.filter({ hasText: 'standby_b' }).waitFor({ timeout: WAIT_MS });
      await first.filter({ hasText: /kB|MB/ }).waitFor({ timeout: WAIT_MS });
    } finally {
      goOn();
    }
    // While something is written it may be behind whenever the page looks.
    await load.stop();
    try {
      await row('standby_b').getByText('0 B', { exact: true }).waitFor({ timeout: WAIT_MS });
    } finally {
      load.start();
    }
  });

  it('an upstream that is gone is told with the next step, and gone from the page when it is back', async () => {
    await rig.primary.stop('immediate');
    await shows('#findings', /there is no connection to the upstream/i);
    await shows('#findings', 'walcast check --deep');
    await shows('#headline', /warning|critical/);
    // One judge: who has no browser hears the same.
    expect(await health()).toMatch(
      /^WALCAST (WARNING|CRITICAL) - there is no connection to the upstream/,
    );
    await picture('status-page-trouble', watched);
    await rig.primary.start();
    await watched.page
      .locator('#findings', { hasNotText: 'upstream' })
      .waitFor({ timeout: WAIT_MS });
    await shows('#topology', 'streaming');
  });

  it('a policy that too few satisfy is told, and what it comes to when enough are there', async () => {
    await rig.relay.reload({ synchronous_standby_names: 'ANY 1 (nobody)' });
    await shows('#findings', /1 needed, 0 are there \(missing: nobody\)/);
    await shows('#sync', 'ANY 1 (nobody)');
    await shows('#sync', /not satisfied/i);
    expect(await health()).toMatch(/^WALCAST (WARNING|CRITICAL) - too few standbys for sync/);
    await rig.relay.reload({ synchronous_standby_names: 'ANY 1 (standby_a, standby_b)' });
    await watched.page
      .locator('#findings', { hasNotText: '0 are there' })
      .waitFor({ timeout: WAIT_MS });
    await row('standby_a').filter({ hasText: 'quorum' }).waitFor({ timeout: WAIT_MS });
    await rig.relay.reload({ synchronous_standby_names: '' });
    await row('standby_a').filter({ hasText: 'async' }).waitFor({ timeout: WAIT_MS });
  });

  it('a walcast that is gone is told, what was shown stays, and it goes on when walcast is back', async () => {
    await rig.relay.kill();
    await shows('#headline', 'Connection lost');
    await shows('#freshness', /\d/);
    await shows('#topology', 'standby_a');
    await rig.relay.start();
    await watched.page
      .locator('#headline', { hasNotText: 'Connection lost' })
      .waitFor({ timeout: WAIT_MS });
    await row('standby_a').filter({ hasText: 'streaming' }).waitFor({ timeout: WAIT_MS });
    expect(watched.takeComplaints(OUTAGE)).toEqual([]);
    expect(watched.requests.filter((url) => new URL(url).pathname === '/')).toHaveLength(1);
  });

  it('everything can be reached and used with the keyboard alone', async () => {
    const { page } = watched;
    await page.keyboard.press('Tab');
    expect(await watched.focused()).toMatch(/^a Skip to/);
    await page.keyboard.press('Enter');
    expect(await watched.focused()).toMatch(/Standbys|standbys/);
    const seen = new Set<string>();
    for (let step = 0; step < 60; step += 1) {
      await page.keyboard.press('Tab');
      const name = await watched.focused();
      if (name === '') break;
      seen.add(name);
      expect(await outlined(watched), name).toBe(true);
    }
    for (const wanted of [/^input Filter standbys/, /^select Sort/, /^button standby_a/]) {
      expect(
        [...seen].some((name) => wanted.test(name)),
        `${wanted} among ${[...seen].join(', ')}`,
      ).toBe(true);
    }
    const details = row('standby_a').getByRole('button', { name: 'standby_a' });
    await details.focus();
    await page.keyboard.press('Enter');
    expect(await details.getAttribute('aria-expanded')).toBe('true');
    await shows('#standby-table tr.details', rig.relay.host);
    await page.keyboard.press('Enter');
    expect(await details.getAttribute('aria-expanded')).toBe('false');
  });

  it('a crowd of three hundred stays usable: worst first, sorted, filtered, and nobody is shut out', async () => {
    const startLsn = await rig.settled();
    await using crowd = await openManyStandbys({
      port: rig.relay.port,
      count: 300,
      startLsn,
      nameOf: (index) => `edge-${String(index).padStart(3, '0')}`,
      isLazy: (index) => index === 123,
    });
    expect(crowd.count).toBe(300);
    await load.waitForCommits(50);
    await shows('#topology', /303 standbys connected/);
    const rows = watched.page.locator('#standby-table tbody tr:not(.details)');
    await rows.first().filter({ hasText: 'edge-123' }).waitFor({ timeout: WAIT_MS });
    expect(await rows.count()).toBeLessThanOrEqual(50);
    const filter = watched.page.getByLabel('Filter standbys');
    await filter.fill('edge-29');
    await shows('#standby-table .count', '10 standbys (of 303');
    await row('edge-299').waitFor({ timeout: WAIT_MS });
    await filter.fill('');
    await watched.page.locator('#standby-table').getByLabel('Sort').selectOption('name');
    await rows.first().filter({ hasText: 'edge-000' }).waitFor({ timeout: WAIT_MS });
    await watched.page.locator('#standby-table').getByLabel('Sort').selectOption('worst');
    await looksForAll();
  });

  /** In both schemes and on a phone: nothing that shuts people out, and no scrolling sideways. */
  async function looksForAll(): Promise<void> {
    const viewers: readonly (readonly [string, Viewer])[] = [
      ['status-page', { colorScheme: 'light' }],
      ['status-page-dark', { colorScheme: 'dark' }],
      ['status-page-phone-dark', { ...PHONE, colorScheme: 'dark' }],
      ['status-page-phone', { ...PHONE, colorScheme: 'light' }],
    ];
    // A picture of the history needs one.
    if (IS_UPDATE) await shows('#history-note', /: [4-5]\d s so far/, 90_000);
    for (const [name, viewer] of viewers) {
      await watched.change(viewer);
      expect(await watched.accessProblems(), name).toEqual([]);
      expect(await watched.overflow(), name).toBe(0);
      await picture(name, watched);
    }
  }
});

const { it } = needs;

/** Whether the person sees where the focus is: something around it changes. */
async function outlined({ page }: WatchedPage): Promise<boolean> {
  return await page.evaluate<boolean>(`(() => {
    const style = getComputedStyle(document.activeElement);
    return style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0 || style.boxShadow !== 'none';
  })()`);
}

/** Takes a picture for the documentation when generated files are to be written anew. */
async function picture(name: string, { page }: WatchedPage): Promise<void> {
  if (!IS_UPDATE || name.endsWith('phone-dark')) return;
  mkdirSync(IMAGES, { recursive: true });
  await page.screenshot({ path: `${IMAGES}/${name}.png`, fullPage: !name.endsWith('phone') });
}
