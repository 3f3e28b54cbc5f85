// A client connection to a PostgreSQL server of the demo and the tests, message by message, in the order they come.
import { systemClock } from '../base/clock.ts';
import { OperationalError, errorText } from '../base/errors.ts';
import type { ByteConnection, ConnectionEvents } from '../net/connection.ts';
import { dial, formatTarget } from '../net/dial.ts';
import { FrameDecoder } from '../wire/frame-decoder.ts';
import {
  encodePassword,
  encodeSaslInitial,
  encodeSaslResponse,
  encodeTerminate,
} from '../wire/frontend-messages.ts';
import { ScramClient, md5Password } from '../wire/scram-client.ts';
import { encodeStartupMessage } from '../wire/startup.ts';
import { decodeUpstreamMessage, upstreamLengthMax } from '../wire/upstream-messages.ts';
import type { ReceivedError, UpstreamMessage } from '../wire/upstream-messages.ts';

/** Which server, and as whom. `host` may be a directory with a Unix socket. */
export interface ConnectTarget {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly database: string;
  readonly password?: string;
  readonly applicationName?: string;
  /** `true`: a physical walsender session. */
  readonly replication?: boolean;
}

const CONNECT_TIMEOUT_MS = 10_000;
const QUEUED_MESSAGES_MAX = 64;
const END_GRACE_MS = 1_000;
const READ_BUFFER_BYTES = 64 << 10;

/** Messages of one connection past its authentication. One reader at a time. */
export class PostgresClient implements AsyncDisposable {
  readonly #target: string;
  readonly #queue: UpstreamMessage[] = [];
  readonly #decoder = new FrameDecoder(upstreamLengthMax);
  #connection: ByteConnection | null = null;
  #wake: (() => void) | null = null;
  #end: OperationalError | null = null;

  constructor(target: string) {
    this.#target = target;
  }

  /** What a connection tells this client. */
  readonly events: ConnectionEvents = {
    onBytes: (chunk) => this.#take(chunk),
    onDrain: () => {},
    onEnd: () => this.#finish('the server closed the connection'),
    onClose: (code) => this.#finish(`the connection is closed (${code ?? 'orderly'})`),
  };

  /** Hands over the open connection whose events this client hears. */
  attach(connection: ByteConnection): void {
    this.#connection = connection;
  }

  send(frame: Uint8Array): void {
    this.#connection?.write([frame]);
  }

  /** The next message; notices, notifications and parameter changes are passed over. Rejects when the connection ends. */
  async next(): Promise<UpstreamMessage> {
    for (;;) {
      const message = this.#queue.shift();
      if (message === undefined) {
        if (this.#end !== null) throw this.#end;
        this.#connection?.resumeReading();
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      } else if (!isAside(message)) {
        return message;
      }
    }
  }

  /** Says goodbye and closes. */
  close(): void {
    this.send(encodeTerminate());
    this.#connection?.end(END_GRACE_MS);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  /** An error of this connection, for a message that does not fit. */
  unexpected(message: UpstreamMessage): OperationalError {
    if (message.type === 'ErrorResponse') return this.refusal(message.fields);
    return new OperationalError(
      'UNEXPECTED_MESSAGE',
      `unexpected ${message.type} from ${this.#target}`,
    );
  }

  /** The server's error as ours; its SQLSTATE becomes the code. */
  refusal(fields: ReceivedError): OperationalError {
    const detail = fields.detail === null ? '' : ` (${fields.detail})`;
    return new OperationalError(fields.sqlstate, `${this.#target}: ${fields.message}${detail}`, {
      isRetryable: true,
      ...(fields.hint === null ? {} : { hint: fields.hint }),
    });
  }

  #take(chunk: Uint8Array): void {
    try {
      this.#decoder.push(chunk, (type, body) =>
        this.#queue.push(owned(decodeUpstreamMessage(type, body))),
      );
      if (this.#decoder.failure !== null)
        this.#finish('the server sent something that is no message');
    } catch (error) {
      this.#finish(errorText(error));
    }
    if (this.#queue.length > QUEUED_MESSAGES_MAX) this.#connection?.pauseReading();
    this.#wakeUp();
  }

  #finish(why: string): void {
    this.#end ??= new OperationalError('CONNECTION_LOST', `${this.#target}: ${why}`, {
      isRetryable: true,
    });
    this.#wakeUp();
  }

  #wakeUp(): void {
    this.#wake?.();
    this.#wake = null;
  }
}

/** Connects and logs in (trust, cleartext, md5 or SCRAM-SHA-256). Rejects with OperationalError, the server's SQLSTATE as code. */
export async function connectPostgres(target: ConnectTarget): Promise<PostgresClient> {
  const client = new PostgresClient(formatTarget(target));
  const options = {
    clock: systemClock,
    timeoutMs: CONNECT_TIMEOUT_MS,
    readBufferBytes: READ_BUFFER_BYTES,
  };
  client.attach(await dial(target, options, client.events));
  try {
    client.send(encodeStartupMessage(startupParameters(target)));
    await logIn(client, target);
    return client;
  } catch (error) {
    client.close();
    throw error;
  }
}

function startupParameters(target: ConnectTarget): [string, string][] {
  return [
    ['user', target.user],
    ['database', target.replication === true ? 'replication' : target.database],
    ['application_name', target.applicationName ?? 'walcast'],
    ['client_encoding', 'UTF8'],
    ...(target.replication === true ? [['replication', 'true'] satisfies [string, string]] : []),
  ];
}

async function logIn(client: PostgresClient, target: ConnectTarget): Promise<void> {
  const password = target.password ?? '';
  const scram = new ScramClient(password, globalThis.crypto.randomUUID().replaceAll('-', ''));
  for (;;) {
    const message = await client.next();
    switch (message.type) {
      case 'AuthenticationOk':
      case 'BackendKeyData':
      case 'NegotiateProtocolVersion':
        break;
      case 'AuthenticationCleartextPassword':
        client.send(encodePassword(password));
        break;
      case 'AuthenticationMD5Password':
        client.send(encodePassword(md5Password(target.user, password, message.salt)));
        break;
      case 'AuthenticationSASL':
        client.send(encodeSaslInitial('SCRAM-SHA-256', scram.clientFirst));
        break;
      case 'AuthenticationSASLContinue':
        client.send(encodeSaslResponse(await scram.serverFirst(message.data)));
        break;
      case 'AuthenticationSASLFinal':
        scram.serverFinal(message.data);
        break;
      case 'ReadyForQuery':
        return;
      default:
        throw client.unexpected(message);
    }
  }
}

function isAside(message: UpstreamMessage): boolean {
  return (
    message.type === 'NoticeResponse' ||
    message.type === 'NotificationResponse' ||
    message.type === 'ParameterStatus'
  );
}

// A queued message outlives the chunk it was cut from.
function owned(message: UpstreamMessage): UpstreamMessage {
  if (message.type === 'CopyData') return { ...message, data: copyOf(message.data) };
  if (message.type === 'DataRow') {
    return {
      ...message,
      values: message.values.map((value) => (value === null ? null : copyOf(value))),
    };
  }
  if ('data' in message) return { ...message, data: copyOf(message.data) };
  if ('salt' in message) return { ...message, salt: copyOf(message.salt) };
  return message;
}

// Not slice(): a Buffer's slice is a view.
function copyOf(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(bytes);
}
