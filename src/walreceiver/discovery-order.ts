// In which order are discovered servers tried? Those that are preferred first, the others as fall-back. Pure.
import type { TimelineId } from '../pg/timeline.ts';
import type { PatroniMember } from './patroni-cluster.ts';

/** Which servers come first: the leader, those that follow it, or those of one zone. */
export type HostPreference =
  | { readonly kind: 'primary' }
  | { readonly kind: 'standby' }
  | { readonly kind: 'zone'; readonly zone: string };

/**
 * How good a choice a server is: the one that is wanted; one that does as well; one that is still on an older timeline than
 * the leader; one that does not run. All of them are tried: what Patroni says is a hint.
 */
export type HostRank = 'preferred' | 'other' | 'behind' | 'down';

/** A server, and what it is worth. */
export interface DiscoveredHost extends PatroniMember {
  readonly rank: HostRank;
}

const RANKS: readonly HostRank[] = ['preferred', 'other', 'behind', 'down'];

/** In the order to try. Equal ones keep the order of `members`: what changes by the second (lag) moves nothing. */
export function orderHosts(
  members: readonly PatroniMember[],
  preference: HostPreference,
): readonly DiscoveredHost[] {
  const newest = leaderOf(members)?.timeline ?? null;
  return members
    .map((member) => ({ ...member, rank: rankOf(member, preference, newest) }))
    .toSorted((a, b) => placeOf(a) - placeOf(b));
}

/** The running server that holds the leader lock; null while there is none. */
export function leaderOf<Member extends PatroniMember>(members: readonly Member[]): Member | null {
  return members.find(({ role, isRunning }) => role !== 'standby' && isRunning) ?? null;
}

function rankOf(
  member: PatroniMember,
  preference: HostPreference,
  newest: TimelineId | null,
): HostRank {
  if (!member.isRunning) return 'down';
  const { timeline } = member;
  if (timeline !== null && newest !== null && timeline < newest) return 'behind';
  return isPreferred(member, preference) ? 'preferred' : 'other';
}

function isPreferred(member: PatroniMember, preference: HostPreference): boolean {
  switch (preference.kind) {
    case 'primary':
      return member.role !== 'standby';
    case 'standby':
      return member.role === 'standby' && !member.isSpared;
    case 'zone':
      return member.zone === preference.zone;
  }
}

/** Rank, then the leader, then servers that are not to be spared. */
function placeOf({ rank, role, isSpared }: DiscoveredHost): number {
  return RANKS.indexOf(rank) * 4 + (role === 'standby' ? 2 : 0) + (isSpared ? 1 : 0);
}
