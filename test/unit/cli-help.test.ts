// Does every command explain itself with examples that the command line really takes?
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import type { Command } from '../../src/cli/command.ts';
import { COMMANDS } from '../../src/cli/commands.ts';
import { parseInput } from '../../src/cli/parse-input.ts';
import { walcast } from '../support/cli.ts';

const LEAVES = COMMANDS.flatMap((command) => command.subcommands ?? [command]);
const ALL = COMMANDS.flatMap((command) => [command, ...(command.subcommands ?? [])]);

/** The example lines of a help text, continuation lines joined. */
function examplesOf({ help }: Command): string[] {
  const [, examples = ''] = help.split(/^Examples:$/m);
  return examples
    .replaceAll(/\\\n\s*/g, '')
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
}

/** Words as a shell makes them, redirections left out. */
function wordsOf(line: string): string[] {
  const [command = ''] = line.split(/ (?:>>?|\|) /);
  const words = [...command.matchAll(/(?:'[^']*'|"[^"]*"|[^\s'"]+)+/g)].map(([word]) =>
    word.replaceAll(/['"]/g, ''),
  );
  return words.slice(words.findIndex((word) => !/^[A-Z_]+=/.test(word)));
}

/** The command that the words name, and the words behind its name. */
function meant(words: readonly string[]): { command: Command; rest: readonly string[] } | null {
  const command = COMMANDS.find(({ name }) => name === words[0]);
  if (command === undefined) return null;
  if (command.subcommands === undefined) return { command, rest: words.slice(1) };
  const inner = command.subcommands.find(({ name }) => name === words.slice(0, 2).join(' '));
  return inner === undefined ? null : { command: inner, rest: words.slice(2) };
}

describe('help', () => {
  test.each(ALL.map((command) => [command.name, command] as const))(
    '%s has two examples at least, and the command line takes each of them',
    (name, command) => {
      const examples = examplesOf(command);
      expect(examples.length).toBeGreaterThanOrEqual(2);
      for (const example of examples) {
        const [program, ...words] = wordsOf(example);
        expect(program).toBe('walcast');
        if (words.length === 1 && /^--(?:help|version)$/.test(words[0] ?? '')) continue;
        const found = meant(words);
        if (found === null) throw new Error(`${name}: "${example}" names no command`);
        expect(found.command.name.startsWith(command.name)).toBe(true);
        expect(parseInput(found.command, found.rest)).toHaveProperty('input');
      }
    },
  );

  test.each(ALL.map(({ name }) => [name]))(
    '%s is explained in both ways, and with -h',
    async (name) => {
      const page = await walcast(['help', ...name.split(' ')]);
      expect([page.code, page.err]).toEqual([0, '']);
      expect(await walcast([...name.split(' '), '--help'])).toEqual(page);
      expect(await walcast([...name.split(' '), '-h'])).toEqual(page);
      expect(page.out).toContain(`Usage: walcast ${name} `);
      expect(page.out.split('\n').filter((line) => line.length > 120)).toEqual([]);
    },
  );

  test('the overview lists every command, a group its own', async () => {
    const { out } = await walcast(['--help']);
    for (const { name, summary } of COMMANDS) {
      expect(out).toMatch(new RegExp(`^  ${name} `, 'm'));
      expect(out).toContain(summary);
    }
    const slots = await walcast(['help', 'slots']);
    for (const word of ['list', 'create NAME', 'drop NAME'])
      expect(slots.out).toContain(`  slots ${word} `);
  });

  test.each([
    [['help', 'slots', 'lst'], 'walcast slots: unknown command "lst"; did you mean "list"?'],
    [['help', 'status', 'x'], 'walcast status: unknown command "x".'],
    [['help', 'slots', 'list', 'x'], 'walcast slots: unknown command "x".'],
    [['walk'], 'walcast: unknown command "walk"; did you mean "wal"?'],
    [
      ['wal', '--url', 'x', 'ls'],
      'walcast wal: options stand behind the command: walcast wal ls|verify|get --url',
    ],
  ])('%j is answered with "%s"', async (words, message) => {
    const { code, err } = await walcast(words);
    expect(code).toBe(2);
    expect(err).toContain(message);
  });
});

describe('the documents', () => {
  const text = (name: string): string =>
    readFileSync(fileURLToPath(new URL(`../../${name}`, import.meta.url)), 'utf8');

  test('the page of the command line names every command, the README their first words', () => {
    const page = text('docs/command-line.md');
    const readme = text('README.md');
    for (const { name } of COMMANDS) {
      expect(page).toContain(`| \`walcast ${name}\` |`);
      expect(readme).toMatch(new RegExp(`\`(?:walcast )?${name}\\b`));
    }
  });
});

describe('every command', () => {
  test.each(LEAVES.map(({ name }) => [name]))(
    '%s refuses an option it does not have',
    async (name) => {
      const { code, out, err } = await walcast([...name.split(' '), '--nonsense']);
      expect([code, out]).toEqual([2, '']);
      expect(err).toBe(
        `walcast ${name}: unknown option --nonsense\n"walcast help ${name}" shows the options.\n`,
      );
    },
  );

  test('the version is one line, however it is asked for', async () => {
    const { code, out } = await walcast(['--version']);
    expect(code).toBe(0);
    expect(out).toMatch(
      /^walcast \d\S*(?: \([0-9a-f]{12}\))?, Node\.js \d\S*, PostgreSQL 13 to 18[^\n]*\n$/,
    );
    for (const word of ['-V', 'version']) expect((await walcast([word])).out).toBe(out);
  });
});
