// Which policies the campaign `sync` draws, and what each promises about the standbys when everything stops at once.

/** One of the policies, over the standbys of a round. */
export interface DrawnPolicy {
  readonly method: 'FIRST' | 'ANY';
  /** How many standbys a commit waits for. */
  readonly required: number;
  /** Standbys in their order; all of them for `*`. */
  readonly names: readonly string[];
  /** As synchronous_standby_names has it. */
  readonly text: string;
}

/** As synchronous_commit has them, where a standby is waited for. */
export const LEVELS = ['remote_write', 'on', 'remote_apply'] as const;

/** Draws one over `standbys`, in an order of its own. */
export function drawPolicy(standbys: readonly string[], random: () => number): DrawnPolicy {
  const names = shuffled(standbys, random);
  const method = random() < 0.5 ? 'FIRST' : 'ANY';
  const required = 1 + Math.floor(random() * Math.min(2, names.length));
  const list = method === 'ANY' && random() < 0.3 ? '*' : names.join(', ');
  return { method, required, names, text: `${method} ${required} (${list})` };
}

/**
 * What is not as promised when no more commit is told of: `complete` are the standbys that have every commit that was told
 * of. `isSteady`: every standby was there all the time, so that the same ones were waited for.
 */
export function brokenGuarantee(
  policy: DrawnPolicy,
  complete: readonly string[],
  isSteady: boolean,
): string[] {
  const enough = complete.length >= policy.required;
  const lacking = guaranteed(policy, isSteady).filter((name) => !complete.includes(name));
  return [
    ...(enough
      ? []
      : [
          `${policy.text}: only ${complete.length} standbys (${complete.join(', ')}) have all commits that were acknowledged`,
        ]),
    ...lacking.map((name) => `${policy.text}: ${name} lacks commits that were acknowledged`),
  ];
}

/** The standbys of which it is known by name that they have every acknowledged commit. */
export function guaranteed(policy: DrawnPolicy, isSteady: boolean): readonly string[] {
  const isByName =
    policy.required === policy.names.length || (policy.method === 'FIRST' && isSteady);
  return isByName ? policy.names.slice(0, policy.required) : [];
}

/** Standbys whose standing still makes every commit wait. */
export function blockers(policy: DrawnPolicy): readonly string[] {
  if (policy.method === 'FIRST') return policy.names.slice(0, 1);
  return policy.names.slice(0, policy.names.length - policy.required + 1);
}

function shuffled(names: readonly string[], random: () => number): string[] {
  return names
    .map((name) => ({ name, key: random() }))
    .toSorted((a, b) => a.key - b.key)
    .map(({ name }) => name);
}
