// docs/metrics.md, as far as it is made from the catalogue.
import { CATALOGUE, METRIC_PREFIX, unitOf } from './catalogue.ts';

type Family = (typeof CATALOGUE)[number];

/** One table a group of families, in the order of the catalogue. */
export function describeFamilies(): string {
  return groups()
    .map(([group, families]) => [`### ${group}`, '', ...tableOf(families)].join('\n'))
    .join('\n\n');
}

function groups(): [string, Family[]][] {
  const byGroup = new Map<string, Family[]>();
  for (const family of CATALOGUE) {
    const title = groupOf(family.name);
    const families = byGroup.get(title);
    if (families === undefined) byGroup.set(title, [family]);
    else families.push(family);
  }
  return [...byGroup];
}

/** The first word of a name says what it is about. */
function groupOf(name: string): string {
  const titles: readonly (readonly [RegExp, string])[] = [
    [/^upstream_/, 'Upstream'],
    [/^(store|buffer)_/, 'WAL store'],
    [/^standby_/, 'Standbys'],
    [/^slot_/, 'Replication slots'],
    [/^(client|tls)_/, 'Access'],
    [/^http_/, 'HTTP'],
  ];
  return titles.find(([words]) => words.test(name))?.[1] ?? 'Process and configuration';
}

function tableOf(families: readonly Family[]): string[] {
  return [
    '| name | type | unit | labels | meaning |',
    '|---|---|---|---|---|',
    ...families.map(({ name, type, labels, help }) => {
      const shown = labels.length === 0 ? '–' : labels.map((label) => `\`${label}\``).join(', ');
      const unit = unitOf(name) ?? '–';
      return `| \`${METRIC_PREFIX}${name}\` | ${type} | ${unit} | ${shown} | ${help.replaceAll('|', '\\|')} |`;
    }),
  ];
}
