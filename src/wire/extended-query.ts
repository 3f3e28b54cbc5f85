// The extended query protocol, server side: what does a client's message say, and how is it answered?
// (src/backend/tcop/postgres.c: exec_parse_message … exec_describe_portal_message)
import { ProtocolViolation } from '../base/errors.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import { MessageReader } from './message-reader.ts';
import { MessageWriter } from './message-writer.ts';

/** Format of a value on the wire. */
export type FormatCode = 'text' | 'binary';

/** What a Describe or Close is about. */
export type NamedObject = 'statement' | 'portal';

/** A message of the extended protocol. An empty name is the unnamed statement or portal. */
export type ExtendedMessage =
  | {
      readonly type: 'Parse';
      readonly statement: string;
      readonly sql: string;
      /** OIDs of the types that the client gave; 0 = not given. */
      readonly parameterTypes: readonly number[];
    }
  | {
      readonly type: 'Bind';
      readonly portal: string;
      readonly statement: string;
      /** Views of the body; null for NULL. */
      readonly parameters: readonly (Uint8Array | null)[];
      readonly parameterFormats: readonly FormatCode[];
      /** None: all in text; one: for all columns. */
      readonly resultFormats: readonly FormatCode[];
    }
  | { readonly type: 'Describe'; readonly what: NamedObject; readonly name: string }
  /** `rowsMax`: 0 = all. */
  | { readonly type: 'Execute'; readonly portal: string; readonly rowsMax: number }
  | { readonly type: 'Close'; readonly what: NamedObject; readonly name: string };

/** Letters of the messages that {@link decodeExtendedMessage} reads. */
export type ExtendedLetter = 'P' | 'B' | 'D' | 'E' | 'C';

/** Reads one message. Throws {@link ProtocolViolation}: 08P01 for a malformed one, 22023 for a format that does not exist. */
export function decodeExtendedMessage(letter: ExtendedLetter, body: Uint8Array): ExtendedMessage {
  const reader = new MessageReader(body);
  const message = readMessage(letter, reader);
  reader.end();
  return message;
}

function readMessage(letter: ExtendedLetter, reader: MessageReader): ExtendedMessage {
  switch (letter) {
    case 'P':
      return {
        type: 'Parse',
        statement: reader.cstring(),
        sql: reader.cstring(),
        parameterTypes: readList(reader, () => reader.uint32()),
      };
    case 'B':
      return readBind(reader);
    case 'D':
      return { type: 'Describe', ...readNamed(reader, 'DESCRIBE') };
    case 'E':
      return { type: 'Execute', portal: reader.cstring(), rowsMax: Math.max(0, reader.int32()) };
    case 'C':
      return { type: 'Close', ...readNamed(reader, 'CLOSE') };
  }
}

function readBind(reader: MessageReader): ExtendedMessage {
  const portal = reader.cstring();
  const statement = reader.cstring();
  const parameterFormats = readList(reader, () => readFormat(reader));
  const parameters = readList(reader, () => {
    const length = reader.int32();
    return length === -1 ? null : reader.bytes(length);
  });
  const resultFormats = readList(reader, () => readFormat(reader));
  return { type: 'Bind', portal, statement, parameters, parameterFormats, resultFormats };
}

function readNamed(reader: MessageReader, name: string): { what: NamedObject; name: string } {
  const kind = reader.byte();
  const object = reader.cstring();
  if (kind === 0x53) return { what: 'statement', name: object };
  if (kind === 0x50) return { what: 'portal', name: object };
  throw new ProtocolViolation(
    SQLSTATE.protocolViolation,
    `invalid ${name} message subtype ${kind}`,
  );
}

function readFormat(reader: MessageReader): FormatCode {
  const code = reader.int16();
  if (code === 0) return 'text';
  if (code === 1) return 'binary';
  throw new ProtocolViolation(SQLSTATE.invalidParameterValue, `unsupported format code: ${code}`);
}

/** A count and so many items; one that cannot be is found when the bytes are over. */
function readList<T>(reader: MessageReader, read: () => T): T[] {
  const items: T[] = [];
  for (let left = reader.int16(); left > 0; left -= 1) items.push(read());
  return items;
}

export function encodeParseComplete(): Uint8Array {
  return new MessageWriter('1').finish();
}

export function encodeBindComplete(): Uint8Array {
  return new MessageWriter('2').finish();
}

export function encodeCloseComplete(): Uint8Array {
  return new MessageWriter('3').finish();
}

/** What is described gives no rows. */
export function encodeNoData(): Uint8Array {
  return new MessageWriter('n').finish();
}

/** There are more rows for the next Execute. */
export function encodePortalSuspended(): Uint8Array {
  return new MessageWriter('s').finish();
}

/** Types of a statement's parameters. */
export function encodeParameterDescription(typeOids: readonly number[]): Uint8Array {
  const writer = new MessageWriter('t').int16(typeOids.length);
  for (const oid of typeOids) writer.int32(oid);
  return writer.finish();
}
