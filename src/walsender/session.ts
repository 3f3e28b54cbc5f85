// One connection from a client, from its first byte to its close: decides which part of the session each byte, message
// and event belongs to. The parts: session-startup.ts, session-input.ts, command-runner.ts, session-stream.ts, tunnel.ts,
// console-part.ts.
import { randomBytes } from 'node:crypto';
import { invariant } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { CLOSE_GRACE_MS, COMMAND_OUTPUT_BYTES_MAX } from '../config/limits.ts';
import type { AcceptedConnection, ConnectionEvents } from '../net/connection.ts';
import type { Lsn } from '../pg/lsn.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import type { StandbyDeparture, StandbyDisconnectReason } from '../status/status.ts';
import {
  encodeBackendKeyData,
  encodeErrorResponse,
  encodeReadyForQuery,
} from '../wire/backend-messages.ts';
import type { ErrorFields } from '../wire/backend-messages.ts';
import type { FrameFailure } from '../wire/frame-decoder.ts';
import type { CommandError } from '../wire/replication-command.ts';
import type { AdmittedSession } from './admission.ts';
import { authorizedSession } from './audit.ts';
import { CommandRunner } from './command-runner.ts';
import type { CommandHost, StreamStart, TunnelCommand } from './command-runner.ts';
import type { CommandContext } from './commands/command.ts';
import { openConsole } from './console-part.ts';
import type { ConsoleHost, SessionConsole } from './console-part.ts';
import type { SessionHost } from './session-host.ts';
import { SessionInput } from './session-input.ts';
import type { InputHost } from './session-input.ts';
import {
  invalidMessageType,
  LETTER_TERMINATE,
  TUNNELLED,
  USER_CANCEL,
} from './session-messages.ts';
import type { SessionPhase } from './session-messages.ts';
import { SessionStartup } from './session-startup.ts';
import type { StartupDoor } from './session-startup.ts';
import { departureOf, sessionStatus } from './session-status.ts';
import type { StandbyDraft } from './session-status.ts';
import { SessionStream } from './session-stream.ts';
import type { StreamingHost, StreamOutcome } from './session-stream.ts';
import type { TakeoverParty } from './slot-takeover.ts';
import { partyOf } from './stream-presence.ts';
import type { StreamPresence } from './stream-presence.ts';
import { Tunnel, wholeMessage } from './tunnel.ts';
import type { TunnelHost } from './tunnel.ts';

const EMPTY = new Uint8Array(0);
const KEY_BYTES = 4;
const LONG_KEY_BYTES = 32;

/** One client. */
export class WalSenderSession
  implements ConnectionEvents, StartupDoor, CommandHost, StreamingHost, TunnelHost, ConsoleHost
{
  /** Shown to the client, unique among live sessions. */
  readonly pid: number;
  readonly #host: SessionHost;
  readonly #connectedAtMs: number;
  readonly #commands: CommandRunner;
  readonly #input: SessionInput;
  readonly #streaming: SessionStream;
  #log: Log;
  #phase: SessionPhase = 'startup';
  #connection: AcceptedConnection | null = null;
  #startup: SessionStartup | null = null;
  #admitted: AdmittedSession | null = null;
  #cancelKey: Uint8Array = EMPTY;
  #tunnel: Tunnel | null = null;
  #consolePart: SessionConsole | null = null;
  #reason: StandbyDisconnectReason = 'client';
  /** What was seen of the client's going; null while nothing was. */
  #departure: StandbyDeparture | null = null;

  constructor(host: SessionHost, pid: number) {
    this.#host = host;
    this.pid = pid;
    this.#log = host.log.child({ pid });
    this.#connectedAtMs = host.clock.wallMs();
    this.#commands = new CommandRunner(this);
    this.#input = new SessionInput(this.#inputHost());
    this.#streaming = new SessionStream(this, host, this.#log);
  }

  /** Hands over the connection whose events this session gets. Called once, before any event. */
  attach(connection: AcceptedConnection): void {
    this.#connection = connection;
    this.#startup = new SessionStartup(this.#host, this, connection);
  }

  /** Empty before the session was admitted. */
  get cancelKey(): Uint8Array {
    return this.#cancelKey;
  }

  /** Its stream as others see it; null while it does not stream. */
  get presence(): StreamPresence | null {
    return this.#streaming.presence;
  }

  /** A command runs on a connection of its own to the upstream: a backup, most likely. */
  get isTunnelling(): boolean {
    return this.#phase === 'tunnel';
  }

  /** It was let in to the console: no standby, and no walsender. */
  get isConsole(): boolean {
    return this.#admitted?.mode === 'console';
  }

  /** What it streams with. */
  get slot(): string | null {
    return this.presence?.slot ?? null;
  }

  get applicationName(): string {
    return this.#admitted?.settings.applicationName ?? '';
  }

  // --- from the connection

  onBytes(chunk: Uint8Array): void {
    if (this.#phase === 'closed') return;
    if (this.#phase === 'startup') this.#startup?.onBytes(chunk);
    else this.#input.onBytes(chunk);
  }

  onDrain(): void {
    this.#streaming.stream?.onDrain();
    this.#tunnel?.onClientDrain();
    this.#input.continue();
  }

  onEnd(): void {
    this.#departure ??= 'closed';
    if (this.#phase === 'startup') this.#startup?.onEnd();
    // Nothing waits for others on behalf of one who has gone.
    else if (this.#input.onEnd()) this.#end();
  }

  onClose(errorCode: string | null): void {
    if (errorCode !== null && this.#reason === 'client') this.#reason = 'error';
    this.#departure ??= departureOf(errorCode);
    this.#leave();
    if (this.#admitted !== null) {
      this.#host.slots.dropTemporary(this.pid);
      this.#log.debug('session closed', { reason: this.#reason, error: errorCode });
    }
    this.#host.onClosed(this);
  }

  // --- from all sessions together

  /** WAL has arrived. */
  pump(): void {
    this.#streaming.stream?.pump();
  }

  /** Received WAL was taken back to `lsn`: what was sent beyond it must not be continued. */
  onTakenBack(lsn: Lsn): void {
    this.#streaming.stream?.onTakenBack(lsn);
  }

  /** A CancelRequest with the right key. An idle session has nothing to cancel. */
  cancel(): void {
    if (this.#phase === 'stream') this.#streaming.cancel();
    else if (this.#phase === 'tunnel') this.#abortTunnel(USER_CANCEL);
    else if (this.#phase === 'console') this.#consolePart?.cancel();
    else this.#commands.cancel();
  }

  /** Encryption, its first words, authentication: it has no session yet. */
  get isComingIn(): boolean {
    return this.#phase === 'startup';
  }

  /** Serves the standby up to `endLsn`, at most until `deadlineMs` (monotonic), and ends the session. */
  drain(endLsn: Lsn, deadlineMs: number): void {
    if (!this.#streaming.drain(endLsn, deadlineMs)) this.terminate('drain');
  }

  /** Ends the session with FATAL 57P01, where the client can be told. */
  terminate(reason: StandbyDisconnectReason): void {
    if (this.#phase === 'closed') return;
    this.#reason = reason;
    if (this.#phase === 'startup' || this.#tunnel?.isAtBoundary === false) {
      this.close();
      return;
    }
    this.refuse({
      severity: 'FATAL',
      sqlstate: SQLSTATE.adminShutdown,
      message: 'terminating connection due to administrator command',
    });
  }

  /** Null before the session was admitted and after it ended. */
  status(): StandbyDraft | null {
    return this.#phase === 'closed' ? null : this.snapshot();
  }

  // --- for every part

  write(chunks: readonly Uint8Array[]): void {
    this.#connection?.write(chunks);
  }

  pendingBytes(): number {
    return this.#connection?.pendingBytes() ?? 0;
  }

  /** Sends the error and closes. */
  refuse(error: ErrorFields, encode: typeof encodeErrorResponse = encodeErrorResponse): void {
    this.write([encode(error)]);
    this.#end();
  }

  /** Closes at once, also where the client was given time to take what is pending: that is dropped. */
  close(): void {
    this.#leave();
    this.#connection?.destroy();
  }

  // --- for the startup

  onAdmitted(session: AdmittedSession, rest: Uint8Array): void {
    this.#startup = null;
    this.#admitted = session;
    this.#cancelKey = randomBytes(session.protocolMinor >= 2 ? LONG_KEY_BYTES : KEY_BYTES);
    this.#log = this.#host.log.child({
      pid: this.pid,
      application_name: session.settings.applicationName,
      user: session.user,
      client_addr: this.#connection?.peer.address ?? null,
    });
    this.write([encodeBackendKeyData(this.pid, this.#cancelKey), encodeReadyForQuery()]);
    this.#consolePart = this.#openConsole(session);
    this.#phase = this.#consolePart === null ? 'command' : 'console';
    const tls = this.#connection?.tls ?? null;
    this.#host.onAdmitted(this, authorizedSession(session, tls, this.#host.consoles.database));
    this.#input.onBytes(rest);
  }

  #openConsole(admitted: AdmittedSession): SessionConsole | null {
    if (admitted.mode !== 'console') return null;
    const peer = this.#connection?.peer ?? { address: null, port: null };
    return openConsole(this, { pid: this.pid, peer, admitted, shared: this.#host });
  }

  // --- for commands

  commandContext(): CommandContext {
    const host = this.#host;
    const session = this.#admitted;
    invariant(session !== null, 'a command before the session was admitted');
    const settings = host.settings();
    return {
      pid: this.pid,
      user: session.user,
      identity: host.identity() ?? session.identity,
      settings: session.settings,
      walSenderTimeoutMs: session.settings.walSenderTimeoutMs ?? settings.walSenderTimeoutMs,
      maxWalSenders: settings.maxWalSenders,
      ownSettings: settings.ownSettings,
      version: settings.version,
      // Who streamed here before is no newcomer: it goes on with the next timeline.
      isPaused: () => host.isPaused() && this.#streaming.lastStreamed === null,
      refusalToStay: (slot) => host.refusalToStay(this, slot),
      takeOver: (slot, signal) => host.takeOver(slot, this.party(), signal),
      feed: host.feed,
      slots: host.slots,
    };
  }

  onCommand(name: string, sql: string): void {
    this.#host.onCommand(name);
    this.#host.commandLog.received(this.#log, this.#logKey(), sql);
  }

  /** A user at an address: their lines are bounded together. */
  #logKey(): string {
    return `${this.#connection?.peer.address ?? ''} ${this.#admitted?.user ?? ''}`;
  }

  inTurn(piece: () => void): void {
    this.#host.inTurn(this, piece);
  }

  askInTurn(piece: () => void): void {
    this.#host.askInTurn(this, piece);
  }

  onStreamStart(start: StreamStart): void {
    this.#reason = 'client';
    this.#phase = 'stream';
    this.#streaming.start(start, this.#host.commandLog.ofStreams(this.#log, this.#logKey()));
  }

  onTunnelStart(message: Uint8Array, command: TunnelCommand): void {
    if (this.#tunnel === null || this.#tunnel.isClosed)
      this.#tunnel = new Tunnel(this, this.#host.clock);
    this.#phase = 'tunnel';
    this.#host.onTunnel(this);
    void this.#tunnel.run(message, {
      opener: this.#host.tunnels,
      applicationName: this.applicationName,
      // A manifest is of use to the backup that follows it on the same connection.
      isLast: command === 'BASE_BACKUP',
    });
  }

  onFatal(error: CommandError): void {
    this.#reason = 'error';
    this.refuse({ severity: 'FATAL', ...error });
  }

  onTerminate(): void {
    this.#departure ??= 'terminated';
    this.#end();
  }

  // --- for the stream

  party(): TakeoverParty {
    return partyOf(this.#admitted, this.#connection);
  }

  snapshot(): StandbyDraft | null {
    if (this.#admitted === null || this.#connection === null || this.isConsole) return null;
    return sessionStatus({
      pid: this.pid,
      admitted: this.#admitted,
      connection: this.#connection,
      connectedAtMs: this.#connectedAtMs,
      slot: this.#streaming.slot,
      stream: this.#streaming.stream,
      sent: this.#streaming.sent(),
      isBackup: this.#phase === 'tunnel',
    });
  }

  onStreamBegun(): void {
    this.#host.onStreamStart(this);
  }

  onStreamStopped(): void {
    this.#host.onStreamStop(this);
  }

  onSilent(): void {
    this.#reason = 'timeout';
    this.close();
  }

  onStandbyMoved(): void {
    this.#host.onStandbyMoved();
  }

  onStreamOver(outcome: StreamOutcome): void {
    this.#phase = 'command';
    if (outcome.kind !== 'commands') this.#reason = outcome.reason;
    if (outcome.kind === 'error') this.#commands.fail(outcome.error);
    else if (outcome.kind === 'close') this.close();
    else if (outcome.kind === 'end') this.#end();
    if (this.#host.isDraining() && this.#isIn('command')) this.terminate('drain');
  }

  // --- for commands and the tunnel

  resumeReading(): void {
    this.#input.continue();
  }

  onTunnelReady(hasFailed: boolean): void {
    if (hasFailed) this.#host.slots.dropTemporary(this.pid);
    this.#phase = 'command';
    this.#input.continue();
  }

  onTunnelLost(reason: string, isAtBoundary: boolean): void {
    this.#log.warn('no upstream connection for a command of this client', { detail: reason });
    this.#failTunnel(isAtBoundary, {
      sqlstate: SQLSTATE.connectionFailure,
      message: 'could not hand the command to the upstream server',
      detail: reason,
    });
  }

  // --- input

  #inputHost(): InputHost {
    return {
      phase: () => this.#phase,
      connection: () => this.#connection,
      onMessage: (type, body) => this.#onMessage(type, body),
      onFrameFailure: (failure) => this.#onFrameFailure(failure),
      isBusy: () => this.#commands.isBusy || this.#consolePart?.isBusy === true,
      isHeld: () => this.#isInputHeld(),
      cancelCommand: () => this.#commands.cancel(),
      onInputOver: () => this.#end(),
    };
  }

  #onMessage(type: number, body: Uint8Array): void {
    if (this.#phase === 'stream') this.#onStreamMessage(type, body);
    else if (this.#phase === 'tunnel') this.#onTunnelMessage(type, body);
    else if (this.#phase === 'console') this.#consolePart?.onMessage(type, body);
    else if (this.#phase === 'command') this.#commands.onMessage(type, body);
  }

  #onFrameFailure(failure: FrameFailure): void {
    this.#reason = 'error';
    if (failure.kind === 'bad-length') {
      this.#log.info('invalid message length', { length: failure.length });
      this.close();
      return;
    }
    this.onFatal(invalidMessageType(this.#phase, failure.type));
  }

  #onStreamMessage(type: number, body: Uint8Array): void {
    if (type === LETTER_TERMINATE) this.onTerminate();
    else this.#streaming.onMessage(type, body);
  }

  #onTunnelMessage(type: number, body: Uint8Array): void {
    if (TUNNELLED.includes(type)) this.#tunnel?.forward(wholeMessage(type, body));
    else if (type === LETTER_TERMINATE && this.#tunnel?.isUpload === true) this.#end();
    else this.#input.holdMessage(type, body);
  }

  /** The client does not take our answers: it is not listened to for now. */
  #isInputHeld(): boolean {
    if (this.#phase === 'tunnel') return this.#tunnel?.isInputHeld === true;
    const isAnswered = this.#phase === 'command' || this.#phase === 'console';
    return isAnswered && this.pendingBytes() > COMMAND_OUTPUT_BYTES_MAX;
  }

  // --- ends

  #abortTunnel(error: CommandError): void {
    const isAtBoundary = this.#tunnel?.isAtBoundary ?? true;
    this.#tunnel?.close();
    this.#failTunnel(isAtBoundary, error);
  }

  /** In the middle of a message the client cannot be told anything. */
  #failTunnel(isAtBoundary: boolean, error: CommandError): void {
    if (!isAtBoundary) {
      this.#reason = 'error';
      this.close();
      return;
    }
    this.#phase = 'command';
    this.#commands.fail(error);
    this.#input.continue();
  }

  /** Asked anew: what was called meanwhile may have changed it. */
  #isIn(phase: SessionPhase): boolean {
    return this.#phase === phase;
  }

  /** Sends what is pending and closes. */
  #end(): void {
    if (this.#phase === 'closed') return;
    this.#leave();
    this.#connection?.end(CLOSE_GRACE_MS);
  }

  /** Whatever way a session ends, it goes through here, and gives back what it held. */
  #leave(): void {
    if (this.#phase === 'closed') return;
    this.#phase = 'closed';
    this.#startup?.stop();
    this.#streaming.close();
    this.#host.onSent(this.applicationName, this.#streaming.sent());
    this.#tunnel?.close();
    this.#commands.close();
    this.#consolePart?.close();
    if (this.#admitted === null || this.isConsole) return;
    const how = this.#reason === 'timeout' ? 'timeout' : (this.#departure ?? 'ended');
    this.#host.onLeft(this.#reason, this.#streaming.lastStreamed, how);
  }
}
