// What passed between two PostgreSQL peers, as a recorder wrote it down. Plain data; ledger-checks.ts judges it.
import type { Lsn } from '../../src/pg/lsn.ts';

/** Orders entries of all ledgers of this process: a lower number was seen earlier. */
export interface Seen {
  readonly seq: number;
  /** Monotonic clock, milliseconds. */
  readonly atMs: number;
}

/** One WALData message: [startLsn, endLsn). */
export interface WalEntry extends Seen {
  readonly startLsn: Lsn;
  readonly endLsn: Lsn;
  /** The sender's end of WAL as it said. */
  readonly walEnd: Lsn;
}

/** Bytes [startLsn, endLsn) of one page in one stream, and their SHA-1 as hex. */
export interface PagePiece {
  readonly startLsn: Lsn;
  readonly endLsn: Lsn;
  readonly digest: string;
}

/** One standby status update. */
export interface ReplyEntry extends Seen {
  readonly writeLsn: Lsn;
  readonly flushLsn: Lsn;
  readonly applyLsn: Lsn;
  readonly replyRequested: boolean;
  /** End of the WAL that had passed on this stream; its start when nothing had. */
  readonly sentLsn: Lsn;
}

/** One primary keepalive. */
export interface KeepaliveEntry extends Seen {
  readonly walEnd: Lsn;
  readonly replyRequested: boolean;
}

/** One hot standby feedback message. */
export interface FeedbackEntry extends Seen {
  readonly xmin: number;
  readonly xminEpoch: number;
  readonly catalogXmin: number;
  readonly catalogXminEpoch: number;
}

/** How a stream ended. `timeline`: the server sent CopyDone; `client`: the receiver did; `shutdown`: COPY 0. */
export type StreamEnd = 'timeline' | 'client' | 'shutdown' | 'error' | 'lost';

/** One START_REPLICATION that was answered with COPY BOTH. */
export interface StreamLedger {
  /** As asked for; of a ledger that was trimmed, where what is left of it begins. */
  startLsn: Lsn;
  /** As asked for, else what IDENTIFY_SYSTEM said on this connection, else null. */
  readonly timeline: number | null;
  readonly slot: string | null;
  readonly startedAt: Seen;
  readonly wal: WalEntry[];
  readonly pages: PagePiece[];
  readonly replies: ReplyEntry[];
  readonly keepalives: KeepaliveEntry[];
  readonly feedback: FeedbackEntry[];
  end: StreamEnd | null;
}

/** One command of a walsender session and how it was answered. */
export interface CommandEntry extends Seen {
  readonly sql: string;
  /** The server's error, null when there was none (yet). */
  error: { readonly sqlstate: string; readonly message: string } | null;
  /** Rows of text; bytes that are no text appear as such. NULL is null. */
  readonly rows: (string | null)[][];
}

/** A position that the server stated outside a stream. */
export interface StatedPosition extends Seen {
  readonly timeline: number;
  readonly xlogPos: Lsn;
}

/** One connection. */
export interface ConnectionLedger {
  readonly id: number;
  readonly openedAt: Seen;
  parameters: ReadonlyMap<string, string>;
  readonly commands: CommandEntry[];
  readonly streams: StreamLedger[];
  /** Answers to IDENTIFY_SYSTEM. */
  readonly identified: StatedPosition[];
  /** Messages that could not be read, as sentences. */
  readonly unreadable: string[];
  closedAt: Seen | null;
  /** Who closed first; null while open, or when the proxy did. */
  closedBy: 'fromServer' | 'fromClient' | null;
}

/** Everything one recorder saw. */
export interface Ledger {
  readonly name: string;
  readonly connections: ConnectionLedger[];
}

/** All streams of a ledger, in the order they began. */
export function streamsOf(ledger: Ledger, applicationName?: string): StreamLedger[] {
  return ledger.connections
    .filter(
      (connection) =>
        applicationName === undefined ||
        connection.parameters.get('application_name') === applicationName,
    )
    .flatMap((connection) => connection.streams)
    .toSorted((a, b) => a.startedAt.seq - b.startedAt.seq);
}

/** The ledger as it is now: what passes later is not in it. */
export function copyLedger(ledger: Ledger): Ledger {
  const connections = ledger.connections.map((connection) => ({
    ...connection,
    commands: [...connection.commands],
    identified: [...connection.identified],
    unreadable: [...connection.unreadable],
    streams: connection.streams.map((stream) => ({
      ...stream,
      wal: [...stream.wal],
      pages: [...stream.pages],
      replies: [...stream.replies],
      keepalives: [...stream.keepalives],
      feedback: [...stream.feedback],
    })),
  }));
  return { ...ledger, connections };
}

let lastSeq = 0;

/** The next entry's place in time. */
export function seenNow(nowMs: number): Seen {
  lastSeq += 1;
  return { seq: lastSeq, atMs: nowMs };
}
