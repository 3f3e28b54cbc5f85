// walcast health: one line for a monitoring system, with an exit code of its kind.
import { errorText, OperationalError } from '../base/errors.ts';
import { fromBaseUnit, parseNumberWithUnit } from '../config/units.ts';
import type { StandbyJson, StatusJson } from '../http/api-types.ts';
import type { RelayState } from '../status/status.ts';
import { certificateTroubles } from './certificate-text.ts';
import { EXIT, optionValue } from './command.ts';
import type { Command, CommandContext, CommandInput } from './command.ts';
import { printable, REMOTE_OPTIONS, remoteOf, remoteStatus } from './remote.ts';
import { sizeText } from '../base/human-text.ts';

/** Exit codes as monitoring plugins have them. */
const HEALTH = { ok: 0, warning: 1, critical: 2 } as const;
type Health = (typeof HEALTH)[keyof typeof HEALTH];

const WORDS = ['OK', 'WARNING', 'CRITICAL'] as const;

/** What each state means for somebody who is woken up by it. */
const STATE_HEALTH: Readonly<Record<RelayState, Health>> = {
  streaming: HEALTH.ok,
  catchup: HEALTH.ok,
  starting: HEALTH.warning,
  connecting: HEALTH.warning,
  waiting: HEALTH.warning,
  paused: HEALTH.warning,
  draining: HEALTH.warning,
  full: HEALTH.critical,
  gap: HEALTH.critical,
  diverged: HEALTH.critical,
  corrupt: HEALTH.critical,
  failed: HEALTH.critical,
};

/** Bytes from which on a lag is a warning, and from which on it is critical; null = never. */
interface LagLimits {
  readonly warning: number | null;
  readonly critical: number | null;
}

/** What is asked of the walcast. */
interface HealthRequest {
  readonly lag: LagLimits;
  readonly standbyLag: LagLimits;
  /** Fewer connected standbys are a warning. */
  readonly standbys: number;
  /** Now, milliseconds since the Unix epoch. */
  readonly wallMs: number;
}

/** The command. */
export const healthCommand: Command = {
  name: 'health',
  summary:
    'Tell a monitoring system in one line how a running walcast is: 0 ok, 1 warning, 2 critical.',
  options: [
    {
      name: 'lag',
      placeholder: 'SIZE',
      isRepeatable: true,
      description:
        'Warn when walcast itself is this far behind its upstream; given twice, the larger size is critical.',
    },
    {
      name: 'standby-lag',
      placeholder: 'SIZE',
      isRepeatable: true,
      description: 'The same for the connected standby that is furthest behind.',
    },
    {
      name: 'standbys',
      placeholder: 'N',
      description: 'Warn when fewer standbys are connected.',
    },
    ...REMOTE_OPTIONS,
  ],
  help: `
The line goes to standard output, with performance data behind a bar, as Nagios and its kin read it. Sizes have
PostgreSQL's units, such as 64MB.

Exit codes: 0 streaming or catching up; 1 starting, connecting, waiting, paused, draining, or a lag above the first size, or
something to look at: too few standbys for synchronous_standby_names, one that is stalled or wedged?, a store near its
limit, a certificate that expires within two weeks or whose new files are not in use, a
file of a secret that cannot be used, an alarm;
2 full, gap, diverged, corrupt, failed, nobody answers, it does not let us ask, or a lag above the second size. A mistake in the options is 2 as
well, with its message on standard error.

Examples:
  walcast health
  walcast health --lag 64MB --lag 1GB
  walcast health --url http://relay-a:9188 --standby-lag 1GB --standbys 2
`,
  async run(context): Promise<number> {
    try {
      return await tellHealth(context);
    } catch (error) {
      if (!(error instanceof OperationalError)) throw error;
      context.print(`WALCAST CRITICAL - ${printable(errorText(error))}\n`);
      return HEALTH.critical;
    }
  },
};

async function tellHealth(context: CommandContext): Promise<number> {
  const remote = remoteOf(context);
  const request = 'problem' in remote ? remote : requestOf(context.input, context.clock.wallMs());
  if ('problem' in remote || 'problem' in request) {
    const problem = 'problem' in request ? request.problem : '';
    context.printError(`walcast health: ${problem}\n`);
    return EXIT.usage;
  }
  const { health, line } = healthOf(await remoteStatus(remote), request);
  context.print(`${line}\n`);
  return health;
}

/** The verdict over a status, and the line that tells it. */
export function healthOf(
  status: StatusJson,
  request: HealthRequest,
): { readonly health: Health; readonly line: string } {
  const { upstream, standbys } = status;
  const furthest = furthestBehind(standbys);
  const findings: readonly (readonly [Health, string])[] = [
    [STATE_HEALTH[status.state], stateText(status)],
    [lagHealth(upstream.lag_bytes, request.lag), `lag ${sizeText(upstream.lag_bytes)}`],
    [
      lagHealth(furthest?.lag_bytes ?? null, request.standbyLag),
      furthest === null
        ? ''
        : `furthest behind is ${furthest.application_name} by ${sizeText(furthest.lag_bytes)}`,
    ],
    [
      standbys.length < request.standbys ? HEALTH.warning : HEALTH.ok,
      `${standbys.length} ${standbys.length === 1 ? 'standby' : 'standbys'}${
        standbys.length < request.standbys ? ` of ${request.standbys}` : ''
      }`,
    ],
    ...troubles(status, request.wallMs).map((words) => [HEALTH.warning, words] as const),
  ];
  const health = findings.reduce<Health>((worst, [own]) => (own > worst ? own : worst), HEALTH.ok);
  const text = findings.map(([, words]) => words).filter((words) => words !== '');
  const bar = `| ${performance(status, request, furthest)}`;
  return {
    health,
    line: `WALCAST ${WORDS[health]} - ${printable(text.join(', ')).replaceAll('|', '/')} ${bar}`,
  };
}

/** Names that one line has room for. */
const NAMES_MAX = 5;

/** What somebody should look at although WAL goes on. */
function troubles(
  { sync, standbys, absent_standbys: absent, store, access }: StatusJson,
  wallMs: number,
): string[] {
  const found: string[] = [];
  if (!sync.satisfied) {
    found.push(
      `synchronous_standby_names needs ${sync.required_standbys} standbys, ${sync.eligible_standbys} are there`,
    );
  }
  const stalled = standbys.filter((standby) => standby.stalled);
  if (stalled.length > 0) found.push(`stalled: ${namesOf(stalled)}`);
  const wedged = absent.filter(({ state }) => state === 'wedged?');
  if (wedged.length > 0) found.push(`wedged?: ${namesOf(wedged)}`);
  if (store.near_limit) found.push('the store is near its limit');
  const certificates = access.certificates.flatMap((one) => certificateTroubles(one, wallMs));
  const alarms = [certificates, access.secret_problems, sync.alarms];
  return [...found, ...alarms.flatMap((some) => some.slice(0, NAMES_MAX))];
}

function namesOf(standbys: readonly { readonly application_name: string }[]): string {
  const names = standbys.slice(0, NAMES_MAX).map(({ application_name: name }) => name);
  const more = standbys.length - names.length;
  return names.join(' ') + (more > 0 ? ` and ${more} more` : '');
}

function stateText({ state, detail, upstream }: StatusJson): string {
  const server = upstream.host === null ? '' : ` from ${upstream.host}:${upstream.port ?? '?'}`;
  if (state === 'streaming') return `${state}${server}`;
  return detail === null ? state : `${state} (${detail})`;
}

function furthestBehind(standbys: readonly StandbyJson[]): StandbyJson | null {
  let worst: StandbyJson | null = null;
  for (const standby of standbys) {
    if (standby.lag_bytes === null) continue;
    if (worst === null || standby.lag_bytes > (worst.lag_bytes ?? 0)) worst = standby;
  }
  return worst;
}

function lagHealth(bytes: number | null, { warning, critical }: LagLimits): Health {
  if (bytes === null) return HEALTH.ok;
  if (critical !== null && bytes >= critical) return HEALTH.critical;
  return warning !== null && bytes >= warning ? HEALTH.warning : HEALTH.ok;
}

/** `label=value[unit];warning;critical`, unknown values as U. */
function performance(
  { upstream, standbys, store }: StatusJson,
  request: HealthRequest,
  furthest: StandbyJson | null,
): string {
  const lag = (label: string, bytes: number | null, { warning, critical }: LagLimits): string =>
    `${label}=${bytes === null ? 'U' : `${bytes}B`};${warning ?? ''};${critical ?? ''}`;
  return [
    lag('lag', upstream.lag_bytes, request.lag),
    lag('standby_lag', furthest?.lag_bytes ?? null, request.standbyLag),
    `standbys=${standbys.length};${request.standbys === 0 ? '' : `${request.standbys}:`}`,
    `store=${store.size_bytes}B`,
  ].join(' ');
}

function requestOf(
  input: CommandInput,
  wallMs: number,
): HealthRequest | { readonly problem: string } {
  const lag = limitsOf(input, 'lag');
  if ('problem' in lag) return lag;
  const standbyLag = limitsOf(input, 'standby-lag');
  if ('problem' in standbyLag) return standbyLag;
  const standbys = optionValue(input, 'standbys') ?? '0';
  if (!/^\d{1,6}$/.test(standbys)) return { problem: '--standbys takes a whole number' };
  return { lag, standbyLag, standbys: Number(standbys), wallMs };
}

function limitsOf(input: CommandInput, name: string): LagLimits | { readonly problem: string } {
  const sizes: number[] = [];
  for (const text of input.options.get(name) ?? []) {
    const parsed = parseNumberWithUnit(text, 'B');
    if ('problem' in parsed) return { problem: `--${name}: "${text}" ${parsed.problem}` };
    if (parsed.value < 0) return { problem: `--${name}: "${text}" is negative` };
    sizes.push(fromBaseUnit(parsed.value, 'B'));
  }
  if (sizes.length > 2) return { problem: `--${name} is given more than twice` };
  const [warning = null, critical = null] = sizes.toSorted((a, b) => a - b);
  return { warning, critical };
}
