// The demonstration from its first line to its last: start, watch, stop the writer, check that every standby has
// replayed everything and holds the primary's rows, clear away.
import { systemClock } from '../base/clock.ts';
import { OperationalError, errorText } from '../base/errors.ts';
import { INVALID_LSN, formatLsn, parseLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import { DEMO_TABLE, startDemoPrimary, startDemoRelay, startDemoStandby } from './demo-cluster.ts';
import type { DemoRelay } from './demo-cluster.ts';
import { DemoScreen } from './demo-screen.ts';
import type { DemoPicture, StandbyRow, TextOutput } from './demo-screen.ts';
import { DemoWriter } from './demo-writer.ts';
import type { PostgresCluster } from './postgres-cluster.ts';
import { serverUser } from './postgres-user.ts';
import { openWorkspace } from './postgres-workspace.ts';
import type { Workspace } from './postgres-workspace.ts';

/** What was asked for. */
export interface DemoOptions {
  readonly standbys: number;
  readonly major: number;
  /** How long to run once everything streams; null until `signal`. */
  readonly seconds: number | null;
  readonly json: boolean;
  readonly output: TextOutput;
  /** Ends the demonstration early, in order. */
  readonly signal: AbortSignal;
}

/** One standby at the end. LSNs as text. */
export interface DemoStandbyResult extends StandbyRow {
  readonly rows_match: boolean;
}

/** The outcome; printed as it is with --json. */
export interface DemoResult {
  readonly ok: boolean;
  readonly postgres: number;
  readonly primary_lsn: string | null;
  readonly commits: number;
  readonly rows: number;
  readonly status_url: string | null;
  readonly standbys: readonly DemoStandbyResult[];
  readonly error: string | null;
}

/** Everything that runs. */
interface DemoStage {
  readonly primary: PostgresCluster;
  readonly relay: DemoRelay;
  readonly standbys: readonly PostgresCluster[];
  readonly writer: DemoWriter;
}

const REDRAW_MS = 1_000;
const REPLAY_TIMEOUT_MS = 60_000;
const STREAMING_TIMEOUT_MS = 30_000;
// Longer than a standby's wal_receiver_status_interval.
const REPORT_TIMEOUT_MS = 15_000;
const DIGEST = `SELECT count(*) || ' ' || coalesce(md5(string_agg(id || ':' || at || ':' || note, ',' ORDER BY id)), '') FROM ${DEMO_TABLE}`;

/** Runs the demonstration. Resolves with its outcome; what cannot even start is an outcome with `ok: false`. */
export async function runDemo(options: DemoOptions): Promise<DemoResult> {
  const screen = new DemoScreen(options.output, { isQuiet: options.json });
  await using workspace = await openWorkspace(await serverUser());
  try {
    const stage = await setTheStage(workspace, options, screen);
    if (stage === null) return emptyResult(options, 'stopped before everything had started');
    tellHowToLook(stage, screen);
    const failure = await watch(stage, options, screen);
    const result = await checkEverything(stage, options, failure);
    screen.final(await takePicture(stage));
    screen.say(verdict(result));
    return result;
  } catch (error) {
    const hint =
      error instanceof OperationalError && error.hint !== undefined ? ` ${error.hint}` : '';
    screen.say(`demo failed: ${errorText(error)}${hint}`);
    return emptyResult(options, `${errorText(error)}${hint}`);
  } finally {
    screen.progress('stopping everything');
  }
}

async function setTheStage(
  workspace: Workspace,
  options: DemoOptions,
  screen: DemoScreen,
): Promise<DemoStage | null> {
  const { major, signal } = options;
  screen.progress(`PostgreSQL ${major}: initdb and start of the primary`);
  const primary = await startDemoPrimary(workspace, major);
  screen.say(
    `primary    PostgreSQL ${await primary.value('SHOW server_version')} on port ${primary.port}`,
  );
  if (signal.aborted) return null;
  screen.progress('walcast: starting');
  const relay = await startDemoRelay(workspace, primary);
  screen.say(`walcast    port ${relay.target.port}, status page ${relay.url}/`);
  const writer = new DemoWriter();
  writer.start(primary);
  const standbys: PostgresCluster[] = [];
  for (let number = 1; number <= options.standbys; number += 1) {
    if (signal.aborted) return null;
    const name = `standby${number}`;
    const progress = (text: string): void => screen.progress(text);
    standbys.push(await startDemoStandby(workspace, relay, { name, major, progress }));
    screen.say(`${name}   seeded through walcast, on port ${standbys.at(-1)?.port ?? 0}`);
  }
  await waitForStreaming(relay, standbys, screen);
  return { primary, relay, standbys, writer };
}

async function waitForStreaming(
  relay: DemoRelay,
  standbys: readonly PostgresCluster[],
  screen: DemoScreen,
): Promise<void> {
  const deadline = systemClock.nowMs() + STREAMING_TIMEOUT_MS;
  for (;;) {
    const rows = await standbyRows(relay);
    const streaming = rows.filter((row) => row.state === 'streaming').length;
    if (streaming >= standbys.length) return;
    if (systemClock.nowMs() > deadline) {
      throw new OperationalError(
        'DEMO',
        `only ${streaming} of ${standbys.length} standbys stream after ${STREAMING_TIMEOUT_MS / 1000} s`,
      );
    }
    screen.progress(`standbys catching up: ${streaming} of ${standbys.length} stream`);
    await pause(100, null);
  }
}

function tellHowToLook(stage: DemoStage, screen: DemoScreen): void {
  const query = `SELECT count(*), max(at) FROM ${DEMO_TABLE}`;
  screen.say('');
  for (const server of [stage.primary, ...stage.standbys]) {
    screen.say(
      `  psql -h 127.0.0.1 -p ${server.port} -U postgres -c '${query}'   # ${server.name}`,
    );
  }
  screen.say(
    `  PGPASSWORD=${stage.relay.target.password} psql -h 127.0.0.1 -p ${stage.relay.target.port} -U postgres -d walcast -x -c 'SELECT * FROM pg_stat_replication'   # walcast`,
  );
  screen.say('');
}

/** Draws until time is up or somebody stops us. Returns what went wrong on the way, or null. */
async function watch(
  stage: DemoStage,
  options: DemoOptions,
  screen: DemoScreen,
): Promise<string | null> {
  const startedAtMs = systemClock.nowMs();
  const endAtMs =
    options.seconds === null ? Number.POSITIVE_INFINITY : startedAtMs + options.seconds * 1000;
  for (;;) {
    const nowMs = systemClock.nowMs();
    if (options.signal.aborted || nowMs >= endAtMs) break;
    if (stage.relay.process.end !== null) return 'walcast ended while the demonstration ran';
    screen.draw(await takePicture(stage), nowMs);
    await pause(Math.min(REDRAW_MS, endAtMs - nowMs), options.signal);
  }
  return null;
}

async function checkEverything(
  stage: DemoStage,
  options: DemoOptions,
  failure: string | null,
): Promise<DemoResult> {
  const writerError = await stage.writer.stop().then(
    () => null,
    (error: unknown) => `the writer failed: ${errorText(error)}`,
  );
  const digest = await stage.primary.value(DIGEST);
  // Reading sets hint bits, which are logged too; a last commit makes all of that flushed before the end is taken.
  await stage.primary.query(
    "SELECT pg_logical_emit_message(true, 'walcast', 'end of the demonstration')",
  );
  const endLsn = await stage.primary.walPosition();
  const replayErrors = await Promise.all(
    stage.standbys.map((standby) =>
      standby.waitForReplay(endLsn, REPLAY_TIMEOUT_MS).then(
        () => null,
        (error: unknown) => errorText(error),
      ),
    ),
  );
  const digests = await Promise.all(stage.standbys.map((standby) => standby.value(DIGEST)));
  const rows = await rowsOnceReported(stage, endLsn);
  const standbys = stage.standbys.map((standby, index) => ({
    ...rowOf(rows, standby.name),
    rows_match: digests[index] === digest,
  }));
  const error = failure ?? writerError ?? replayErrors.find((text) => text !== null) ?? null;
  return {
    ok: error === null && standbys.every((standby) => standby.rows_match),
    postgres: options.major,
    primary_lsn: formatLsn(endLsn),
    commits: stage.writer.commits,
    rows: Number(digest.split(' ')[0]),
    status_url: `${stage.relay.url}/api/v1/status`,
    standbys,
    error,
  };
}

/** The standbys as walcast shows them, once their replies have arrived: they trail the replay by a moment. */
async function rowsOnceReported(stage: DemoStage, endLsn: Lsn): Promise<readonly StandbyRow[]> {
  const deadline = systemClock.nowMs() + REPORT_TIMEOUT_MS;
  for (;;) {
    const rows = await standbyRows(stage.relay);
    const isReported = (row: StandbyRow): boolean =>
      (parseLsn(row.replay_lsn ?? '') ?? INVALID_LSN) >= endLsn;
    if (rows.every(isReported) || systemClock.nowMs() > deadline) return rows;
    await pause(50, null);
  }
}

function verdict(result: DemoResult): string {
  if (result.ok) {
    return (
      `ok: ${result.standbys.length} standbys have replayed everything up to ${result.primary_lsn ?? '-'} ` +
      `and hold the same ${result.rows} rows`
    );
  }
  return `NOT ok: ${result.error ?? 'the rows of the primary and a standby differ'}`;
}

async function takePicture(stage: DemoStage): Promise<DemoPicture> {
  const [status, primaryLsn] = await Promise.all([
    readStatus(stage.relay),
    stage.primary.walPosition(),
  ]);
  return {
    state: status.state,
    primaryLsn: formatLsn(primaryLsn),
    storedLsn: status.store.flushed_lsn,
    commits: stage.writer.commits,
    standbys: status.standbys,
  };
}

async function standbyRows(relay: DemoRelay): Promise<readonly StandbyRow[]> {
  return (await readStatus(relay)).standbys;
}

interface StatusAnswer {
  readonly state: string;
  readonly store: { readonly flushed_lsn: string | null };
  readonly standbys: readonly StandbyRow[];
}

async function readStatus(relay: DemoRelay): Promise<StatusAnswer> {
  const response = await fetch(`${relay.url}/api/v1/status`);
  if (response.status !== 200) {
    throw new OperationalError('DEMO', `GET /api/v1/status answered ${response.status}`);
  }
  return (await response.json()) as StatusAnswer;
}

function rowOf(rows: readonly StandbyRow[], name: string): StandbyRow {
  return (
    rows.find((row) => row.application_name === name) ?? {
      application_name: name,
      state: 'disconnected',
      sync_state: null,
      sent_lsn: null,
      flush_lsn: null,
      replay_lsn: null,
      lag_bytes: null,
      replay_lag: null,
    }
  );
}

function emptyResult(options: DemoOptions, error: string): DemoResult {
  return {
    ok: false,
    postgres: options.major,
    primary_lsn: null,
    commits: 0,
    rows: 0,
    status_url: null,
    standbys: [],
    error,
  };
}

/** Waits, or returns at once when `signal` fires. */
function pause(ms: number, signal: AbortSignal | null): Promise<void> {
  return new Promise((resolve) => {
    const finish = (): void => {
      timer.cancel();
      signal?.removeEventListener('abort', finish);
      resolve();
    };
    const timer = systemClock.setTimer(ms, finish);
    signal?.addEventListener('abort', finish, { once: true });
    if (signal?.aborted === true) finish();
  });
}
