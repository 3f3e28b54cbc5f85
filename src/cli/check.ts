// walcast check: is the configuration right, and with --deep, would walcast work with it here and now?
import { authFindings } from '../check/auth-findings.ts';
import { conninfoFindings, deepCheck } from '../check/deep-check.ts';
import { errorFinding, formatFinding, okFinding, warningFinding } from '../check/finding.ts';
import type { Finding } from '../check/finding.ts';
import type { Config } from '../config/config.ts';
import { loadConfig } from '../config/load.ts';
import type { ConfigError } from '../config/problem.ts';
import { EXIT, isSet } from './command.ts';
import type { Command, CommandContext } from './command.ts';
import { configSources, configurationOptions, printConfigErrors } from './config-options.ts';

/** The command. */
export const checkCommand: Command = {
  name: 'check',
  summary: 'Check the configuration; with --deep also servers, data directory and ports.',
  options: [
    ...configurationOptions(),
    {
      name: 'deep',
      description:
        'Also connect to every upstream host as run would, and look at the data directory, the addresses and the limits of the system. Changes nothing.',
    },
    { name: 'json', description: 'Print one JSON object instead of lines.' },
  ],
  help: `
Without --deep nothing but the files of the configuration is touched: every mistake is printed as run would print it.
With --deep every finding is one line: error, warning or ok; where; what is wrong; what to change; and in brackets a code
that scripts can rely on (docs/check.md lists them). Each host is given connect_timeout, or 10 seconds.

Exit codes: 0 no errors, 1 errors (all of them are printed), 2 usage.

Examples:
  walcast check -c walcast.yaml
  walcast check -c walcast.yaml --deep
  walcast check --upstream 'host=pg-a,pg-b user=replicator' --data /var/lib/walcast --deep --json
`,
  run: check,
};

async function check(context: CommandContext): Promise<number> {
  const sources = configSources(context);
  const loaded = loadConfig(sources);
  if ('errors' in loaded) return refuse(context, loaded.errors);
  const source = sources.file ?? 'configuration';
  const { clock, env } = context;
  const findings = [
    ...configFindings(loaded.config, source),
    ...authFindings(loaded.config),
    ...(isSet(context.input, 'deep')
      ? (await deepCheck(loaded.config, { clock, env })).findings
      : conninfoFindings(loaded.config, { env })),
  ];
  report(context, findings);
  return exitCodeOf(findings);
}

/** What loading a valid configuration found. */
export function configFindings(config: Config, source: string): Finding[] {
  return [
    okFinding('config.valid', { subject: source, message: 'the configuration is valid' }),
    ...config.warnings.map((message) =>
      warningFinding('config.warning', { subject: source, message }),
    ),
  ];
}

/** 0, or 1 when there is an error among `findings`. */
export function exitCodeOf(findings: readonly Finding[]): number {
  return findings.some(({ severity }) => severity === 'error') ? EXIT.failure : EXIT.ok;
}

/** `1 error, 2 warnings`. */
export function summaryLine(findings: readonly Finding[]): string {
  const { errors, warnings } = countsOf(findings);
  return `${plural(errors, 'error')}, ${plural(warnings, 'warning')}`;
}

function refuse(context: CommandContext, errors: readonly ConfigError[]): number {
  if (isSet(context.input, 'json')) {
    report(
      context,
      errors.map((error) => {
        const { source, line, column } = error.place;
        const subject = [source, line, column].filter((part) => part !== null).join(':');
        return errorFinding('config.invalid', { subject, message: error.message, fix: error.hint });
      }),
    );
  } else {
    printConfigErrors(context, errors);
  }
  return EXIT.failure;
}

function report(context: CommandContext, findings: readonly Finding[]): void {
  if (isSet(context.input, 'json')) {
    const counts = countsOf(findings);
    const answer = { ok: counts.errors === 0, ...counts, findings };
    context.print(`${JSON.stringify(answer, null, 2)}\n`);
    return;
  }
  for (const finding of findings) context.print(`${formatFinding(finding)}\n`);
  context.print(`${summaryLine(findings)}\n`);
}

function countsOf(findings: readonly Finding[]): { errors: number; warnings: number } {
  const count = (severity: Finding['severity']): number =>
    findings.filter((finding) => finding.severity === severity).length;
  return { errors: count('error'), warnings: count('warning') };
}

function plural(count: number, word: string): string {
  return `${count} ${word}${count === 1 ? '' : 's'}`;
}
