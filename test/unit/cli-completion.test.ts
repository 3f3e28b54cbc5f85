// Do the completion scripts know every command, option and choice, and does a real shell complete lines with them?
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { COMMANDS } from '../../src/cli/commands.ts';
import { bashCompletion } from '../../src/cli/completion-bash.ts';
import { fishCompletion } from '../../src/cli/completion-fish.ts';
import { completionTable } from '../../src/cli/completion-table.ts';
import { zshCompletion } from '../../src/cli/completion-zsh.ts';
import { findProgram, requires } from '../support/requirements.ts';

const TABLE = completionTable(COMMANDS);
let directory: string;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'walcast-completion-'));
  writeFileSync(join(directory, 'walcast.bash'), bashCompletion(TABLE));
  writeFileSync(join(directory, '_walcast'), zshCompletion(TABLE));
  writeFileSync(join(directory, 'walcast.fish'), fishCompletion(TABLE));
  mkdirSync(join(directory, 'place', 'inner'), { recursive: true });
  writeFileSync(join(directory, 'place', 'a file.yaml'), '');
});

afterAll(() => {
  rmSync(directory, { recursive: true });
});

/** Runs one of the installed shells. */
function shell(name: string, args: readonly string[]): string {
  const path = findProgram(name);
  if (path === null) throw new Error(`${name} is not installed`);
  const result = spawnSync(path, args, { encoding: 'utf8', cwd: directory });
  expect(result.stderr).toBe('');
  expect(result.status).toBe(0);
  return result.stdout;
}

/** What bash offers for the last of `words`. */
function completed(...words: string[]): string[] {
  const script = `source ./walcast.bash
COMP_WORDS=("$@"); COMP_CWORD=$((\${#COMP_WORDS[@]} - 1)); _walcast
printf '%s\\n' "\${COMPREPLY[@]}"`;
  const out = shell('bash', ['--norc', '-c', script, 'bash', 'walcast', ...words]);
  return out.split('\n').filter((line) => line !== '');
}

const bash = requires('bash').it;

bash('every command, of groups too, is offered with all of its options', () => {
  const top = COMMANDS.map(({ name }) => name);
  expect(completed('')).toEqual([...top, '--help', '--version']);
  for (const command of COMMANDS) {
    const inner = command.subcommands ?? [];
    if (inner.length > 0) {
      const words = inner.map(({ name }) => name.replace(/^.* /, ''));
      expect(completed(command.name, '')).toEqual(words);
    }
    for (const { name, options } of inner.length > 0 ? inner : [command]) {
      const names = [...options.map((option) => `--${option.name}`), '--help'];
      expect(completed(...name.split(' '), '--')).toEqual(names);
    }
  }
});

bash('bash completes what was begun, values of choices, files and directories', () => {
  expect(completed('st')).toEqual(['status', 'store']);
  expect(completed('slots', 'cr')).toEqual(['create']);
  expect(completed('completion', '')).toEqual(['bash', 'zsh', 'fish']);
  expect(completed('run', '--log-level', '')).toEqual(['debug', 'info', 'warn', 'error']);
  expect(completed('run', '--log-level', '=', 'd')).toEqual(['debug']);
  expect(completed('run', '--log-level', '=')).toEqual(['debug', 'info', 'warn', 'error']);
  expect(completed('run', '-c', 'place/')).toEqual(['place/a file.yaml', 'place/inner']);
  expect(completed('wal', 'verify', 'place/')).toEqual(['place/inner']);
  expect(completed('store', 'import', 'x', '--data', 'pl')).toEqual(['place']);
  expect(completed('wal', 'get', '0001', 'place/a')).toEqual(['place/a file.yaml']);
  expect(completed('help', 'wa')).toEqual(['wal']);
  expect(completed('health', '--lag', '')).toEqual([]);
  expect(completed('nonsense', '')).toEqual([]);
});

bash('bash finds no fault with the script', () => {
  expect(shell('bash', ['-n', 'walcast.bash'])).toBe('');
});

requires('zsh').it('zsh finds no fault with the script', () => {
  expect(shell('zsh', ['-n', '_walcast'])).toBe('');
});

requires('fish').it('fish finds no fault with the script and completes with it', () => {
  expect(shell('fish', ['-n', 'walcast.fish'])).toBe('');
  const words = (line: string): string[] => {
    const script = `source ./walcast.fish; complete -C ${JSON.stringify(line)}`;
    const out = shell('fish', ['--no-config', '-c', script]);
    return out
      .split('\n')
      .filter((text) => text !== '')
      .map((text) => text.replace(/\t.*/, ''))
      .toSorted();
  };
  expect(words('walcast ')).toEqual(COMMANDS.map(({ name }) => name).toSorted());
  expect(words('walcast slots ')).toEqual(['create', 'drop', 'list']);
  expect(words('walcast run --log-level ')).toEqual(['debug', 'error', 'info', 'warn']);
});

test('the scripts for zsh and fish name every command and option', () => {
  const zsh = zshCompletion(TABLE);
  const fish = fishCompletion(TABLE);
  for (const { path, options } of TABLE.commands) {
    expect(zsh).toContain(`_walcast_${path.replaceAll(/[^a-z]/g, '_')}() {`);
    for (const { name } of options) {
      expect(zsh).toContain(`'*${name}`);
      expect(fish).toContain(` -n '__walcast_at "${path}"' -l ${name.slice(2)} `);
    }
  }
});
