// Who follows the upstream for a relay, with which settings, and what is reported to it: joins walreceiver, gate,
// acknowledgement and tunnels to the store.
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { UpstreamConfig } from '../config/config.ts';
import { dial } from '../net/dial.ts';
import type { Lsn } from '../pg/lsn.ts';
import type { UpstreamDelay, UpstreamStatus } from '../status/status.ts';
import type { WalStore } from '../wal/wal-store.ts';
import type { UpstreamGate, UpstreamObserver } from '../walreceiver/ports.ts';
import { UpstreamTunnels } from '../walreceiver/tunnel.ts';
import type { UpstreamHost, UpstreamTarget } from '../walreceiver/upstream-target.ts';
import { WalReceiver } from '../walreceiver/wal-receiver.ts';
import { Acknowledgement } from './acknowledgement.ts';
import { GateStoreOf } from './store-adapters.ts';
import { targetOf } from './upstream-address.ts';
import { UpstreamClock } from './upstream-clock.ts';
import { openUpstreamGate } from './upstream-gate.ts';

/** What following needs. */
export interface UpstreamFollowingParts {
  readonly settings: UpstreamConfig;
  readonly clock: Clock;
  readonly log: Log;
  /** What each streaming standby has confirmed. */
  readonly confirmedLsns: () => readonly Lsn[];
  /** This server can never be followed. */
  readonly onFatal: (error: Error) => void;
}

/** The upstream side of one relay. Nothing is connected before `start`. */
export class UpstreamFollowing {
  readonly #parts: UpstreamFollowingParts;
  readonly #target: UpstreamTarget;
  readonly #times: UpstreamClock;
  #acknowledgement: Acknowledgement | null = null;
  #receiver: WalReceiver | null = null;

  constructor(parts: UpstreamFollowingParts) {
    this.#parts = parts;
    this.#target = targetOf(parts.settings.server);
    this.#times = new UpstreamClock(parts.clock);
  }

  /** Where the upstream is, at this moment. */
  get target(): UpstreamTarget {
    return this.#target;
  }

  /** Raw sessions to the upstream. To be called once. */
  openTunnels(): UpstreamTunnels {
    return new UpstreamTunnels({
      target: this.#target,
      clock: this.#parts.clock,
      log: this.#parts.log.child({ component: 'tunnel' }),
      dial,
      followedHost: () => this.followedHost(),
    });
  }

  /** Begins to follow; `store` is open. */
  start(store: WalStore): void {
    this.#acknowledgement = new Acknowledgement(store, {
      clock: this.#parts.clock,
      confirmedLsns: this.#parts.confirmedLsns,
      onMoved: () => this.positionsMoved(),
    });
    this.#receiver = this.#newReceiver(store, this.#acknowledgement);
    store.onFlush(() => this.#times.flushed(store.positions().flushedLsn));
    this.#receiver.start();
  }

  /** Null before `start`. */
  status(): UpstreamStatus | null {
    return this.#receiver?.status() ?? null;
  }

  /** How old the WAL is that comes in. */
  delay(): UpstreamDelay {
    return this.#times.delay();
  }

  /** The host whose WAL is streaming in, or did last. */
  followedHost(): UpstreamHost | null {
    return this.#receiver?.followedHost() ?? null;
  }

  /** True while WAL streams in. */
  isMoving(): boolean {
    const state = this.#receiver?.status().state;
    return state === 'streaming' || state === 'catchup';
  }

  /** A position that is reported may have moved. */
  positionsMoved(): void {
    this.#receiver?.positionsMoved();
  }

  /** Nothing more is taken in; positions are reported as before. */
  quiesce(): void {
    this.#receiver?.quiesce();
  }

  /** The end of a drain: a last status, and the stream closed in order. */
  async finish(): Promise<void> {
    await this.#receiver?.finish();
  }

  /** Closes at once; nothing is reported any more. */
  stop(): void {
    this.#receiver?.stop();
    this.#acknowledgement?.close();
  }

  #newReceiver(store: WalStore, acknowledgement: Acknowledgement): WalReceiver {
    const { settings, clock } = this.#parts;
    const log = this.#parts.log.child({ component: 'walreceiver' });
    const gate = openUpstreamGate(new GateStoreOf(store), log);
    return new WalReceiver({
      target: this.#target,
      slot: settings.slot,
      applicationName: settings.applicationName,
      receiverTimeoutMs: settings.walReceiverTimeoutMs,
      statusIntervalMs: settings.walReceiverStatusIntervalMs,
      sink: store,
      gate: startingGate(gate, store, acknowledgement),
      positions: acknowledgement,
      observer: this.#observer(),
      onMessage: (walEnd, sendTime) => this.#times.observe(walEnd, sendTime),
      clock,
      log,
      dial,
      random: Math.random,
    });
  }

  #observer(): UpstreamObserver {
    return {
      onState() {},
      onIdentified() {},
      onFatal: (error) => this.#parts.onFatal(error),
      onTimelineEnd() {},
    };
  }
}

/** The gate, which tells the rules of acknowledgement when a stream is about to start. */
function startingGate(
  gate: UpstreamGate,
  store: WalStore,
  acknowledgement: Acknowledgement,
): UpstreamGate {
  return {
    decide: async (identity) => {
      const decision = await gate.decide(identity);
      if (decision.kind === 'start') {
        acknowledgement.startStream(decision.timeline, store.reportedFlushLsn());
      }
      return decision;
    },
  };
}
