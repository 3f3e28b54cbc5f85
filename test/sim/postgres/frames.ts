// Where do messages begin and end in what one side wrote? A plain reader of its own, for the models and for those who listen in.

/** One message. `type` is empty for a startup packet. */
export interface Frame {
  readonly type: string;
  readonly body: Buffer;
}

/** Cuts a stream of bytes into messages. */
export class FrameReader {
  #rest: Buffer = Buffer.alloc(0);
  #isStartup: boolean;

  /** `isClient`: the stream begins with a startup packet. */
  constructor(isClient: boolean) {
    this.#isStartup = isClient;
  }

  /** The messages that are whole now. */
  push(bytes: Uint8Array): Frame[] {
    this.#rest = this.#rest.length === 0 ? Buffer.from(bytes) : Buffer.concat([this.#rest, bytes]);
    const frames: Frame[] = [];
    for (let frame = this.#next(); frame !== null; frame = this.#next()) frames.push(frame);
    return frames;
  }

  #next(): Frame | null {
    const head = this.#isStartup ? 0 : 1;
    if (this.#rest.length < head + 4) return null;
    const end = head + this.#rest.readUInt32BE(head);
    if (this.#rest.length < end) return null;
    const type = this.#isStartup ? '' : this.#rest.toString('latin1', 0, 1);
    const body = this.#rest.subarray(head + 4, end);
    this.#rest = this.#rest.subarray(end);
    this.#isStartup = false;
    return { type, body };
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
