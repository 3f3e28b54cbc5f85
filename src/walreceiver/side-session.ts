// A short session beside the walreceiver's: who is that server, and what has it got? It never streams.
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import { STANDSTILL_PROBE_MS } from '../config/limits.ts';
import type { Dial } from '../net/dial.ts';
import type { CommandRunner } from './upstream-command.ts';
import { UpstreamConnection } from './upstream-connection.ts';
import type { UpstreamHost, UpstreamTarget } from './upstream-target.ts';

/** NAMEDATALEN - 1: as much of a name as a server keeps. */
const NAME_BYTES_MAX = 63;

/** What it answers is little. */
const READ_BUFFER_BYTES = 16 * 1024;

/** What a side session is opened with. */
export interface SideSessionOptions {
  readonly target: UpstreamTarget;
  readonly host: UpstreamHost;
  /** The walreceiver's own name. */
  readonly applicationName: string;
  /** wal_receiver_timeout, 0 = never. */
  readonly receiverTimeoutMs: number;
  readonly clock: Clock;
  readonly log: Log;
  readonly dial: Dial;
  readonly signal: AbortSignal;
}

/**
 * The application_name of a session beside the walreceiver's. Never the same as that: it would count in
 * synchronous_standby_names. What a server would write in another way is replaced before it is cut. `suffix` is short ASCII.
 */
export function sideSessionName(applicationName: string, suffix: string): string {
  const plain = applicationName.replaceAll(/[^\x20-\x7e]/g, '?');
  return plain.slice(0, NAME_BYTES_MAX - suffix.length) + suffix;
}

/**
 * Connects, lets `ask` run commands, and says goodbye. `peerAddress` is numeric; null for a Unix socket. Rejects with a WalcastError as UpstreamConnection.open does, and
 * with what `ask` throws. Each step takes {@link STANDSTILL_PROBE_MS} at most.
 */
export async function withSideSession<T>(
  options: SideSessionOptions,
  ask: (runner: CommandRunner, peerAddress: string | null) => Promise<T>,
): Promise<T> {
  const { target, host, clock, log, dial, signal } = options;
  const connection = await UpstreamConnection.open({
    target,
    host,
    database: 'replication',
    applicationName: sideSessionName(options.applicationName, '_probe'),
    isReplication: true,
    timeoutMs: atMost(target.connectTimeoutMs),
    readBufferBytes: READ_BUFFER_BYTES,
    clock,
    log,
    dial,
    signal,
  });
  const onAbort = (): void => connection.destroy();
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    const timeoutMs = atMost(options.receiverTimeoutMs);
    const runner = {
      parameters: connection.parameters,
      run: (command: string) => connection.query(command, { timeoutMs }),
    };
    return await ask(runner, connection.peerAddress);
  } finally {
    signal.removeEventListener('abort', onAbort);
    connection.close();
  }
}

/** 0 = no limit of its own. */
function atMost(ms: number): number {
  return ms === 0 ? STANDSTILL_PROBE_MS : Math.min(ms, STANDSTILL_PROBE_MS);
}
