// A client of the console: its messages, and what it reads of the answers.
import { cstr, i16, i32, message } from './naive-writer.ts';
import { startup } from './raw-client.ts';
import type { RawClient } from './raw-client.ts';
import type { RawMessage } from './raw-session.ts';
import type { Fixture } from './wal-senders-fixture.ts';

/** Who asks for a session. */
export const CONSOLE: Readonly<Record<string, string>> = { user: 'ops', database: 'walcast' };
export const SYNC: Uint8Array = message('S');

/** A Parse message without parameters. */
export function parse(sql: string, name = ''): Uint8Array {
  return message('P', cstr(name), cstr(sql), i16(0));
}

/** A Bind message. */
export function bind(
  options: { name?: string; portal?: string; formats?: readonly number[] } = {},
): Uint8Array {
  const { name = '', portal = '', formats = [] } = options;
  return message(
    'B',
    cstr(portal),
    cstr(name),
    i16(0),
    i16(0),
    i16(formats.length),
    ...formats.map(i16),
  );
}

/** A Describe of a portal. */
export function describePortal(portal = ''): Uint8Array {
  return message('D', 'P', cstr(portal));
}

/** An Execute message; 0 = all rows. */
export function execute(rowsMax = 0, portal = ''): Uint8Array {
  return message('E', cstr(portal), i32(rowsMax));
}

/** Name, type, length and format of each column of a RowDescription. */
export function columnsOf({ body }: RawMessage): string[] {
  const columns: string[] = [];
  let offset = 2;
  for (let left = body.readInt16BE(0); left > 0; left -= 1) {
    const end = body.indexOf(0, offset);
    const name = body.toString('utf8', offset, end);
    const [oid, length, format] = [7, 11, 17].map((at) =>
      at === 7 ? body.readInt32BE(end + at) : body.readInt16BE(end + at),
    );
    columns.push(`${name} ${oid} ${length} ${format}`);
    offset = end + 19;
  }
  return columns;
}

/** Lets a client in to the console. */
export async function openConsole(
  fixture: Fixture,
  parameters: Readonly<Record<string, string>> = {},
): Promise<{ client: RawClient; greeting: RawMessage[] }> {
  const client = await fixture.connect();
  client.send(startup({ ...CONSOLE, ...parameters }));
  return { client, greeting: await client.until('Z') };
}
