// Does docs/findings.md name every code with its alert, and does each alert have the page that it promises?
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';

const ROOT = new URL('../../', import.meta.url);
const HEALTH = new URL('src/health/', ROOT);

const SOURCE = readdirSync(HEALTH)
  .map((name) => readFileSync(new URL(name, HEALTH), 'utf8'))
  .join('\n');

/** Of the table: codes, severities, alert. */
const ROWS = readFileSync(new URL('docs/findings.md', ROOT), 'utf8')
  .split('\n')
  .filter((line) => line.startsWith('| `'))
  .map((line) => {
    const [, codes = '', severity = '', , alert = ''] = line.split('|').map((cell) => cell.trim());
    return { codes: [...codes.matchAll(/`(\w+)`/g)].map(([, code = '']) => code), severity, alert };
  });

const documented: readonly string[] = ROWS.flatMap(({ codes }) => codes);

/** Those of a state in which the upstream is held are made up of its name. */
function codesInSource(): string[] {
  const written = /code: (?:isWaiting \? '(\w+)' : )?'(\w+)'/g;
  const codes = [...SOURCE.matchAll(written)].flatMap(([, first, second]) => [first, second]);
  const held = [...SOURCE.matchAll(/^ {2}(\w+): \{\n {4}message:/gm)].map(
    ([, state]) => `upstream_${state}`,
  );
  expect(held.length).toBeGreaterThan(3);
  return [...new Set([...codes, ...held])].filter((code) => code !== undefined);
}

test('every code is in the table once, and no other', () => {
  expect(new Set(documented)).toEqual(new Set(codesInSource()));
  expect(new Set(documented).size).toBe(documented.length);
});

test('every severity of the table is one', () => {
  for (const { codes, severity } of ROWS) {
    expect(severity, codes.join(' ')).toMatch(/^(critical|warning|info|of the worst)/);
  }
});

describe('alerts', () => {
  const alerts = [...new Set([...SOURCE.matchAll(/'(Walcast\w+)'/g)].map(([, name = '']) => name))];

  test.each(alerts.map((name) => [name] as const))('%s has a page, and a row', (alert) => {
    expect(existsSync(new URL(`docs/runbooks/${alert}.md`, ROOT))).toBe(true);
    expect(ROWS.map((row) => row.alert)).toContain(alert);
  });

  test('the table names no other', () => {
    const named = ROWS.map(({ alert }) => alert).filter((alert) => alert !== '');
    expect(new Set(named)).toEqual(new Set(alerts));
  });
});
