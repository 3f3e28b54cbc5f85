// One primary, a recorder before it, one store and a standby behind it: for tests that break the disk under walcast again
// and again and look, after each time, at what it had said and at what is there.
import { join } from 'node:path';
import { expect } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { createPrimary, createStandby } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { pollUntil, signalProcess } from '../../src/demo/postgres-process.ts';
import type { SqlSession } from '../../src/demo/sql-session.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { INVALID_LSN, maxLsn, parseLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { toSegmentSize } from '../../src/pg/segment.ts';
import { compareWal } from '../harness/compare-wal.ts';
import { freePort } from '../harness/free-port.ts';
import { streamsOf } from '../harness/ledger.ts';
import { openRecorder } from '../harness/recorder.ts';
import type { Recorder } from '../harness/recorder.ts';
import { NEWEST_MAJOR } from '../support/requirements.ts';
import {
  attempt,
  complaints,
  logLines,
  programPid,
  waitForFlushed,
  waitForState,
} from './fault-support.ts';
import type { Attempt, AttemptOptions } from './fault-support.ts';

const SEGMENT = toSegmentSize(1 << 20);

const PATIENCE_MS = 60_000;

/** Commits of different sizes, about a segment of WAL in all. */
const BURST = `DO $$ BEGIN
  FOR i IN 1..24 LOOP
    PERFORM pg_logical_emit_message(true, 'burst', repeat('y', 2000 * (i % 24) + 40));
    INSERT INTO burst VALUES (i);
    COMMIT;
  END LOOP;
END $$`;

/** What strace does to the process. Counters are those of each thread. */
export interface Injection {
  /** System calls, comma separated. */
  readonly calls: string;
  /** For example `error=EIO:when=3`. */
  readonly what: string;
  /** Only calls on this file or directory. */
  readonly path?: string;
}

/** The wrapper that runs walcast under strace with faults. */
export function injected({ calls, what, path }: Injection): string[] {
  // With the filter strace delivers no signals.
  const filter = what.startsWith('signal=') ? [] : ['--seccomp-bpf'];
  const fault = ['-e', `trace=${calls}`, '-e', `inject=${calls}:${what}`];
  const where = path === undefined ? [] : ['-P', path];
  return ['strace', '-f', '-qq', '-o', '/dev/null', ...filter, ...fault, ...where];
}

/** The parts, and what every round does with them. */
export class DiskRig {
  readonly workspace: Workspace;
  readonly primary: PostgresCluster;
  readonly recorder: Recorder;
  readonly #port: number;
  readonly #writer: SqlSession;
  #standby: PostgresCluster | null = null;
  #started: Attempt | null = null;
  #firstStream = 0;

  private constructor(parts: {
    workspace: Workspace;
    primary: PostgresCluster;
    recorder: Recorder;
    port: number;
    writer: SqlSession;
  }) {
    this.workspace = parts.workspace;
    this.primary = parts.primary;
    this.recorder = parts.recorder;
    this.#port = parts.port;
    this.#writer = parts.writer;
  }

  static async open(): Promise<DiskRig> {
    const workspace = await openWorkspace(await serverUser());
    const primary = await createPrimary(workspace, {
      major: NEWEST_MAJOR,
      name: 'primary',
      segmentSizeMb: 1,
      // What the store holds is compared with the primary's own files.
      settings: { wal_keep_size: '4GB', max_wal_size: '2GB', min_wal_size: '32MB' },
    });
    await primary.start();
    await primary.query('CREATE TABLE burst (i int)');
    const recorder = await openRecorder({ name: 'upstream', target: () => primary.target() });
    const writer = await primary.session();
    return new DiskRig({ workspace, primary, recorder, port: await freePort(), writer });
  }

  async close(): Promise<void> {
    this.#writer.close();
    await this.workspace.close();
    await this.recorder.close();
  }

  /** Starts walcast on `directory`, through the recorder, always on the same port. */
  async start(directory: string, more: Partial<AttemptOptions> = {}): Promise<Attempt> {
    const slot = { slot: 'walcast' };
    const upstreamPort = this.recorder.port;
    this.#started = await attempt(this.workspace, {
      directory,
      upstreamPort,
      port: this.#port,
      ...slot,
      ...more,
    });
    return this.#started;
  }

  /** Ends what was started last, if it runs still: the next one needs its port. */
  async stop(): Promise<void> {
    const process = this.#started?.process;
    if (process === undefined || process.end !== null) return;
    // Behind a wrapper it is another process.
    signalProcess(await programPid(process), 'SIGKILL');
    await process.ended;
  }

  /** A standby from a backup through walcast, which must be streaming; it follows walcast's port from then on. */
  async followWithStandby(): Promise<void> {
    const upstream = this.primary.target({ port: this.#port });
    this.#standby = await createStandby(this.workspace, {
      major: NEWEST_MAJOR,
      name: 'standby',
      backupFrom: upstream,
      upstream,
      settings: { wal_retrieve_retry_interval: '200ms' },
    });
    await this.#standby.start();
  }

  /** Its walreceiver reads and says nothing from now on. */
  async stopStandby(): Promise<void> {
    const sql =
      "SELECT coalesce(max(pid), 0) FROM pg_stat_activity WHERE backend_type = 'walreceiver'";
    const pid = await pollUntil(
      'a walreceiver',
      async () => Number(await this.#standby?.value(sql)) || null,
      { timeoutMs: PATIENCE_MS },
    );
    signalProcess(pid, 'SIGSTOP');
  }

  /** A few commits on the primary. */
  async burst(): Promise<void> {
    await this.#writer.query(BURST).catch((error: unknown) => {
      const log = this.primary.log.tail(15);
      throw new Error(`the primary takes no writes: ${String(error)}\n${log}`, { cause: error });
    });
  }

  /** Writes until `walcast` has said something, or has ended. */
  async burstUntilLog({ process }: Attempt, pattern: RegExp): Promise<void> {
    const deadline = systemClock.nowMs() + PATIENCE_MS;
    while (!process.log.some((line) => pattern.test(line))) {
      if (process.end !== null || systemClock.nowMs() > deadline) {
        throw new Error(`no ${String(pattern)}; log: ${process.log.slice(-5).join('\n')}`);
      }
      await this.burst();
    }
  }

  /** Writes until `walcast` has ended by itself, and says how. */
  async burstUntilEnd({ process }: Attempt): Promise<void> {
    const deadline = systemClock.nowMs() + PATIENCE_MS;
    let hasStreamed = false;
    while (process.end === null && systemClock.nowMs() < deadline) {
      hasStreamed ||= process.log.some((line) => line.includes('upstream: streaming'));
      if (hasStreamed) await this.burst();
      await new Promise<void>((resolve) => systemClock.setTimer(10, resolve));
    }
    if (process.end !== null) return;
    await this.stop();
    throw new Error(`walcast has not ended; log: ${process.log.slice(-5).join('\n')}`);
  }

  /** The store that comes next begins empty: what others acknowledged is none of its business. */
  beginStore(): void {
    this.#firstStream = streamsOf(this.recorder.ledger).length;
  }

  /** The highest flush position that the upstream was told of this store, on streams before `endStream`. */
  acknowledgedLsn(endStream?: number): Lsn {
    return streamsOf(this.recorder.ledger)
      .slice(this.#firstStream, endStream)
      .flatMap(({ replies }) => replies)
      .reduce<Lsn>((highest, { flushLsn }) => maxLsn(highest, flushLsn), INVALID_LSN);
  }

  /** Replies that the upstream has heard so far. */
  replyCount(): number {
    return streamsOf(this.recorder.ledger).reduce((sum, { replies }) => sum + replies.length, 0);
  }

  /** Starts walcast once more without faults: what it had acknowledged must be there, bytes and all. */
  async checkRestart(directory: string): Promise<void> {
    const streams = streamsOf(this.recorder.ledger).length;
    const started = await this.start(directory);
    await waitForState(started, 'streaming');
    // Now: the last reply of a process that has ended may have been on its way until then.
    const acknowledged = this.acknowledgedLsn(streams);
    expect(foundEnd(started) ?? acknowledged).toBeGreaterThanOrEqual(acknowledged);
    await this.checkContent(started, directory);
    expect(await started.process.stop('SIGTERM')).toEqual({ exitCode: 0, signal: null });
  }

  /** Waits until a running walcast has everything, and compares it with the primary; the standby has to follow. */
  async checkContent(started: Attempt, directory: string): Promise<void> {
    await this.burst();
    const untilLsn = await this.primary.walPosition();
    await waitForFlushed(started, untilLsn);
    await this.#standby?.waitForReplay(untilLsn);
    const compared = await compareWal({
      expected: this.primary.walDirectory,
      actual: join(directory, 'pg_wal'),
      segmentSize: SEGMENT,
      untilLsn,
    });
    expect(compared.differences).toEqual([]);
    expect(compared.comparedBytes).toBeGreaterThan(100_000);
  }
}

/** Where the stored WAL ended at the start; null when the store was empty. */
export function foundEnd({ process }: Attempt): Lsn | null {
  const line = logLines(process).find(({ msg }) => msg === 'stored WAL ends here');
  return line === undefined ? null : parseLsn(String(line.fields['lsn']));
}

/** What a person is told at the end, and that it was no crash. */
export function lastWord({ process }: Attempt): string {
  expect(process.log.join('\n')).not.toMatch(/crashed/);
  return complaints(process).at(-1)?.msg ?? '';
}
