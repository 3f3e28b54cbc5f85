// Is every flush position that walcast reports on the disk before it is reported? (I1) Its system calls tell: no position
// may leave for the upstream before the fdatasync that covers it has come back, nor before the name of its file is safe.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { createPrimary } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { signalProcess } from '../../src/demo/postgres-process.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { INVALID_LSN } from '../../src/pg/lsn.ts';
import { toSegmentSize } from '../../src/pg/segment.ts';
import { streamsOf } from '../harness/ledger.ts';
import { openRecorder } from '../harness/recorder.ts';
import type { Recorder } from '../harness/recorder.ts';
import { startWriteLoad } from '../harness/write-load.ts';
import { NEWEST_MAJOR, requires } from '../support/requirements.ts';
import {
  attempt,
  complaints,
  programPid,
  told,
  waitForFlushed,
  waitForState,
} from './fault-support.ts';
import type { Attempt } from './fault-support.ts';
import { prematureReports, readTraces, straceCommand } from './io-trace.ts';
import type { TracedStore } from './io-trace.ts';

const SEGMENT = toSegmentSize(16 << 20);

requires('strace', `postgres-${NEWEST_MAJOR}`).describe('what walcast reports as flushed', () => {
  let workspace: Workspace;
  let primary: PostgresCluster;
  let recorder: Recorder;
  const traces: string[] = [];
  let store: TracedStore;

  beforeAll(async () => {
    workspace = await openWorkspace(await serverUser());
    primary = await createPrimary(workspace, { major: NEWEST_MAJOR, name: 'primary' });
    await primary.start();
    recorder = await openRecorder({ name: 'upstream', target: () => primary.target() });
    for (const signal of ['SIGKILL', 'SIGKILL', 'SIGTERM'] as const) await run(signal);
    const beginLsn = streamsOf(recorder.ledger)[0]?.startLsn ?? INVALID_LSN;
    store = { traces, segmentSize: SEGMENT, beginLsn };
  });

  afterAll(async () => {
    await workspace.close();
    await recorder.close();
  });

  /** One process under strace, with commits small and large, ended by `signal` in the middle of it or in order. */
  async function run(signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    const file = join(workspace.directory, `trace-${traces.length}`);
    const started = await attempt(workspace, {
      directory: join(workspace.directory, 'store'),
      upstreamPort: recorder.port,
      wrapper: straceCommand(file),
    });
    const pid = await programPid(started.process);
    await waitForState(started, 'streaming');
    const load = await startWriteLoad(primary);
    await load.waitForCommits(60);
    await primary.query(
      "SELECT pg_logical_emit_message(false, 'x', repeat('y', 1000000)) FROM generate_series(1, 20)",
    );
    await load.waitForCommits(30);
    if (signal === 'SIGTERM') {
      await load.stop();
      await waitForFlushed(started, await primary.walPosition());
    }
    await end(started, pid, signal);
    await load.stop();
    traces.push(await readFile(file, 'utf8'));
  }

  async function end(started: Attempt, pid: number, signal: NodeJS.Signals): Promise<void> {
    signalProcess(pid, signal);
    await started.process.ended;
    expect(complaints(started.process)).toEqual([]);
  }

  it('is on the disk, with the names of its files, before it is reported', () => {
    const findings = readTraces(store);
    expect(findings.segmentsNamed).toBeGreaterThan(3);
    expect(findings.flushes).toBeGreaterThan(100);
    expect(findings.reports.length).toBeGreaterThan(100);
    expect(prematureReports(findings)).toEqual([]);
  });

  it('is all that the upstream heard', () => {
    const traced = readTraces(store).reports.map(({ flushLsn }) => flushLsn);
    const heard = streamsOf(recorder.ledger).flatMap(({ replies }) => replies);
    // What a killed process had just sent may have got lost on the way.
    let at = 0;
    const unknown = heard.filter(({ flushLsn }) => {
      const found = traced.indexOf(flushLsn, at);
      if (found >= 0) at = found;
      return found < 0;
    });
    expect(unknown).toEqual([]);
    expect(heard.length).toBeGreaterThan(100);
    expect(traced.length - heard.length).toBeLessThanOrEqual(2);
    expect(traced.length).toBeGreaterThanOrEqual(heard.length);
  });

  it('would be found too early if a flush of data or of the directory were missing', () => {
    const data = readTraces(store, ({ name }) => name === 'fdatasync');
    expect(prematureReports(data).length).toBeGreaterThan(50);
    const names = readTraces(
      store,
      ({ name, path }) => name === 'fsync' && path.endsWith('pg_wal'),
    );
    expect(prematureReports(names).length).toBeGreaterThan(50);
  });

  it.each([
    // From the n-th call on: a call for page sums, which may fail, can be one of them.
    ['the flush of WAL', 'fdatasync', '15+', /fsync failed.*EIO/],
    ['a write of WAL', 'pwrite64', '60+', /(write|open) failed.*EIO/],
    ['the first save of the control file', 'fsync', '1', /walcast\.control|control file.*EIO/],
  ] as const)('ends with the process once %s fails', async (what, call, when, says) => {
    const name = what.replaceAll(' ', '-');
    const file = join(workspace.directory, name);
    const directory = join(workspace.directory, `store-${name}`);
    const onlyControl = call === 'fsync' ? ['-P', join(directory, 'walcast.control.tmp')] : [];
    const before = streamsOf(recorder.ledger).length;
    const started = await attempt(workspace, {
      directory,
      upstreamPort: recorder.port,
      slot: '',
      wrapper: [
        ...straceCommand(file),
        '-e',
        `inject=${call}:error=EIO:when=${when}`,
        ...onlyControl,
      ],
    });
    const load = await startWriteLoad(primary);
    await started.process.waitForLog(says);
    const failedAtMs = systemClock.nowMs();
    expect(await started.process.ended).toEqual({ exitCode: 1, signal: null });
    expect(systemClock.nowMs() - failedAtMs).toBeLessThan(2_000);
    await load.stop();
    expect(told(complaints(started.process).at(-1))).toMatch(/^walcast ends: .* disk/);
    expect(started.process.log.join('\n')).not.toMatch(/crashed/);
    const [stream] = streamsOf(recorder.ledger).slice(before);
    if (call === 'fsync') {
      expect(stream).toBeUndefined();
      return;
    }
    const traced = {
      traces: [await readFile(file, 'utf8')],
      segmentSize: SEGMENT,
      beginLsn: stream?.startLsn ?? INVALID_LSN,
    };
    const findings = readTraces(traced);
    expect(findings.reports.length).toBeGreaterThan(3);
    expect(prematureReports(findings)).toEqual([]);
  });
});
