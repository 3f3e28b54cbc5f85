// One attempt to follow one host: a connection, what the server said about itself, and what the gate made of it.
// Tells the machine how far it came; once it is over it says nothing any more.
import type { OperationalError } from '../base/errors.ts';
import { InvariantError, WalcastError } from '../base/errors.ts';
import {
  UPSTREAM_CONNECT_MS_MAX,
  UPSTREAM_CONNECT_ONE_OF_MS_MAX,
  UPSTREAM_READ_BUFFER_BYTES,
} from '../config/limits.ts';
import type { TargetSessionAttrs } from '../pg/conninfo.ts';
import { formatLsn } from '../pg/lsn.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { TimelineId } from '../pg/timeline.ts';
import type { TimelineEnd } from './ports.ts';
import type { SlotBook } from './slot-book.ts';
import type { CommandRunner } from './upstream-command.ts';
import { UpstreamConnection } from './upstream-connection.ts';
import type { CopyHandler } from './upstream-connection.ts';
import { identifyUpstream } from './upstream-identify.ts';
import type { Identification } from './upstream-identify.ts';
import { requireHistoryOf } from './timeline-end.ts';
import type { UpstreamEvent } from './upstream-events.ts';
import type { QueryOutcome } from './upstream-query.ts';
import { hostKey } from './upstream-hosts.ts';
import { dropSlot, quoteSlotName } from './upstream-slot.ts';
import type { UpstreamHost, UpstreamTarget } from './upstream-target.ts';
import type { WalReceiverOptions } from './wal-receiver-options.ts';

/** Time for a command where wal_receiver_timeout is off. */
const COMMAND_MS = 60_000;

/** All commands of one question together may take so many times as long. */
const COMMANDS_TIMES_MAX = 2;

/** What libpq's walreceiver names as database. (libpqwalreceiver.c:libpqrcv_connect) */
const REPLICATION_DATABASE = 'replication';

/** Who listens to a session. Nothing is called after `end`. */
export interface SessionListener {
  onEvent(event: UpstreamEvent): void;
  /** The transport is open and the login done. */
  onConnected(): void;
  onConnectFailed(): void;
  onIdentified(identification: Identification): void;
  /** Bytes arrived. */
  onReceived(): void;
  /** The connection was closed or broken by the other side. */
  onClosed(error: WalcastError): void;
  /** The answer to START_REPLICATION, after the stream or instead of it. */
  onStreamAnswer(outcome: QueryOutcome): void;
}

/** Time one command may take. */
export function commandTimeoutMs(receiverTimeoutMs: number): number {
  return receiverTimeoutMs === 0 ? COMMAND_MS : receiverTimeoutMs;
}

/** Time to connect to one host and log in: one of several must not keep the others waiting long. */
function connectTimeoutMs(target: UpstreamTarget): number {
  if (target.connectTimeoutMs !== 0) return target.connectTimeoutMs;
  return target.hosts.length > 1 ? UPSTREAM_CONNECT_ONE_OF_MS_MAX : UPSTREAM_CONNECT_MS_MAX;
}

/** One session. The steps are called in order by whoever carries out the machine's actions. */
export class UpstreamSession {
  readonly #host: UpstreamHost;
  readonly #hostKey: string;
  readonly #options: WalReceiverOptions;
  readonly #slots: SlotBook;
  readonly #listener: SessionListener;
  readonly #abort: AbortController = new AbortController();
  #connection: UpstreamConnection | null = null;
  #identification: Identification | null = null;
  #isOver = false;

  constructor(
    options: WalReceiverOptions,
    context: { host: UpstreamHost; slots: SlotBook; listener: SessionListener },
  ) {
    this.#options = options;
    this.#host = context.host;
    this.#hostKey = hostKey(context.host);
    this.#slots = context.slots;
    this.#listener = context.listener;
  }

  /** Connects and logs in: `dialed`, `logged-in` or `failed`. */
  async open(): Promise<void> {
    const { target, applicationName, clock, log, dial } = this.#options;
    try {
      const connection = await UpstreamConnection.open({
        target,
        host: this.#host,
        database: REPLICATION_DATABASE,
        applicationName,
        isReplication: true,
        timeoutMs: connectTimeoutMs(target),
        readBufferBytes: UPSTREAM_READ_BUFFER_BYTES,
        clock,
        log,
        dial,
        signal: this.#abort.signal,
        random: this.#options.random,
        onDialed: () => this.#emit({ type: 'dialed' }),
        onReceived: () => this.#listener.onReceived(),
        onClosed: (error) => {
          if (!this.#isOver) this.#listener.onClosed(error);
        },
      });
      this.#connected(connection);
    } catch (error) {
      if (!this.#isOver) this.#listener.onConnectFailed();
      this.#failed(error);
    }
  }

  /**
   * Asks the server who it is: `identified`, or `failed`, also when it is not of the `wanted` kind, or when its history says
   * something else than its answer at the end of a timeline.
   */
  async identify(wanted: TargetSessionAttrs, ended: TimelineEnd | null): Promise<void> {
    const before = this.#identification;
    try {
      const { relayId } = this.#options;
      const plan = this.#slots.plan(this.#hostKey);
      const found = await identifyUpstream(this.#runner(), plan, {
        wanted,
        stored: this.#options.gate.stored(),
        ...(before === null ? {} : { wasInRecovery: before.identity.isInRecovery }),
        ...(relayId === undefined ? {} : { relayId }),
      });
      if (this.#isOver) return;
      if (ended !== null) requireHistoryOf(ended, found.identity.history);
      const isSlotCreated = found.isSlotCreated || before?.isSlotCreated === true;
      const identification = { ...found, isSlotCreated };
      this.#identification = identification;
      this.#slots.identified(this.#hostKey, identification);
      if (found.isSlotCreated && plan !== null) {
        const { systemIdentifier } = found.identity;
        this.#options.slotUses?.created(this.#host, plan.name, systemIdentifier);
      }
      this.#listener.onIdentified(identification);
      this.#emit({ type: 'identified' });
    } catch (error) {
      this.#failed(error);
    }
  }

  /** Asks the gate: `decided` or `failed`; `again` when the slot has to be created before WAL may flow. */
  async decide(): Promise<void> {
    const identification = this.#identification;
    if (identification === null) return;
    try {
      const decision = await this.#options.gate.decide(identification.identity);
      if (this.#isOver) return;
      if (decision.kind === 'hold') {
        const isNeverFollowed = decision.state === 'gap' || decision.state === 'diverged';
        if (isNeverFollowed) this.#slots.held(this.#hostKey);
      } else if (this.#slots.mustCreateFirst(this.#hostKey, identification)) {
        this.#emit({ type: 'again' });
        return;
      }
      this.#emit({ type: 'decided', decision });
    } catch (error) {
      this.#failed(error);
    }
  }

  /** Asks for WAL. The answer goes to the listener; the end of the connection too. */
  startReplication(timeline: TimelineId, startLsn: Lsn, handler: CopyHandler): void {
    const { slot } = this.#options;
    const clause = slot === null ? '' : `SLOT ${quoteSlotName(slot)} `;
    const command = `START_REPLICATION ${clause}${formatLsn(startLsn)} TIMELINE ${timeline}`;
    this.#connection?.startReplication(command, handler).then(
      (outcome) => {
        if (this.#isOver) return;
        this.#noteRefusal(outcome);
        this.#listener.onStreamAnswer(outcome);
      },
      // Who listens was told by onClosed already.
      () => {},
    );
  }

  /** `TLSv1.3`; null before the login, and without TLS. */
  get tlsVersion(): string | null {
    return this.#connection?.tlsVersion ?? null;
  }

  /** Expiry of our client certificate, milliseconds since the Unix epoch; null when none is in use. */
  get clientCertificateExpiresAtMs(): number | null {
    return this.#connection?.clientCertificateExpiresAtMs ?? null;
  }

  /** Numeric address of the server; null before the login, and for a Unix socket. */
  get peerAddress(): string | null {
    return this.#connection?.peerAddress ?? null;
  }

  /** Bytes accepted by `write` that the kernel has not taken yet. */
  pendingBytes(): number {
    return this.#connection?.pendingBytes() ?? 0;
  }

  write(chunks: readonly Uint8Array[]): void {
    this.#connection?.write(chunks);
  }

  pauseReading(): void {
    this.#connection?.pauseReading();
  }

  resumeReading(): void {
    this.#connection?.resumeReading();
  }

  /** Sends CopyDone, once. */
  endCopy(): void {
    this.#connection?.endCopy();
  }

  /** Ends the session: `orderly` says goodbye first; `drop-slot` also drops the slot when this session created it. */
  end(how: 'orderly' | 'abrupt' | 'drop-slot'): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#abort.abort();
    const isCreated = this.#identification?.isSlotCreated === true;
    if (how === 'drop-slot' && isCreated) void this.#dropSlotAndClose();
    else if (how === 'abrupt') this.#connection?.destroy();
    else this.#connection?.close();
  }

  #connected(connection: UpstreamConnection): void {
    if (this.#isOver) {
      connection.destroy();
      return;
    }
    this.#connection = connection;
    this.#listener.onConnected();
    this.#emit({ type: 'logged-in' });
  }

  #runner(): CommandRunner {
    const connection = this.#connection;
    if (connection === null) throw new InvariantError('commands before the login');
    const { clock } = this.#options;
    const timeoutMs = commandTimeoutMs(this.#options.receiverTimeoutMs);
    // A server that takes its time for each of many commands must not keep the other hosts waiting for ever.
    const untilMs = clock.nowMs() + COMMANDS_TIMES_MAX * timeoutMs;
    return {
      parameters: connection.parameters,
      run: (command) => {
        const leftMs = Math.max(1, untilMs - clock.nowMs());
        return connection.query(command, { timeoutMs: Math.min(timeoutMs, leftMs) });
      },
    };
  }

  #noteRefusal(outcome: QueryOutcome): void {
    const identity = this.#identification?.identity;
    if (outcome.error === null || identity === undefined) return;
    this.#slots.refused(this.#hostKey, outcome.error.sqlstate, identity);
  }

  async #dropSlotAndClose(): Promise<void> {
    const { slot, log } = this.#options;
    this.#slots.dropped(this.#hostKey);
    try {
      const refusal = slot === null ? null : await dropSlot(this.#runner(), slot);
      if (refusal === null) {
        if (slot !== null) this.#options.slotUses?.dropped(this.#host, slot);
        log.info('upstream: dropped the slot that was just created there', { slot });
      } else log.warn(`upstream: ${refusal.message}`, { slot });
    } catch (error) {
      if (!isPeersFault(error)) throw error;
      log.warn(`upstream: the slot just created was not dropped: ${error.message}`, { slot });
    }
    this.#connection?.close();
  }

  #failed(error: unknown): void {
    if (!isPeersFault(error)) throw error;
    this.#emit({ type: 'failed', error });
  }

  #emit(event: UpstreamEvent): void {
    if (!this.#isOver) this.#listener.onEvent(event);
  }
}

/** Everything but a mistake of our own. */
function isPeersFault(error: unknown): error is WalcastError | OperationalError {
  return error instanceof WalcastError && !(error instanceof InvariantError);
}
