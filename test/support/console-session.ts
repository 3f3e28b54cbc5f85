// A console session without a socket: messages in, decoded answers out.
import { ConsoleOpener } from '../../src/console/opener.ts';
import type { ConsoleSource } from '../../src/console/source.ts';
import { versionFacts } from '../../src/pg/server-version.ts';
import { sampleConsole } from './console-source.ts';
import { cstr, i16, i32, message } from './naive-writer.ts';

/** One column of a RowDescription. */
export interface AnsweredColumn {
  readonly name: string;
  readonly typeOid: number;
  readonly typeLength: number;
}

/** What a statement was answered with. */
export interface SessionAnswer {
  /** Letters of all messages, a run of DataRows as one. */
  readonly letters: string;
  readonly columns: readonly AnsweredColumn[];
  readonly rows: readonly (readonly (Buffer | null)[])[];
  /** Of CommandComplete. */
  readonly tag: string | null;
  /** SQLSTATE and message of an error. */
  readonly error: string | null;
}

/** A session that is open. */
export interface PaperSession {
  /** By the simple protocol. */
  ask(sql: string): SessionAnswer;
  /** By the extended protocol, parameters as text. */
  prepare(
    sql: string,
    options?: { binary?: boolean; parameters?: readonly (string | null)[] },
  ): SessionAnswer;
}

/** A session of user `ops`, in front of a server of `major`. */
export function paperSession(source: ConsoleSource = sampleConsole(), major = 15): PaperSession {
  let written: Buffer = Buffer.alloc(0);
  const session = new ConsoleOpener(source).open({
    pid: 10_000_001,
    user: 'ops',
    peer: { address: '127.0.0.1', port: 40_001 },
    facts: versionFacts(major),
    serverVersion: `${major}.1`,
    walcastVersion: '0.1.0',
    parameters: new Map([['TimeZone', 'UTC']]),
    settings: new Map(),
    ownSettings: () => new Map(),
    write: (chunks) => {
      written = Buffer.concat([written, ...chunks]);
    },
  });
  const send = (...messages: readonly Uint8Array[]): SessionAnswer => {
    written = Buffer.alloc(0);
    for (const one of messages) void session.onMessage(one[0] ?? 0, one.subarray(5));
    return readAnswer(written);
  };
  return {
    ask: (sql) => send(message('Q', cstr(sql))),
    prepare: (sql, { binary = false, parameters = [] } = {}) =>
      send(
        message('P', cstr(''), cstr(sql), i16(0)),
        message('D', 'S', cstr('')),
        bindMessage(parameters, binary),
        message('E', cstr(''), i32(0)),
        message('S'),
      ),
  };
}

function bindMessage(parameters: readonly (string | null)[], isBinary: boolean): Uint8Array {
  const values = parameters.flatMap((value) =>
    value === null ? [i32(-1)] : [i32(Buffer.byteLength(value)), Buffer.from(value)],
  );
  const format = i16(isBinary ? 1 : 0);
  return message(
    'B',
    cstr(''),
    cstr(''),
    i16(0),
    i16(parameters.length),
    ...values,
    i16(1),
    format,
  );
}

function readAnswer(bytes: Buffer): SessionAnswer {
  let letters = '';
  let columns: AnsweredColumn[] = [];
  const rows: (Buffer | null)[][] = [];
  let tag: string | null = null;
  let error: string | null = null;
  for (let at = 0; at < bytes.length; at += 1 + bytes.readInt32BE(at + 1)) {
    const letter = bytes.toString('latin1', at, at + 1);
    const body = bytes.subarray(at + 5, at + 1 + bytes.readInt32BE(at + 1));
    if (letter !== 'D' || !letters.endsWith('D')) letters += letter;
    if (letter === 'T') columns = readColumns(body);
    if (letter === 'D') rows.push(readValues(body));
    if (letter === 'C') tag = body.toString('utf8', 0, body.length - 1);
    if (letter === 'E') error = errorText(body);
  }
  return { letters, columns, rows, tag, error };
}

function readColumns(body: Buffer): AnsweredColumn[] {
  const columns: AnsweredColumn[] = [];
  let offset = 2;
  for (let left = body.readInt16BE(0); left > 0; left -= 1) {
    const end = body.indexOf(0, offset);
    columns.push({
      name: body.toString('utf8', offset, end),
      typeOid: body.readInt32BE(end + 7),
      typeLength: body.readInt16BE(end + 11),
    });
    offset = end + 19;
  }
  return columns;
}

function readValues(body: Buffer): (Buffer | null)[] {
  const values: (Buffer | null)[] = [];
  let offset = 2;
  for (let left = body.readInt16BE(0); left > 0; left -= 1) {
    const length = body.readInt32BE(offset);
    offset += 4;
    values.push(length < 0 ? null : Buffer.from(body.subarray(offset, offset + length)));
    offset += Math.max(length, 0);
  }
  return values;
}

function errorText(body: Buffer): string {
  const fields = new Map(
    body
      .toString('utf8')
      .split('\0')
      .map((field) => [field.slice(0, 1), field.slice(1)]),
  );
  return `${fields.get('C')} ${fields.get('M')}`;
}
