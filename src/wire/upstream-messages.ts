// What does a message from the upstream server say? Control messages only: WAL never passes through here.
//
// pg-protocol reads the messages whose fields it keeps: parameter status, row description, command tag. It is handed
// one whole frame at a time and never the socket, because it bounds no length. The others are read here, because it
// loops for ever on an ErrorResponse that is cut, turns row values and SASL data into text, knows only 4-byte keys, and
// does not know CopyBothResponse and NegotiateProtocolVersion.
import { Parser } from 'pg-protocol/dist/parser.js';
import type {
  BackendMessage,
  CommandCompleteMessage,
  ParameterStatusMessage,
  RowDescriptionMessage,
} from 'pg-protocol/dist/messages.js';
import { ProtocolViolation } from '../base/errors.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import { decodeText, MessageReader } from './message-reader.ts';
import { writeUint32 } from './message-writer.ts';

/** An error or notice as the server sent it. */
export interface ReceivedError {
  readonly severity: string;
  /** `XX000` when the server sent none, or one that is no SQLSTATE. */
  readonly sqlstate: string;
  readonly message: string;
  readonly detail: string | null;
  readonly hint: string | null;
  /** The C function of the server that refused: tells causes apart that share an SQLSTATE, in whatever language the text is. */
  readonly routine: string | null;
}

/** A message from the upstream. Byte fields are views of the body. */
export type UpstreamMessage =
  | { readonly type: 'AuthenticationOk' }
  | { readonly type: 'AuthenticationCleartextPassword' }
  | { readonly type: 'AuthenticationMD5Password'; readonly salt: Uint8Array }
  | { readonly type: 'AuthenticationSASL'; readonly mechanisms: readonly string[] }
  | { readonly type: 'AuthenticationSASLContinue'; readonly data: Uint8Array }
  | { readonly type: 'AuthenticationSASLFinal'; readonly data: Uint8Array }
  | { readonly type: 'AuthenticationUnsupported'; readonly code: number }
  | { readonly type: 'ParameterStatus'; readonly name: string; readonly value: string }
  | { readonly type: 'BackendKeyData'; readonly pid: number; readonly key: Uint8Array }
  | { readonly type: 'ReadyForQuery'; readonly status: string }
  | {
      readonly type: 'RowDescription';
      readonly columns: readonly { readonly name: string; readonly typeOid: number }[];
    }
  | { readonly type: 'DataRow'; readonly values: readonly (Uint8Array | null)[] }
  | { readonly type: 'CommandComplete'; readonly tag: string }
  | { readonly type: 'EmptyQuery' }
  | { readonly type: 'ParseComplete' }
  | { readonly type: 'BindComplete' }
  | { readonly type: 'NoData' }
  | { readonly type: 'PortalSuspended' }
  | { readonly type: 'CopyBothResponse' }
  | { readonly type: 'CopyOutResponse' }
  | { readonly type: 'CopyInResponse' }
  | { readonly type: 'CopyDone' }
  | { readonly type: 'CopyData'; readonly data: Uint8Array }
  | { readonly type: 'ErrorResponse'; readonly fields: ReceivedError }
  | { readonly type: 'NoticeResponse'; readonly fields: ReceivedError }
  | {
      readonly type: 'NegotiateProtocolVersion';
      readonly minor: number;
      readonly options: readonly string[];
    }
  | { readonly type: 'NotificationResponse' };

/** Longest length word of CopyData and of results: a server sends at most 128 KiB of WAL in one message. */
export const UPSTREAM_DATA_LENGTH_MAX: number = 1024 * 1024;

/** Longest length word of everything else. (libpq's VALID_LONG_MESSAGE_TYPE limit) */
export const UPSTREAM_SMALL_LENGTH_MAX = 30_000;

const LONG_TYPES = 'dTDEN';
const KNOWN_TYPES = 'RSKZTDCIWHGcdENvA12ns';
const OPTIONS_MAX = 64;

/** The longest length word accepted for a type; 0 for a type no walsender sends. */
export function upstreamLengthMax(typeByte: number): number {
  const letter = String.fromCharCode(typeByte);
  if (LONG_TYPES.includes(letter)) return UPSTREAM_DATA_LENGTH_MAX;
  return KNOWN_TYPES.includes(letter) ? UPSTREAM_SMALL_LENGTH_MAX : 0;
}

/** Reads one message. Throws {@link ProtocolViolation} 08P01 when it is malformed or of a type no walsender sends. */
export function decodeUpstreamMessage(typeByte: number, body: Uint8Array): UpstreamMessage {
  const letter = String.fromCharCode(typeByte);
  switch (letter) {
    case 'd':
      return { type: 'CopyData', data: body };
    case 'c':
      return { type: 'CopyDone' };
    case 'R':
      return decodeAuthentication(new MessageReader(body));
    case 'S':
    case 'T':
    case 'C':
      return decodeByParser(typeByte, body);
    case 'D':
      return decodeDataRow(new MessageReader(body));
    case 'Z':
      return { type: 'ReadyForQuery', status: String.fromCharCode(new MessageReader(body).byte()) };
    case 'K':
      return decodeKeyData(new MessageReader(body));
    case 'E':
      return { type: 'ErrorResponse', fields: decodeErrorFields(body) };
    case 'N':
      return { type: 'NoticeResponse', fields: decodeErrorFields(body) };
    case 'v':
      return decodeNegotiation(new MessageReader(body));
    default:
      return decodeBare(letter, typeByte);
  }
}

function decodeBare(letter: string, typeByte: number): UpstreamMessage {
  switch (letter) {
    case 'W':
      return { type: 'CopyBothResponse' };
    case 'H':
      return { type: 'CopyOutResponse' };
    case 'G':
      return { type: 'CopyInResponse' };
    case 'I':
      return { type: 'EmptyQuery' };
    case 'A':
      return { type: 'NotificationResponse' };
    case '1':
      return { type: 'ParseComplete' };
    case '2':
      return { type: 'BindComplete' };
    case 'n':
      return { type: 'NoData' };
    case 's':
      return { type: 'PortalSuspended' };
    default:
      throw violation(`unexpected message type ${typeByte} from the upstream server`);
  }
}

function decodeAuthentication(reader: MessageReader): UpstreamMessage {
  const code = reader.int32();
  switch (code) {
    case 0:
      return { type: 'AuthenticationOk' };
    case 3:
      return { type: 'AuthenticationCleartextPassword' };
    case 5:
      return { type: 'AuthenticationMD5Password', salt: reader.bytes(4) };
    case 10:
      return { type: 'AuthenticationSASL', mechanisms: decodeMechanisms(reader) };
    case 11:
      return { type: 'AuthenticationSASLContinue', data: reader.rest() };
    case 12:
      return { type: 'AuthenticationSASLFinal', data: reader.rest() };
    default:
      return { type: 'AuthenticationUnsupported', code };
  }
}

function decodeMechanisms(reader: MessageReader): string[] {
  const mechanisms: string[] = [];
  for (let name = reader.cstring(); name !== ''; name = reader.cstring()) {
    if (mechanisms.length === OPTIONS_MAX) throw violation('too many SASL mechanisms in message');
    mechanisms.push(name);
  }
  return mechanisms;
}

function decodeDataRow(reader: MessageReader): UpstreamMessage {
  const count = reader.int16();
  const values: (Uint8Array | null)[] = [];
  for (let index = 0; index < count; index += 1) {
    const length = reader.int32();
    values.push(length === -1 ? null : reader.bytes(length));
  }
  reader.end();
  return { type: 'DataRow', values };
}

function decodeKeyData(reader: MessageReader): UpstreamMessage {
  const pid = reader.int32();
  if (reader.remaining < 4 || reader.remaining > 256) {
    throw violation('invalid length of cancel key in message');
  }
  return { type: 'BackendKeyData', pid, key: reader.rest() };
}

/** As tolerant as possible: whatever arrives, the reason of the server is worth showing. */
function decodeErrorFields(body: Uint8Array): ReceivedError {
  const fields = new Map<string, string>();
  let offset = 0;
  while (offset < body.length && body[offset] !== 0) {
    const nul = body.indexOf(0, offset + 1);
    const end = nul < 0 ? body.length : nul;
    const letter = String.fromCharCode(body[offset] ?? 0);
    if (!fields.has(letter)) fields.set(letter, decodeText(body.subarray(offset + 1, end)));
    offset = end + 1;
  }
  const sqlstate = fields.get('C') ?? '';
  return {
    severity: fields.get('V') ?? fields.get('S') ?? 'ERROR',
    // Codes of our own errors look different, so that no server can make us take its refusal for one of them.
    sqlstate: /^[0-9A-Z]{5}$/.test(sqlstate) ? sqlstate : SQLSTATE.internalError,
    message: fields.get('M') ?? 'missing error text',
    detail: fields.get('D') ?? null,
    hint: fields.get('H') ?? null,
    routine: fields.get('R') ?? null,
  };
}

function decodeNegotiation(reader: MessageReader): UpstreamMessage {
  const version = reader.uint32();
  const count = reader.int32();
  if (version >>> 16 !== 3 || count < 0 || count > OPTIONS_MAX) {
    throw violation('invalid NegotiateProtocolVersion message');
  }
  const options: string[] = [];
  for (let index = 0; index < count; index += 1) options.push(reader.cstring());
  reader.end();
  return { type: 'NegotiateProtocolVersion', minor: version & 0xffff, options };
}

function decodeByParser(typeByte: number, body: Uint8Array): UpstreamMessage {
  const message = parseFrame(typeByte, body);
  if (isParameterStatus(message)) {
    requireStrings(body, 2);
    return {
      type: 'ParameterStatus',
      name: message.parameterName,
      value: message.parameterValue,
    };
  }
  if (isRowDescription(message)) {
    const columns = message.fields.map((field) => ({
      name: field.name,
      typeOid: field.dataTypeID,
    }));
    return { type: 'RowDescription', columns };
  }
  if (isCommandComplete(message)) {
    requireStrings(body, 1);
    return { type: 'CommandComplete', tag: message.text };
  }
  throw violation(`unexpected message type ${typeByte} from the upstream server`);
}

function parseFrame(typeByte: number, body: Uint8Array): BackendMessage | null {
  const frame = Buffer.allocUnsafe(5 + body.length);
  frame[0] = typeByte;
  writeUint32(frame, 1, 4 + body.length);
  frame.set(body, 5);
  let parsed: BackendMessage | null = null;
  try {
    new Parser().parse(frame, (message) => {
      parsed = message;
    });
  } catch (cause) {
    throw violation('insufficient data left in message', cause);
  }
  return parsed;
}

/** The parser takes a missing NUL for the end of the text; a message that ends there was cut. */
function requireStrings(body: Uint8Array, count: number): void {
  const reader = new MessageReader(body);
  for (let index = 0; index < count; index += 1) reader.cstring();
  reader.end();
}

function isParameterStatus(message: BackendMessage | null): message is ParameterStatusMessage {
  return message?.name === 'parameterStatus';
}

function isRowDescription(message: BackendMessage | null): message is RowDescriptionMessage {
  return message?.name === 'rowDescription';
}

function isCommandComplete(message: BackendMessage | null): message is CommandCompleteMessage {
  return message?.name === 'commandComplete';
}

function violation(message: string, cause?: unknown): ProtocolViolation {
  return new ProtocolViolation(SQLSTATE.protocolViolation, message, { cause });
}
