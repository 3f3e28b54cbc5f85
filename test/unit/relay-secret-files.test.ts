// Does a file with a secret count as soon as it changes, and nothing else? And what when it is broken?
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openLog } from '../../src/base/log.ts';
import type { Config } from '../../src/config/config.ts';
import { RELOAD_SETTLE_MS, SECRET_FILES_LOOK_MS } from '../../src/config/limits.ts';
import { loadConfig } from '../../src/config/load.ts';
import type { LoadedConfig } from '../../src/config/load.ts';
import { LiveConfiguration } from '../../src/relay/reload.ts';
import { SECRET_FILE_KEYS, SecretFiles } from '../../src/relay/secret-files.ts';
import { ManualClock } from '../support/manual-clock.ts';

const YAML = `upstream: { conninfo_file: conninfo }
auth: { users_file: users }
http: { token_file: token, wal_token_file: wal-token }
`;

let directory: string;
let running: Running;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'walcast-secrets-'));
  write('walcast.yaml', YAML);
  write('conninfo', 'host=a password=one');
  write('users', '"repl" "one"\n');
  write('token', 'token-of-16-characters-1');
  write('wal-token', 'token-of-16-characters-2');
});

afterEach(() => {
  running.watch.stop();
  rmSync(directory, { recursive: true });
});

let writes = 0;

/** Each writing has a time of its own, however coarse that of the file system is. */
function write(name: string, content: string, mode = 0o600): void {
  const path = join(directory, name);
  writeFileSync(path, content);
  chmodSync(path, mode);
  writes += 1;
  utimesSync(path, writes, writes);
}

function read(): LoadedConfig {
  const file = join(directory, 'walcast.yaml');
  return loadConfig({ flags: [], env: {}, file, workingDirectory: directory, isPlainOnly: true });
}

/** Two volumes of a Secret; the link leads to the first. */
function mountRounds(): void {
  for (const round of ['1', '2']) {
    mkdirSync(join(directory, `..${round}`));
    write(`..${round}/users`, `"repl" "round ${round}"\n`);
  }
  symlinkSync('..1', join(directory, '..data'));
  unlinkSync(join(directory, 'users'));
  symlinkSync('..data/users', join(directory, 'users'));
}

function swap(volume: string): void {
  symlinkSync(volume, join(directory, '..data_tmp'));
  renameSync(join(directory, '..data_tmp'), join(directory, '..data'));
}

/** A clock by which all files were written long ago. */
class LaterClock extends ManualClock {
  override wallMs(): number {
    return 2 * Date.now();
  }
}

/** A relay's configuration and its watch, without a relay. */
class Running {
  readonly clock: ManualClock;
  readonly lines: string[] = [];
  readonly applied: Config[] = [];
  readonly causes: string[] = [];
  readonly live: LiveConfiguration;
  readonly watch: SecretFiles;
  problems: readonly string[] = [];
  refusal: string | null = null;
  looks = 0;

  constructor(clock = new ManualClock()) {
    this.clock = clock;
    const loaded = read();
    if ('errors' in loaded) throw new Error(JSON.stringify(loaded.errors));
    const destination = { write: (line: string) => void this.lines.push(line) };
    this.live = new LiveConfiguration(loaded.config, {
      read,
      prepare: (next, cause) => {
        this.causes.push(cause);
        return Promise.resolve(() => void this.applied.push(next));
      },
      board: {
        reloaded: () => {},
        reloadRefused: () => {},
        secretsRead: (problems) => void (this.problems = problems),
      },
      refusal: () => this.refusal,
      clock: this.clock,
      log: openLog({ level: 'debug', format: 'text', destination }),
    });
    this.watch = new SecretFiles({
      names: () => SECRET_FILE_KEYS.flatMap((key) => this.live.current.namedFiles.get(key) ?? []),
      places: () => this.live.current.places,
      onChanged: async () => {
        this.looks += 1;
        return await this.live.refreshSecrets();
      },
      clock: this.clock,
    });
    this.watch.watch();
  }

  get tokens(): (string | null)[] {
    return [this.live.current.http.token, this.live.current.http.walToken];
  }

  get users(): unknown {
    return Object.fromEntries(this.live.current.auth.users);
  }

  /** Somebody asks for it; the look that falls due a little later does, too. */
  async reload(): Promise<void> {
    const reload = this.live.reload();
    await new Promise((resolve) => setImmediate(resolve));
    this.clock.advance(RELOAD_SETTLE_MS);
    expect((await reload).problems).toEqual([]);
  }

  /** Lets one look happen, and what it brings about. */
  async look(): Promise<void> {
    const dueMs = this.clock.nextTimerMs() ?? Number.POSITIVE_INFINITY;
    expect(dueMs).toBeLessThanOrEqual(SECRET_FILES_LOOK_MS);
    this.clock.advance(dueMs);
    while (this.clock.nextTimerMs() !== SECRET_FILES_LOOK_MS) {
      await new Promise((resolve) => setImmediate(resolve));
      if (this.clock.nextTimerMs() === RELOAD_SETTLE_MS) this.clock.advance(RELOAD_SETTLE_MS);
    }
  }
}

async function run(): Promise<Running> {
  running = new Running();
  await running.look();
  expect(running.applied).toEqual([]);
  return running;
}

describe('a file with a secret', () => {
  test('is not read again as long as it is the same', async () => {
    const { looks } = await run();
    await running.look();
    await running.look();
    expect(running.looks).toBe(looks);
    expect(running.lines).toEqual([]);
  });

  test('that is older than the start is not read again at the first look', async () => {
    running = new Running(new LaterClock());
    await running.look();
    expect(running.looks).toBe(0);
    write('users', '"repl" "two"\n');
    await running.look();
    expect(running.looks).toBe(1);
  });

  test('counts as soon as it has changed, each for itself', async () => {
    await run();
    write('users', '"repl" "two"\n"more" "three"\n');
    write('token', 'another-token-of-16-characters');
    await running.look();
    expect(running.users).toEqual({
      repl: { kind: 'plain', password: 'two' },
      more: { kind: 'plain', password: 'three' },
    });
    expect(running.tokens).toEqual(['another-token-of-16-characters', 'token-of-16-characters-2']);
    write('conninfo', 'host=b password=two');
    write('wal-token', 'a-third-token-of-16-characters');
    await running.look();
    expect(running.live.current.upstream.server).toMatchObject({ password: 'two' });
    expect(running.tokens[1]).toBe('a-third-token-of-16-characters');
    expect(running.causes).toEqual(['secrets', 'secrets']);
    expect(running.lines.join('')).toContain('the file of `auth.users_file` has changed');
    expect(running.lines.join('')).not.toMatch(/two|three|16-characters/);
  });

  test('that changed while walcast started is found at the first look', async () => {
    running = new Running();
    write('users', '"repl" "two"\n');
    await running.look();
    expect(running.users).toEqual({ repl: { kind: 'plain', password: 'two' } });
  });

  test('takes nothing else of the configuration along', async () => {
    await run();
    write('walcast.yaml', `${YAML}wal_sender_timeout: 1s\nlog: { level: debug }\n`);
    write('users', '"repl" "two"\n');
    await running.look();
    expect(running.users).toEqual({ repl: { kind: 'plain', password: 'two' } });
    expect(running.live.current.walSenderTimeoutMs).toBe(60_000);
    expect(running.live.current.log.level).toBe('info');
  });

  test.each([
    ['configuration file', 'walcast.yaml', 'no: configuration\n'],
    ['file of access rules', 'hba', 'host all\n'],
    ['configuration file that is not there', 'walcast.yaml', null],
  ])(
    'counts whatever is wrong with the %s, which is no fault of its own',
    async (_what, name, bad) => {
      write('hba', 'host all all all reject\n');
      write('walcast.yaml', YAML.replace('auth: {', 'auth: { hba_file: hba,'));
      await run();
      if (bad === null) unlinkSync(join(directory, name));
      else write(name, bad);
      await running.look();
      expect(running.lines).toEqual([]);
      write('users', '"repl" "two"\n');
      await running.look();
      expect(running.users).toEqual({ repl: { kind: 'plain', password: 'two' } });
      expect(running.problems).toEqual([]);
      write('users', 'geheim');
      await running.look();
      expect(running.problems).toEqual([expect.stringContaining('users')]);
    },
  );

  test('counts while it is in effect, whatever another configuration names, which waits for the reload', async () => {
    await run();
    write('walcast.yaml', YAML.replace('users_file: users', 'users_file: others'));
    write('others', '"repl" "three"\n');
    write('users', '"repl" "two"\n');
    await running.look();
    expect(running.users).toEqual({ repl: { kind: 'plain', password: 'two' } });
  });

  test('is taken when a directory of files is swapped behind its name, as Kubernetes does', async () => {
    mountRounds();
    await run();
    expect(running.users).toEqual({ repl: { kind: 'plain', password: 'round 1' } });
    swap('..2');
    expect(readlinkSync(join(directory, 'users'))).toBe('..data/users');
    await running.look();
    expect(running.users).toEqual({ repl: { kind: 'plain', password: 'round 2' } });
  });

  test('is taken when a link was swapped while walcast started, though what it leads to is older', async () => {
    mountRounds();
    running = new Running(new LaterClock());
    swap('..2');
    await running.look();
    expect(running.users).toEqual({ repl: { kind: 'plain', password: 'round 2' } });
    const { looks } = running;
    await running.look();
    expect(running.looks).toBe(looks);
  });

  test('is taken when a link is swapped back between two looks, and a reload came before that', async () => {
    mountRounds();
    await run();
    swap('..2');
    await running.reload();
    expect(running.users).toEqual({ repl: { kind: 'plain', password: 'round 2' } });
    swap('..1');
    await running.look();
    expect(running.users).toEqual({ repl: { kind: 'plain', password: 'round 1' } });
    const { looks } = running;
    await running.look();
    expect(running.looks).toBe(looks);
  });

  test('is not read at every look when a link was swapped to the same content', async () => {
    mountRounds();
    await run();
    mkdirSync(join(directory, '..3'));
    write('..3/users', '"repl" "round 1"\n');
    swap('..3');
    await running.look();
    const { looks } = running;
    await running.look();
    await running.look();
    expect([running.looks, running.applied]).toEqual([looks, []]);
  });

  test.each([
    ['a new file that is bad', () => write('rules/2.conf', 'host all\n')],
    ['nothing any more', () => rmSync(join(directory, 'rules'), { recursive: true })],
  ])('counts though in a directory of access rules there is %s', async (_what, ruin) => {
    mkdirSync(join(directory, 'rules'));
    write('rules/1.conf', 'host all all all reject\n');
    write('walcast.yaml', YAML.replace('auth: {', 'auth: { hba: "include_dir rules",'));
    await run();
    ruin();
    write('users', '"repl" "two"\n');
    await running.look();
    expect(running.problems).toEqual([]);
    expect(running.users).toEqual({ repl: { kind: 'plain', password: 'two' } });
  });

  test('with the connection string counts with the name that stands in it', async () => {
    write('conninfo', 'host=a application_name=first');
    await run();
    write('conninfo', 'host=a application_name=second');
    await running.look();
    expect(running.live.current.upstream.applicationName).toBe('second');
    expect(running.applied.at(-1)?.upstream.applicationName).toBe('second');
    const shown = running.live.entries().find(({ key }) => key === 'upstream.application_name');
    expect(shown?.value).toBe('second');
  });
});

describe('a file that cannot be used', () => {
  const BROKEN: readonly (readonly [string, () => void, RegExp])[] = [
    ['is gone', () => unlinkSync(join(directory, 'users')), /no such file/],
    [
      'is a directory',
      () => {
        unlinkSync(join(directory, 'users'));
        mkdirSync(join(directory, 'users'));
      },
      /is a directory/,
    ],
    [
      'is a pipe',
      () => {
        unlinkSync(join(directory, 'users'));
        execFileSync('mkfifo', ['-m', '0600', join(directory, 'users')]);
      },
      /is not a plain file/,
    ],
    ['is empty', () => write('users', ''), /is empty/],
    ['is half written', () => write('users', '"repl" "geh'), /users/],
    ['may be read by others', () => write('users', '"repl" "geheim"', 0o644), /group or world/],
    ['makes no sense', () => write('users', 'geheim geheim geheim'), /users/],
  ];

  test.each(BROKEN)(
    'because it %s leaves the old in effect, is told of, and counts again when it is mended',
    async (_why, ruin, said) => {
      await run();
      ruin();
      await running.look();
      expect(running.users).toEqual({ repl: { kind: 'plain', password: 'one' } });
      expect(running.problems).toEqual([expect.stringMatching(said)]);
      expect(running.lines.join('')).toMatch(said);
      expect(running.lines.join('')).not.toContain('geh');
      expect(JSON.stringify(running.problems)).not.toContain('geh');
      rmSync(join(directory, 'users'), { recursive: true, force: true });
      write('users', '"repl" "two"\n');
      await running.look();
      expect(running.users).toEqual({ repl: { kind: 'plain', password: 'two' } });
      expect(running.problems).toEqual([]);
    },
  );

  test('is told of once, and taken as soon as it is mended', async () => {
    await run();
    write('token', 'two words');
    await running.look();
    const { length } = running.lines;
    await running.look();
    await running.look();
    expect(running.lines).toHaveLength(length);
    write('token', 'a-mended-token-of-characters');
    await running.look();
    expect(running.tokens[0]).toBe('a-mended-token-of-characters');
    expect(running.problems).toEqual([]);
    expect(running.lines.at(-1)).toContain('in order again');
  });

  test('is tried again less and less often, and at once when it has changed', async () => {
    await run();
    write('token', 'two words');
    const { looks } = running;
    for (let look = 1; look <= 20; look += 1) await running.look();
    // At the first look, the second, the fourth, the eighth and the sixteenth.
    expect(running.looks - looks).toBe(5);
    write('token', 'a-mended-token-of-characters');
    await running.look();
    expect(running.tokens[0]).toBe('a-mended-token-of-characters');
  });

  test('is in order again with a reload that takes it', async () => {
    await run();
    write('token', 'two words');
    await running.look();
    write('token', 'a-mended-token-of-characters');
    await running.reload();
    expect(running.problems).toEqual([]);
    expect(running.tokens[0]).toBe('a-mended-token-of-characters');
  });

  test('changes nothing any more while walcast drains', async () => {
    await run();
    running.refusal = 'walcast is draining';
    write('users', '"repl" "two"\n');
    await running.look();
    expect(running.users).toEqual({ repl: { kind: 'plain', password: 'one' } });
    running.refusal = null;
    await running.look();
    expect(running.users).toEqual({ repl: { kind: 'plain', password: 'two' } });
  });
});
