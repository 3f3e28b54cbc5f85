// Does the command line understand what is typed, say what is wrong, and end with the right code?
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { OperationalError } from '../../src/base/errors.ts';
import type { Command, CommandContext } from '../../src/cli/command.ts';
import { helpCommand } from '../../src/cli/help.ts';
import { runCommand } from '../../src/cli/run.ts';
import { statusCommand } from '../../src/cli/status.ts';
import { secondsText, sizeText } from '../../src/base/human-text.ts';
import { textTable } from '../../src/cli/text-table.ts';
import { versionCommand } from '../../src/cli/version.ts';
import { SETTINGS } from '../../src/config/settings.ts';
import { walcast } from '../support/cli.ts';
import type { CliOutcome } from '../support/cli.ts';

const neverStarted = runCommand(() => Promise.reject(new Error('not to be started')));
const commands: readonly Command[] = [
  neverStarted,
  statusCommand,
  helpCommand(() => commands),
  versionCommand,
];

function type(
  words: readonly string[],
  options?: Parameters<typeof walcast>[1],
): Promise<CliOutcome> {
  return walcast(words, { table: commands, ...options });
}

/** A command that keeps what it was given. */
function probe(): { command: Command; seen: () => CommandContext['input'] | null } {
  let input: CommandContext['input'] | null = null;
  return {
    seen: () => input,
    command: {
      name: 'probe',
      summary: 'Probe.',
      operands: '[WORD]...',
      options: [
        { name: 'file', short: 'f', placeholder: 'FILE', description: 'A file.' },
        { name: 'many', placeholder: 'X', isRepeatable: true, description: 'Many.' },
        { name: 'switch', description: 'A switch.' },
      ],
      help: '',
      async run(context) {
        input = context.input;
        return 0;
      },
    },
  };
}

describe('words', () => {
  test('options are read in every way they are written', async () => {
    const { command, seen } = probe();
    await type(
      ['probe', '-f', 'a b', '--many=1', '--many', '2', 'word', '--switch', '--', '--rest'],
      { table: [command] },
    );
    expect(Object.fromEntries(seen()?.options ?? [])).toEqual({
      file: ['a b'],
      many: ['1', '2'],
      switch: [''],
    });
    expect(seen()?.positionals).toEqual(['word', '--rest']);
  });

  test('a value may be empty or hold anything', async () => {
    const { command, seen } = probe();
    await type(['probe', '--file=', '--many=--x=y'], { table: [command] });
    expect(Object.fromEntries(seen()?.options ?? [])).toEqual({ file: [''], many: ['--x=y'] });
  });

  test.each([
    [['probe', '--fiel', 'x'], 'unknown option --fiel; did you mean --file?'],
    [['probe', '-x'], 'unknown option -x'],
    [['probe', '--file'], '--file needs a value: --file FILE'],
    [['probe', '--file', '--switch'], '--file needs a value: --file FILE'],
    [['probe', '--switch=on'], '--switch takes no value'],
    [['probe', '-f', 'a', '--file', 'b'], '--file is given twice'],
    [['version', 'now'], '"now" is not expected here'],
  ])('%j is refused: %s', async (words, message) => {
    const { code, err } = await type(words, { table: [probe().command, versionCommand] });
    expect(code).toBe(2);
    expect(err).toBe(
      `walcast ${words[0]}: ${message}\n"walcast help ${words[0]}" shows the options.\n`,
    );
  });

  test('an unknown command is answered with the one that was meant', async () => {
    expect(await type(['statsu'])).toEqual({
      code: 2,
      out: '',
      err: 'walcast: unknown command "statsu"; did you mean "status"? "walcast --help" lists the commands.\n',
    });
    expect((await type(['help', 'rnu'])).code).toBe(2);
  });

  test('nothing at all shows the help and is a mistake', async () => {
    const { code, out, err } = await type([]);
    expect([code, out]).toEqual([2, '']);
    expect(err).toContain('Usage: walcast COMMAND');
  });
});

describe('help and version', () => {
  test('every command is listed, and has a page with its options and an example', async () => {
    const { code, out } = await type(['--help']);
    expect(code).toBe(0);
    for (const { name, summary, options } of commands) {
      expect(out).toContain(`  ${name}`);
      expect(out).toContain(summary);
      const page = await type(['help', name]);
      expect(page).toEqual(await type([name, '--help']));
      expect(page.code).toBe(0);
      for (const option of options) expect(page.out).toContain(`--${option.name}`);
      expect(page.out.split('\n').every((line) => line.length <= 120)).toBe(true);
    }
    expect((await type(['help', 'run'])).out).toContain('walcast run -c walcast.yaml');
  });

  test('--help wins over everything else that was typed', async () => {
    expect((await type(['status', 'x', '--help'])).code).toBe(0);
  });

  test('the version is one line with name, version, Node.js and the majors', async () => {
    const { code, out } = await type(['--version'], {
      env: { WALCAST_REVISION: '0123456789abcdef0' },
    });
    expect(code).toBe(0);
    expect(out).toMatch(
      /^walcast \d+\.\d+\.\d+ \(0123456789ab\), Node\.js \d+\.\d+\.\d+, PostgreSQL 13 to 18 \(19 unverified\)\n$/,
    );
    expect(
      await type(['version'], { env: { WALCAST_REVISION: '0123456789abcdef0' } }),
    ).toMatchObject({ out });
  });

  test('every flag of the configuration is an option of run', () => {
    const options = neverStarted.options.map(({ name }) => name);
    for (const { flag } of SETTINGS) if (flag !== null) expect(options).toContain(flag.name);
  });
});

describe('failures', () => {
  const failing = (error: Error): Command => ({
    ...probe().command,
    run: () => Promise.reject(error),
  });

  test('what the world did is told in one line with what to do', async () => {
    const error = new OperationalError('X', 'the disk is gone', { hint: 'Bring it back.' });
    expect(await type(['probe'], { table: [failing(error)] })).toEqual({
      code: 1,
      out: '',
      err: 'walcast probe: the disk is gone. Bring it back.\n',
    });
  });

  test('what we did wrong is not caught', async () => {
    await expect(type(['probe'], { table: [failing(new TypeError('bug'))] })).rejects.toThrow(
      'bug',
    );
  });
});

describe('a bad configuration', () => {
  test('ends run with 78 and one line a mistake', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'walcast-cli-'));
    onTestFinished(() => rmSync(directory, { recursive: true }));
    writeFileSync(join(directory, 'walcast.yaml'), 'upstrem: {}\n');
    const named = await type(
      ['run', '-c', join(directory, 'walcast.yaml'), '--set', 'nonsense', '--http', 'x'],
      {
        workingDirectory: directory,
      },
    );
    expect(named.code).toBe(78);
    expect(named.err.trim().split('\n')).toEqual([
      'walcast: --set: unknown key `nonsense`',
      'walcast: --http: `http.listen`: "x" is no address: write HOST:PORT, such as 127.0.0.1:5432. Use "" for no HTTP port.',
      `walcast: ${directory}/walcast.yaml:1:1: unknown key \`upstrem\`. Did you mean \`upstream\`?`,
    ]);
    const unnamed = await type(['run'], { workingDirectory: directory });
    expect(unnamed.code).toBe(78);
    expect(unnamed.err).toContain('there is a walcast.yaml here; it is read with -c walcast.yaml');
    const variable = { WALCAST_CONFIG: join(directory, 'walcast.yaml') };
    expect((await type(['run'], { workingDirectory: '/', env: variable })).err).toContain(
      'upstrem',
    );
  });

  test('reads no file when the variable that names one is empty', async () => {
    const env = { WALCAST_CONFIG: '', WALCAST_UPSTREAM_CONNINFO: '' };
    const { err } = await type(['run'], { workingDirectory: '/', env });
    expect(err).toMatch(/^walcast: WALCAST_UPSTREAM_CONNINFO: `upstream.conninfo` is empty\n/);
  });
});

test('options before the command are told apart from unknown commands', async () => {
  const { code, err } = await type(['--json', 'status']);
  expect([code, err]).toEqual([
    2,
    'walcast: options stand behind the command: walcast COMMAND --json. "walcast --help" lists the commands.\n',
  ]);
});

test('a token that is missing or wrong is told as such, not as somebody else', async () => {
  const server = createServer((_request, response) => response.writeHead(401).end());
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void server.close());
  const address = server.address();
  const url = `http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}`;
  const missing = await type(['status', '--url', url]);
  const directory = mkdtempSync(join(tmpdir(), 'walcast-token-'));
  const file = join(directory, 'token');
  writeFileSync(file, 'another-token-of-somebody');
  const wrong = await type(['status', '--url', url, '--token-file', file]);
  rmSync(directory, { recursive: true });
  expect([missing.code, wrong.code]).toEqual([1, 1]);
  expect(missing.err).toContain(`${url} wants a token. Give the token of its http.token_file`);
  expect(wrong.err).toContain(`${url} refuses the token. Give the token of its http.token_file`);
});

describe('tables', () => {
  test('may have any number of rows', () => {
    const rows = Array.from({ length: 200_000 }, () => ['x']);
    expect(textTable(['a'], rows).length).toBe(200_002 * 2 - 1);
  });

  test('columns are as wide as their longest cell', () => {
    expect(textTable(['a', 'long'], [['xyz', '1']], new Set(['long']))).toBe(
      'a   | long\n----+-----\nxyz |    1',
    );
  });

  test.each([
    [null, '-'],
    [0, '0 B'],
    [1023, '1023 B'],
    [1536, '1.5 kB'],
    [200 * 1024 * 1024, '200 MB'],
    [5 * 1024 ** 4, '5.0 TB'],
  ])('%j bytes are %s', (bytes, text) => {
    expect(sizeText(bytes)).toBe(text);
  });

  test.each([
    [null, '-'],
    [0, '0.0 ms'],
    [0.25, '250 ms'],
    [2.34, '2.3 s'],
    [75, '75 s'],
  ])('%j seconds are %s', (seconds, text) => {
    expect(secondsText(seconds)).toBe(text);
  });
});
