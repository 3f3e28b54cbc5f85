// Do docs/metrics.md and the golden list of names say what is rendered?
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { CATALOGUE, METRIC_PREFIX } from '../../src/metrics/catalogue.ts';
import { describeFamilies } from '../../src/metrics/document.ts';
import { fixedValues } from '../../src/metrics/label-values.ts';

const PAGE = fileURLToPath(new URL('../../docs/metrics.md', import.meta.url));
const GOLDEN = fileURLToPath(new URL('golden/metrics.txt', import.meta.url));
const isUpdate = process.env['WALCAST_TEST_UPDATE'] === '1';

test('the page lists every family as the catalogue has it', () => {
  const page = readFileSync(PAGE, 'utf8');
  const wanted = page.replace(
    /(<!-- families: [^>]*-->)[\s\S]*(<!-- end of families -->)/,
    (_all, begin: string, end: string) => `${begin}\n\n${describeFamilies()}\n\n${end}`,
  );
  if (isUpdate) writeFileSync(PAGE, wanted);
  else expect(page).toBe(wanted);
  for (const { name } of CATALOGUE) expect(wanted).toContain(`| \`${METRIC_PREFIX}${name}\` |`);
});

test('the names, types, units, labels and their fixed values are the committed ones', () => {
  const lines = CATALOGUE.map(({ name, type, unit, labels }) => {
    const shown = labels.map((label) => {
      const values = fixedValues(name, label);
      return values === null ? label : `${label}=${values.join('/')}`;
    });
    return [METRIC_PREFIX + name, type, unit ?? '-', shown.join(', ') || '-'].join(' | ');
  });
  const text = `${lines.join('\n')}\n`;
  if (isUpdate) writeFileSync(GOLDEN, text);
  expect(readFileSync(GOLDEN, 'utf8')).toBe(text);
});

test('names follow the rules of Prometheus', () => {
  for (const { name, type, unit, labels } of CATALOGUE) {
    expect(name, name).toMatch(/^[a-z][a-z0-9_]*$/);
    expect(name.endsWith('_total'), name).toBe(type === 'counter');
    const base = name.replace(/_total$/, '');
    // OpenMetrics: the unit is the last word of the name, also where it is said besides.
    expect(/_(seconds|bytes)$/.exec(base)?.[1] ?? null, name).toBe(unit);
    if (type === 'histogram') expect(unit, name).toBe('seconds');
    // Ends of the samples of a histogram, and what would be cut or taken for a type of its own.
    expect(name, name).not.toMatch(/_(bucket|count|sum|created|total_total)$/);
    // Labels that the scraper sets, or that any client could fill without bound.
    for (const label of ['job', 'instance', 'namespace', 'pod', 'le', 'pid', 'port', 'lsn']) {
      expect(labels.includes(label), name).toBe(false);
    }
    if (labels.includes('client_addr')) expect(name).toBe('standby_info');
  }
  expect(new Set(CATALOGUE.map(({ name }) => name)).size).toBe(CATALOGUE.length);
});
