// walcast health: one line for a monitoring system, with an exit code of its kind.
import { errorText, OperationalError } from '../base/errors.ts';
import { fromBaseUnit, parseNumberWithUnit } from '../config/units.ts';
import type { FindingJson, StandbyJson, StatusJson } from '../http/api-types.ts';
import { EXIT, optionValue } from './command.ts';
import type { Command, CommandContext, CommandInput } from './command.ts';
import { printable } from './plain-text.ts';
import { REMOTE_OPTIONS, remoteOf, remoteStatus } from './remote.ts';
import { sizeText } from '../base/human-text.ts';

/** Exit codes as monitoring plugins have them. */
const HEALTH = { ok: 0, warning: 1, critical: 2 } as const;
type Health = (typeof HEALTH)[keyof typeof HEALTH];

const WORDS = ['OK', 'WARNING', 'CRITICAL'] as const;

/** What each severity means for somebody who is woken up by it. */
const SEVERITY_HEALTH: Readonly<Record<FindingJson['severity'], Health>> = {
  info: HEALTH.ok,
  warning: HEALTH.warning,
  critical: HEALTH.critical,
};

/** Findings that one line has room for. */
const FINDINGS_TOLD_MAX = 3;

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
The line goes to standard output, the worst first, with performance data behind a bar, as Nagios and its kin read it. Sizes
have PostgreSQL's units, such as 64MB. What is the matter is what "walcast status" and the status page show, too.

Exit codes: 0 nothing is the matter; 1 a warning: not streaming for less than a minute, paused, draining, a lag above the first
size, too few standbys, one that is stalled, lags, is missing or wedged?, a store near its limit, a certificate that expires
within two weeks or whose new files are not in use, a file of a secret that cannot be used, a refused reload, an alarm; 2
something is critical: no stream for a minute, full, gap, diverged, corrupt, failed, synchronous_standby_names unsatisfied for
half a minute, a slot that is lost or about to be, a certificate that has expired, commits that were lost after they
were acknowledged, nobody answers, it does not let us ask, or a lag above the second size. A mistake in the options is 2 as well,
with its message on standard error.

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
      context.print(`WALCAST CRITICAL - ${oneLine(errorText(error))}\n`);
      return HEALTH.critical;
    }
  },
};

async function tellHealth(context: CommandContext): Promise<number> {
  const remote = remoteOf(context);
  const request = 'problem' in remote ? remote : requestOf(context.input);
  if ('problem' in remote || 'problem' in request) {
    const problem = 'problem' in request ? request.problem : '';
    context.printError(`walcast health: ${problem}\n`);
    return EXIT.usage;
  }
  const { health, line } = healthOf(await remoteStatus(remote), request);
  context.print(`${line}\n`);
  return health;
}

/** The verdict over a status, and the line that tells it: what is the matter, worst first, then the figures. */
export function healthOf(
  status: StatusJson,
  request: HealthRequest,
): { readonly health: Health; readonly line: string } {
  const furthest = furthestBehind(status.standbys);
  const told = [...judged(status.findings), ...facts(status, request, furthest)];
  const health = told.reduce<Health>((worst, [own]) => (own > worst ? own : worst), HEALTH.ok);
  const text = told.map(([, words]) => words).join(', ');
  const bar = `| ${performance(status, request, furthest)}`;
  return {
    health,
    line: `WALCAST ${WORDS[health]} - ${oneLine(text)} ${bar}`,
  };
}

/** A bar is where performance data begin. */
function oneLine(text: string): string {
  return printable(text).replaceAll('|', '/');
}

type Told = readonly [Health, string];

/** What walcast itself says is the matter; what is only good to know is left out. */
function judged(findings: readonly FindingJson[]): Told[] {
  const all = findings
    .map(({ severity, message }) => [SEVERITY_HEALTH[severity], message] as const)
    .filter(([health]) => health !== HEALTH.ok);
  const shown = all.slice(0, FINDINGS_TOLD_MAX);
  const more = all.length - shown.length;
  return more === 0
    ? shown
    : [...shown, [HEALTH.warning, `${more} more matter${more === 1 ? '' : 's'}`]];
}

/** The figures, which have limits of their own here. */
function facts(status: StatusJson, request: HealthRequest, furthest: StandbyJson | null): Told[] {
  const { upstream, standbys } = status;
  const isFew = standbys.length < request.standbys;
  const count = `${standbys.length} ${standbys.length === 1 ? 'standby' : 'standbys'}`;
  const told: Told[] = [
    [HEALTH.ok, stateText(status)],
    [lagHealth(upstream.lag_bytes, request.lag), `lag ${sizeText(upstream.lag_bytes)}`],
  ];
  if (furthest !== null) {
    const { application_name: name, lag_bytes: bytes } = furthest;
    told.push([
      lagHealth(bytes, request.standbyLag),
      `furthest behind is ${name} by ${sizeText(bytes)}`,
    ]);
  }
  told.push([
    isFew ? HEALTH.warning : HEALTH.ok,
    isFew ? `${count} of ${request.standbys}` : count,
  ]);
  return told;
}

function stateText({ state, upstream }: StatusJson): string {
  const server = upstream.host === null ? '' : ` from ${upstream.host}:${upstream.port ?? '?'}`;
  return state === 'streaming' ? `${state}${server}` : state;
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
  { upstream, standbys, store, findings }: StatusJson,
  request: HealthRequest,
  furthest: StandbyJson | null,
): string {
  const lag = (label: string, bytes: number | null, { warning, critical }: LagLimits): string =>
    `${label}=${bytes === null ? 'U' : `${bytes}B`};${warning ?? ''};${critical ?? ''}`;
  const count = (word: FindingJson['severity']): number =>
    findings.filter(({ severity }) => severity === word).length;
  return [
    lag('lag', upstream.lag_bytes, request.lag),
    lag('standby_lag', furthest?.lag_bytes ?? null, request.standbyLag),
    `standbys=${standbys.length};${request.standbys === 0 ? '' : `${request.standbys}:`}`,
    `store=${store.size_bytes}B;;;0;${store.limit_bytes ?? ''}`,
    `warnings=${count('warning')}`,
    `criticals=${count('critical')}`,
  ].join(' ');
}

function requestOf(input: CommandInput): HealthRequest | { readonly problem: string } {
  const lag = limitsOf(input, 'lag');
  if ('problem' in lag) return lag;
  const standbyLag = limitsOf(input, 'standby-lag');
  if ('problem' in standbyLag) return standbyLag;
  const standbys = optionValue(input, 'standbys') ?? '0';
  if (!/^\d{1,6}$/.test(standbys)) return { problem: '--standbys takes a whole number' };
  return { lag, standbyLag, standbys: Number(standbys) };
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
