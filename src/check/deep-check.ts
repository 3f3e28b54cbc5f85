// Would walcast work with this configuration, here and now? Looks at every upstream, the data directory, the addresses and
// the limits of the system, and changes nothing anywhere.
import type { Clock } from '../base/clock.ts';
import type { Config } from '../config/config.ts';
import { CHECK_HOSTS_AT_ONCE, CHECK_HOST_MS } from '../config/limits.ts';
import { dial } from '../net/dial.ts';
import { targetOf } from '../relay/upstream-address.ts';
import type { Finding } from './finding.ts';
import { probeHost } from './host-probe.ts';
import type { HostProbe } from './host-probe.ts';
import { limitFindings, portFindings } from './port-findings.ts';
import { clusterFindings, hostFindings } from './server-findings.ts';
import { checkStorage } from './storage-check.ts';
import { storeFindings } from './store-findings.ts';

/** What surrounds a check. */
export interface CheckSurroundings {
  readonly clock: Clock;
  /** For what libpq takes from its environment. */
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** Database of the SQL session when upstream.conninfo names none: every cluster has it. */
const DEFAULT_DATABASE = 'postgres';

/** Everything about the upstreams only, in the order of the host list. */
export interface UpstreamCheck {
  readonly probes: readonly HostProbe[];
  readonly findings: readonly Finding[];
}

/** Every finding: upstreams in the order of the list, then data directory, addresses, limits. */
export async function deepCheck(
  config: Config,
  surroundings: CheckSurroundings,
): Promise<readonly Finding[]> {
  const storage = await checkStorage(config);
  const isRunning = storage.ownerPid !== null;
  const upstream = await checkUpstreams(config, { ...surroundings, isRunning });
  const { directory } = config.storage;
  return [
    ...upstream.findings,
    ...storage.findings,
    ...(storage.control === null ? [] : storeFindings(storage.control, upstream.probes, directory)),
    ...(await portFindings(config, storage)),
    ...(await limitFindings(config)),
  ];
}

/** Asks every host of the list, some at a time. */
export async function checkUpstreams(
  config: Config,
  { clock, env, isRunning }: CheckSurroundings & { readonly isRunning: boolean },
): Promise<UpstreamCheck> {
  const target = targetOf(config.upstream.server, env);
  const { applicationName, slot, server } = config.upstream;
  const probes = await mapSome(target.hosts, (host) =>
    probeHost({
      target,
      host,
      applicationName,
      slot,
      database: server.database ?? DEFAULT_DATABASE,
      timeoutMs: target.connectTimeoutMs === 0 ? CHECK_HOST_MS : target.connectTimeoutMs,
      clock,
      dial,
    }),
  );
  const context = { applicationName, slot, isRunning };
  const findings = [
    ...probes.flatMap((probe) => hostFindings(probe, context)),
    ...clusterFindings(probes),
  ];
  return { probes, findings };
}

/** As Promise.all over `items`, with a bound on how many are under way. */
async function mapSome<T, R>(
  items: readonly T[],
  ask: (item: T) => Promise<R>,
): Promise<readonly R[]> {
  const results: R[] = [];
  const queue = [...items.entries()];
  const work = async (): Promise<void> => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      const [index, item] = next;
      results[index] = await ask(item);
    }
  };
  await Promise.all(Array.from({ length: CHECK_HOSTS_AT_ONCE }, work));
  return results;
}
