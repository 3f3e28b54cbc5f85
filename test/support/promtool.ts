// Runs promtool over text that a test makes: rules are checked, expressions are put to made-up series.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findProgram } from './requirements.ts';

/** What promtool said, and whether it was satisfied. */
export interface PromtoolResult {
  readonly isGood: boolean;
  readonly output: string;
}

/** An expression put to the series at a time; values of the series it gives, in the order of their labels. */
export interface ExpressionCase {
  readonly expr: string;
  readonly evalTime: string;
  /** Labels as PromQL writes them (`{a="b"}`), and the value. */
  readonly samples: readonly { readonly labels: string; readonly value: number }[];
}

/** `promtool …args`, in a folder. */
export function promtool(args: readonly string[], cwd?: string): PromtoolResult {
  const { status, stdout, stderr } = spawnSync(findProgram('promtool') ?? 'promtool', args, {
    encoding: 'utf8',
    ...(cwd === undefined ? {} : { cwd }),
  });
  return { isGood: status === 0, output: `${stdout}${stderr}` };
}

/** Checks that every expression is PromQL of the Prometheus that is installed. */
export function checkExpressions(expressions: readonly string[]): PromtoolResult {
  const rules = expressions.map((expr, index) => ({ record: `test:expression:${index}`, expr }));
  return inFolder({ 'rules.yml': { groups: [{ name: 'test', rules }] } }, (folder) =>
    promtool(['check', 'rules', 'rules.yml'], folder),
  );
}

/** Puts expressions to series in promtool's notation (`1x5`, `0+10x20`), a sample every 15 s. */
export function evaluate(
  series: Readonly<Record<string, string>>,
  cases: readonly ExpressionCase[],
): PromtoolResult {
  const test = {
    evaluation_interval: '15s',
    tests: [
      {
        interval: '15s',
        input_series: Object.entries(series).map(([name, values]) => ({ series: name, values })),
        promql_expr_test: cases.map(({ expr, evalTime, samples }) => ({
          expr,
          eval_time: evalTime,
          exp_samples: samples,
        })),
      },
    ],
  };
  return inFolder({ 'test.yml': test }, (folder) =>
    promtool(['test', 'rules', 'test.yml'], folder),
  );
}

/** A dashboard's expression as Grafana would ask it, everything chosen. */
export function withEverythingChosen(expr: string): string {
  return expr.replaceAll('$__rate_interval', '1m').replaceAll(/\$(job|instance|standby)\b/g, '.+');
}

/** JSON is YAML. */
function inFolder(
  files: Readonly<Record<string, object>>,
  run: (folder: string) => PromtoolResult,
): PromtoolResult {
  const folder = mkdtempSync(join(tmpdir(), 'walcast-promtool-'));
  try {
    for (const [name, content] of Object.entries(files))
      writeFileSync(join(folder, name), JSON.stringify(content));
    return run(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
