// Is what a configuration names the upstream that is followed already, or another one?
import { isDeepStrictEqual } from 'node:util';
import type { UpstreamConfig } from '../config/config.ts';
import type { UpstreamHost, UpstreamTarget } from '../walreceiver/upstream-target.ts';

/** How an upstream is followed. */
export interface Followed {
  readonly settings: UpstreamConfig;
  readonly target: UpstreamTarget;
}

/** True where the session that runs may stay. `isPasswordNews`: another password makes another session. */
export function isSameSession(before: Followed, after: Followed, isPasswordNews: boolean): boolean {
  const { settings } = after;
  // Hosts that are discovered come and go: whether the one that is followed is still listed is asked then.
  const isDiscovered = isDiscoveredInBoth(before, after);
  const compared = (one: UpstreamTarget): UpstreamTarget =>
    isDiscovered ? { ...one, hosts: [] } : withoutPasswords(one);
  return (
    settings.slot === before.settings.slot &&
    settings.applicationName === before.settings.applicationName &&
    (!isPasswordNews || settings.server.password === before.settings.server.password) &&
    isDeepStrictEqual(compared(after.target), compared(before.target))
  );
}

/** True where neither list of hosts is written down. */
export function isDiscoveredInBoth(before: Followed, after: Followed): boolean {
  return before.settings.discovery !== null && after.settings.discovery !== null;
}

/** True where only passwords differ, if anything. */
export function isSameTarget(a: UpstreamTarget, b: UpstreamTarget): boolean {
  return isDeepStrictEqual(withoutPasswords(a), withoutPasswords(b));
}

/** True for the same name, address and port. */
export function isSameHost(a: UpstreamHost, b: UpstreamHost): boolean {
  return a.host === b.host && a.address === b.address && a.port === b.port;
}

function withoutPasswords(target: UpstreamTarget): UpstreamTarget {
  return { ...target, hosts: target.hosts.map((host) => ({ ...host, password: null })) };
}
