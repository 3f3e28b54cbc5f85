// Does the command line understand what is typed, say what is wrong, and end with the right code?
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { OperationalError } from '../../src/base/errors.ts';
import type { Command, CommandContext } from '../../src/cli/command.ts';
import { helpCommand } from '../../src/cli/help.ts';
import { runCommand } from '../../src/cli/run.ts';
import { statusCommand } from '../../src/cli/status.ts';
import { statusView } from '../../src/cli/status-view.ts';
import { secondsText, sizeText } from '../../src/base/human-text.ts';
import { textTable } from '../../src/cli/text-table.ts';
import { versionCommand } from '../../src/cli/version.ts';
import { STATUS_WATCH_MS } from '../../src/config/limits.ts';
import { SETTINGS } from '../../src/config/settings.ts';
import { statusJson } from '../support/status-json.ts';
import { walcast } from '../support/cli.ts';
import type { CliOutcome } from '../support/cli.ts';
import { openTestPort } from '../support/http-port.ts';
import {
  sampleFeedback,
  sampleStandby,
  sampleStatus,
  sampleSync,
  unknownStatus,
} from '../support/relay-status.ts';

const NOW_MS = 1_700_000_100_000;

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

describe('status', () => {
  const metrics = {
    render: () => Promise.reject(new Error('not asked for')),
    observeRequest: () => {},
  };

  async function serving(
    status = sampleStatus(),
  ): Promise<{ url: string; close: () => Promise<void> }> {
    const server = await openTestPort({ source: { status: () => status }, metrics });
    return { url: server.url, close: () => server.close() };
  }

  test('it shows upstream, store and standbys', async () => {
    const { url, close } = await serving();
    const { code, out } = await type(['status', '--url', url]);
    await close();
    expect(code).toBe(0);
    expect(out).toBe(`walcast 0.1.0: streaming
system 7301234567890123456, PostgreSQL 15.18 (Debian 15.18-0+deb12u1), timeline 1

upstream  pg-a:5432, slot walcast: streaming
          server 0/3000100  received 0/3000060  flushed 0/3000000  acknowledged 0/3000000  lag 256 B
store     0/1000000 to 0/3000000, 3 segments, 48.0 MB

pid | application_name | client   | state     | sync  | sent_lsn  | flush_lsn | replay_lsn |    lag | write_lag | flush_lag | replay_lag | slot_name
----+------------------+----------+-----------+-------+-----------+-----------+------------+--------+-----------+-----------+------------+----------
 42 | standby_a        | 10.0.0.7 | streaming | async | 0/3000060 | 0/3000000 | 0/2FFF000  | 4.3 kB |    4.0 ms |     20 ms |      2.5 s | slot_a

standbys that left and are not back
application_name | client   | state   | left_at                  | how        | flush_lsn | replay_lsn | slot_name
-----------------+----------+---------+--------------------------+------------+-----------+------------+----------
standby_b        | 10.0.0.8 | wedged? | 2023-11-14T22:14:50.000Z | terminated | 0/2000060 | 0/2000000  | slot_b
`);
  });

  test('a standby in trouble is marked beside its state', () => {
    const view = (standby: Parameters<typeof sampleStandby>[0]): string =>
      statusView(statusJson(sampleStatus({ standbys: [sampleStandby(standby)] })), NOW_MS);
    expect(view({ isStalled: true })).toContain('| streaming (stalled) |');
    expect(view({ isStalled: true, isNameShared: true })).toContain(
      '| streaming (stalled, shared name) |',
    );
  });

  test('a policy, the one that holds the horizon, and alarms have a line each', () => {
    const sync = sampleSync({
      synchronousStandbyNames: 'ANY 2 (a, b, c)',
      method: 'quorum',
      requiredStandbys: 2,
      eligibleStandbys: 2,
      alarms: ['the slot of walcast falls behind'],
    });
    const standbys = [sampleStandby({ syncState: 'quorum', syncPriority: 1 })];
    const feedback = sampleFeedback({ xmin: 7001n, heldBy: 'standby_a' });
    const view = statusView(statusJson(sampleStatus({ sync, standbys, feedback })), NOW_MS);
    expect(view).toContain(
      `sync      ANY 2 (a, b, c): 2 of 2 needed, satisfied since 2023-11-14T22:13:20.000Z
          confirmed  write 0/3000060  flush 0/3000000  replay -
feedback  xmin 7001, held by standby_a
alarm     the slot of walcast falls behind
`,
    );
    expect(view).toContain('| streaming | quorum 1 |');
    const clash = 'our application_name is that of a member';
    const leftOut = sampleFeedback({ leftOut: 2 });
    expect(
      statusView(statusJson(sampleStatus({ sync: { ...sync, clash }, feedback: leftOut })), NOW_MS),
    ).toContain(
      `feedback  2 left out: further behind than max_feedback_xmin_age allows
clash     our application_name is that of a member
alarm     the slot of walcast falls behind
`,
    );
    const few = { ...sync, isSatisfied: false, eligibleStandbys: 1 };
    expect(statusView(statusJson(sampleStatus({ sync: few })), NOW_MS)).toContain(
      '1 of 2 needed, NOT satisfied: no flush position is reported since',
    );
  });

  test('--json prints the answer as it is', async () => {
    const { url, close } = await serving();
    const { out } = await type(['status', '--json', '--url', `${url}/`]);
    await close();
    expect(JSON.parse(out)).toEqual({
      ...JSON.parse(JSON.stringify(statusJson(sampleStatus()))),
      // They say how long ago things were.
      findings: expect.any(Array),
    });
    expect(out.endsWith('}\n')).toBe(true);
  });

  test('--watch goes on until a signal', async () => {
    const { url, close } = await serving();
    let pictures = 0;
    let interrupt: () => void = () => {};
    const { code } = await type(['status', '--watch', '--url', url], {
      clock: {
        ...systemClock,
        setTimer: (ms, callback) => systemClock.setTimer(ms === STATUS_WATCH_MS ? 0 : ms, callback),
      },
      onSignal: (listener) => {
        interrupt = () => listener('SIGINT');
        return () => {};
      },
      print: () => {
        pictures++;
        if (pictures === 3) interrupt();
      },
    });
    await close();
    expect([code, pictures]).toEqual([0, 3]);
  });

  test('nothing known and nobody connected is shown as such', () => {
    const view = statusView(statusJson(unknownStatus()), NOW_MS);
    expect(view).toContain('upstream  none yet, slot walcast: disconnected');
    expect(view).toContain('no standbys are connected');
    expect(view).not.toContain('not back');
    expect(view).not.toMatch(/null|undefined|NaN/);
  });

  test('a terminal is not given control characters that a client chose', () => {
    const standbys = [sampleStandby({ applicationName: '\u001b[2Jx\n' })];
    expect(statusView(statusJson(sampleStatus({ standbys })), NOW_MS)).toContain('?[2Jx?');
  });

  test('nobody there, something else there, or no address at all', async () => {
    const { url, close } = await serving();
    await close();
    const nobody = await type(['status', '--url', url]);
    expect(nobody.code).toBe(1);
    expect(nobody.err).toMatch(
      /^walcast status: no walcast answers at http:\/\/127\.0\.0\.1:\d+: .*ECONNREFUSED.*\. Is it running/,
    );
    const bad = await Promise.all(
      ['nonsense', 'ftp://x/', 'http://x/?a', 'http://x/#a', 'http://me:secret@x/'].map((text) =>
        type(['status', '--url', text]),
      ),
    );
    expect(bad.map(({ code }) => code)).toEqual([2, 2, 2, 2, 2]);
    expect(bad.map(({ err }) => err).join('')).not.toContain('secret');
  });

  test('options before the command are told apart from unknown commands', async () => {
    const { code, err } = await type(['--json', 'status']);
    expect([code, err]).toEqual([
      2,
      'walcast: options stand behind the command: walcast COMMAND --json. "walcast --help" lists the commands.\n',
    ]);
  });

  test('an answer that is no status is refused', async () => {
    const { url, close } = await serving();
    const { code, err } = await type(['status', '--url', `${url}/nothing`]);
    await close();
    expect(code).toBe(1);
    expect(err).toContain('is not a walcast: it answered 404');
  });
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
