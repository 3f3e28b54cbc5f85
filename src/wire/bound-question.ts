// One statement with one value, as the extended query protocol sends it: the value never becomes part of the statement.
// (src/backend/tcop/postgres.c: exec_parse_message, exec_bind_message, exec_execute_message)
import { encodeText, MessageWriter } from './message-writer.ts';

/** A statement and what stands for its `$1`. */
export interface BoundQuestion {
  /** One statement. */
  readonly sql: string;
  /** Sent as text; the server finds its type. */
  readonly value: string;
  /** The server stops behind so many rows. */
  readonly rowsMax: number;
}

/** Describe what: a portal. */
const PORTAL = 0x50;

/** The messages of one question: Parse, Bind, Describe, Execute and Sync, all on unnamed objects. `sql` ends at its first zero byte. */
export function encodeBoundQuestion({ sql, value, rowsMax }: BoundQuestion): Uint8Array {
  const bytes = encodeText(value);
  return Buffer.concat([
    // No types given: the server infers that of $1.
    new MessageWriter('P').cstring('').cstring(sql).int16(0).finish(),
    new MessageWriter('B')
      .cstring('')
      .cstring('')
      .int16(0)
      .int16(1)
      .int32(bytes.length)
      .bytes(bytes)
      .int16(0)
      .finish(),
    new MessageWriter('D').byte(PORTAL).cstring('').finish(),
    new MessageWriter('E').cstring('').int32(rowsMax).finish(),
    new MessageWriter('S').finish(),
  ]);
}
