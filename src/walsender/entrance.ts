// Who may come in at all, and who makes room for whom? Every connection from its first to its last moment: how many there
// are, from where, which of them are no sessions yet, and what is written about them.
import type { Clock, Timer } from '../base/clock.ts';
import type { Log, LogFields } from '../base/log.ts';
import { FailureLimit } from '../auth/failure-limit.ts';
import {
  FAILED_OF_NETWORK_MAX,
  FAILED_WAITING_MAX,
  FAILURES,
  KNOWN_NETWORKS_MAX,
  STARTUPS_MAX,
} from '../config/limits.ts';
import type { PeerAddress } from '../net/connection.ts';
import { clientNetwork } from '../pg/client-network.ts';
import { Audit } from './audit.ts';
import type {
  AuditSettings,
  AuthenticationReport,
  AuthorizedSession,
  Origin,
  UserOrigin,
} from './audit.ts';
import { Door } from './door.ts';
import type { Visitor } from './door.ts';

/** What may be changed while walcast runs; asked anew each time. */
export interface EntranceSettings extends AuditSettings {
  /** Connections of one network at one time; null = no limit of its own. Unix sockets do not count. */
  readonly connectionsPerNetworkMax: number | null;
}

/** What the entrance is built from. */
export interface EntranceOptions {
  readonly clock: Clock;
  readonly log: Log;
  readonly settings: () => EntranceSettings;
  /** Connections that may be open at one time, whatever they are. */
  readonly connectionsMax: () => number;
  /** A connection was not taken, or one was closed to make room. */
  readonly onTooMany: () => void;
}

interface Guest extends UserOrigin {
  isProven: boolean;
  /** Monotonic. */
  readonly arrivedAtMs: number;
  session: AuthorizedSession | null;
}

/** Key of Unix sockets. */
const LOCAL = '';
/** Of what is said about all of them together; no key of an address. */
const EVERYWHERE: Origin = {
  peer: { address: null, port: null },
  network: '\0everywhere',
  isKnown: false,
};

/** All connections, those that are no sessions yet included. */
export class Entrance {
  readonly #options: EntranceOptions;
  readonly #audit: Audit;
  readonly #guests = new Map<Visitor, Guest>();
  readonly #networks = new Map<string, number>();
  readonly #door = new Door<Visitor>({
    failedMax: FAILED_WAITING_MAX,
    failedOfNetworkMax: FAILED_OF_NETWORK_MAX,
  });
  readonly #failures = new FailureLimit(FAILURES);
  readonly #answers = new Map<Visitor, Timer>();
  /** Networks from which somebody was let in, the one seen last at the end. */
  readonly #known = new Set<string>();

  constructor(options: EntranceOptions) {
    const { log, clock, settings } = options;
    this.#options = options;
    this.#audit = new Audit(log, () => clock.nowMs(), settings);
  }

  /** May one more connection be taken? Somebody at the door may have been sent away for it; false when nobody could be. */
  makePlace(): boolean {
    const isFull = this.#guests.size >= this.#options.connectionsMax();
    const isDoorFull = this.#door.size >= STARTUPS_MAX;
    if (!isFull && !isDoorFull) return true;
    this.#tooMany('connection closed: too many are open', EVERYWHERE);
    return this.#sendAway(isFull ? this.#door.first() : this.#door.firstAtDoor());
  }

  /** A connection was taken; false when it must be closed, because its network has too many sessions. */
  enter(visitor: Visitor, peer: PeerAddress): boolean {
    const network = networkOf(peer);
    const arrivedAtMs = this.#options.clock.nowMs();
    const isKnown = this.#known.has(network);
    const guest: Guest = { peer, network, isKnown, isProven: false, arrivedAtMs, session: null };
    this.#audit.received(guest);
    const isTaken = this.#makePlaceOf(guest);
    this.#guests.set(visitor, guest);
    this.#networks.set(network, this.#openOf(network) + 1);
    if (isTaken) this.#door.enter(visitor, { network, isKnown });
    return isTaken;
  }

  /** A key of all that comes from where it comes from. */
  networkOf(visitor: Visitor): string {
    return this.#guests.get(visitor)?.network ?? LOCAL;
  }

  authenticated(visitor: Visitor, report: AuthenticationReport): void {
    const guest = this.#guests.get(visitor);
    if (guest === undefined) return;
    guest.isProven = report.identity !== null;
    this.#audit.authenticated(guest, report);
  }

  /** See {@link SessionHost.onAuthenticationFailed}. */
  failed(visitor: Visitor, report: AuthenticationReport, answer: () => void): void {
    const guest = this.#guests.get(visitor);
    if (guest === undefined) return;
    const { clock } = this.#options;
    this.#audit.failed(guest, report);
    const delayMs = this.#failures.failed(guest.network, clock.nowMs());
    if (delayMs === 0) {
      answer();
      return;
    }
    this.#sendAway(this.#door.fail(visitor));
    const timer = clock.setTimer(delayMs, () => {
      this.#answers.delete(visitor);
      answer();
    });
    this.#answers.set(visitor, timer);
  }

  /** It is a session from now on. */
  admitted(visitor: Visitor, session: AuthorizedSession): void {
    this.#door.leave(visitor);
    const guest = this.#guests.get(visitor);
    if (guest === undefined) return;
    guest.session = session;
    this.#audit.authorized(guest, session);
    this.#remember(guest.network);
  }

  /** A line about a connection that is refused, or is closed before it is a session. */
  turnedAway(text: string, peer: PeerAddress, fields: LogFields = {}): void {
    const network = networkOf(peer);
    this.#audit.refused(text, { peer, network, isKnown: this.#known.has(network) }, fields);
  }

  /** The connection is gone, or is being closed. Any number of times. */
  left(visitor: Visitor): void {
    const guest = this.#guests.get(visitor);
    if (guest === undefined) return;
    this.#guests.delete(visitor);
    this.#door.leave(visitor);
    this.#answers.get(visitor)?.cancel();
    this.#answers.delete(visitor);
    const open = this.#openOf(guest.network) - 1;
    if (open > 0) this.#networks.set(guest.network, open);
    else this.#networks.delete(guest.network);
    if (guest.session === null) return;
    const sessionMs = this.#options.clock.nowMs() - guest.arrivedAtMs;
    this.#audit.disconnected(guest, guest.session, sessionMs);
  }

  /** It counts no more from now on, not only when its socket is closed. */
  #sendAway(visitor: Visitor | null): boolean {
    if (visitor === null) return false;
    this.left(visitor);
    visitor.close();
    return true;
  }

  #openOf(network: string): number {
    return this.#networks.get(network) ?? 0;
  }

  /** Whoever is no session yet makes room for a newcomer of the same network. */
  #makePlaceOf(guest: Guest): boolean {
    const max = this.#options.settings().connectionsPerNetworkMax;
    if (max === null || guest.network === LOCAL || this.#openOf(guest.network) < max) return true;
    this.#tooMany('connection closed: too many are open from its address', guest);
    return this.#sendAway(this.#door.firstOf(guest.network));
  }

  #tooMany(text: string, origin: Origin): void {
    this.#options.onTooMany();
    this.#audit.refused(text, origin);
  }

  #remember(network: string): void {
    this.#known.delete(network);
    this.#known.add(network);
    const [oldest] = this.#known;
    if (oldest !== undefined && this.#known.size > KNOWN_NETWORKS_MAX) this.#known.delete(oldest);
  }
}

function networkOf({ address }: PeerAddress): string {
  return address === null ? LOCAL : clientNetwork(address);
}
