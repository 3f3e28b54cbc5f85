// What a walreceiver is built from.
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { Dial } from '../net/dial.ts';
import type {
  FeedbackSource,
  PositionSource,
  SlotUses,
  UpstreamGate,
  UpstreamObserver,
  WalSink,
} from './ports.ts';
import type { UpstreamTally } from './upstream-tally.ts';
import type { UpstreamTarget } from './upstream-target.ts';
import type { OnStreamMessage } from './wal-stream.ts';

/** Everything a walreceiver works with; nothing is looked up elsewhere. */
export interface WalReceiverOptions {
  /** Looked up anew at each attempt, its list of hosts at the beginning of each round: see WalReceiver.hostsChanged. */
  readonly target: UpstreamTarget;
  /** Other hosts may be listed later, so no server is the end of it all. Absent: the list is what somebody wrote down. */
  readonly hostsMayChange?: boolean;
  /** An attempt begins: the moment to read password files again. */
  readonly onConnect?: () => void;
  /** Physical slot on the upstream, created when missing; null for none. */
  readonly slot: string | null;
  readonly applicationName: string;
  /** Does a standby at that numeric address stream from here? Absent: nobody knows. */
  readonly streamsTo?: (address: string) => boolean;
  /** Id of this relay, by which it finds itself among those that an upstream gets its WAL through. Absent: nobody looks. */
  readonly relayId?: string;
  /** wal_receiver_timeout, 0 = never. Looked up anew each time, as the next one. */
  readonly receiverTimeoutMs: number;
  /** wal_receiver_status_interval, 0 = only when a position moved or the server asked. */
  readonly statusIntervalMs: number;
  readonly sink: WalSink;
  readonly gate: UpstreamGate;
  readonly positions: PositionSource;
  /** Absent: nothing is fed back to the upstream. */
  readonly feedback?: FeedbackSource;
  readonly observer: UpstreamObserver;
  /** Absent: slots that are left behind are nobody's business. */
  readonly slotUses?: SlotUses;
  /** Called for each message of a stream. */
  readonly onMessage?: OnStreamMessage | undefined;
  /** Counters to go on with, of a walreceiver that has ended; new ones when absent. */
  readonly tally?: UpstreamTally;
  readonly clock: Clock;
  readonly log: Log;
  readonly dial: Dial;
  /** 0 ≤ random() < 1, for jitter. */
  readonly random: () => number;
}
