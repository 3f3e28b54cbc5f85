// What is an input? A session: what one peer says message by message, and what else happens meanwhile; with a form in a
// file that a person can read and send again, and a form in memory that a watchdog can read while the program hangs.

/**
 * What happens in a step. `say`: these bytes come. `turn`: the event loop goes round. `time`: as many milliseconds pass as
 * the bytes, read as a number, say. `wal`: as many bytes of WAL arrive. `full`, `drain`: the socket takes nothing; takes
 * everything. `upstream`: these bytes come from the other end of a tunnel. `end`: the peer sends no more.
 */
export type StepKind = 'say' | 'turn' | 'time' | 'wal' | 'full' | 'drain' | 'upstream' | 'end';

const KINDS: readonly StepKind[] = [
  'say',
  'turn',
  'time',
  'wal',
  'full',
  'drain',
  'upstream',
  'end',
];

/** One step. The bytes are never changed. */
export interface Step {
  readonly kind: StepKind;
  readonly bytes: Uint8Array;
}

/** One input. */
export interface FuzzSession {
  readonly steps: readonly Step[];
  /** How `say` steps in a row are delivered: 0: one chunk a step; else glued and cut into chunks of this many bytes. */
  readonly chunk: number;
  /** Which of the target's settings (a major, say) it meets; below 256. */
  readonly variant: number;
}

const NOTHING = new Uint8Array(0);

/** The steps as they are, in chunks of their own. */
export function sessionOf(steps: readonly Step[], variant = 0): FuzzSession {
  return { steps, chunk: 0, variant };
}

/** A step that says `bytes`. */
export function say(bytes: Uint8Array): Step {
  return { kind: 'say', bytes };
}

/** A step without bytes. */
export function happens(kind: StepKind): Step {
  return { kind, bytes: NOTHING };
}

/** A step with a number. */
export function amount(kind: StepKind, value: number): Step {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value);
  return { kind, bytes };
}

/** The number of a step, at most `max`. */
export function amountOf({ bytes }: Step, max: number): number {
  let value = 0;
  for (const byte of bytes.subarray(0, 4)) value = value * 256 + byte;
  return value % (max + 1);
}

/** Bytes of all steps. */
export function sizeOf(session: FuzzSession): number {
  let size = 0;
  for (const { bytes } of session.steps) size += bytes.length;
  return size;
}

/** What a file says of a failure. */
export interface ReproducibleInput {
  readonly target: string;
  readonly sessions: readonly FuzzSession[];
}

/** The text of a file; bytes are written as characters of the same number. */
export function formatInput(
  input: ReproducibleInput,
  about: Readonly<Record<string, unknown>> = {},
): string {
  const sessions = input.sessions.map(({ steps, chunk, variant }) => ({
    chunk,
    variant,
    steps: steps.map(({ kind, bytes }) => [kind, Buffer.from(bytes).toString('latin1')]),
  }));
  return `${JSON.stringify({ target: input.target, ...about, sessions }, null, 1)}\n`;
}

/** Reads what {@link formatInput} wrote. Throws for anything else. */
export function parseInput(text: string): ReproducibleInput {
  const file = JSON.parse(text) as {
    target: string;
    sessions: { chunk?: number; variant?: number; steps: [StepKind, string][] }[];
  };
  const sessions = file.sessions.map(({ chunk = 0, variant = 0, steps }) => ({
    chunk,
    variant,
    steps: steps.map(([kind, latin1]) => {
      if (!KINDS.includes(kind)) throw new Error(`there is no step "${kind}"`);
      return { kind, bytes: new Uint8Array(Buffer.from(latin1, 'latin1')) };
    }),
  }));
  return { target: file.target, sessions };
}

/** Writes the session into `memory` from `offset` on; returns how many bytes that took, 0 when there is no room. */
export function packSession(session: FuzzSession, memory: Buffer, offset: number): number {
  const { steps, chunk, variant } = session;
  if (offset + 9 + sizeOf(session) + 5 * steps.length > memory.length) return 0;
  let at = memory.writeUInt8(variant, memory.writeUInt32LE(chunk, offset));
  at = memory.writeUInt32LE(steps.length, at);
  for (const { kind, bytes } of steps) {
    at = memory.writeUInt8(KINDS.indexOf(kind), at);
    at = memory.writeUInt32LE(bytes.length, at);
    memory.set(bytes, at);
    at += bytes.length;
  }
  return at - offset;
}

/** Reads what {@link packSession} wrote. */
export function unpackSession(memory: Buffer, offset: number): FuzzSession {
  const chunk = memory.readUInt32LE(offset);
  const variant = memory.readUInt8(offset + 4);
  const count = memory.readUInt32LE(offset + 5);
  const steps: Step[] = [];
  let at = offset + 9;
  for (let index = 0; index < count; index += 1) {
    const kind = KINDS[memory.readUInt8(at)] ?? 'say';
    const length = memory.readUInt32LE(at + 1);
    at += 5;
    steps.push({ kind, bytes: Uint8Array.from(memory.subarray(at, at + length)) });
    at += length;
  }
  return { chunk, variant, steps };
}
