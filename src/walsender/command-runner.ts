// The part of a session between COPYs: takes one message at a time, answers it, or hands over to a stream or a tunnel.
// (src/backend/tcop/postgres.c:PostgresMain, walsender.c:exec_replication_command)
import { OperationalError, ProtocolViolation } from '../base/errors.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import {
  encodeErrorResponse,
  encodeNoticeResponse,
  encodeReadyForQuery,
} from '../wire/backend-messages.ts';
import { decodeFrontendMessage } from '../wire/frontend-messages.ts';
import { parseReplicationCommand } from '../wire/replication-command.ts';
import type { CommandError, ReplicationCommand } from '../wire/replication-command.ts';
import { CommandPhase } from './command-phase.ts';
import type { CommandAction } from './command-phase.ts';
import type { CommandContext, CommandOutcome } from './commands/command.ts';
import { runCommand } from './commands/run-command.ts';
import { USER_CANCEL } from './session-messages.ts';
import { wholeMessage } from './tunnel.ts';

/** What begins with a START_REPLICATION that may be served. */
export type StreamStart = Extract<CommandOutcome, { kind: 'stream' }>;

/** What the upstream is asked to do for the client. */
export type TunnelCommand = Extract<CommandOutcome, { kind: 'tunnel' }>['command'];

/** What the runner needs from its session. */
export interface CommandHost {
  commandContext(): CommandContext;
  write(chunks: readonly Uint8Array[]): void;
  /** `sql`: the whole command. */
  onCommand(name: string, sql: string): void;
  /** Runs the piece now or in one of the next turns of the event loop. */
  inTurn(piece: () => void): void;
  /** The same for what anybody may ask any number of times: nobody who begins a stream waits behind it. */
  askInTurn(piece: () => void): void;
  onStreamStart(start: StreamStart): void;
  /** `message` is the whole Query message, a copy. */
  onTunnelStart(message: Uint8Array, command: TunnelCommand): void;
  /** FATAL: the error is sent and the session ends. */
  onFatal(error: CommandError): void;
  onTerminate(): void;
  /** A command that had to wait is done; messages may be read again. */
  resumeReading(): void;
}

const EMPTY = new Uint8Array(0);

/** One session's commands. */
export class CommandRunner {
  readonly #host: CommandHost;
  readonly #phase = new CommandPhase();
  #isBusy = false;
  #isClosed = false;
  /** Ends the wait of the command that runs. */
  #abort: AbortController | null = null;

  constructor(host: CommandHost) {
    this.#host = host;
  }

  /** While true no message may be handed over: answers keep their order. */
  get isBusy(): boolean {
    return this.#isBusy;
  }

  /** A whole message; `body` is not kept. */
  onMessage(type: number, body: Uint8Array): void {
    const action = this.#read(type, body);
    switch (action.kind) {
      case 'none':
        break;
      case 'query':
        this.#answerInTurn(body, (kept) => this.#run(action.sql, type, kept));
        break;
      case 'ready':
        this.#answerInTurn(EMPTY, () => this.#host.write([encodeReadyForQuery()]));
        break;
      case 'error':
        this.#answerInTurn(EMPTY, () => this.fail(action.error, { isReady: action.isReady }));
        break;
      case 'fatal':
        this.#host.onFatal(action.error);
        break;
      case 'terminate':
        this.#host.onTerminate();
        break;
      default:
        action satisfies never;
    }
  }

  /**
   * Commands may come by the hundred thousand, from many at once: those who stream do not wait for the answers to all of
   * them.
   */
  #answerInTurn(body: Uint8Array, answer: (body: Uint8Array) => void): void {
    let isDone = false;
    let kept: Uint8Array | null = null;
    this.#host.askInTurn(() => {
      isDone = true;
      if (this.#isClosed) return;
      this.#isBusy = false;
      answer(kept ?? body);
      if (kept !== null && !this.#isBusy) this.#host.resumeReading();
    });
    if (isDone) return;
    kept = new Uint8Array(body);
    this.#isBusy = true;
  }

  /** Sends an ERROR, which drops the session's temporary slots. (walsender.c:WalSndErrorCleanup) */
  fail(
    error: CommandError,
    options: { isReady?: boolean; frames?: readonly Uint8Array[] } = {},
  ): void {
    const { slots, pid } = this.#host.commandContext();
    slots.dropTemporary(pid);
    const chunks = [
      ...(options.frames ?? []),
      encodeErrorResponse({ severity: 'ERROR', ...error }),
    ];
    if (options.isReady ?? true) chunks.push(encodeReadyForQuery());
    this.#host.write(chunks);
  }

  /** Ends the wait of a command for others, if there is one: it is answered with 57014. What is being done is finished. */
  cancel(): void {
    this.#abort?.abort();
  }

  /** The session is over. */
  close(): void {
    this.#isClosed = true;
    this.cancel();
  }

  #read(type: number, body: Uint8Array): CommandAction {
    try {
      return this.#phase.onMessage(decodeFrontendMessage(type, body));
    } catch (error) {
      if (!(error instanceof ProtocolViolation)) throw error;
      return this.#phase.onViolation(error);
    }
  }

  #run(sql: string, type: number, body: Uint8Array): void {
    const context = this.#host.commandContext();
    const parsed = parseReplicationCommand(sql, context.identity.facts);
    for (const notice of parsed.notices) this.#host.write([encodeNoticeResponse(notice)]);
    if ('error' in parsed) {
      this.fail(parsed.error);
      return;
    }
    const { command } = parsed;
    this.#host.onCommand(command.type, sql);
    if (command.type === 'START_REPLICATION') this.#runInTurn(command);
    else this.#execute(command, { context, type, body });
  }

  /** What begins a stream costs more than others, and after an outage everybody asks for it at once. */
  #runInTurn(command: ReplicationCommand): void {
    let isLate = false;
    const abort = new AbortController();
    this.#abort = abort;
    this.#isBusy = true;
    this.#host.inTurn(() => {
      this.#abort = null;
      this.#isBusy = false;
      if (this.#isClosed) return;
      if (abort.signal.aborted) this.fail(USER_CANCEL);
      else this.#execute(command, { context: this.#host.commandContext(), type: 0, body: EMPTY });
      if (isLate && !this.#isBusy) this.#host.resumeReading();
    });
    isLate = true;
  }

  /** `type` and `body` of the message that the command came in. */
  #execute(
    command: ReplicationCommand,
    message: { context: CommandContext; type: number; body: Uint8Array },
  ): void {
    const { context, type, body } = message;
    const abort = new AbortController();
    const outcome = runCommand(command, context, abort.signal);
    if (outcome instanceof Promise) {
      this.#abort = abort;
      this.#isBusy = true;
      void this.#settle(outcome, context);
    } else if (outcome.kind === 'tunnel') {
      this.#host.onTunnelStart(wholeMessage(type, body), outcome.command);
    } else {
      this.#finish(outcome);
    }
  }

  async #settle(outcome: Promise<CommandOutcome>, context: CommandContext): Promise<void> {
    const settled = await outcome.catch(outcomeOfFailure);
    this.#isBusy = false;
    this.#abort = null;
    if (this.#isClosed) {
      // What was made for a client that is gone by now must not outlive it.
      if (settled.kind === 'stream' && settled.slot !== null) {
        context.slots.release(settled.slot, context.pid);
      }
      context.slots.dropTemporary(context.pid);
      return;
    }
    this.#finish(settled);
    this.#host.resumeReading();
  }

  #finish(outcome: CommandOutcome): void {
    if (outcome.kind === 'done') {
      this.#host.write([...outcome.frames, encodeReadyForQuery()]);
    } else if (outcome.kind === 'error') {
      this.fail(outcome.error, { frames: outcome.frames });
    } else if (outcome.kind === 'stream') {
      this.#host.onStreamStart(outcome);
    }
  }
}

/** The world failed: this client is told, the session goes on. Anything else is a bug of ours and is not caught. */
function outcomeOfFailure(error: unknown): CommandOutcome {
  if (!(error instanceof OperationalError)) throw error;
  const { message, hint } = error;
  return {
    kind: 'error',
    frames: [],
    error: { sqlstate: SQLSTATE.ioError, message, ...(hint === undefined ? {} : { hint }) },
  };
}
