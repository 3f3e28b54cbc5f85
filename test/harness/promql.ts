// From what stands in dashboards and rules to what can be put to a Prometheus, and back to what it is made of.
import { SCRAPE_INTERVAL_MS } from './prometheus.ts';

/** What Grafana would replace: four scrapes, as it takes for `$__rate_interval`. */
const RATE_INTERVAL = `${SCRAPE_INTERVAL_MS * 4 * 2}ms`;
const VARIABLES: Readonly<Record<string, string>> = {
  __rate_interval: RATE_INTERVAL,
  __interval: RATE_INTERVAL,
  __range: RATE_INTERVAL,
};

/** Names that are no function and no label in the expressions of this project: series of walcast, of Node.js, of the process. */
const SELECTOR = /(?<![\w:"])((?:walcast|nodejs|process)[_:][\w:]+|up)\b(?!\s*\()(\{[^}]*\})?/g;

/** The expression with all variables replaced; `$name` and `${name}` and `${name:format}` that are not known give what matches all. */
export function withVariables(
  expression: string,
  values: Readonly<Record<string, string>> = {},
): string {
  const known = { ...VARIABLES, ...values };
  return expression.replaceAll(
    /\$(?:\{(\w+)(?::\w+)?\}|(\w+))/g,
    (_, braced: string | undefined, bare: string | undefined) =>
      known[braced ?? bare ?? ''] ?? '.+',
  );
}

/** The selectors that an expression looks at, each once, without ranges. */
export function selectorsOf(expression: string): string[] {
  return [
    ...new Set(
      [...expression.matchAll(SELECTOR)].map(([, name, labels = '']) => `${name}${labels}`),
    ),
  ];
}
