// docs/metrics.md, as far as it is made from the catalogue.
import { CATALOGUE, METRIC_PREFIX } from './catalogue.ts';
import type { Family } from './catalogue.ts';
import { fixedValues } from './label-values.ts';

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
    [/^sync_/, 'Acknowledgement policy'],
    [/^(client|tls)_/, 'Access'],
    [/^(http|admin)_/, 'HTTP and console'],
  ];
  return titles.find(([words]) => words.test(name))?.[1] ?? 'Process and configuration';
}

function tableOf(families: readonly Family[]): string[] {
  return [
    '| name | type | unit | labels | meaning |',
    '|---|---|---|---|---|',
    ...families.map((family) => {
      const { name, type, help, labels } = family;
      const shown = labels.map((label) => labelCell(family, label)).join('; ');
      return `| \`${METRIC_PREFIX}${name}\` | ${type} | ${unitCell(family)} | ${shown === '' ? '–' : shown} | ${help.replaceAll('|', '\\|')} |`;
    }),
  ];
}

function labelCell({ name }: Family, label: string): string {
  const values = fixedValues(name, label);
  // The same everywhere, and said once above.
  if (values === null || label === 'upstream') return `\`${label}\``;
  return `\`${label}\` = ${values.join(' / ')}`;
}

function unitCell({ name, unit }: Family): string {
  if (name.endsWith('_timestamp_seconds')) return 'seconds since 1970';
  return name.endsWith('_lsn_bytes') ? 'bytes (LSN)' : (unit ?? '–');
}
