// Does a request show the token? The comparison takes as long however much of it is right. Who guesses is told to wait.
// A token that can be guessed is not looked at meanwhile; one that cannot is, or whoever shares an address with its owner
// (a proxy, a NAT, the machine itself) could shut the owner out.
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import type { Clock } from '../base/clock.ts';
import {
  HTTP_TOKEN_ADDRESSES_MAX,
  HTTP_TOKEN_FAILURES_MAX,
  HTTP_TOKEN_FORGIVE_MS,
  HTTP_TOKEN_LENGTH_GOOD,
} from '../config/limits.ts';
import { clientNetwork, OTHER_NETWORKS } from '../pg/client-network.ts';

/** `unset`: there is no token to show. `locked`: wrong, or not even looked at, because there were too many wrong ones. */
export type TokenVerdict = 'good' | 'unset' | 'missing' | 'wrong' | 'locked';

interface Failures {
  /** How many are not forgiven yet at `atMs`. */
  count: number;
  atMs: number;
}

/** Guards one port. */
export class TokenGuard {
  readonly #clock: Clock;
  readonly #key = randomBytes(32);
  readonly #failures = new Map<string, Failures>();

  constructor(options: { readonly clock: Clock }) {
    this.#clock = options.clock;
  }

  /**
   * `header` is that of Authorization, `address` the client's, `tokens` those that open what is asked for, none: nobody
   * may. Each is compared, whichever is right.
   */
  check(header: string | undefined, address: string, tokens: readonly string[]): TokenVerdict {
    if (tokens.length === 0) return 'unset';
    const right = this.#right(header, tokens);
    if (right === null) return 'missing';
    if (right.some((token) => token.length >= HTTP_TOKEN_LENGTH_GOOD)) return 'good';
    const key = this.#keyOf(address);
    const failures = this.#remaining(key);
    if (failures >= HTTP_TOKEN_FAILURES_MAX) return 'locked';
    if (right.length > 0) return 'good';
    this.#failures.set(key, { count: failures + 1, atMs: this.#clock.nowMs() });
    return 'wrong';
  }

  /** Whether it shows one of the tokens. Nothing is counted: whoever asks was let in before. */
  isRight(header: string | undefined, tokens: readonly string[]): boolean {
    const right = this.#right(header, tokens);
    return right !== null && right.length > 0;
  }

  /** Those of the tokens that are shown; null when none is shown at all. */
  #right(header: string | undefined, tokens: readonly string[]): readonly string[] | null {
    const shown = /^Bearer +([!-~]{1,1024}) *$/i.exec(header ?? '')?.[1];
    if (shown === undefined) return null;
    const digest = this.#digest(shown);
    return tokens.filter((token) => timingSafeEqual(digest, this.#digest(token)));
  }

  #digest(text: string): Buffer {
    return createHmac('sha256', this.#key).update(text).digest();
  }

  /** Failures not forgiven yet; a place that is not needed any more is given back. */
  #remaining(key: string): number {
    const failures = this.#failures.get(key);
    if (failures === undefined) return 0;
    const forgiven = (this.#clock.nowMs() - failures.atMs) / HTTP_TOKEN_FORGIVE_MS;
    const remaining = Math.max(0, failures.count - forgiven);
    if (remaining === 0) this.#failures.delete(key);
    return remaining;
  }

  #keyOf(address: string): string {
    const key = clientNetwork(address);
    if (this.#failures.has(key) || this.#failures.size < HTTP_TOKEN_ADDRESSES_MAX) return key;
    for (const known of this.#failures.keys()) this.#remaining(known);
    return this.#failures.size < HTTP_TOKEN_ADDRESSES_MAX ? key : OTHER_NETWORKS;
  }
}
