// One session at the upstream server: dialled, logged in, then commands, the stream of a START_REPLICATION, or raw bytes.
import type { Timer } from '../base/clock.ts';
import {
  OperationalError,
  ProtocolViolation,
  WalcastError,
  errorText,
  invariant,
} from '../base/errors.ts';
import {
  UPSTREAM_CLOSE_MS_MAX,
  UPSTREAM_COMMANDS_MAX,
  UPSTREAM_NOTICES_LOGGED_MAX,
} from '../config/limits.ts';
import type { ConnectionEvents } from '../net/connection.ts';
import { formatTarget, isUnixSocketHost } from '../net/dial.ts';
import type { DialedConnection } from '../net/dial.ts';
import { encodeBoundQuestion } from '../wire/bound-question.ts';
import type { BoundQuestion } from '../wire/bound-question.ts';
import { FrameDecoder } from '../wire/frame-decoder.ts';
import { encodeCopyDone, encodeQuery, encodeTerminate } from '../wire/frontend-messages.ts';
import { decodeUpstreamMessage, upstreamLengthMax } from '../wire/upstream-messages.ts';
import type { ReceivedError, UpstreamMessage } from '../wire/upstream-messages.ts';
import { allowedAuthMethods } from './auth-methods.ts';
import type { AuthMethod } from './auth-methods.ts';
import { ConnectAttempts } from './connect-attempts.ts';
import {
  closedByUs,
  commandTimeout,
  connectionEnded,
  refusePeerCheck,
  violation,
} from './connection-errors.ts';
import { dialOptionsFor, loginOptionsFor } from './connection-options.ts';
import type { UpstreamConnectionOptions } from './connection-options.ts';
import { LoginRun } from './login-run.ts';
import { ParameterSet } from './parameter-set.ts';
import { printable, upstreamError } from './upstream-errors.ts';
import type { LoggedIn, LoginOptions } from './upstream-login.ts';
import { REPLICATION_QUERY_LIMITS, ResultCollector } from './upstream-query.ts';
import type { QueryLimits, QueryOutcome } from './upstream-query.ts';

export type { UpstreamConnectionOptions } from './connection-options.ts';

const COPY_DATA = 0x64;

/** What a START_REPLICATION calls back. Views are valid until the call returns. */
export interface CopyHandler {
  /** CopyBothResponse: the stream begins. */
  onCopyBoth(): void;
  /** The payload of one CopyData message. */
  onCopyData(body: Uint8Array): void;
  /** The server has no more on this timeline; answer with {@link UpstreamConnection.endCopy}. */
  onCopyDone(): void;
  /** CommandComplete without CopyDone: the server shuts down and closes next (walsender.c:WalSndDone). */
  onServerShutdown(): void;
}

/** What a session in raw mode calls back. Chunks are cut anywhere and valid until the call returns. */
export interface RawEvents {
  onBytes(chunk: Uint8Array): void;
  onDrain(): void;
  /** Called exactly once, last; null after an orderly close by the server. */
  onClose(reason: string | null): void;
}

interface CommandOptions {
  readonly copy: CopyHandler | null;
  readonly timeoutMs: number;
  readonly limits: QueryLimits;
  readonly bytes: Uint8Array;
  readonly isBound?: boolean;
}

interface PendingCommand {
  readonly collector: ResultCollector;
  readonly copy: CopyHandler | null;
  readonly timer: Timer | null;
  readonly resolve: (outcome: QueryOutcome) => void;
  readonly reject: (error: WalcastError) => void;
}

type Mode = 'login' | 'commands' | 'copy' | 'raw' | 'closed';

/** An open session. Errors while it lives close it; the pending commands reject and `onClosed` is called. */
export class UpstreamConnection {
  readonly #options: UpstreamConnectionOptions;
  readonly #decoder: FrameDecoder = new FrameDecoder(upstreamLengthMax);
  readonly #onFrame: (type: number, body: Uint8Array) => void;
  readonly #pending: PendingCommand[] = [];
  #bytes: DialedConnection | null = null;
  #mode: Mode = 'login';
  #login: LoginRun | null = null;
  #parameters: ParameterSet = new ParameterSet();
  #backendPid = 0;
  #raw: RawEvents | null = null;
  #lastError: ReceivedError | null = null;
  #isCopyEnded = false;
  #noticesLogged = 0;
  /** `open` has given the session to its caller. */
  #isHandedOver = false;
  #endedBy: WalcastError | null = null;

  private constructor(options: UpstreamConnectionOptions) {
    this.#options = options;
    this.#onFrame = (type, body) => this.#takeFrame(type, body);
  }

  /**
   * Connects and logs in. Rejects with {@link OperationalError} (network, timeout, refused login: the code is the
   * SQLSTATE) or {@link ProtocolViolation}; the connection is closed then.
   */
  static async open(options: UpstreamConnectionOptions): Promise<UpstreamConnection> {
    const { target, host, clock, timeoutMs, signal, log } = options;
    // Checked before anything leaves this machine.
    const allowedMethods = allowedAuthMethods(target.requireAuth);
    refusePeerCheck(target, host);
    const attempts = new ConnectAttempts(target.tls.mode, isUnixSocketHost(host.address));
    const startedAtMs = clock.nowMs();
    for (let isFirst = true; ; isFirst = false) {
      const leftMs = timeoutMs === 0 ? 0 : Math.max(1, timeoutMs - (clock.nowMs() - startedAtMs));
      const connection = new UpstreamConnection({
        ...options,
        timeoutMs: leftMs,
        // However often it is dialled, the caller hears of it once.
        ...(isFirst ? {} : { onDialed: () => {} }),
      });
      try {
        await connection.#open(attempts, allowedMethods);
        connection.#handOver();
        return connection;
      } catch (error) {
        connection.destroy();
        const encryption = attempts.current;
        if (signal?.aborted === true || !attempts.failed(error)) throw attempts.failure(error);
        const details = { sslmode: target.tls.mode, reason: errorText(error) };
        if (encryption === 'plain')
          log.info('upstream: refused in plain text, trying TLS', details);
        else log.warn('upstream: failed with TLS, trying plain text', details);
      }
    }
  }

  /** `TLSv1.3`; null without TLS. */
  get tlsVersion(): string | null {
    return this.#bytes?.tls?.version ?? null;
  }

  /** Expiry of our client certificate, milliseconds since the Unix epoch; null when there is none. */
  get clientCertificateExpiresAtMs(): number | null {
    return this.#bytes?.tls?.clientCertificateExpiresAtMs ?? null;
  }

  /** Numeric address of the server; null for a Unix socket. */
  get peerAddress(): string | null {
    return this.#bytes?.peer.address ?? null;
  }

  /** ParameterStatus values so far. */
  get parameters(): ParameterSet {
    return this.#parameters;
  }

  /** Process id of the server's end; 0 when it did not say. */
  get backendPid(): number {
    return this.#backendPid;
  }

  get isClosed(): boolean {
    return this.#mode === 'closed';
  }

  /**
   * Runs one command and collects its answer. Several may be under way: they are sent at once and answered in order.
   * An ERROR of the server is part of the outcome; rejects only when the session ends first or after `timeoutMs`
   * (0 = no limit), which ends the session.
   */
  query(sql: string, options: { timeoutMs: number; limits?: QueryLimits }): Promise<QueryOutcome> {
    return this.#command(sql, {
      copy: null,
      timeoutMs: options.timeoutMs,
      limits: options.limits ?? REPLICATION_QUERY_LIMITS,
      bytes: encodeQuery(sql),
    });
  }

  /** The same for one statement with a bound value (extended protocol); for sessions that are not for replication. */
  ask(
    question: BoundQuestion,
    options: { timeoutMs: number; limits: QueryLimits },
  ): Promise<QueryOutcome> {
    const bytes = encodeBoundQuestion(question);
    return this.#command(question.sql, { ...options, copy: null, bytes, isBound: true });
  }

  /**
   * Sends a START_REPLICATION. `handler` is called while the stream runs; the promise resolves with what the server
   * said after it (or instead of it), and rejects when the session ends.
   */
  startReplication(sql: string, handler: CopyHandler): Promise<QueryOutcome> {
    this.#isCopyEnded = false;
    return this.#command(sql, {
      copy: handler,
      timeoutMs: 0,
      limits: REPLICATION_QUERY_LIMITS,
      bytes: encodeQuery(sql),
    });
  }

  /** Sends CopyDone, once. */
  endCopy(): void {
    if (this.#isCopyEnded || this.#mode !== 'copy') return;
    this.#isCopyEnded = true;
    this.write([encodeCopyDone()]);
  }

  /** From now on bytes go through untouched, in both directions. No command may be under way. */
  toRaw(events: RawEvents): void {
    invariant(this.#mode === 'commands' && this.#pending.length === 0, 'raw mode inside a command');
    this.#raw = events;
    this.#mode = 'raw';
    const rest = this.#decoder.takeRest();
    if (rest.byteLength > 0) events.onBytes(rest);
  }

  /** Sends whole messages. The chunks must not change until they are drained. */
  write(chunks: readonly Uint8Array[]): void {
    if (this.#mode !== 'closed') this.#bytes?.write(chunks);
  }

  /** Bytes accepted by `write` that the kernel has not taken yet. */
  pendingBytes(): number {
    return this.#bytes?.pendingBytes() ?? 0;
  }

  pauseReading(): void {
    this.#bytes?.pauseReading();
  }

  resumeReading(): void {
    if (this.#mode !== 'closed') this.#bytes?.resumeReading();
  }

  /** Says goodbye (Terminate), sends what is pending and closes. Pending commands reject. */
  close(): void {
    if (this.#mode === 'closed') return;
    if (this.#mode !== 'raw') this.write([encodeTerminate()]);
    // A connection that is not read any more is reset when it still holds input, so keep reading into the void.
    this.#bytes?.resumeReading();
    this.#bytes?.end(UPSTREAM_CLOSE_MS_MAX);
    this.#leave(closedByUs());
  }

  /** Closes at once. Pending commands reject. */
  destroy(): void {
    if (this.#mode === 'closed') return;
    this.#bytes?.destroy();
    this.#leave(closedByUs());
  }

  async #open(attempts: ConnectAttempts, allowedMethods: ReadonlySet<AuthMethod>): Promise<void> {
    const { clock, timeoutMs, host, log } = this.#options;
    const startedAtMs = clock.nowMs();
    const events: ConnectionEvents = {
      onBytes: (chunk) => this.#takeBytes(chunk),
      onDrain: () => this.#raw?.onDrain(),
      onEnd: () => this.#takeClose(null),
      onClose: (errorCode) => this.#takeClose(errorCode),
    };
    const to = { host: host.address, port: host.port };
    this.#bytes = await this.#options.dial(to, dialOptionsFor(this.#options, attempts), events);
    const { tls } = this.#bytes;
    if (tls === null && attempts.current === 'tls') attempts.plainTaken();
    for (const warning of tls?.warnings ?? []) log.warn(`upstream: ${warning}`);
    this.#options.onDialed?.();
    const leftMs = timeoutMs === 0 ? 0 : Math.max(1, timeoutMs - (clock.nowMs() - startedAtMs));
    await this.#runLogin(loginOptionsFor(this.#options, { allowedMethods, tls }), leftMs);
  }

  /** What came in one piece with the end of the login may have ended the session already. */
  #handOver(): void {
    if (this.#endedBy !== null) throw this.#endedBy;
    this.#isHandedOver = true;
  }

  #runLogin(login: Omit<LoginOptions, 'nonce'>, timeoutMs: number): Promise<void> {
    const { clock, signal } = this.#options;
    return new Promise((resolve, reject) => {
      if (this.#mode === 'closed' || signal?.aborted === true) {
        reject(this.#endedBy ?? closedByUs());
        return;
      }
      const onAbort = (): void => this.#fail(closedByUs());
      const run = new LoginRun({
        login,
        clock,
        timeoutMs,
        write: (bytes) => this.write([bytes]),
        onEnd: (result) => {
          signal?.removeEventListener('abort', onAbort);
          this.#login = null;
          if (result instanceof WalcastError) {
            this.#fail(result);
            reject(result);
          } else {
            this.#loggedIn(result);
            resolve();
          }
        },
      });
      this.#login = run;
      signal?.addEventListener('abort', onAbort, { once: true });
      run.start();
    });
  }

  #loggedIn(session: LoggedIn): void {
    this.#mode = 'commands';
    this.#parameters = session.parameters;
    this.#backendPid = session.backendPid;
  }

  #command(sql: string, options: CommandOptions): Promise<QueryOutcome> {
    return new Promise((resolve, reject) => {
      if (this.#mode !== 'commands') {
        reject(new OperationalError('UPSTREAM_CLOSED', 'the session to the upstream is closed'));
        return;
      }
      invariant(this.#pending.length < UPSTREAM_COMMANDS_MAX, 'too many commands under way');
      const timer =
        options.timeoutMs > 0
          ? this.#options.clock.setTimer(options.timeoutMs, () => {
              this.#fail(commandTimeout(sql, options.timeoutMs));
            })
          : null;
      const collector = new ResultCollector(options.limits, options.isBound);
      this.#pending.push({ collector, copy: options.copy, timer, resolve, reject });
      this.write([options.bytes]);
    });
  }

  #takeBytes(chunk: Uint8Array): void {
    if (this.#mode === 'closed') return;
    this.#options.onReceived?.();
    if (this.#raw !== null) {
      this.#raw.onBytes(chunk);
      return;
    }
    try {
      this.#decoder.push(chunk, this.#onFrame);
    } catch (error) {
      // What goes wrong below a login concerns the login only; anything else that is no bad message is ours to crash on.
      const isPeers =
        error instanceof ProtocolViolation ||
        (error instanceof OperationalError && this.#login !== null);
      if (!isPeers) throw error;
      this.#fail(error);
      return;
    }
    const failure = this.#decoder.failure;
    if (failure !== null) {
      const letter = printable(String.fromCharCode(failure.type));
      this.#fail(
        violation(`the upstream sent message type "${letter}" with length ${failure.length}`),
      );
    }
  }

  /** The hot path: one call per message, WAL first. */
  #takeFrame(type: number, body: Uint8Array): void {
    if (type === COPY_DATA && this.#mode === 'copy') {
      this.#pending[0]?.copy?.onCopyData(body);
      return;
    }
    const message = decodeUpstreamMessage(type, body);
    if (this.#login !== null) this.#login.receive(message);
    else this.#takeMessage(message);
  }

  #takeMessage(message: UpstreamMessage): void {
    switch (message.type) {
      case 'ParameterStatus':
        this.#parameters.set(message.name, message.value);
        return;
      case 'NoticeResponse':
        this.#logNotice(message.fields);
        return;
      case 'NotificationResponse':
        return;
      case 'ErrorResponse':
        // An ERROR ends its command only; what ends the session is FATAL, or comes unasked.
        if (message.fields.severity !== 'ERROR' || this.#pending.length === 0) {
          this.#lastError = message.fields;
        }
        break;
      default:
        break;
    }
    const command = this.#pending[0];
    if (command === undefined) {
      // A server that shuts down says so to an idle session (57P01), then closes.
      if (message.type === 'ErrorResponse') return;
      throw violation(`the upstream sent ${message.type} outside the answer to a command`);
    }
    if (this.#mode === 'copy') this.#takeInCopy(message, command);
    else this.#takeInCommand(message, command);
  }

  #takeInCommand(message: UpstreamMessage, command: PendingCommand): void {
    if (message.type === 'CopyBothResponse' && command.copy !== null && !this.#isCopyEnded) {
      this.#mode = 'copy';
      command.copy.onCopyBoth();
      return;
    }
    const outcome = command.collector.receive(message);
    if (outcome === null) return;
    this.#pending.shift();
    command.timer?.cancel();
    command.resolve(outcome);
  }

  /** Inside CopyBoth every message but CopyData leads out of it. (fe-protocol3.c:getCopyDataMessage) */
  #takeInCopy(message: UpstreamMessage, command: PendingCommand): void {
    if (message.type === 'CopyDone') {
      if (!this.#isCopyEnded) command.copy?.onCopyDone();
      return;
    }
    const isShutdown = message.type === 'CommandComplete' && !this.#isCopyEnded;
    this.#mode = 'commands';
    this.#isCopyEnded = true;
    this.#takeInCommand(message, command);
    if (isShutdown) command.copy?.onServerShutdown();
  }

  #logNotice(fields: ReceivedError): void {
    this.#noticesLogged += 1;
    if (this.#noticesLogged > UPSTREAM_NOTICES_LOGGED_MAX) return;
    this.#options.log.debug('notice from the upstream', {
      severity: printable(fields.severity),
      sqlstate: printable(fields.sqlstate),
      notice: printable(fields.message),
    });
  }

  #takeClose(errorCode: string | null): void {
    if (this.#mode === 'closed') return;
    const error =
      this.#lastError !== null
        ? upstreamError('the upstream ended the session', this.#lastError)
        : connectionEnded(
            formatTarget(this.#options.host),
            errorCode,
            this.#mode === 'login' && this.tlsVersion !== null,
          );
    const raw = this.#raw;
    this.#fail(error);
    raw?.onClose(errorCode === null ? null : error.message);
  }

  /** The session is over for a reason that is not ours. */
  #fail(error: WalcastError): void {
    if (this.#mode === 'closed') return;
    this.#bytes?.destroy();
    this.#leave(error);
    if (this.#isHandedOver) this.#options.onClosed?.(error);
  }

  #leave(error: WalcastError): void {
    this.#mode = 'closed';
    this.#endedBy = error;
    this.#raw = null;
    this.#decoder.stop();
    this.#login?.end(error);
    for (const command of this.#pending.splice(0)) {
      command.timer?.cancel();
      command.reject(error);
    }
  }
}
