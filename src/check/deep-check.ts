// Would walcast work with this configuration, here and now? Looks at every upstream, the data directory, the addresses and
// the limits of the system, and changes nothing anywhere.
import type { Clock } from '../base/clock.ts';
import { OperationalError } from '../base/errors.ts';
import { silentLog } from '../base/log.ts';
import type { Config } from '../config/config.ts';
import { CHECK_HOSTS_AT_ONCE, CHECK_HOST_MS } from '../config/limits.ts';
import { dial, formatTarget } from '../net/dial.ts';
import { httpGet } from '../net/http-get.ts';
import type { ConninfoHost } from '../pg/conninfo.ts';
import { targetOf } from '../relay/upstream-address.ts';
import { discoverOnce } from '../walreceiver/discovery.ts';
import type { UpstreamTarget } from '../walreceiver/upstream-target.ts';
import { errorFinding, okFinding, warningFinding } from './finding.ts';
import type { Finding } from './finding.ts';
import { probeHost } from './host-probe.ts';
import type { HostProbe } from './host-probe.ts';
import { certificateFindings } from './certificate-findings.ts';
import { limitFindings, portFindings } from './port-findings.ts';
import { clusterFindings, hostFindings, sessionKindFindings } from './server-findings.ts';
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

/** All that a deep check found. */
export interface DeepCheck {
  /** Upstreams in the order of the list, then data directory, addresses, limits. */
  readonly findings: readonly Finding[];
  readonly probes: readonly HostProbe[];
}

/** Looks at everything. */
export async function deepCheck(
  config: Config,
  surroundings: CheckSurroundings,
): Promise<DeepCheck> {
  const storage = await checkStorage(config);
  const isRunning = storage.owner !== null;
  const upstream = await checkUpstreams(config, { ...surroundings, isRunning });
  const { directory } = config.storage;
  const findings = [
    ...upstream.findings,
    ...storage.findings,
    ...(storage.control === null ? [] : storeFindings(storage.control, upstream.probes, directory)),
    ...(await portFindings(config, storage)),
    ...(await certificateFindings(config, surroundings.clock)),
    ...(await limitFindings(config)),
  ];
  return { findings, probes: upstream.probes };
}

/** What completing the connection string found: service file, environment, password file. Contacts nobody. */
export function conninfoFindings(
  config: Config,
  { env }: Pick<CheckSurroundings, 'env'>,
): readonly Finding[] {
  const resolved = resolveTarget(config, env);
  return 'finding' in resolved ? [resolved.finding] : resolved.warnings;
}

/**
 * Asks every host of upstream.conninfo, or of Patroni, some at a time: the part of {@link deepCheck} about upstreams.
 * `isRunning`: a walcast holds the data directory.
 */
export async function checkUpstreams(
  config: Config,
  { clock, env, isRunning }: CheckSurroundings & { readonly isRunning: boolean },
): Promise<DeepCheck> {
  const discovered = await discoverHosts(config, clock);
  const resolved = resolveTarget(config, env, discovered.hosts);
  if ('finding' in resolved) return { findings: [resolved.finding], probes: [] };
  const { target } = resolved;
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
  const context = {
    applicationName,
    policy: config.syncPolicy,
    slot,
    isRunning,
    wallMs: clock.wallMs(),
  };
  const findings = [
    ...resolved.warnings,
    ...discovered.findings,
    ...probes.flatMap((probe) => hostFindings(probe, context)),
    ...clusterFindings(probes),
    ...sessionKindFindings(probes, target.targetSessionAttrs),
  ];
  return { probes, findings };
}

type ResolvedTarget =
  | { readonly target: UpstreamTarget; readonly warnings: readonly Finding[] }
  | { readonly finding: Finding };

/** The servers that Patroni names, in the order of upstream.prefer; null: those of the connection string count. */
async function discoverHosts(
  { upstream }: Config,
  clock: Clock,
): Promise<{ readonly hosts: readonly ConninfoHost[] | null; readonly findings: Finding[] }> {
  if (upstream.discovery === null) return { hosts: null, findings: [] };
  const subject = 'upstream.discovery.patroni';
  const parts = { clock, log: silentLog, httpGet, random: Math.random };
  try {
    const found = await discoverOnce(upstream.discovery, parts);
    const names = found.map((host) => `${formatTarget(host)} (${host.role}, ${host.rank})`);
    const message = `Patroni names ${names.join(', ')}`;
    return {
      hosts: found.map(({ host, port }) => ({ host, hostaddr: null, port })),
      findings: [okFinding('upstream.discovery', { subject, message })],
    };
  } catch (error) {
    if (!(error instanceof OperationalError)) throw error;
    const message = `${error.message}; the hosts of upstream.conninfo would count until it does`;
    const fix = error.hint ?? null;
    return {
      hosts: null,
      findings: [warningFinding('upstream.discovery', { subject, message, fix })],
    };
  }
}

/** The connection string, completed as libpq completes it. */
function resolveTarget(
  config: Config,
  env: CheckSurroundings['env'],
  discovered: readonly ConninfoHost[] | null = null,
): ResolvedTarget {
  const subject = 'upstream.conninfo';
  const warnings: Finding[] = [];
  try {
    const warn = (message: string): void => {
      warnings.push(warningFinding('config.warning', { subject, message }));
    };
    const target = targetOf(config.upstream.server, env, warn, discovered);
    return { target, warnings };
  } catch (error) {
    if (!(error instanceof OperationalError)) throw error;
    const message = error.message.replace(`${subject}: `, '');
    const text = { subject, message, fix: fixOf(message) ?? error.hint ?? null };
    return { finding: errorFinding('upstream.conninfo', text) };
  }
}

/** What the string leads to may be wrong without the string being so. */
function fixOf(message: string): string | null {
  const service = /^definition of service "(.*)" not found/s.exec(message)?.[1];
  if (service !== undefined) {
    return `Correct the name of the service, or add a section [${service}] to the service file (PGSERVICEFILE, ~/.pg_service.conf, or pg_service.conf in PGSYSCONFDIR)`;
  }
  return /service file/.test(message) ? 'Correct that file' : null;
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
