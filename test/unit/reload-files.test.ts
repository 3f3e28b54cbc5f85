// Is a configuration read again when a link to it is swapped, and only then? And what when what is swapped in is bad?
import { execFileSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openLog } from '../../src/base/log.ts';
import type { Config } from '../../src/config/config.ts';
import { CONFIG_FILES_LOOK_MS, RELOAD_SETTLE_MS } from '../../src/config/limits.ts';
import { loadConfig } from '../../src/config/load.ts';
import { readYamlLayer } from '../../src/config/yaml-layer.ts';
import type { LoadedConfig } from '../../src/config/load.ts';
import { formatConfigError } from '../../src/config/problem.ts';
import { ConfigFiles, watchedPlaces } from '../../src/relay/config-files.ts';
import { LiveConfiguration } from '../../src/relay/reload.ts';
import { ManualClock } from '../support/manual-clock.ts';

const UPSTREAM = 'upstream: { conninfo: host=pg-a }\n';

let directory: string;
let running: Running | null;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'walcast-files-'));
  running = null;
  onTornReading = () => {};
});

afterEach(() => {
  running?.watch.stop();
  rmSync(directory, { recursive: true });
});

type Files = Readonly<Record<string, string>>;

function timeout(seconds: number): Files {
  return { 'walcast.yaml': `${UPSTREAM}drain_timeout: ${seconds}s\n` };
}

let volumes = 0;

/** Brings `files` into `mount` as the kubelet does: a directory of its own, one link that is renamed over, a link a file. */
function mount(where: string, files: Files): void {
  volumes += 1;
  const root = join(directory, where);
  const data = `..volume_${volumes}`;
  mkdirSync(join(root, data), { recursive: true });
  for (const [name, text] of Object.entries(files)) {
    writeFileSync(join(root, data, name), text, { mode: 0o600 });
    rmSync(join(root, name), { force: true });
    symlinkSync(`..data/${name}`, join(root, name));
  }
  swap(join(root, '..data'), data);
}

/** A link that is there at every moment. */
function swap(link: string, to: string): void {
  const temporary = join(dirname(link), `${basename(link)}.tmp`);
  symlinkSync(to, temporary);
  renameSync(temporary, link);
}

/** What happens between the reading of the configuration file and that of those it names. */
let onTornReading: () => void = () => {};

function read(name = 'etc/walcast.yaml'): LoadedConfig {
  const sources = { flags: [], env: {}, file: join(directory, name), workingDirectory: directory };
  const readYaml: typeof readYamlLayer = (...args) => {
    onTornReading();
    return readYamlLayer(...args);
  };
  return loadConfig({ ...sources, isPlainOnly: true, readYaml });
}

/** A relay's configuration and its watch, without a relay. */
class Running {
  readonly clock = new ManualClock();
  readonly lines: string[] = [];
  readonly told: string[] = [];
  readonly applied: Config[] = [];
  readonly live: LiveConfiguration;
  readonly watch: ConfigFiles;
  refusal: string | null = null;
  readings = 0;
  /** What happens in the middle of a reload. */
  onPrepare: () => void = () => {};

  constructor(name?: string) {
    const loaded = read(name);
    if ('errors' in loaded) throw new Error(loaded.errors.map(formatConfigError).join('\n'));
    const destination = { write: (line: string) => void this.lines.push(line) };
    const log = openLog({ level: 'debug', format: 'text', destination });
    this.live = new LiveConfiguration(loaded.config, {
      read: () => {
        this.readings += 1;
        return read(name);
      },
      prepare: (next) => {
        this.onPrepare();
        return Promise.resolve(() => void this.applied.push(next));
      },
      board: {
        reloaded: () => void this.told.push('good'),
        reloadRefused: (_nowMs, problems) => void this.told.push(problems.join('\n')),
        secretsRead: () => {},
      },
      refusal: () => this.refusal,
      clock: this.clock,
      log,
    });
    this.watch = new ConfigFiles({
      places: () => watchedPlaces(this.live.current),
      isRefused: () => this.live.isRefused,
      onSwapped: () => this.live.followFiles(),
      clock: this.clock,
      log,
    });
    this.watch.watch();
  }

  get seconds(): number {
    return this.live.current.drainTimeoutMs / 1000;
  }

  /** Lets one look happen, and what it brings about. */
  async look(): Promise<void> {
    expect(this.clock.nextTimerMs()).toBe(CONFIG_FILES_LOOK_MS);
    this.clock.advance(CONFIG_FILES_LOOK_MS);
    while (this.clock.nextTimerMs() !== CONFIG_FILES_LOOK_MS) {
      await new Promise((resolve) => setImmediate(resolve));
      if (this.clock.nextTimerMs() === RELOAD_SETTLE_MS) this.clock.advance(RELOAD_SETTLE_MS);
    }
  }

  said(what: string): number {
    return this.lines.filter((line) => line.includes(what)).length;
  }
}

function run(name?: string): Running {
  running = new Running(name);
  return running;
}

describe('a configuration behind a link', () => {
  test('is not read again as long as the link leads where it led', async () => {
    mount('etc', timeout(1));
    const relay = run();
    await relay.look();
    await relay.look();
    expect([relay.readings, relay.lines]).toEqual([0, []]);
  });

  test('is read again when the link is swapped, and again when it is swapped again', async () => {
    mount('etc', timeout(1));
    const relay = run();
    for (const seconds of [2, 3]) {
      mount('etc', timeout(seconds));
      await relay.look();
      expect(relay.seconds).toBe(seconds);
    }
    expect(relay.told).toEqual(['good', 'good']);
    expect(relay.said('a file of the configuration was swapped')).toBe(2);
    await relay.look();
    expect(relay.told).toHaveLength(2);
  });

  test('that was swapped before the first look counts', async () => {
    mount('etc', timeout(1));
    const relay = run();
    mount('etc', timeout(2));
    mount('etc', timeout(3));
    await relay.look();
    expect([relay.seconds, relay.told]).toEqual([3, ['good']]);
  });

  test('that is swapped while it is being read again is read once more', async () => {
    mount('etc', timeout(1));
    const relay = run();
    mount('etc', timeout(2));
    relay.onPrepare = () => {
      relay.onPrepare = () => {};
      mount('etc', timeout(3));
    };
    await relay.look();
    expect(relay.seconds).toBe(2);
    await relay.look();
    expect(relay.seconds).toBe(3);
  });

  test('that a reload has taken already is not read a second time', async () => {
    mount('etc', timeout(1));
    const relay = run();
    mount('etc', timeout(2));
    const report = relay.live.reload();
    await new Promise((resolve) => setImmediate(resolve));
    relay.clock.advance(RELOAD_SETTLE_MS);
    expect((await report).changed).toEqual(['drain_timeout']);
    const { readings } = relay;
    relay.clock.advance(CONFIG_FILES_LOOK_MS - RELOAD_SETTLE_MS);
    while (relay.clock.nextTimerMs() === null)
      await new Promise((resolve) => setImmediate(resolve));
    expect([relay.readings, relay.told]).toEqual([readings, ['good']]);
  });

  test('is never half of one and half of another, though a swap comes between its files', async () => {
    const version = (number: number): Files => ({
      'walcast.yaml': `${UPSTREAM}drain_timeout: ${number}s\nauth: { hba_file: hba.conf }\n`,
      'hba.conf': `host all all 10.0.0.${number}/32 trust\n`,
    });
    mount('etc', version(1));
    const relay = run();
    mount('etc', version(2));
    let swaps = 3;
    onTornReading = () => {
      swaps -= 1;
      if (swaps >= 0) mount('etc', version(5 - swaps));
      else onTornReading = () => {};
    };
    await relay.look();
    await relay.look();
    const versions = relay.applied.map(({ drainTimeoutMs, hba }) => [
      drainTimeoutMs / 1000,
      hba?.text.trim(),
    ]);
    expect(versions.at(-1)?.[0]).toBe(5);
    for (const [seconds, rule] of versions) {
      expect(rule).toBe(`host all all 10.0.0.${seconds}/32 trust`);
    }
  });

  test('counts where a directory above it is the link', async () => {
    for (const release of ['one', 'two']) {
      mkdirSync(join(directory, 'releases', release), { recursive: true });
      const text = timeout(release === 'one' ? 1 : 2)['walcast.yaml'] ?? '';
      writeFileSync(join(directory, 'releases', release, 'walcast.yaml'), text);
    }
    symlinkSync('releases/one', join(directory, 'current'));
    const relay = run('current/walcast.yaml');
    swap(join(directory, 'current'), 'releases/two');
    await relay.look();
    expect(relay.seconds).toBe(2);
  });

  test.each([
    [
      'access rules',
      { 'hba.conf': 'host all all all reject\n' },
      'auth: { hba_file: ../rules/hba.conf }',
    ],
    [
      'a file that access rules include',
      { 'more.conf': 'host all all all reject\n' },
      'auth: { hba: "include ../rules/more.conf" }',
    ],
    [
      'a directory that access rules include',
      { '1.conf': 'host all all all reject\n' },
      'auth: { hba: "include_dir ../rules" }',
    ],
  ])('is read again when %s are swapped behind a link', async (_what, files, key) => {
    mount('rules', files);
    mount('etc', { 'walcast.yaml': `${UPSTREAM}${key}\n` });
    const relay = run();
    expect(relay.live.current.hba?.rules.rules[0]?.method).toBe('reject');
    mount('rules', { [Object.keys(files)[0] ?? '']: 'host all all all trust\n' });
    await relay.look();
    expect(relay.live.current.hba?.rules.rules[0]?.method).toBe('trust');
  });

  test('does not follow files with secrets: those are followed by what they hold', async () => {
    mount('secret', { users: '"a" "b"\n' });
    mount('etc', { 'walcast.yaml': `${UPSTREAM}auth: { users_file: ../secret/users }\n` });
    const relay = run();
    mount('secret', { users: '"a" "c"\n' });
    await relay.look();
    expect(relay.readings).toBe(0);
  });
});

describe('a plain file', () => {
  test.each([
    ['is written over', (path: string, text: string) => writeFileSync(path, text)],
    [
      'is replaced by another',
      (path: string, text: string) => {
        writeFileSync(`${path}.new`, text);
        renameSync(`${path}.new`, path);
      },
    ],
    ['is removed', (path: string) => rmSync(path)],
  ])('that %s waits for a reload', async (_how, change) => {
    mkdirSync(join(directory, 'etc'));
    const path = join(directory, 'etc/walcast.yaml');
    writeFileSync(path, timeout(1)['walcast.yaml'] ?? '');
    const relay = run();
    change(path, timeout(2)['walcast.yaml'] ?? '');
    await relay.look();
    await relay.look();
    expect([relay.readings, relay.seconds]).toEqual([0, 1]);
  });

  test('that is edited where the link leads waits, too', async () => {
    mount('etc', timeout(1));
    const relay = run();
    writeFileSync(join(directory, 'etc/walcast.yaml'), timeout(2)['walcast.yaml'] ?? '');
    await relay.look();
    expect([relay.readings, relay.seconds]).toEqual([0, 1]);
  });
});

function linkToPipe(link: string): void {
  execFileSync('mkfifo', [join(directory, 'pipe')]);
  symlinkSync('../pipe', link);
}

function linkToLargeFile(link: string): void {
  writeFileSync(join(directory, 'large'), '');
  truncateSync(join(directory, 'large'), 100 * 1024 * 1024);
  symlinkSync('../large', link);
}

const BAD = { 'walcast.yaml': `${UPSTREAM}drain_timeut: 5s\n` };

describe('a bad configuration that is swapped in', () => {
  test('changes nothing and is told once, however often it is looked at', async () => {
    mount('etc', timeout(1));
    const relay = run();
    mount('etc', BAD);
    await relay.look();
    expect(relay.told).toEqual([
      expect.stringMatching(/walcast\.yaml:2:1: unknown key `drain_timeut`/),
    ]);
    const { length } = relay.lines;
    await relay.look();
    await relay.look();
    expect([relay.lines.length, relay.told.length]).toEqual([length, 1]);
    expect([relay.seconds, relay.applied]).toEqual([1, []]);
  });

  test('is tried again less and less often, and at once when something is swapped', async () => {
    mount('etc', timeout(1));
    const relay = run();
    mount('etc', BAD);
    const tried: number[] = [];
    for (let look = 1; look <= 70; look += 1) {
      const before = relay.readings;
      await relay.look();
      if (relay.readings > before) tried.push(look);
    }
    expect(tried).toEqual([1, 2, 4, 8, 16, 32, 48, 64]);
    mount('etc', timeout(2));
    await relay.look();
    expect(relay.seconds).toBe(2);
  });

  test('is told again when its mistakes are others, and taken when it is mended', async () => {
    mount('etc', timeout(1));
    const relay = run();
    mount('etc', BAD);
    await relay.look();
    mount('etc', { 'walcast.yaml': `${UPSTREAM}drain_timeout: 5 parsecs\n` });
    await relay.look();
    expect(relay.told).toEqual([
      expect.stringContaining('unknown'),
      expect.stringContaining('parsec'),
    ]);
    mount('etc', timeout(2));
    await relay.look();
    expect([relay.told.at(-1), relay.seconds]).toEqual(['good', 2]);
  });

  test('is not read once more when a reload that was asked for has taken what came after it', async () => {
    mount('etc', timeout(1));
    const relay = run();
    mount('etc', BAD);
    await relay.look();
    mount('etc', timeout(2));
    const report = relay.live.reload();
    relay.clock.advance(RELOAD_SETTLE_MS);
    expect((await report).changed).toEqual(['drain_timeout']);
    const { readings } = relay;
    relay.clock.advance(CONFIG_FILES_LOOK_MS - RELOAD_SETTLE_MS);
    while (relay.clock.nextTimerMs() === null)
      await new Promise((resolve) => setImmediate(resolve));
    expect([relay.readings, relay.told.slice(1)]).toEqual([readings, ['good']]);
  });

  test('is over when the link is swapped back to what is in effect', async () => {
    mount('etc', timeout(1));
    const good = `..volume_${volumes}`;
    const relay = run();
    mount('etc', BAD);
    await relay.look();
    swap(join(directory, 'etc/..data'), good);
    await relay.look();
    expect(relay.told).toEqual([expect.stringContaining('unknown'), 'good']);
    await relay.look();
    expect(relay.told).toHaveLength(2);
  });

  test.each<[string, (link: string) => void, string]>([
    ['gone', () => {}, 'no such file'],
    ['a link to itself', (link) => symlinkSync(link, link), 'ELOOP'],
    ['a link to nothing', (link) => symlinkSync('nothing', link), 'no such file'],
    ['a directory', (link) => symlinkSync('.', link), 'is a directory'],
    ['a device that never ends', (link) => symlinkSync('/dev/zero', link), 'is not a plain file'],
    ['a pipe that nobody writes into', linkToPipe, 'is not a plain file'],
    ['empty', (link) => symlinkSync('/dev/null', link), 'is not a plain file'],
    ['too large', linkToLargeFile, 'is larger than'],
  ])('is one that is %s', async (_what, replace, said) => {
    mount('etc', timeout(1));
    const relay = run();
    const link = join(directory, 'etc/walcast.yaml');
    rmSync(link);
    replace(link);
    await relay.look();
    await relay.look();
    expect(relay.told).toEqual([expect.stringContaining(said)]);
    expect(relay.seconds).toBe(1);
    rmSync(link, { force: true });
    mount('etc', timeout(2));
    await relay.look();
    expect(relay.seconds).toBe(2);
  });

  test('is taken as soon as the files that it names are there, which come in a volume of their own', async () => {
    mount('etc', timeout(1));
    const relay = run();
    mount('etc', { 'walcast.yaml': `${UPSTREAM}auth: { users_file: ../secret/users }\n` });
    await relay.look();
    expect(relay.told).toEqual([expect.stringContaining('no such file')]);
    mount('secret', { users: '"a" "b"\n' });
    await relay.look();
    expect([...relay.live.current.auth.users.keys()]).toEqual(['a']);
  });

  test('waits for nothing any more while walcast ends', async () => {
    mount('etc', timeout(1));
    const relay = run();
    relay.refusal = 'walcast is ending';
    mount('etc', timeout(2));
    await relay.look();
    await relay.look();
    expect([relay.seconds, relay.told, relay.readings]).toEqual([1, [], 0]);
  });
});
