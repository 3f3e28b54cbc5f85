// Does the status page stand what real servers rarely do to it: names that want to be markup, everything wrong at once, nothing
// known, a thousand standbys, a token?
import { afterAll, afterEach, beforeAll, expect, onTestFinished } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import type { HttpServer } from '../../src/http/server.ts';
import { toLsn } from '../../src/pg/lsn.ts';
import { RELAY_STATES } from '../../src/status/status.ts';
import type { RelayStatus, StandbyStatus } from '../../src/status/status.ts';
import { openBrowser, PHONE } from '../harness/browser.ts';
import type { TestBrowser, Viewer, WatchedPage } from '../harness/browser.ts';
import { openTestPort } from '../support/http-port.ts';
import {
  sampleAbsentStandby,
  sampleStandby,
  sampleStatus,
  sampleSync,
  unknownStatus,
} from '../support/relay-status.ts';
import { FULL_FAULTS, requires } from '../support/requirements.ts';
import { SAMPLE_NOW_MS } from '../support/status-json.ts';

const WAIT_MS = 15_000;

/** What no page should ever say. */
const SLIPS = /\b(undefined|null|NaN|Infinity|\[object|Invalid Date)\b/;

const needs = requires('chromium');
const { it } = needs;

needs.describe('the status page', { timeout: 60_000 }, () => {
  let browser: TestBrowser;
  let status: RelayStatus;
  let shiftMs = 0;
  let server: HttpServer;

  const startMs = systemClock.wallMs();
  const clock = {
    ...systemClock,
    wallMs: () => SAMPLE_NOW_MS + systemClock.wallMs() - startMs + shiftMs,
  };

  beforeAll(async () => {
    status = sampleStatus();
    browser = await openBrowser();
    server = await openTestPort({ source: { status: () => status }, clock });
  });

  afterAll(async () => {
    await browser?.[Symbol.asyncDispose]();
    await server?.close();
  });

  afterEach(() => {
    status = sampleStatus();
    shiftMs = 0;
  });

  /** Opens the page; at the end of the test nothing may have gone wrong in it but what `expected` fits. */
  async function look(
    viewer: Viewer = {},
    { url = `${server.url}/`, expected = /^$/ }: { url?: string; expected?: RegExp } = {},
  ): Promise<WatchedPage> {
    const watched = await browser.open(url, viewer);
    onTestFinished(async () => {
      const complaints = watched.takeComplaints(expected);
      await watched[Symbol.asyncDispose]();
      expect(complaints).toEqual([]);
    });
    return watched;
  }

  async function content(viewer: Viewer = {}): Promise<WatchedPage> {
    const watched = await look(viewer);
    await watched.page.locator('#content').waitFor({ timeout: WAIT_MS });
    return watched;
  }

  const text = async ({ page }: WatchedPage): Promise<string> =>
    await page.locator('body').innerText();

  it('names that want to be markup are shown as they are written', async () => {
    const evil = `<img src=x onerror="document.title='pwned'"><b>x</b>&amp;`;
    const { upstream, slots } = sampleStatus();
    status = sampleStatus({
      state: 'connecting',
      detail: evil,
      upstream: { ...upstream, host: evil, state: 'disconnected', detail: evil },
      standbys: [
        sampleStandby({ applicationName: evil, slotName: evil, isStalled: true, user: evil }),
      ],
      absentStandbys: [sampleAbsentStandby({ applicationName: evil })],
      slots: slots.map((slot) => ({ ...slot, name: evil })),
      sync: sampleSync({
        method: 'quorum',
        synchronousStandbyNames: evil,
        names: [evil],
        requiredStandbys: 1,
        isSatisfied: false,
        alarms: [evil],
        clash: evil,
      }),
    });
    const watched = await content();
    await watched.page.locator('#standby-table', { hasText: evil }).waitFor({ timeout: WAIT_MS });
    await watched.page.locator('#standby-table tbody button').first().click();
    expect(await watched.page.locator('#main img, #main b').count()).toBe(0);
    expect(await watched.page.title()).not.toMatch(/^pwned/);
    await watched.change(PHONE);
    expect(await watched.overflow()).toBe(0);
  });

  it('the longest and widest names fit beside everything else', async () => {
    const { slots } = sampleStatus();
    const applicationName = 'W'.repeat(63);
    const slotName = 'w'.repeat(63);
    status = sampleStatus({
      standbys: [sampleStandby({ applicationName, slotName })],
      slots: slots.map((slot) => ({ ...slot, name: slotName })),
    });
    const watched = await content();
    for (const width of [1400, 1280, 1100, 768, 360]) {
      await watched.change({ width });
      expect(await watched.overflow(), `${width} px`).toBe(0);
    }
  });

  it('who uses the keyboard stays where they are when rows change places, and at the last page', async () => {
    status = crowd(60, 0);
    const watched = await content();
    const { page } = watched;
    const row = page.getByRole('button', { name: 'standby_20', exact: true });
    await row.focus();
    status = crowd(60, 20);
    await page
      .locator('#standby-table tbody tr:not(.details)')
      .first()
      .filter({ hasText: 'standby_20' })
      .waitFor({ timeout: WAIT_MS });
    expect(await watched.focused()).toBe('button standby_20');
    const count = page.locator('#standby-table .count');
    expect(await count.getAttribute('aria-live')).toBe('off');
    await page.locator('#standby-table').getByRole('button', { name: 'Next' }).focus();
    for (let press = 0; press < 4; press += 1) await page.keyboard.press('Enter');
    await count.filter({ hasText: '51–60 of 60' }).waitFor({ timeout: WAIT_MS });
    expect(await watched.focused()).toBe('button Next');
    expect(await count.getAttribute('aria-live')).toBe('polite');
  });

  it('the title of a tab that nobody looks at says what is so now', async () => {
    const watched = await content();
    await watched.page.evaluate(`
      window.requestAnimationFrame = () => 0;
      Object.defineProperty(document, 'hidden', { get: () => true });`);
    status = wrecked();
    await expect
      .poll(() => watched.page.title(), { timeout: WAIT_MS, interval: 100 })
      .toMatch(/critical/);
  });

  it.each([['light'], ['dark']] as const)(
    'everything wrong at once is told, for all to read, in the %s scheme',
    async (colorScheme) => {
      status = wrecked();
      shiftMs = 120_000;
      const watched = await content({ colorScheme });
      await watched.page
        .locator('#headline', { hasText: /critical/ })
        .waitFor({ timeout: WAIT_MS });
      expect(await text(watched)).not.toMatch(SLIPS);
      expect(await watched.accessProblems()).toEqual([]);
      await watched.change({ ...PHONE, colorScheme });
      expect(await watched.accessProblems()).toEqual([]);
      expect(await watched.overflow()).toBe(0);
    },
  );

  it('every state, and nothing known, has words of its own', async () => {
    const watched = await content();
    // The page is told once a second.
    const states = FULL_FAULTS ? RELAY_STATES : (['starting', 'waiting', 'failed'] as const);
    for (const state of states) {
      status = { ...unknownStatus(), state };
      await watched.page.locator('#topology', { hasText: state }).waitFor({ timeout: WAIT_MS });
      expect(await text(watched), state).not.toMatch(SLIPS);
    }
  });

  it('a thousand standbys: each second’s news is on the page within the next, and it hears its user', async () => {
    status = crowd(1_000, 0);
    const watched = await content();
    const first = watched.page.locator('#standby-table tbody tr:not(.details)').first();
    await watched.page
      .locator('#topology', { hasText: '1,000 standbys' })
      .waitFor({ timeout: WAIT_MS });
    for (const worst of [17, 503, 998]) {
      status = crowd(1_000, worst);
      await first.filter({ hasText: `standby_${worst}` }).waitFor({ timeout: WAIT_MS });
    }
    await watched.page.getByLabel('Filter standbys').fill('standby_99');
    await watched.page
      .locator('#standby-table .count', { hasText: '11 standbys (of 1000' })
      .waitFor({ timeout: WAIT_MS });
    const nodes = await watched.page.evaluate<number>('document.querySelectorAll("*").length');
    expect(nodes).toBeLessThan(3_000);
  });

  it('a token is asked for, kept for the tab, and wrong ones are told', async () => {
    const token = 'a-token-of-some-length';
    const guarded = await openTestPort({
      source: { status: () => status },
      clock,
      listen: { kind: 'tcp', host: '0.0.0.0', port: 0 },
      token: () => token,
    });
    onTestFinished(() => guarded.close());
    const url = `http://127.0.0.1:${new URL(guarded.url).port}/`;
    const watched = await look({}, { url, expected: /401/ });
    const { page } = watched;
    const field = page.getByLabel('Token');
    await field.waitFor({ timeout: WAIT_MS });
    expect(await watched.accessProblems()).toEqual([]);
    expect(await page.locator('#content').isVisible()).toBe(false);
    await field.fill('a-wrong-token');
    await page.keyboard.press('Enter');
    await page
      .locator('#token-reason', { hasText: /not|wrong|refuse/i })
      .waitFor({ timeout: WAIT_MS });
    await field.fill(token);
    await page.keyboard.press('Enter');
    await page.locator('#standby-table', { hasText: 'standby_a' }).waitFor({ timeout: WAIT_MS });
    await page.reload();
    await page.locator('#standby-table', { hasText: 'standby_a' }).waitFor({ timeout: WAIT_MS });
    expect(page.url()).toBe(url);
    expect(await field.isVisible()).toBe(false);
    for (const asked of watched.requests) expect(asked).not.toContain(token);
  });

  it('who sees no motion, and who looks closer, gets the same page', async () => {
    const watched = await content({ reducedMotion: 'reduce', width: 640, height: 450 });
    expect(await watched.overflow()).toBe(0);
    const moving = await watched.page.evaluate<number>('document.getAnimations().length');
    expect(moving).toBe(0);
  });
});

function crowd(count: number, worst: number): RelayStatus {
  return sampleStatus({
    absentStandbys: [],
    standbys: Array.from({ length: count }, (_, pid) => lagging(pid, pid === worst)),
  });
}

function lagging(pid: number, isWorst: boolean): StandbyStatus {
  return sampleStandby({
    pid,
    applicationName: `standby_${pid}`,
    applyLsn: toLsn(isWorst ? 0x1000000n : 0x2fff000n),
    endToEndLag: {
      writeSeconds: 0.1,
      flushSeconds: 0.1,
      applySeconds: isWorst ? 90 : 0.1,
    },
  });
}

/** As much as can be at one time. */
function wrecked(): RelayStatus {
  const { upstream, slots, retention, store, configuration } = sampleStatus();
  const [slot] = slots;
  if (slot === undefined) throw new Error('there is no slot');
  return sampleStatus({
    state: 'full',
    detail: 'no WAL reached the disk for a minute',
    isPaused: true,
    upstream: { ...upstream, state: 'disconnected', heldState: 'full' },
    standbys: [
      ...Array.from({ length: 8 }, (_, pid) => ({ ...lagging(pid, true), isStalled: true })),
      sampleStandby({ pid: 100, state: 'catchup', syncState: 'potential', syncPriority: 2 }),
      sampleStandby({ pid: 101, state: 'backup', applicationName: 'backup', isNameShared: true }),
      sampleStandby({ pid: 102, state: 'stopping', applicationName: 'stops', clientAddr: null }),
    ],
    absentStandbys: [
      sampleAbsentStandby(),
      sampleAbsentStandby({ applicationName: 'away', isMaybeWedged: false }),
    ],
    slots: [
      slot,
      {
        ...slot,
        name: 'lost',
        walStatus: 'lost',
        invalidationReason: 'wal_removed',
        activePid: null,
      },
      { ...slot, name: 'risk', walStatus: 'unreserved', safeWalSize: -5 },
      { ...slot, name: 'fresh', walStatus: null, restartLsn: toLsn(0n), activePid: null },
    ],
    retention: { ...retention, isNearLimit: true, limitBytes: 16 * 1024 * 1024 },
    store: { ...store, dead: { files: 2, bytes: 5_000_000, acknowledged: null } },
    sync: sampleSync({
      method: 'priority',
      synchronousStandbyNames: 'FIRST 2 (standby_a, standby_b)',
      names: ['standby_a', 'standby_b'],
      requiredStandbys: 2,
      eligibleStandbys: 0,
      isSatisfied: false,
      alarms: ['the commit at 0/1 waits for standbys to apply it. Name standbys that apply.'],
    }),
    configuration: { ...configuration, isLastReloadGood: false, secretProblems: ['a file.'] },
    certificates: [
      { role: 'server', address: '0.0.0.0:5432', notAfterMs: SAMPLE_NOW_MS - 1, problem: null },
    ],
  });
}
