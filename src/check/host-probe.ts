// What does one host of the upstream's list say? Name, connection, login as a walreceiver, identity, settings, and a plain
// SQL session where the server lets us have one. Nothing is created or changed there. What it means is for others to say.
import type { Clock, Timer } from '../base/clock.ts';
import { InvariantError, OperationalError, WalcastError } from '../base/errors.ts';
import { silentLog } from '../base/log.ts';
import { UPSTREAM_READ_BUFFER_BYTES } from '../config/limits.ts';
import { formatTarget } from '../net/dial.ts';
import type { Dial } from '../net/dial.ts';
import { lookUpName } from '../net/name-lookup.ts';
import { majorOfServerVersion } from '../pg/server-version.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import type { UpstreamIdentity } from '../walreceiver/ports.ts';
import type { CommandRunner } from '../walreceiver/upstream-command.ts';
import { UpstreamConnection } from '../walreceiver/upstream-connection.ts';
import { identifyUpstream } from '../walreceiver/upstream-identify.ts';
import { valueText } from '../walreceiver/upstream-query.ts';
import type { UpstreamHost, UpstreamTarget } from '../walreceiver/upstream-target.ts';
import { askSqlFacts, checkName, READ_LIMITS } from './sql-facts.ts';
import type { SqlFacts } from './sql-facts.ts';

/** What is asked of a host. */
export interface ProbeOptions {
  readonly target: UpstreamTarget;
  readonly host: UpstreamHost;
  readonly applicationName: string;
  /** Our slot; null for none. */
  readonly slot: string | null;
  /** Database of the SQL session. */
  readonly database: string;
  /** For everything on this host together. */
  readonly timeoutMs: number;
  readonly clock: Clock;
  readonly dial: Dial;
}

/** What a host said, as far as the probe came. */
export interface HostProbe {
  readonly host: UpstreamHost;
  /** `host:port`, or the path of the socket. */
  readonly subject: string;
  readonly user: string;
  /** What the host was given for everything together. */
  readonly timeoutMs: number;
  /** Why the walreceiver's session failed, on the way in or later; null when it did not. */
  readonly failure: WalcastError | null;
  /** The failure is mended by `sslmode=require`: this was tried. */
  readonly isMendedByTls: boolean;
  /** `TLSv1.3`; null without TLS, or without a session. */
  readonly tlsVersion: string | null;
  /** Expiry of our client certificate, milliseconds since the Unix epoch; null when we have none. */
  readonly clientCertificateExpiresAtMs: number | null;
  /** Null when the session ended before. */
  readonly identity: UpstreamIdentity | null;
  /** SHOW of {@link settingsOf}, from whichever session could be had; a major that does not know one leaves it out. */
  readonly settings: ReadonlyMap<string, string>;
  /** Null when there is no SQL session; `sqlProblem` then says why, if it was tried. */
  readonly sql: SqlFacts | null;
  readonly sqlProblem: WalcastError | null;
  /** Our slot as READ_REPLICATION_SLOT tells it; null when there is none or the major has no such command. */
  readonly slotType: string | null;
}

const ASKED_SETTINGS: readonly string[] = [
  'wal_level',
  'max_wal_senders',
  'max_replication_slots',
  'wal_keep_size',
  'max_slot_wal_keep_size',
  'wal_sender_timeout',
  'synchronous_standby_names',
  'synchronous_commit',
];

/** Settings that a check looks at, as far as a server with this server_version has them. */
export function settingsOf(serverVersion: string | undefined): readonly string[] {
  const major = majorOfServerVersion(serverVersion ?? '') ?? 0;
  return major < 18 ? ASKED_SETTINGS : [...ASKED_SETTINGS, 'idle_replication_slot_timeout'];
}

/** Errors that any further session would meet again. */
const HOPELESS: ReadonlySet<string> = new Set([
  'NAME_UNKNOWN',
  'CONNECT_FAILED',
  'CONNECT_TIMEOUT',
  'UPSTREAM_TIMEOUT',
  SQLSTATE.invalidPassword,
  SQLSTATE.cannotConnectNow,
  'PASSWORD_MISSING',
]);

/** Asks one host. Never rejects for what the host does or does not do. */
export async function probeHost(options: ProbeOptions): Promise<HostProbe> {
  const { clock, timeoutMs } = options;
  const endsAtMs = clock.nowMs() + timeoutMs;
  const leftMs = (): number => Math.max(1, endsAtMs - clock.nowMs());
  const session = await askReplication(options, leftMs);
  const isHopeless = session.failure !== null && isPointless(session.failure);
  const sql = isHopeless ? null : await askSql(options, leftMs);
  return {
    host: options.host,
    subject: formatTarget({ host: options.host.host, port: options.host.port }),
    user: options.target.user,
    timeoutMs,
    failure: session.failure,
    isMendedByTls: session.failure === null ? false : await isMendedByTls(options, session, leftMs),
    tlsVersion: session.tlsVersion,
    clientCertificateExpiresAtMs: session.clientCertificateExpiresAtMs,
    identity: session.identity,
    settings: session.settings.size > 0 ? session.settings : (sql?.settings ?? new Map()),
    sql: sql?.facts ?? null,
    sqlProblem: sql?.problem ?? null,
    slotType: session.slotType,
  };
}

function isPointless(failure: WalcastError): boolean {
  return HOPELESS.has(failure.code) || failure.code.startsWith('TLS_');
}

/** What the walreceiver's session gave. */
interface ReplicationAnswers {
  readonly failure: WalcastError | null;
  readonly tlsVersion: string | null;
  readonly clientCertificateExpiresAtMs: number | null;
  readonly identity: UpstreamIdentity | null;
  readonly settings: ReadonlyMap<string, string>;
  readonly slotType: string | null;
}

const NO_ANSWERS: ReplicationAnswers = {
  failure: null,
  tlsVersion: null,
  clientCertificateExpiresAtMs: null,
  identity: null,
  settings: new Map(),
  slotType: null,
};

async function askReplication(
  options: ProbeOptions,
  leftMs: () => number,
): Promise<ReplicationAnswers> {
  let answers = NO_ANSWERS;
  let connection: UpstreamConnection | null = null;
  try {
    await lookUp(options, leftMs());
    connection = await openSession(options, { isReplication: true, timeoutMs: leftMs() });
    const { tlsVersion, clientCertificateExpiresAtMs } = connection;
    answers = { ...answers, tlsVersion, clientCertificateExpiresAtMs };
    const runner = runnerOf(connection, leftMs);
    const settings = await askSettings(runner);
    answers = { ...answers, settings };
    const { identity } = await identifyUpstream(runner, null);
    answers = { ...answers, identity };
    return { ...answers, slotType: await askSlotType(runner, identity, options.slot) };
  } catch (error) {
    return { ...answers, failure: peersFault(error) };
  } finally {
    connection?.close();
  }
}

/** A slow name service must not hold up the other findings. */
async function lookUp(
  { host, clock }: Pick<ProbeOptions, 'host' | 'clock'>,
  timeoutMs: number,
): Promise<void> {
  if (host.address.startsWith('/') || host.address.startsWith('@')) return;
  const timers: Timer[] = [];
  const timeout = new Promise<never>((_resolve, reject) => {
    timers.push(clock.setTimer(timeoutMs, () => reject(slowNameService(host.address, timeoutMs))));
  });
  try {
    await Promise.race([lookUpName(host.address), timeout]);
  } finally {
    for (const timer of timers) timer.cancel();
  }
}

function slowNameService(name: string, timeoutMs: number): OperationalError {
  return new OperationalError(
    'CONNECT_TIMEOUT',
    `the name service did not answer for "${name}" within ${timeoutMs} ms`,
    { hint: 'Check /etc/resolv.conf, or give hostaddr in upstream.conninfo.' },
  );
}

function openSession(
  { target, host, applicationName, database, clock, dial }: ProbeOptions,
  how: { isReplication: boolean; timeoutMs: number },
): Promise<UpstreamConnection> {
  return UpstreamConnection.open({
    target,
    host,
    database: how.isReplication ? 'replication' : database,
    applicationName: checkName(applicationName),
    isReplication: how.isReplication,
    timeoutMs: how.timeoutMs,
    readBufferBytes: UPSTREAM_READ_BUFFER_BYTES,
    clock,
    log: silentLog,
    dial,
  });
}

function runnerOf(connection: UpstreamConnection, leftMs: () => number): CommandRunner {
  return {
    parameters: connection.parameters,
    run: (command) => connection.query(command, { timeoutMs: leftMs(), limits: READ_LIMITS }),
  };
}

async function askSettings(runner: CommandRunner): Promise<ReadonlyMap<string, string>> {
  const names = settingsOf(runner.parameters.get('server_version'));
  const outcomes = await Promise.all(names.map((name) => runner.run(`SHOW ${name}`)));
  const settings = new Map<string, string>();
  for (const [index, { error, results }] of outcomes.entries()) {
    const value = valueText(results[0]?.rows[0]?.[0]);
    if (error === null && value !== null) settings.set(names[index] ?? '', value);
  }
  return settings;
}

/** (walsender.c:ReadReplicationSlot answers for a physical slot, and refuses with 0A000 for a logical one) */
async function askSlotType(
  runner: CommandRunner,
  identity: UpstreamIdentity,
  slot: string | null,
): Promise<string | null> {
  if (slot === null || !identity.facts.hasReadReplicationSlot) return null;
  const { error, results } = await runner.run(`READ_REPLICATION_SLOT "${slot}"`);
  if (error?.sqlstate === SQLSTATE.featureNotSupported) return 'logical';
  return error === null ? valueText(results.at(-1)?.rows[0]?.[0]) : null;
}

/** What the SQL session gave. */
interface SqlAnswers {
  readonly facts: SqlFacts | null;
  readonly problem: WalcastError | null;
  readonly settings: ReadonlyMap<string, string>;
}

async function askSql(options: ProbeOptions, leftMs: () => number): Promise<SqlAnswers> {
  let connection: UpstreamConnection | null = null;
  try {
    connection = await openSession(options, { isReplication: false, timeoutMs: leftMs() });
    const runner = runnerOf(connection, leftMs);
    const settings = await askSettings(runner);
    const facts = await askSqlFacts(runner, {
      slot: options.slot,
      except: checkName(options.applicationName),
    });
    return { facts, problem: null, settings };
  } catch (error) {
    return { facts: null, problem: peersFault(error), settings: new Map() };
  } finally {
    connection?.close();
  }
}

/** A server with `hostssl` lines only refuses a session without TLS as if there were no line at all. */
async function isMendedByTls(
  options: ProbeOptions,
  { failure }: ReplicationAnswers,
  leftMs: () => number,
): Promise<boolean> {
  const { target } = options;
  const isRefused = failure?.code === SQLSTATE.invalidAuthorizationSpecification;
  if (!isRefused || target.tls.mode !== 'disable') return false;
  try {
    const mended = {
      ...target,
      sslmode: 'require',
      tls: { ...target.tls, mode: 'require' as const },
    };
    const connection = await openSession(
      { ...options, target: mended },
      { isReplication: true, timeoutMs: leftMs() },
    );
    connection.close();
    return true;
  } catch (error) {
    peersFault(error);
    return false;
  }
}

/** The error, when it is not one of our own. */
function peersFault(error: unknown): WalcastError {
  if (error instanceof WalcastError && !(error instanceof InvariantError)) return error;
  throw error;
}
