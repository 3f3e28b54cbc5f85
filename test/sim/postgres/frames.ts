// Where do messages begin and end in what one side wrote? A plain reader of its own, for the models and for those who listen in.

/** One message. `type` is empty for a startup packet. */
export interface Frame {
  readonly type: string;
  readonly body: Buffer;
}

/** Cuts a stream of bytes into messages. */
export class FrameReader {
  /** What is not a whole message yet. */
  #chunks: Uint8Array[] = [];
  #length = 0;
  /** Bytes the first message needs, as far as is known. */
  #wanted = 0;
  #isStartup: boolean;

  /** `isClient`: the stream begins with a startup packet. */
  constructor(isClient: boolean) {
    this.#isStartup = isClient;
  }

  /** The messages that are whole now. Their bodies are the reader's own. */
  push(bytes: Uint8Array): Frame[] {
    const copy = Buffer.from(bytes);
    this.#chunks.push(copy);
    this.#length += copy.length;
    if (this.#length < this.#wanted) return [];
    const frames: Frame[] = [];
    let rest = this.#chunks.length === 1 ? copy : Buffer.concat(this.#chunks);
    for (let end = this.#endOf(rest); end <= rest.length; end = this.#endOf(rest)) {
      const head = this.#isStartup ? 0 : 1;
      const type = this.#isStartup ? '' : rest.toString('latin1', 0, 1);
      frames.push({ type, body: rest.subarray(head + 4, end) });
      rest = rest.subarray(end);
      this.#isStartup = false;
    }
    this.#wanted = this.#endOf(rest);
    this.#chunks = rest.length === 0 ? [] : [rest];
    this.#length = rest.length;
    return frames;
  }

  #endOf(bytes: Buffer): number {
    const head = this.#isStartup ? 0 : 1;
    return bytes.length < head + 4 ? head + 4 : head + bytes.readUInt32BE(head);
  }
}

/** Name and value pairs of a startup packet. */
export function startupParameters(body: Buffer): Map<string, string> {
  const fields = body.subarray(4).toString().split('\0');
  const parameters = new Map<string, string>();
  for (let index = 0; index + 1 < fields.length; index += 2) {
    parameters.set(fields[index] ?? '', fields[index + 1] ?? '');
  }
  return parameters;
}

/** A START_REPLICATION, taken apart; null for another command. */
export interface StartCommand {
  readonly slot: string | null;
  readonly startLsn: bigint;
  readonly timeline: number;
}

const START =
  /^START_REPLICATION (?:SLOT "?(\w+)"? )?(?:PHYSICAL )?([0-9A-Fa-f]+)\/([0-9A-Fa-f]+)(?: TIMELINE (\d+))?;?$/;

export function parseStart(sql: string): StartCommand | null {
  const [, slot, high, low, timeline] = START.exec(sql) ?? [];
  if (high === undefined || low === undefined) return null;
  const startLsn = (BigInt(`0x${high}`) << 32n) | BigInt(`0x${low}`);
  return { slot: slot ?? null, startLsn, timeline: Number(timeline ?? 0) };
}

/** The text of a Query message. */
export function queryText(body: Buffer): string {
  return body.subarray(0, -1).toString();
}

/** A standby status update. */
export interface StatusFrame {
  readonly write: bigint;
  readonly flush: bigint;
  readonly apply: bigint;
  readonly isReplyRequested: boolean;
}

/** Reads a CopyData body that begins with `r`. */
export function statusOf(body: Buffer): StatusFrame {
  return {
    write: body.readBigUInt64BE(1),
    flush: body.readBigUInt64BE(9),
    apply: body.readBigUInt64BE(17),
    isReplyRequested: body[33] === 1,
  };
}
