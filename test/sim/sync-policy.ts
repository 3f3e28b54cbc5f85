// Which standbys do commits wait for? A policy as the models have it: drawn, and told apart from the text that the program reads.
import type { Random } from './machine/random.ts';

/** `synchronous_standby_names`, of a server or of a relay. */
export interface SyncPolicy {
  readonly method: 'FIRST' | 'ANY';
  readonly required: number;
  /** In their order; null for `*`. */
  readonly names: readonly string[] | null;
}

/** Everybody counts, one is enough. */
export const ANY_ONE: SyncPolicy = { method: 'ANY', required: 1, names: null };

/** As the setting has it; null is the empty one. */
export function policyText(policy: SyncPolicy | null): string {
  if (policy === null) return '';
  return `${policy.method} ${policy.required} (${policy.names?.join(', ') ?? '*'})`;
}

/** 1 for the first name, 0 for one that does not count. */
export function priorityOf(policy: SyncPolicy, name: string): number {
  if (policy.names === null) return 1;
  return policy.names.indexOf(name) + 1;
}

/** One over some of `names`. */
export function drawPolicy(names: readonly string[], random: Random): SyncPolicy {
  const shuffled = names
    .map((name) => ({ name, key: random.next() }))
    .toSorted((a, b) => a.key - b.key)
    .map(({ name }) => name);
  const some = shuffled.slice(0, random.between(1, names.length));
  return {
    method: random.pick(['FIRST', 'ANY']),
    required: random.between(1, Math.min(2, some.length)),
    names: random.chance(0.3) ? null : some,
  };
}
