// walcast init: what a person says is asked again until it can be, who leaves finds nothing written, and nobody gets in by accident.
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { chmod, chown, mkdir, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { expect, onTestFinished, test } from 'vitest';
import { parse } from 'yaml';
import { findStandbyUserProblem, withPasswordFile } from '../../src/cli/init-draft.ts';
import { isForOthers, refuseExisting, writeNewFiles } from '../../src/cli/init-files.ts';
import { lastWords, passwordFileLine } from '../../src/cli/init-report.ts';
import { firstRules } from '../../src/cli/init-rules.ts';
import { loadConfig } from '../../src/config/load.ts';
import { parseConninfoOptions } from '../../src/pg/conninfo-syntax.ts';
import { parseHba } from '../../src/pg/hba.ts';
import { findPassword } from '../../src/pg/password-file.ts';
import { walcast } from '../support/cli.ts';
import { itWhen, requires } from '../support/requirements.ts';
import { Terminal } from '../support/terminal.ts';

const PROGRAM = fileURLToPath(new URL('../../bin/walcast.mjs', import.meta.url));

/** Nobody listens there: port 1 of this machine. */
const NOWHERE = 'host=127.0.0.1 port=1 user=u';

function temporaryDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), 'walcast-init-'));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

interface Conversation {
  readonly code: number;
  /** Questions and lines shown, in order. */
  readonly shown: string;
  readonly files: readonly string[];
  readonly directory: string;
}

/** Answers each question in turn; at the end of the answers the person leaves. */
async function converse(
  words: readonly string[],
  answers: readonly string[],
): Promise<Conversation> {
  const directory = temporaryDirectory();
  const left = [...answers];
  let shown = '';
  const answer = async (question: string): Promise<string | null> => {
    shown += question;
    const line = left.shift() ?? null;
    shown += `${line ?? '<left>'}\n`;
    return line;
  };
  const done = await walcast(['init', '--http', '127.0.0.1:0', ...words], {
    workingDirectory: directory,
    printError: (text) => (shown += text),
    openDialogue: () => ({ ask: answer, askSecret: answer, close: () => {} }),
  });
  return {
    code: done.code,
    shown: shown + done.out,
    files: readdirSync(directory).toSorted(),
    directory,
  };
}

test('nothing is written for who leaves before the last question', async () => {
  const given = ['--upstream', NOWHERE, '--slot', 'a', '--listen', '127.0.0.1:0', '--data', 'data'];
  for (const answers of [[], ['go'], ['go', '-'], ['go', '-', 'anne']]) {
    const { code, shown, files } = await converse(given, answers);
    expect([code, files]).toEqual([1, []]);
    expect(shown).toContain(
      'walcast init: it was left before the last question; nothing was written. With --yes nothing is asked.',
    );
  }
});

test('a question that flags answer is not asked, and with --yes none is', async () => {
  const { shown, files } = await converse(
    ['--upstream', NOWHERE, '--slot', 'a', '--listen', '127.0.0.1:0', '--data', 'data', '--trust'],
    ['go', '-'],
  );
  expect(shown).not.toMatch(/Primary:|Replication slot there|Address that|Directory for|log in at/);
  expect(files).toEqual(['token', 'walcast.yaml']);
  const quiet = await converse(['--yes', '--upstream', NOWHERE], []);
  expect(quiet.shown).not.toMatch(/\]: |Password|Enter/);
  expect(quiet.files).toEqual(['standby.pgpass', 'token', 'userlist.txt', 'walcast.yaml']);
});

test('an answer that cannot be is asked for again, one in doubt may be given twice', async () => {
  const { code, shown, directory } = await converse(
    [],
    [
      'hostt=a',
      'a b=c',
      NOWHERE,
      'A-B',
      '-',
      // A closed port: another connection string that cannot be, then the same again, then on all the same.
      'port=1=2 host',
      '',
      'go',
      '10.0.0.0 10.0.0.0/8',
      '10.0.0.0/8, fd00::/8',
      'none.crt',
      '',
      '',
      '',
      '127.0.0.1:0',
      '/dev/null/x',
      'data',
      '\u0001',
      'anne',
      'pen',
      'pencil',
      'pencil',
      'pencil',
    ],
  );
  // The servers cannot be reached, which is said and no reason not to write.
  expect(code).toBe(1);
  expect(shown).toContain('invalid connection option "hostt"');
  expect(shown).toMatch(/Replication slot there.*A-B\nreplication slot name "A-B" is not valid/);
  expect(shown).toContain('"10.0.0.0" is no network');
  expect(shown).toMatch(
    /none\.crt\nthere is no file .*none\.crt\nAnother answer, or Enter to go on/,
  );
  expect(shown).toMatch(/none\.key\]: \nerror {4}\*:5433: .*none\.crt.*\nAnother answer, or Enter/);
  expect(shown).toMatch(/\/dev\/null\/x\nerror .*\nAnother answer/);
  expect(shown).toContain('the name of a user holds a control character');
  expect(shown).toContain('the two passwords are not the same');
  const text = readFileSync(join(directory, 'walcast.yaml'), 'utf8');
  const live = text.split('\n').filter((line) => !/^ *(#|$)/.test(line));
  expect(live.map((line) => line.trim())).toEqual([
    'upstream:',
    `conninfo: "${NOWHERE}"`,
    'slot: ""',
    expect.stringContaining('listen: [ { address: "127.0.0.1:0", tls: { cert:'),
    'auth:',
    'hba: |',
    'host replication anne 127.0.0.1/32 scram-sha-256',
    'host replication anne ::1/128 scram-sha-256',
    'hostssl replication anne 10.0.0.0/8 scram-sha-256',
    'hostssl replication anne fd00::/8 scram-sha-256',
    'users_file: userlist.txt',
    'storage:',
    `directory: ${directory}/data`,
    'http:',
    'listen: "127.0.0.1:0"',
    'token_file: token',
  ]);
});

test('a list of users that is there already can be named, and nothing is made beside it', async () => {
  const directory = temporaryDirectory();
  await writeFile(join(directory, 'userlist.txt'), '"u" "pencil"\n', { mode: 0o600 });
  const words = ['--yes', '--upstream', NOWHERE, '--set', 'auth.users_file=userlist.txt'];
  const done = await walcast(['init', ...words], { workingDirectory: directory });
  expect([done.code, done.err]).toEqual([1, '']);
  expect(readdirSync(directory).toSorted()).toEqual(['token', 'userlist.txt', 'walcast.yaml']);
  expect(done.out).toContain('[auth.rules]');
});

test('a password that a file has is not asked for', async () => {
  const password = join(temporaryDirectory(), 'password');
  await writeFile(password, 'pencil\n');
  const { shown, files } = await converse(
    ['--upstream', NOWHERE, '--standby-password-file', password],
    ['-', 'go', '-', '127.0.0.1:0', 'data', 'anne'],
  );
  expect(shown).toContain('\nWrote walcast.yaml.');
  expect(files).toEqual(['token', 'userlist.txt', 'walcast.yaml']);
});

test('a token is made up where something can be changed over HTTP, is told nobody, and none is made where one is given', async () => {
  const made = await converse(['--yes', '--upstream', NOWHERE], []);
  const path = join(made.directory, 'token');
  const token = readFileSync(path, 'utf8');
  expect(token).toMatch(/^[\w-]{43}\n$/);
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(made.shown).not.toContain(token.trim());
  expect(made.shown).toContain(`walcast drain --token-file ${path}\n`);
  const file = join(made.directory, 'walcast.yaml');
  const loaded = loadConfig({ flags: [], env: {}, file, workingDirectory: '/' });
  expect(loaded).toMatchObject({ config: { http: { token: token.trim() } } });
  for (const words of [
    ['--http', ''],
    ['--set', `http.token_file=${path}`],
  ]) {
    const workingDirectory = temporaryDirectory();
    const done = await walcast(['init', '--upstream', NOWHERE, ...words], { workingDirectory });
    expect(done.out).not.toContain('--token-file');
    const files = readdirSync(workingDirectory).toSorted();
    expect([words, files]).toEqual([words, ['standby.pgpass', 'userlist.txt', 'walcast.yaml']]);
  }
});

test('a folder that cannot be written is told before anything is asked', async () => {
  const { code, shown, files } = await converse(['-o', 'none/walcast.yaml'], []);
  expect([code, files]).toEqual([1, []]);
  expect(shown).toMatch(/none\/walcast\.yaml" cannot be written: .*Choose another file with -o/);
  expect(shown).not.toContain('Primary');
});

test('what is to be typed lets nobody else read a secret for a moment, and empties no file', async () => {
  const { shown } = await converse(['--yes', '--upstream', NOWHERE], []);
  expect(shown).toMatch(/^ {2}\(umask 077 && cat \S+ >> ~\/\.pgpass\) && chmod 600 ~\/\.pgpass$/m);
  const alone = await walcast(['init', '--upstream', NOWHERE, '-o', '-']);
  expect(alone.err).toMatch(/^ {2}\(umask 077 && walcast scram --user u >> userlist\.txt\) /m);
});

test('the line for a certificate is for the addresses that were chosen', async () => {
  const listen = ['--listen', '[::1]:0,/run/x:6000'];
  const words = ['--upstream', NOWHERE, '-o', '-', '--allow', 'fd00::/8', ...listen];
  const { err } = await walcast(['init', ...words]);
  const line = /^ {2}(listen: .*?) {4}#/m.exec(err)?.[1] ?? '';
  expect(parse(line)).toEqual({
    listen: [
      { address: '[::1]:0', tls: { cert: 'server.crt', key: 'server.key' } },
      { address: '/run/x:6000' },
    ],
  });
});

test('a flag that cannot be is told before anything is asked', async () => {
  const { code, shown, files } = await converse(['--slot', 'A'], []);
  expect([code, files]).toEqual([78, []]);
  expect(shown).toContain('--slot: ');
  expect(shown).not.toContain('Primary');
});

test('the command of the README writes the configuration of the README', async () => {
  const readme = readFileSync(fileURLToPath(new URL('../../README.md', import.meta.url)), 'utf8');
  const command = /^ *npx walcast (init --yes (?:\\\n|.)*)$/m.exec(readme)?.[1] ?? '';
  const conninfo = /--upstream '([^']*)'/.exec(command)?.[1] ?? '';
  const words = command
    .replace(/'[^']*'/, 'CONNINFO')
    .replaceAll('\\\n', ' ')
    .trim()
    .split(/ +/);
  const [, yaml = ''] = /^ *```yaml\n( *# walcast\.yaml\n[\s\S]*?)^ *```$/m.exec(readme) ?? [];
  const file = parse(yaml.replaceAll(/^ {3}/gm, ''));
  expect(file.upstream.conninfo).toBe(conninfo);
  const directory = temporaryDirectory();
  // Nobody is to be asked on another machine.
  const typed = words.map((word) => (word === 'CONNINFO' ? NOWHERE : word));
  const options = ['--standby-user', 'replicator'];
  const done = await walcast([...typed, ...options], { workingDirectory: directory });
  expect([done.code, done.err]).toEqual([1, '']);
  const written = parse(readFileSync(join(directory, 'walcast.yaml'), 'utf8'));
  const rulesOf = (text: string): string[] =>
    text
      .split('\n')
      .filter((line) => !/^ *(#|$)/.test(line))
      .map((line) => line.trim().replaceAll(/ +/g, ' '));
  expect(rulesOf(file.auth.hba)).toEqual(rulesOf(written.auth.hba));
  expect({ ...written.auth, hba: '' }).toEqual({ ...file.auth, hba: '' });
  expect(written.listen).toEqual(file.listen);
  expect(written.http).toEqual(file.http);
  expect(written.upstream).toEqual({ conninfo: NOWHERE, slot: file.upstream.slot });
});

requires('python3').it(
  'Control-C at a question ends it with 130, leaves the terminal as it was, and nothing behind',
  { timeout: 90_000 },
  async () => {
    const directory = temporaryDirectory();
    const line = `"${process.execPath}" "${PROGRAM}" init; echo "exit $?"; stty -a`;
    const terminal = new Terminal('sh', ['-c', line], { cwd: directory });
    onTestFinished(() => terminal.close());
    await terminal.until('Primary: ');
    terminal.type('\u0003');
    await terminal.until('exit 130');
    await terminal.end;
    expect(terminal.shown).toMatch(/[\n ]isig icanon /);
    expect(terminal.shown).toMatch(/ echo /);
    expect(readdirSync(directory)).toEqual([]);
  },
);

requires('python3').it(
  'lines that were typed ahead answer the next questions, and Control-D leaves',
  { timeout: 90_000 },
  async () => {
    const directory = temporaryDirectory();
    const terminal = new Terminal(process.execPath, [PROGRAM, 'init'], { cwd: directory });
    onTestFinished(() => terminal.close());
    await terminal.until('Primary: ');
    terminal.type('127.0.0.1\r1\ranne\rslot_a\rgo\r');
    await terminal.until('Standbys on other machines');
    terminal.type('\u0004');
    expect(await terminal.end).toBe(1);
    expect(terminal.shown).toContain('[walcast]: slot_a');
    expect(terminal.shown).toContain('nothing was written');
    expect(readdirSync(directory)).toEqual([]);
  },
);

test('whatever the user is called, rules let in that user alone, with a password, from elsewhere with TLS', () => {
  const names = fc
    .string({ unit: 'grapheme' })
    .filter((name) => findStandbyUserProblem(name) === null);
  fc.assert(
    fc.property(names, (user) => {
      const networks = ['10.0.0.0/8'];
      const addresses = ['/run/x:1', '127.0.0.1:1'];
      const parsed = parseHba(firstRules({ addresses, user, networks, isTrusting: false }));
      const rules = 'rules' in parsed ? parsed.rules : [];
      expect(rules.map(({ type, method }) => [type, method])).toEqual([
        ['local', 'scram-sha-256'],
        ['host', 'scram-sha-256'],
        ['host', 'scram-sha-256'],
        ['hostssl', 'scram-sha-256'],
      ]);
      for (const { users, databases } of rules) {
        expect(users.map(({ text }) => text)).toEqual([user]);
        expect(databases.map(({ text }) => text)).toEqual(['replication']);
      }
    }),
    { numRuns: 200 },
  );
});

test('who writes for a service is told to look as its user, not to run walcast as root', () => {
  const words = { output: '/etc/walcast/walcast.yaml', isClean: true };
  expect(lastWords([], { ...words, isForOthers: false }).at(-1)).toMatch(/^Next: walcast run -c/);
  const last = lastWords([], { ...words, isForOthers: true }).at(-1);
  expect(last).toMatch(
    /^Next, as the user that walcast will run as.*: walcast check -c .* --deep$/,
  );
});

test('any password comes back from the line of a password file, for that address and user only', () => {
  fc.assert(
    fc.property(
      fc.string({ minLength: 1 }).filter((text) => !/[\n\r\0]/.test(text)),
      (password) => {
        const line = passwordFileLine(['::1', '5433', '*', 'a:b\\', password]);
        const key = { hosts: ['::1'], port: 5433, database: 'replication', user: 'a:b\\' };
        expect(findPassword(line, key)).toBe(password);
        expect(findPassword(line, { ...key, user: 'a' })).toBeNull();
        expect(findPassword(line, { ...key, port: 5432 })).toBeNull();
      },
    ),
  );
});

test.each([
  ['host=a', ''],
  ['postgresql://u@a/db', ''],
  ['postgres://u@a/?sslmode=require', ''],
])('%s gets a password file, and keeps what it says', (conninfo) => {
  const options = parseConninfoOptions(withPasswordFile(conninfo, "/a b/c'd&e"));
  const before = parseConninfoOptions(conninfo);
  if ('error' in options || 'error' in before) throw new Error('not read');
  expect(options.get('passfile')).toBe("/a b/c'd&e");
  for (const [name, value] of before) expect(options.get(name)).toBe(value);
});

test('of several files all are written or none', async () => {
  const directory = temporaryDirectory();
  const file = (name: string): { path: string; text: string; isSecret: boolean } => ({
    path: join(directory, name),
    text: 'new',
    isSecret: true,
  });
  await writeFile(join(directory, 'c'), 'old');
  const files = [file('a'), file('b'), file('c'), file('d')];
  await expect(writeNewFiles(files)).rejects.toMatchObject({ code: 'FILE_EXISTS' });
  expect(readdirSync(directory)).toEqual(['c']);
  expect(readFileSync(join(directory, 'c'), 'utf8')).toBe('old');
  await expect(writeNewFiles([file('e'), file('none/f')])).rejects.toMatchObject({
    code: 'FILE_NOT_WRITTEN',
  });
  expect(readdirSync(directory)).toEqual(['c']);
  await expect(refuseExisting(join(directory, 'x'), [join(directory, 'c')])).rejects.toMatchObject({
    code: 'FILE_EXISTS',
  });
});

itWhen(process.geteuid?.() === 0)(
  'what root writes can be read by whom the folder belongs to, and secrets by nobody else',
  async () => {
    const directory = temporaryDirectory();
    const inFolder = async (
      name: string,
      [uid, gid, mode]: [number, number, number],
    ): Promise<unknown> => {
      const folder = join(directory, name);
      await mkdir(folder);
      await chown(folder, uid, gid);
      await chmod(folder, mode);
      const path = join(folder, 'secret');
      const personal = join(folder, 'personal');
      await writeNewFiles([
        { path, text: '', isSecret: true },
        { path: personal, text: '', isSecret: true, isPersonal: true },
      ]);
      expect(await isForOthers(path)).toBe(['user', 'group'].includes(name));
      const { uid: owner, mode: rights } = statSync(personal);
      expect([owner, rights & 0o777]).toEqual([0, 0o600]);
      const found = statSync(path);
      return [found.uid, found.gid, found.mode & 0o777];
    };
    expect(await inFolder('user', [10_001, 10_002, 0o755])).toEqual([10_001, 10_002, 0o600]);
    expect(await inFolder('group', [0, 10_002, 0o750])).toEqual([0, 10_002, 0o640]);
    const umask = process.umask(0o077);
    try {
      const path = join(directory, 'group', 'plain');
      await writeNewFiles([{ path, text: '', isSecret: false }]);
      expect(statSync(path).mode & 0o777).toBe(0o640);
    } finally {
      process.umask(umask);
    }
    expect(await inFolder('root', [0, 0, 0o755])).toEqual([0, 0, 0o600]);
    expect(await inFolder('everybody', [10_001, 10_002, 0o1777])).toEqual([0, 0, 0o600]);
  },
);
