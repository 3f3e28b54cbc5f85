// What happened to all clients since the start? The counters, and nothing that decides.
import { APPLICATION_NAMES_MAX, APPLICATION_NAMES_OTHER } from '../config/limits.ts';
import { STANDBY_DISCONNECT_REASONS } from '../status/status.ts';
import type { SentTotals, StandbyDisconnectReason, StandbyTotals } from '../status/status.ts';
import type { RejectReason } from './admission.ts';

/** Those of {@link StandbyTotals} that are counted here. */
export type SessionTotals = Pick<
  StandbyTotals,
  'disconnects' | 'rejected' | 'connects' | 'sentByEnded' | 'commands' | 'authentications'
>;

/** Counters of all sessions and of those that never became one. */
export class SessionCounts {
  readonly #disconnects = countersOf(STANDBY_DISCONNECT_REASONS);
  readonly #rejected = countersOf(['hba', 'auth', 'limit', 'draining', 'protocol', 'tls'] as const);
  readonly #connects = new Map<string, number>();
  readonly #sentByEnded = new Map<string, SentTotals>();
  readonly #commands = new Map<string, number>();
  readonly #authentications = new Map<string, number>();

  left(reason: StandbyDisconnectReason): void {
    this.#disconnects[reason] += 1;
  }

  /** Who no rule lets in is counted among the logins, too: as by PostgreSQL's method `reject`, written out or not. */
  rejected(reason: RejectReason): void {
    this.#rejected[reason] += 1;
    if (reason === 'hba') this.authenticated('reject', 'failure');
  }

  /** `method`: one of those that a rule can name, so there are few. */
  authenticated(method: string, outcome: 'success' | 'failure'): void {
    count(this.#authentications, `${method}|${outcome}`);
  }

  /** `name`: one of the commands there are. */
  command(name: string): void {
    count(this.#commands, name);
  }

  /** A client chooses its name: only so many are told apart. */
  streamBegan(applicationName: string): void {
    const connects = this.#connects;
    const isKnown = connects.has(applicationName) || connects.size < APPLICATION_NAMES_MAX;
    count(connects, isKnown ? applicationName : APPLICATION_NAMES_OTHER);
  }

  /** A session is over; it has sent so much. */
  ended(applicationName: string, { sentBytes, blockedSeconds }: SentTotals): void {
    if (sentBytes === 0 && blockedSeconds === 0) return;
    const name = this.#connects.has(applicationName) ? applicationName : APPLICATION_NAMES_OTHER;
    const before = this.#sentByEnded.get(name);
    this.#sentByEnded.set(name, {
      sentBytes: (before?.sentBytes ?? 0) + sentBytes,
      blockedSeconds: (before?.blockedSeconds ?? 0) + blockedSeconds,
    });
  }

  /** As they are now: copies. */
  totals(): SessionTotals {
    return {
      disconnects: { ...this.#disconnects },
      rejected: { ...this.#rejected },
      connects: new Map(this.#connects),
      sentByEnded: new Map(this.#sentByEnded),
      commands: new Map(this.#commands),
      authentications: new Map(this.#authentications),
    };
  }
}

function countersOf<T extends string>(names: readonly T[]): Record<T, number> {
  return Object.fromEntries(names.map((name) => [name, 0])) as Record<T, number>;
}

function count(counters: Map<string, number>, name: string): void {
  counters.set(name, (counters.get(name) ?? 0) + 1);
}
