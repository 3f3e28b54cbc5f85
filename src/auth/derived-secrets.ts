// SCRAM secrets of plain passwords, derived once for each and off the event loop.
import { createHmac } from 'node:crypto';
import { AUTH_DERIVED_MAX } from '../config/limits.ts';
import { deriveScramSecret, SCRAM_SALT_BYTES } from './scram-secret.ts';
import type { ScramSecret } from './scram-secret.ts';

interface Derived {
  readonly password: string;
  readonly iterations: number;
  readonly secret: Promise<ScramSecret>;
}

/** Makes salts and secrets that are the same whenever they are asked for, also after a restart. */
export class DerivedSecrets {
  readonly #seed: Uint8Array;
  readonly #derived = new Map<string, Derived>();

  /** `seed`: a secret of this relay, kept over restarts. Owned by the object from now on. */
  constructor(seed: Uint8Array) {
    this.#seed = seed;
  }

  /** A salt that nobody who does not know the seed can tell from a random one. (auth-scram.c:scram_mock_salt) */
  saltOf(name: string): Uint8Array {
    return createHmac('sha256', this.#seed).update(name).digest().subarray(0, SCRAM_SALT_BYTES);
  }

  /**
   * The secret of a plain password. Its salt is the one an unknown user of that name would be shown: it does not change when the
   * user is written down, and not with a restart.
   */
  derive(name: string, password: string, iterations: number): Promise<ScramSecret> {
    const known = this.#derived.get(name);
    this.#derived.delete(name);
    if (known?.password === password && known.iterations === iterations) {
      this.#derived.set(name, known);
      return known.secret;
    }
    const secret = deriveScramSecret(password, { salt: this.saltOf(name), iterations });
    const derived = { password, iterations, secret };
    this.#derived.set(name, derived);
    const [oldest] = this.#derived.keys();
    if (this.#derived.size > AUTH_DERIVED_MAX && oldest !== undefined) this.#derived.delete(oldest);
    // What could not be derived is tried again the next time; whoever asked is told.
    secret.catch(() => {
      if (this.#derived.get(name) === derived) this.#derived.delete(name);
    });
    return secret;
  }
}
