// The runbooks: a page for each alert, with commands that exist. Nobody wants to find out otherwise at night.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { RULES_PATH } from '../../dashboards/src/files.ts';
import { COMMANDS } from '../../src/cli/commands.ts';
import type { Command } from '../../src/cli/command.ts';
import { parseInput } from '../../src/cli/parse-input.ts';
import { SETTINGS } from '../../src/config/settings.ts';
import { REPORTS } from '../../src/console/show-reports.ts';
import { parseStatements } from '../../src/console/statement.ts';
import { VIEWS } from '../../src/console/views.ts';
import { CATALOGUE, METRIC_PREFIX } from '../../src/metrics/catalogue.ts';

interface Rule {
  readonly alert?: string;
  readonly for?: string;
  readonly labels: Readonly<Record<string, string>>;
}

const ROOT = join(import.meta.dirname, '../..');
const FOLDER = join(ROOT, 'docs/runbooks');

const HEADINGS = ['Description', 'Impact', 'Diagnosis', 'Mitigation'];
const AFTER: Readonly<Record<string, string>> = {
  '30s': 'after 30 seconds',
  '1m': 'after a minute',
  '2m': 'after 2 minutes',
  '5m': 'after 5 minutes',
  '10m': 'after 10 minutes',
  '1h': 'after an hour',
};

/** Words of PostgreSQL, of libpq and of the pages themselves, in the spelling of a key. */
const OTHER_WORDS: readonly string[] = [
  'application_name',
  'cluster_name',
  'max_standby_streaming_delay',
  'max_wal_senders',
  'pg_basebackup',
  'pg_receivewal',
  'pg_rewind',
  'pg_wal',
  'primary_conninfo',
  'recovery_min_apply_delay',
  'recovery_prefetch',
  'remote_write',
  'restore_command',
  'target_session_attrs',
  'upstream_client',
  'waiting_for_wal',
];

const rules = (
  parse(readFileSync(join(ROOT, RULES_PATH), 'utf8')) as { groups: { rules: Rule[] }[] }
).groups.flatMap((group) => group.rules);
const alerts = rules.flatMap((rule) =>
  rule.alert === undefined ? [] : [[rule.alert, rule] as const],
);
const openApi = readFileSync(join(ROOT, 'test/unit/golden/openapi.json'), 'utf8');
const names = readdirSync(FOLDER);

describe('docs/runbooks', () => {
  it('has a page for each alert, and a list of them', () => {
    const expected = ['README.md', ...alerts.map(([alert]) => `${alert}.md`)];
    expect(names.toSorted()).toEqual(expected.toSorted());
    const list = page('README.md');
    for (const [alert, { labels }] of alerts) {
      expect(list).toContain(`| [${alert}](${alert}.md) | ${labels['severity']} |`);
    }
  });

  it.each(alerts)(
    '%s: severity and time are those of the rule, the four parts are there',
    (alert, rule) => {
      const text = page(`${alert}.md`);
      expect(text.startsWith(`# ${alert}\n\nSeverity **${rule.labels['severity']}**, `)).toBe(true);
      expect(text).toContain(rule.for === undefined ? ', at once.' : `, ${AFTER[rule.for]}.`);
      expect([...text.matchAll(/^## (.*)$/gm)].map(([, heading]) => heading)).toEqual(HEADINGS);
      for (const part of text.split(/^## .*$/m).slice(1))
        expect(part.trim().length).toBeGreaterThan(40);
    },
  );
});

describe.each(names.map((name) => [name] as const))('%s', (name) => {
  const text = page(name);

  it('gives commands that walcast understands', () => {
    const given = commandsIn(text, 'walcast');
    if (name !== 'README.md')
      expect([...given, ...commandsIn(text, 'curl')].length).toBeGreaterThan(0);
    for (const line of given) {
      const words = line.split(/\s+/).slice(1);
      const { command, rest } = commandOf(words);
      expect(command?.name, line).toBeDefined();
      if (command === undefined) continue;
      expect(command.subcommands === undefined, `${line}: a command is missing`).toBe(true);
      expect(parseInput(command, rest), line).toHaveProperty('input');
    }
  });

  it('says whose store it means, and looks for errors where the log has them', () => {
    for (const line of commandsIn(text, 'walcast store')) {
      expect(line).toMatch(/ (?:-c|--data|--url) /);
    }
    // Lines of a program's own have no priority for the journal.
    for (const line of commandsIn(text, 'journalctl')) expect(line).not.toMatch(/ -p /);
  });

  it('makes standbys that have their name again, and warns before a store is emptied', () => {
    for (const [, line = ''] of text.matchAll(/`(pg_basebackup [^`]*-R[^`]*)`/g))
      expect(line).toContain('application_name=');
    if (commandsIn(text, 'walcast store reset').length > 0)
      expect(text).toContain('](../operations/state.md#begin-anew)');
  });

  it('asks the HTTP port for paths that there are', () => {
    for (const line of commandsIn(text, 'curl')) {
      const path = /https?:\/\/[^/\s]+(\/[^\s|?]*)/.exec(line)?.[1] ?? '';
      expect(openApi, line).toContain(`    "${path}": {`);
    }
    for (const [, path = ''] of text.matchAll(
      /`(\/(?:api\/|livez|readyz|startupz|metrics)[^`?]*)`/g,
    )) {
      expect(openApi, path).toContain(`    "${path}": {`);
    }
  });

  it('asks the console for what it answers', () => {
    for (const [, sql = ''] of text.matchAll(/psql -h relay-\w -d walcast -c '([^']*)'/g)) {
      const [statement] = parseStatements(sql);
      expect(statement, sql).toBeDefined();
      if (statement?.kind === 'show') expect([...REPORTS.keys()], sql).toContain(statement.name);
      const select = /^SELECT (.*) FROM (\w+)$/.exec(sql);
      if (select === null) continue;
      const [, list = '', from = ''] = select;
      const columns = VIEWS.get(from)?.columns.map((column) => column.name) ?? [];
      for (const column of list.split(',')) expect(columns, sql).toContain(column.trim());
    }
  });

  it('names keys, fields and metrics that there are', () => {
    const settings = SETTINGS.flatMap(({ path }) => [path, path.split('.').at(-1) ?? path]);
    const columns = [...VIEWS.values()].flatMap((view) =>
      view.columns.map((column) => column.name),
    );
    const families = CATALOGUE.map((family) => `${METRIC_PREFIX}${family.name}`);
    const known = new Set([...settings, ...columns, ...families, ...OTHER_WORDS]);
    for (const [, word = ''] of text.matchAll(/`([a-z]+(?:[._][a-z]+)+)`/g)) {
      const isKnown =
        known.has(word) ||
        settings.some((path) => path.startsWith(`${word}.`)) ||
        openApi.includes(`"${word}": {`) ||
        /\.(conf|yaml|md)$/.test(word);
      expect(isKnown, `${word} in ${name}`).toBe(true);
    }
  });

  it('leads to pages that there are', () => {
    for (const [, target = ''] of text.matchAll(/\]\(([^)#]+)\)/g)) {
      expect(existsSync(join(dirname(join(FOLDER, name)), target)), `${target} in ${name}`).toBe(
        true,
      );
    }
  });
});

/** Lines of blocks of commands, and what stands in the text between backticks, that begin with `program` or have it behind a pipe. */
function commandsIn(text: string, program: string): string[] {
  const blocks = [...text.matchAll(/^```\n([\s\S]*?)^```$/gm)].flatMap(([, block = '']) =>
    block.split('\n'),
  );
  const inline = [...text.replaceAll(/^```[\s\S]*?^```$/gm, '').matchAll(/`([^`\n]+)`/g)].map(
    ([, code = '']) => code,
  );
  // The name of the program alone is no command, but the program.
  return [...blocks, ...inline].filter((line) => line.startsWith(`${program} `));
}

function commandOf(words: readonly string[]): {
  readonly command: Command | undefined;
  readonly rest: readonly string[];
} {
  const [first = '', second = '', ...others] = words;
  const command = COMMANDS.find((one) => one.name === first);
  const sub = command?.subcommands?.find((one) => one.name === `${first} ${second}`);
  return sub === undefined ? { command, rest: words.slice(1) } : { command: sub, rest: others };
}

function page(name: string): string {
  return readFileSync(join(FOLDER, name), 'utf8');
}
