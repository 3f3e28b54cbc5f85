// Is every mistake that a configuration can hold answered in words that were looked at? They are in
// golden/config-errors.txt; `WALCAST_TEST_UPDATE=1` writes it anew.
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { loadConfig } from '../../src/config/load.ts';
import type { FlagValue } from '../../src/config/named-layers.ts';
import { formatConfigError } from '../../src/config/problem.ts';
import { CONFIG_CASES } from '../support/config-cases.ts';
import type { ConfigCase } from '../support/config-cases.ts';

const GOLDEN = fileURLToPath(new URL('golden/config-errors.txt', import.meta.url));
const ROOM = fileURLToPath(new URL('../../src/config/', import.meta.url));

/** What the process is told, one line each. */
function linesOf(given: ConfigCase): string[] {
  const directory = mkdtempSync(join(tmpdir(), 'walcast-errors-'));
  try {
    const files = Object.entries(given.files ?? {});
    if (given.yaml !== undefined) files.push(['walcast.yaml', given.yaml]);
    for (const [name, content] of files) {
      const isOpen = given.readableByAll?.includes(name) === true;
      writeFileSync(join(directory, name), content);
      chmodSync(join(directory, name), isOpen ? 0o644 : 0o600);
    }
    const loaded = loadConfig({
      flags: (given.set ?? []).map(flagOf),
      env: given.env ?? {},
      file: given.file ?? (given.yaml === undefined ? null : 'walcast.yaml'),
      workingDirectory: directory,
      isPlainOnly: given.isPlainOnly === true,
    });
    const lines =
      'errors' in loaded
        ? loaded.errors.map(formatConfigError)
        : loaded.config.warnings.map((warning) => `warning: ${warning}`);
    return lines.map((line) => line.replaceAll(directory, '/here'));
  } finally {
    rmSync(directory, { recursive: true });
  }
}

function flagOf(entry: string): FlagValue {
  const end = entry.includes('=') ? entry.indexOf('=') : entry.length;
  return { path: entry.slice(0, end), text: entry.slice(end + 1), flag: '--set' };
}

function wanted(): string {
  const parts = CONFIG_CASES.map((given) => {
    const lines = linesOf(given).map((line) => `    ${line}\n`);
    return `${given.name}\n${lines.join('')}`;
  });
  return parts.join('\n');
}

test('every mistake is told as the golden file has it', () => {
  const text = wanted();
  if (process.env['WALCAST_TEST_UPDATE'] === '1') writeFileSync(GOLDEN, text);
  expect(text).toBe(readFileSync(GOLDEN, 'utf8'));
});

test('no case passes without a word', () => {
  for (const given of CONFIG_CASES)
    expect([given.name, linesOf(given)]).not.toEqual([given.name, []]);
});

test('no secret is repeated', () => {
  const text = wanted();
  expect(text).toContain('a connection string');
  expect(text).not.toMatch(/geheim/);
});

/** Words that no case can bring about: what a programmer does wrong, and what root is never told. */
const OUT_OF_REACH = [
  /^unknown setting /,
  / has neither value nor default$/,
  /^permission denied$/,
];

/** Files that hold no messages. */
const SILENT_FILES = /^(settings|file-schema|document|build-info|limits|print)\.ts$/;

/** Every text of two words or more in the code of the room, with `…` for what is put in. */
function messageTemplates(): string[] {
  return readdirSync(ROOM)
    .filter((name) => name.endsWith('.ts') && !SILENT_FILES.test(name))
    .flatMap((name) => {
      const code = readFileSync(join(ROOM, name), 'utf8')
        .replace(/\/\*[\s\S]*?\*\//g, '')
        .replace(/^\s*\/\/.*$/gm, '');
      const literals = code.match(/'(?:[^'\\\n]|\\.)*'|`(?:[^`\\]|\\.)*`/g) ?? [];
      return literals.map(templateOf);
    })
    .filter((template) => /[\w`"] [\w"$]|… \w|\w …/.test(template));
}

function templateOf(literal: string): string {
  return literal
    .slice(1, -1)
    .replace(/\$\{(?:[^{}]|\{[^{}]*\})*\}/g, '…')
    .replace(/\\(.)/g, '$1');
}

function matcherOf(template: string): RegExp {
  const parts = template.split('…').map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  return new RegExp(parts.join('.*'));
}

test('every message of the room is in the golden file', () => {
  const golden = readFileSync(GOLDEN, 'utf8');
  const templates = messageTemplates();
  expect(templates.length).toBeGreaterThan(60);
  const reachable = templates.filter((text) => !OUT_OF_REACH.some((words) => words.test(text)));
  expect(templates.length - reachable.length).toBe(OUT_OF_REACH.length);
  expect(reachable.filter((template) => !matcherOf(template).test(golden))).toEqual([]);
});
