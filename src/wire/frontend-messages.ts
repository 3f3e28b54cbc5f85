// What does a message from a client say (server side), and how does a client write one (towards the upstream)?
// (src/backend/tcop/postgres.c:SocketBackend, PostgresMain)
import { ProtocolViolation } from '../base/errors.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import { MessageReader } from './message-reader.ts';
import { MessageWriter } from './message-writer.ts';

/** A message from a client. Byte fields are views of the body. */
export type FrontendMessage =
  | { readonly type: 'Query'; readonly sql: string }
  | { readonly type: 'Terminate' }
  | { readonly type: 'CopyData'; readonly data: Uint8Array }
  | { readonly type: 'CopyDone' }
  | { readonly type: 'CopyFail'; readonly reason: string }
  /** It ends the skipping of messages even where it is not well-formed. */
  | { readonly type: 'Sync'; readonly isWellFormed: boolean }
  | { readonly type: 'Flush' }
  | { readonly type: 'ExtendedQuery'; readonly letter: 'P' | 'B' | 'E' | 'D' | 'C' }
  | { readonly type: 'FunctionCall' }
  | { readonly type: 'PasswordOrSasl'; readonly data: Uint8Array };

/** A violation after which PostgreSQL ends the session: the stream of messages cannot be trusted any more. */
export class FatalProtocolViolation extends ProtocolViolation {
  readonly isFatal: boolean = true;
}

/** Longest length word of a Query and of CopyData while streaming: commands are short, replies are 34 and 25 bytes. (PostgreSQL: 1 GB) */
export const FRONTEND_DATA_LENGTH_MAX: number = 64 * 1024;

/** Longest length word of everything else. (PQ_SMALL_MESSAGE_LIMIT) */
export const FRONTEND_SMALL_LENGTH_MAX = 10_000;

const LETTERS = 'QXdcfSHPBEDCFp';

/** The longest length word accepted for a type; 0 = there is no such type, whatever the length. (postgres.c:SocketBackend) */
export function frontendLengthMax(typeByte: number): number {
  const letter = String.fromCharCode(typeByte);
  if (!LETTERS.includes(letter)) return 0;
  return letter === 'Q' || letter === 'd' ? FRONTEND_DATA_LENGTH_MAX : FRONTEND_SMALL_LENGTH_MAX;
}

/**
 * Reads one message. Throws {@link ProtocolViolation} 08P01 (`invalid string in message`, `invalid message format`),
 * or {@link FatalProtocolViolation} for a type that does not exist.
 */
export function decodeFrontendMessage(typeByte: number, body: Uint8Array): FrontendMessage {
  const letter = String.fromCharCode(typeByte);
  switch (letter) {
    case 'Q':
      return { type: 'Query', sql: onlyString(body) };
    case 'X':
      return { type: 'Terminate' };
    case 'd':
      return { type: 'CopyData', data: body };
    case 'c':
      return { type: 'CopyDone' };
    case 'f':
      return { type: 'CopyFail', reason: onlyString(body) };
    case 'S':
      return { type: 'Sync', isWellFormed: body.length === 0 };
    case 'H':
      new MessageReader(body).end();
      return { type: 'Flush' };
    case 'P':
    case 'B':
    case 'E':
    case 'D':
    case 'C':
      return { type: 'ExtendedQuery', letter };
    case 'F':
      return { type: 'FunctionCall' };
    case 'p':
      return { type: 'PasswordOrSasl', data: body };
    default:
      throw new FatalProtocolViolation(SQLSTATE.protocolViolation, invalidFrontendType(typeByte));
  }
}

/** What a Sync is refused with that has a body. */
export function malformedSync(): ProtocolViolation {
  return new ProtocolViolation(SQLSTATE.protocolViolation, 'invalid message format');
}

/** What a type is refused with that does not exist. */
export function invalidFrontendType(typeByte: number): string {
  return `invalid frontend message type ${typeByte}`;
}

/** A Query message. */
export function encodeQuery(sql: string): Uint8Array {
  return new MessageWriter('Q').cstring(sql).finish();
}

/** A Terminate message. */
export function encodeTerminate(): Uint8Array {
  return new MessageWriter('X').finish();
}

/** A CopyDone message. */
export function encodeCopyDone(): Uint8Array {
  return new MessageWriter('c').finish();
}

/** A CopyData message around the joined `chunks`, which are copied. */
export function encodeCopyData(chunks: readonly Uint8Array[]): Uint8Array {
  const writer = new MessageWriter('d');
  for (const chunk of chunks) writer.bytes(chunk);
  return writer.finish();
}

/** A PasswordMessage: clear text, or the output of md5Password. */
export function encodePassword(text: string): Uint8Array {
  return new MessageWriter('p').cstring(text).finish();
}

/** A SASLInitialResponse. */
export function encodeSaslInitial(mechanism: string, data: Uint8Array): Uint8Array {
  return new MessageWriter('p').cstring(mechanism).int32(data.length).bytes(data).finish();
}

/** A SASLResponse. */
export function encodeSaslResponse(data: Uint8Array): Uint8Array {
  return new MessageWriter('p').bytes(data).finish();
}

/**
 * Reads a SASLInitialResponse in the order in which PostgreSQL does: the mechanism first, so that one that was not
 * offered is said to be that whatever follows. `readData` gives a view of the body; null when the client sent none.
 * Both throw {@link ProtocolViolation} 08P01. (src/backend/libpq/auth-sasl.c:CheckSASLAuth)
 */
export function decodeSaslInitial(body: Uint8Array): {
  readonly mechanism: string;
  readData(): Uint8Array | null;
} {
  const reader = new MessageReader(body);
  const mechanism = reader.cstring();
  return {
    mechanism,
    readData: () => {
      const length = reader.int32();
      const data = length === -1 ? null : reader.bytes(length);
      reader.end();
      return data;
    },
  };
}

/**
 * Reads a PasswordMessage: its bytes as latin1 text. Throws {@link ProtocolViolation} 08P01, and 28P01 for an empty one.
 * (src/backend/libpq/auth.c:recv_password_packet)
 */
export function decodePassword(body: Uint8Array): string {
  const end = body.indexOf(0);
  if (end < 0 || end !== body.length - 1) {
    throw new ProtocolViolation(SQLSTATE.protocolViolation, 'invalid password packet size');
  }
  if (end === 0) {
    throw new ProtocolViolation(SQLSTATE.invalidPassword, 'empty password returned by client');
  }
  return Buffer.from(body.subarray(0, end)).toString('latin1');
}

function onlyString(body: Uint8Array): string {
  const reader = new MessageReader(body);
  const text = reader.cstring();
  reader.end();
  return text;
}
