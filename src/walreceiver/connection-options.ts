// What a session at the upstream is opened with, and how that becomes the settings of its transport and its login.
import type { Clock } from '../base/clock.ts';
import type { WalcastError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Dial, DialOptions } from '../net/dial.ts';
import type { TlsSession } from '../net/tls-session.ts';
import type { AuthMethod } from './auth-methods.ts';
import type { ConnectAttempts } from './connect-attempts.ts';
import type { LoginOptions } from './upstream-login.ts';
import type { UpstreamHost, UpstreamTarget } from './upstream-target.ts';

/** What opening a session needs. */
export interface UpstreamConnectionOptions {
  readonly target: UpstreamTarget;
  /** The entry of `target.hosts` to connect to. */
  readonly host: UpstreamHost;
  readonly database: string;
  readonly applicationName: string;
  /** Adds `replication=true`: a session for replication commands instead of SQL. */
  readonly isReplication: boolean;
  /** For connecting and logging in together. */
  readonly timeoutMs: number;
  readonly readBufferBytes: number;
  readonly clock: Clock;
  readonly log: Log;
  readonly dial: Dial;
  readonly signal?: AbortSignal;
  /** 0 ≤ random() < 1, for load_balance_hosts; absent: addresses are tried in the order of the name service. */
  readonly random?: () => number;
  /** The transport is open and the login begins. */
  readonly onDialed?: () => void;
  /** Bytes arrived; called once per read, before they are looked at. */
  readonly onReceived?: () => void;
  /** The session ended and it was not us who closed it. Called at most once, after the promise of `open` resolved. */
  readonly onClosed?: (error: WalcastError) => void;
}

/** How the next of `attempts` is dialled. */
export function dialOptionsFor(
  options: UpstreamConnectionOptions,
  attempts: ConnectAttempts,
): DialOptions {
  const { clock, timeoutMs, readBufferBytes, signal, target, host, random } = options;
  const encryption = {
    settings: target.tls,
    hostName: host.host,
    isOptional: attempts.mayDoWithout,
  };
  return {
    clock,
    timeoutMs,
    readBufferBytes,
    keepalive: target.keepalive,
    ...(attempts.current === 'tls' ? { encryption } : {}),
    ...(random !== undefined && target.loadBalanceHosts === 'random' ? { random } : {}),
    ...(signal === undefined ? {} : { signal }),
  };
}

/** How to log in on a transport that is open. */
export function loginOptionsFor(
  options: UpstreamConnectionOptions,
  context: { allowedMethods: ReadonlySet<AuthMethod>; tls: TlsSession | null },
): Omit<LoginOptions, 'nonce'> {
  const { target, host, database, applicationName, isReplication } = options;
  const parameters = new Map([
    ['user', target.user],
    ['database', database],
  ]);
  if (isReplication) parameters.set('replication', 'true');
  for (const [name, value] of target.parameters) parameters.set(name, value);
  parameters.set('application_name', applicationName);
  return {
    user: target.user,
    password: host.password,
    allowedMethods: context.allowedMethods,
    requireAuth: target.requireAuth,
    channelBinding: target.channelBinding,
    certMode: target.tls.certMode,
    tls: context.tls,
    parameters,
  };
}
