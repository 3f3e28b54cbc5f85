// Do docs/metrics.md and the golden list of names say what is rendered?
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { CATALOGUE, METRIC_PREFIX, unitOf } from '../../src/metrics/catalogue.ts';
import { describeFamilies } from '../../src/metrics/document.ts';

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

test('the names, types, units and labels are the committed ones', () => {
  const lines = CATALOGUE.map(({ name, type, labels }) =>
    [METRIC_PREFIX + name, type, unitOf(name) ?? '-', labels.join(',') || '-'].join(' | '),
  );
  const text = `${lines.join('\n')}\n`;
  if (isUpdate) writeFileSync(GOLDEN, text);
  expect(readFileSync(GOLDEN, 'utf8')).toBe(text);
});

test('names follow the rules of Prometheus', () => {
  for (const { name, type, labels } of CATALOGUE) {
    expect(name, name).toMatch(/^[a-z][a-z0-9_]*$/);
    expect(name.endsWith('_total'), name).toBe(type === 'counter');
    if (type === 'histogram') expect(unitOf(name), name).toBe('seconds');
    const set: readonly string[] = labels;
    // Labels that the scraper sets, or that any client could fill without bound.
    for (const label of ['job', 'instance', 'namespace', 'pod', 'le', 'pid', 'port', 'lsn']) {
      expect(set.includes(label), name).toBe(false);
    }
    if (set.includes('client_addr')) expect(name).toBe('standby_info');
  }
  expect(new Set(CATALOGUE.map(({ name }) => name)).size).toBe(CATALOGUE.length);
});
