// walcast scram: the secret fits the password, and the password is nowhere in what is printed.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { deriveScramSecret, formatScramSecret } from '../../src/auth/scram-secret.ts';
import { readScramSecret } from '../../src/pg/password-secret.ts';
import { parseUserList } from '../../src/pg/user-list.ts';
import { walcast } from '../support/cli.ts';
import type { CliOutcome } from '../support/cli.ts';

const PROGRAM = fileURLToPath(new URL('../../bin/walcast.mjs', import.meta.url));

/** Types the answers, one a question. */
function typing(...answers: string[]): { askSecret: () => Promise<string | null> } {
  return { askSecret: () => Promise.resolve(answers.shift() ?? null) };
}

function piping(text: string): { readInput: (bytesMax: number) => Promise<string> } {
  return { readInput: (bytesMax) => Promise.resolve(text.slice(0, bytesMax)) };
}

async function fits(text: string, password: string): Promise<boolean> {
  const secret = readScramSecret(text.trim());
  if (secret === null) return false;
  return formatScramSecret(await deriveScramSecret(password, secret)) === secret.text;
}

describe('walcast scram', () => {
  test('asks twice and prints a secret that fits the password and does not tell it', async () => {
    const { code, out, err } = await walcast(['scram'], typing('pencil', 'pencil'));
    expect([code, err]).toEqual([0, '']);
    expect(await fits(out, 'pencil')).toBe(true);
    expect(await fits(out, 'pencils')).toBe(false);
    expect(out).toMatch(/^SCRAM-SHA-256\$4096:/);
    expect(out).not.toContain('pencil');
  });

  test('prints the secret alone on the last line for a user that is named', async () => {
    const { out } = await walcast(['scram', 'anne'], typing('pencil', 'pencil'));
    expect(await fits(out.trimEnd().split('\n').at(-1) ?? '', 'pencil')).toBe(true);
  });

  test('salts each secret anew', async () => {
    const first = await walcast(['scram'], typing('pencil', 'pencil'));
    const second = await walcast(['scram'], typing('pencil', 'pencil'));
    expect(first.out).not.toBe(second.out);
  });

  test('prints a line of a user list that reads back, and as many iterations as were asked for', async () => {
    const { out } = await walcast(
      ['scram', '--user', 'a "b"', '--iterations', '5000'],
      piping('pencil\nnothing of this\n'),
    );
    const list = parseUserList(out);
    const secret = 'users' in list ? list.users.get('a "b"') : undefined;
    expect(secret).toMatchObject({ kind: 'scram', iterations: 5_000 });
    expect(await fits(secret?.kind === 'scram' ? secret.text : '', 'pencil')).toBe(true);
  });

  const cases: readonly [string, Promise<CliOutcome>, number, string][] = [
    [
      'two passwords that differ',
      walcast(['scram'], typing('pencil', 'pencils')),
      1,
      'walcast scram: the two passwords are not the same\n',
    ],
    [
      'to ask once more who has left the first question',
      walcast(['scram'], typing('', 'pencil')),
      1,
      'walcast scram: no password was given\n',
    ],
    [
      'what is not UTF-8',
      walcast(['scram'], piping(Buffer.from([0x70, 0xe4, 0x0a]).toString())),
      1,
      'walcast scram: the password is not UTF-8 text\n',
    ],
    ['no password', walcast(['scram'], piping('\n')), 1, 'walcast scram: no password was given\n'],
    [
      'a password without an end',
      walcast(['scram'], piping('x'.repeat(5_000))),
      1,
      'walcast scram: the password has more than 1024 bytes\n',
    ],
    [
      'too few iterations',
      walcast(['scram', '--iterations', '1000'], typing('pencil', 'pencil')),
      2,
      'walcast scram: --iterations is a whole number, 4096 to 10000000\n',
    ],
    [
      'a name that no user can have',
      walcast(['scram', '--user', 'x'.repeat(64)], typing('pencil', 'pencil')),
      2,
      'walcast scram: the name of a user has more than 63 bytes\n',
    ],
    [
      'a password as a word behind the user',
      walcast(['scram', 'anne', 'pencil'], typing('pencil', 'pencil')),
      2,
      'walcast scram: "pencil" is not expected here\n',
    ],
  ];
  test.each(cases)('refuses %s', async (_name, outcome, code, err) => {
    expect(await outcome).toEqual({ code, out: '', err });
  });

  test('as a process reads the password from a pipe', async () => {
    const done = spawnSync(process.execPath, [PROGRAM, 'scram'], { input: 'pencil\n' });
    expect(done.stderr.toString()).toBe('');
    expect(await fits(done.stdout.toString(), 'pencil')).toBe(true);
  });
});
