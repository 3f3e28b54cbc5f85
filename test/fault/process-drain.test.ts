// Does walcast end in time and in order at SIGTERM, whatever upstream, standbys and disk do at that moment? Real processes
// between played peers; each case has its bound, and no case may need SIGKILL from outside.
import { basename, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { INVALID_LSN, parseLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { RawClient, query, startup, statusUpdate, STANDBY } from '../support/raw-client.ts';
import { summary } from '../support/raw-client.ts';
import type { StreamReader } from '../support/raw-client.ts';
import { errorResponse } from '../support/scripted-upstream.ts';
import { i16, message, packet } from '../support/naive-writer.ts';
import { FULL_FAULTS, needs, requires } from '../support/requirements.ts';
import { injected } from './disk-rig.ts';
import { mountTmpfs } from './fault-support.ts';
import { PlayedUpstream, ProcessRig, confirm, playedWal } from './process-rig.ts';

const DRAIN_TIMEOUT_MS = 2_000;
/** Beyond drain_timeout: saying goodbye upstream (5 s), the disk, a busy machine. */
const BOUND_MS = DRAIN_TIMEOUT_MS + 12_000;
/** Where nothing is waited for, on a busy machine. */
const AT_ONCE_MS = 4_000;
const SHUTTING_DOWN = 'E|FATAL|57P03|the database system is shutting down';
/** Where segment 000000010000000000000031 of one megabyte begins. */
const SEGMENT_31 = 0x3100000n;
const SSL_REQUEST = packet(80_877_103);
const OK = { exitCode: 0, signal: null };

let workspace: Workspace;
let rigs = 0;

beforeAll(async () => {
  workspace = await openWorkspace(await serverUser());
});

afterAll(async () => {
  await workspace.close();
});

function open(byteCount?: number): Promise<ProcessRig> {
  rigs += 1;
  return ProcessRig.open(
    workspace,
    `store-${rigs}`,
    byteCount === undefined ? undefined : playedWal(byteCount),
  );
}

/** Nothing was acknowledged beyond the end, and all up to it was; then no flush position is offered any more. */
function expectLastWord({ statuses, fixture, goodbyes }: PlayedUpstream, endLsn: Lsn): void {
  for (const { write, flush, apply } of statuses) {
    expect(write <= endLsn && flush <= write && apply === 0n).toBe(true);
  }
  expect(statuses.findLast(({ flush }) => flush !== 0n)?.flush).toBe(endLsn);
  expect(statuses.at(-1)?.write).toBe(endLsn);
  expect(fixture.endLsn >= endLsn).toBe(true);
  expect(goodbyes).toBe(1);
}

/** Reads a stream to its end: everything up to `endLsn`, then the end of a server that shuts down. */
async function expectEndOfStream(reader: StreamReader, endLsn: Lsn): Promise<void> {
  expect(await reader.readTo(endLsn)).toBeNull();
  const end = await reader.nextOther();
  expect(end === null ? 'closed' : summary(end)).toBe('C COPY 0');
  expect(await reader.nextOther()).toBeNull();
  expect(reader.endLsn).toBe(endLsn);
}

/** A moment at which SIGTERM comes, by what the upstream does then. */
interface UpstreamMoment {
  readonly name: string;
  /** Leads to it; the rig has not started yet. */
  readonly lead: (rig: ProcessRig) => Promise<void>;
  /** Upper bound of the end; default at once. */
  readonly withinMs?: number;
}

const UPSTREAM_MOMENTS: readonly UpstreamMoment[] = [
  {
    name: 'is connected to, and says nothing',
    lead: async (rig) => {
      rig.upstream.part.silentAt = 'startup';
      await rig.start();
      await rig.until('a connection', () => rig.upstream.accepted > 0);
    },
  },
  {
    name: 'does not say who it is',
    lead: async (rig) => {
      rig.upstream.part.silentAt = 'identify';
      await rig.start();
      await rig.until('a connection', () => rig.upstream.accepted > 0);
    },
  },
  {
    name: 'does not answer START_REPLICATION',
    lead: async (rig) => {
      rig.upstream.part.silentAt = 'start';
      await rig.start();
      await rig.started.process.waitForLog(/the empty store begins here/);
    },
  },
  {
    name: 'never answers CopyDone',
    lead: async (rig) => {
      rig.upstream.part.silentAt = 'copy-done';
      await rig.startStreaming();
    },
    withinMs: 5_000 + AT_ONCE_MS,
  },
  {
    name: 'has ended the timeline and does not say what follows',
    lead: async (rig) => {
      rig.upstream.part.silentAt = 'copy-done';
      await rig.startStreaming();
      rig.upstream.endTimeline();
      await rig.until('its CopyDone', () => !rig.upstream.isStreaming);
    },
  },
  {
    name: 'lacks the WAL that is needed',
    lead: async (rig) => {
      await rig.startStreaming();
      await rig.signal('SIGINT');
      await rig.started.process.ended;
      rig.upstream.part.refuseStart = errorResponse(
        '58P01',
        'requested WAL segment 000000010000000000000003 has already been removed',
      );
      await rig.start();
      await rig.untilState('gap');
    },
  },
  {
    name: 'is another cluster',
    lead: async (rig) => {
      await rig.startStreaming();
      await rig.signal('SIGINT');
      await rig.started.process.ended;
      rig.upstream.server.systemIdentifier = '7300000000000000999';
      await rig.start();
      await rig.untilState('diverged');
    },
  },
  {
    name: 'is away',
    lead: async (rig) => {
      await rig.upstream[Symbol.asyncDispose]();
      await rig.start();
      await rig.untilState('connecting');
    },
  },
];

describe.concurrent('SIGTERM while the upstream', () => {
  it.each(UPSTREAM_MOMENTS)('$name ends the process with 0', async (moment) => {
    await using rig = await open();
    await moment.lead(rig);
    await rig.signal('SIGTERM');
    const { end, ms, wasStuck } = await rig.ended(BOUND_MS);
    expect({ end, wasStuck }, rig.log).toEqual({ end: OK, wasStuck: false });
    expect(ms).toBeLessThan(moment.withinMs ?? AT_ONCE_MS);
    expect(rig.log).not.toMatch(/crashed/);
  });

  const chosen = UPSTREAM_MOMENTS.filter((_, index) => FULL_FAULTS || index % 3 === 0);
  it.each(chosen)('$name, and once more, ends it too', async (moment) => {
    await using rig = await open();
    await moment.lead(rig);
    await rig.signal('SIGTERM');
    await rig.started.process.waitForLog(/"msg":"received SIGTERM"/);
    await rig.signal('SIGTERM');
    const { end, ms, wasStuck } = await rig.ended(BOUND_MS);
    expect({ end, wasStuck }, rig.log).toEqual({ end: OK, wasStuck: false });
    expect(ms).toBeLessThan(AT_ONCE_MS);
    expect(rig.log).not.toMatch(/crashed/);
  });
});

describe.concurrent('SIGTERM with a standby', () => {
  it('that confirms everything ends both at once, and the upstream has the last word of walcast', async () => {
    await using rig = await open();
    await rig.startStreaming();
    const { endLsn } = rig.upstream.fixture;
    const reader = await rig.standby();
    await reader.readTo(endLsn);
    await rig.signal('SIGTERM');
    await rig.started.process.waitForLog(/"msg":"draining"/);
    // What comes now is neither kept nor sent nor acknowledged.
    rig.upstream.sendMore(50_000);
    const late = await RawClient.open(rig.started.port);
    late.send(startup(STANDBY));
    expect(await late.rest()).toEqual([SHUTTING_DOWN]);
    confirm(reader, endLsn);
    await expectEndOfStream(reader, endLsn);
    const { end, ms, wasStuck } = await rig.ended(BOUND_MS);
    expect({ end, wasStuck }, rig.log).toEqual({ end: OK, wasStuck: false });
    expect(ms).toBeLessThan(AT_ONCE_MS);
    expectLastWord(rig.upstream, endLsn);
  });

  it('that has read nothing yet, after a start that has all of it on disk only, serves it to the end first', async () => {
    await using rig = await open(6_000_000);
    await rig.startStreaming();
    await rig.signal('SIGINT');
    await rig.started.process.ended;
    await rig.startStreaming({ drainTimeout: '20s' });
    const { endLsn } = rig.upstream.fixture;
    const reader = await rig.standby();
    reader.client.pause();
    await rig.signal('SIGTERM');
    await rig.started.process.waitForLog(/"msg":"draining"/);
    reader.client.resume();
    expect(await reader.readTo(endLsn)).toBeNull();
    confirm(reader, endLsn);
    await expectEndOfStream(reader, endLsn);
    expect((await rig.ended(BOUND_MS)).end).toEqual(OK);
  });

  it('that reports writes only is done once it has written everything', async () => {
    await using rig = await open();
    await rig.startStreaming({ drainTimeout: '20s' });
    const { endLsn } = rig.upstream.fixture;
    const reader = await rig.standby();
    await reader.readTo(endLsn);
    await rig.signal('SIGTERM');
    await rig.started.process.waitForLog(/"msg":"draining"/);
    reader.client.send(statusUpdate(endLsn, 0n, 0n));
    await expectEndOfStream(reader, endLsn);
    const { end, ms } = await rig.ended(BOUND_MS);
    expect(end).toEqual(OK);
    expect(ms).toBeLessThan(AT_ONCE_MS);
  });

  it('that never confirms waits for drain_timeout, and ends its stream in order', async () => {
    await using rig = await open();
    await rig.startStreaming();
    const { endLsn } = rig.upstream.fixture;
    const reader = await rig.standby();
    await reader.readTo(endLsn);
    await rig.signal('SIGTERM');
    await expectEndOfStream(reader, endLsn);
    // It was asked, too.
    expect(reader.keepalives.some(({ replyRequested }) => replyRequested === 1)).toBe(true);
    const { end, wasStuck } = await rig.ended(BOUND_MS);
    expect({ end, wasStuck }, rig.log).toEqual({ end: OK, wasStuck: false });
    expect(rig.log).toMatch(/drain ends without the confirmation of a standby/);
    expectLastWord(rig.upstream, endLsn);
  });

  it('that reads nothing any more waits for drain_timeout, not for its socket', async () => {
    await using rig = await open(20_000_000);
    await rig.startStreaming();
    const reader = await rig.standby();
    reader.client.pause();
    await rig.signal('SIGTERM');
    const { end, ms, wasStuck } = await rig.ended(BOUND_MS);
    expect({ end, wasStuck }, rig.log).toEqual({ end: OK, wasStuck: false });
    expect(ms).toBeLessThan(DRAIN_TIMEOUT_MS + 2_000 + AT_ONCE_MS);
  });

  it('that never confirms, and SIGTERM once more, ends at once', async () => {
    await using rig = await open();
    await rig.startStreaming({ drainTimeout: '1min' });
    const { endLsn } = rig.upstream.fixture;
    const reader = await rig.standby();
    await reader.readTo(endLsn);
    await rig.signal('SIGTERM');
    await rig.started.process.waitForLog(/"msg":"draining"/);
    // A configuration is not looked at any more; and that is no reason to hurry.
    await rig.signal('SIGHUP');
    await rig.started.process.waitForLog(/walcast is ending/);
    expect(rig.started.process.end).toBeNull();
    await rig.signal('SIGTERM');
    const { end, ms } = await rig.ended(BOUND_MS);
    expect(end, rig.log).toEqual(OK);
    expect(ms).toBeLessThan(AT_ONCE_MS);
    expect(rig.upstream.goodbyes).toBe(0);
    // It was safe: the next start has what was acknowledged.
    await rig.startStreaming();
    expect(rig.log).toMatch(/stored WAL ends here/);
  });

  it('that waits for WAL from beyond our end does not wait for it', async () => {
    await using rig = await open();
    await rig.startStreaming({ drainTimeout: '20s' });
    const reader = await rig.standby(rig.upstream.fixture.endLsn + 100_000n);
    await rig.signal('SIGTERM');
    const end = await reader.nextOther();
    expect(end === null ? 'closed' : summary(end)).toBe('C COPY 0');
    const ended = await rig.ended(BOUND_MS);
    expect(ended.end).toEqual(OK);
    expect(ended.ms).toBeLessThan(AT_ONCE_MS);
  });

  it('in the middle of a base backup breaks it off', async () => {
    await using rig = await open();
    rig.upstream.part.backup = Buffer.concat([
      message('H', 0, i16(0)),
      message('d', 'n', Buffer.alloc(3_000)),
    ]);
    await rig.startStreaming({ drainTimeout: '20s' });
    const client = await rig.client();
    client.send(query('BASE_BACKUP'));
    expect((await client.next())?.type).toBe('H');
    expect((await client.next())?.type).toBe('d');
    await rig.signal('SIGTERM');
    expect(await client.rest()).toEqual([
      'E|FATAL|57P01|terminating connection due to administrator command',
    ]);
    const { end, ms } = await rig.ended(BOUND_MS);
    expect(end).toEqual(OK);
    expect(ms).toBeLessThan(AT_ONCE_MS);
  });

  it('is not held up by clients that come meanwhile and say nothing', async () => {
    await using rig = await open();
    await rig.startStreaming({ drainTimeout: '20s' });
    const { endLsn } = rig.upstream.fixture;
    const early = await RawClient.open(rig.started.port);
    const reader = await rig.standby();
    await reader.readTo(endLsn);
    await rig.signal('SIGTERM');
    await rig.started.process.waitForLog(/"msg":"draining"/);
    const silent = await RawClient.open(rig.started.port);
    confirm(reader, endLsn);
    const { end, ms } = await rig.ended(BOUND_MS);
    expect(end, rig.log).toEqual(OK);
    expect(ms).toBeLessThan(AT_ONCE_MS);
    await Promise.all([early.closed(), silent.closed()]);
  });
});

/** What a standby meets that connects now and says at once who it is. */
async function met(port: number): Promise<string> {
  const client = await RawClient.open(port).catch((error: NodeJS.ErrnoException) => error.code);
  if (!(client instanceof RawClient)) return client ?? 'no code';
  client.send(startup(STANDBY));
  return (await client.rest()).join() || 'cut off';
}

describe.concurrent('a standby that comes back in a drain', () => {
  it('is refused in words while another one is still served, which notices nothing', async () => {
    await using rig = await open();
    await rig.startStreaming({ drainTimeout: '20s' });
    const { endLsn } = rig.upstream.fixture;
    const [first, second] = [await rig.standby(), await rig.standby()];
    await Promise.all([first.readTo(endLsn), second.readTo(endLsn)]);
    await rig.signal('SIGTERM');
    await rig.started.process.waitForLog(/"msg":"draining"/);
    confirm(first, endLsn);
    await expectEndOfStream(first, endLsn);
    for (let round = 0; round < 5; round += 1)
      expect(await met(rig.started.port)).toBe(SHUTTING_DOWN);
    confirm(second, endLsn);
    await expectEndOfStream(second, endLsn);
    expect((await rig.ended(BOUND_MS)).end, rig.log).toEqual(OK);
  });

  it('after the last stream finds nobody who listens, however long the upstream takes', async () => {
    await using rig = await open();
    rig.upstream.part.silentAt = 'copy-done';
    await rig.startStreaming({ drainTimeout: '20s' });
    const { endLsn } = rig.upstream.fixture;
    const reader = await rig.standby();
    await reader.readTo(endLsn);
    await rig.signal('SIGTERM');
    confirm(reader, endLsn);
    await expectEndOfStream(reader, endLsn);
    // The process has heard of the end, too, once it has answered others.
    for (let round = 0; round < 3; round += 1) expect(await rig.state()).toBe('draining');
    expect(await met(rig.started.port)).toBe('ECONNREFUSED');
    expect(rig.started.process.end, 'the upstream is still waited for').toBeNull();
    expect((await rig.ended(BOUND_MS)).end, rig.log).toEqual(OK);
  });

  it.each([
    ['before it began', true],
    ['while it lasted', false],
  ])('and connected %s is heard out when the streams have ended', async (_, isEarly) => {
    await using rig = await open();
    await rig.startStreaming({ drainTimeout: '20s' });
    const { endLsn } = rig.upstream.fixture;
    const reader = await rig.standby();
    await reader.readTo(endLsn);
    const early = isEarly ? await askingForTls(rig.started.port) : null;
    await rig.signal('SIGTERM');
    await rig.started.process.waitForLog(/"msg":"draining"/);
    const client = early ?? (await askingForTls(rig.started.port));
    confirm(reader, endLsn);
    await expectEndOfStream(reader, endLsn);
    await rig.until('the last word to the upstream', () => rig.upstream.goodbyes === 1);
    client.send(startup(STANDBY));
    expect(await client.rest()).toEqual([SHUTTING_DOWN]);
    expect((await rig.ended(BOUND_MS)).end, rig.log).toEqual(OK);
  });
});

/** In the middle of what comes before the startup packet. */
async function askingForTls(port: number): Promise<RawClient> {
  const client = await RawClient.open(port);
  client.send(SSL_REQUEST);
  expect(String(await client.bytes(1))).toBe('N');
  return client;
}

requires('strace').describe.concurrent('SIGTERM while the disk hangs', () => {
  const asked = [
    ['SIGTERM', ['SIGTERM'], BOUND_MS],
    ['SIGTERM and then SIGTERM', ['SIGTERM', 'SIGTERM'], 2 * AT_ONCE_MS],
    ['SIGINT', ['SIGINT'], 2 * AT_ONCE_MS],
  ] as const;
  it.each(FULL_FAULTS ? asked : asked.slice(0, 1))(
    'serves everybody what is in memory, and kills itself (%s)',
    async (_, signals, withinMs) => {
      await using rig = await open(1_000_000);
      await rig.startStreaming();
      await rig.signal('SIGINT');
      await rig.started.process.ended;
      // Flushes of the next segment hang for longer than walcast takes to give up.
      const path = join(rig.directory, 'pg_wal', '000000010000000000000031');
      await rig.start({
        wrapper: injected({ calls: 'fdatasync', what: 'delay_enter=12000000', path }),
      });
      await rig.until('a stream', () => rig.upstream.isStreaming);
      const reader = await rig.standby(rig.upstream.fixture.endLsn);
      rig.upstream.sendMore(200_000);
      const { endLsn } = rig.upstream.fixture;
      await reader.readTo(endLsn);
      confirm(reader, endLsn);
      const startMs = systemClock.nowMs();
      for (const signal of signals) {
        await rig.signal(signal);
        await rig.started.process.waitForLog(new RegExp(`received ${signal}`));
      }
      if (signals.length === 1 && signals[0] === 'SIGTERM') await expectEndOfStream(reader, endLsn);
      await rig.started.process.waitForLog(/walcast kills itself/);
      expect(systemClock.nowMs() - startMs).toBeLessThan(withinMs);
      // strace sits out its own delay.
      const { end, wasStuck } = await rig.ended(30_000);
      expect({ end, wasStuck }, rig.log).toEqual({
        end: { exitCode: null, signal: 'SIGKILL' },
        wasStuck: false,
      });
      // What was not on the disk was not acknowledged, to the last.
      for (const { flush } of rig.upstream.statuses) expect(flush <= SEGMENT_31).toBe(true);
      await rig.startStreaming();
    },
  );
});

describe('SIGTERM while there is no space for WAL', () => {
  it('serves everybody what is in memory, and ends with 0', async (context) => {
    await using rig = await open();
    await workspace.makeDirectory(basename(rig.directory));
    needs(context, await mountTmpfs(workspace, rig.directory, 'size=3m,mode=0700'));
    await rig.startStreaming();
    const reader = await rig.standby();
    rig.upstream.sendMore(4_000_000);
    await rig.started.process.waitForLog(/no space for WAL/);
    await rig.signal('SIGTERM');
    const line = await rig.started.process.waitForLog(/"msg":"draining"/);
    // How much is in memory depends on which of upstream and disk was faster; more than the disk has.
    const endLsn = parseLsn(/"end_lsn":"([^"]+)"/.exec(line)?.[1] ?? '') ?? INVALID_LSN;
    await reader.readTo(endLsn);
    confirm(reader, endLsn);
    await expectEndOfStream(reader, endLsn);
    const { end, ms, wasStuck } = await rig.ended(BOUND_MS);
    expect({ end, wasStuck }, rig.log).toEqual({ end: OK, wasStuck: false });
    expect(ms).toBeLessThan(2 * AT_ONCE_MS);
    for (const { flush } of rig.upstream.statuses) expect(flush < endLsn).toBe(true);
  });
});
