// Is it the same whichever way a reload is asked for, by signal, on the console, over HTTP or by a link that is swapped? And is a
// bad configuration told everywhere, and nothing changed by it?
import { execFileSync } from 'node:child_process';
import { mkdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openSqlSession } from '../../src/demo/sql-session.ts';
import type { ConfigEntryJson } from '../../src/http/api-types.ts';
import { query, RawClient } from '../support/raw-client.ts';
import { NEWEST_MAJOR, requires } from '../support/requirements.ts';
import { ReloadRig, TOKEN } from './reload-rig.ts';

/** How a reload is asked for: the text is in the file by then, but for the last way. */
interface Route {
  /** Puts the text where the configuration is read. */
  readonly put: (rig: ReloadRig, text: string) => Promise<void>;
  /** Asks; what the one who asked is told, if anything. */
  readonly ask: (rig: ReloadRig) => Promise<string>;
  /** What the log says of its own accord. */
  readonly announced: RegExp;
}

const TOLD_NOTHING = '';

/** Into the file that is there, link or not. */
async function write(rig: ReloadRig, text: string): Promise<void> {
  await writeFile(rig.file, text);
}

let volumes = 0;

/** As the kubelet does: a new directory, and one link that is renamed over. */
async function swap(rig: ReloadRig, text: string): Promise<void> {
  volumes += 1;
  const directory = rig.path(`..volume-${volumes}`);
  await mkdir(directory);
  await writeFile(join(directory, 'walcast.yaml'), text, { mode: 0o600 });
  await symlink(`..volume-${volumes}`, rig.path('..data_tmp'));
  await rename(rig.path('..data_tmp'), rig.path('..data'));
  if (volumes > 1) return;
  await symlink('..data/walcast.yaml', rig.path('walcast.yaml_tmp'));
  await rename(rig.path('walcast.yaml_tmp'), rig.file);
}

const ROUTES: Readonly<Record<string, Route>> = {
  SIGHUP: {
    put: write,
    ask: async (rig) => {
      rig.process.signal('SIGHUP');
      return TOLD_NOTHING;
    },
    announced: /received SIGHUP/,
  },
  'RELOAD on the console': {
    put: write,
    ask: async (rig) => {
      const { pg: port } = rig.ports;
      const target = { host: '127.0.0.1', port, user: 'ops', database: 'walcast' };
      await using session = await openSqlSession(target);
      return await session.query('RELOAD').then(
        () => 'done',
        (error: { code: string; message: string }) => `${error.code} ${error.message}`,
      );
    },
    announced: /RELOAD/,
  },
  'POST /api/v1/reload': {
    put: write,
    ask: async (rig) => {
      const { status, body } = await rig.request('POST', '/api/v1/reload', TOKEN);
      return status === 200 ? 'done' : `${status} ${JSON.stringify(body['problems'])}`;
    },
    announced: /HTTP request (?:done|failed): reload/,
  },
  'a link that is swapped': {
    put: swap,
    ask: async () => TOLD_NOTHING,
    announced: /a file of the configuration was swapped/,
  },
};

interface Outcome {
  /** Of the file, in effect. */
  readonly seconds: string | null;
  readonly lastReloadGood: boolean;
  readonly problems: readonly string[];
  readonly findings: readonly string[];
  readonly counted: readonly [success: number, failure: number];
  readonly metric: number;
  readonly failures: number;
  readonly console: readonly string[];
  readonly logged: readonly string[];
}

/** A mistake as the log has it. */
const LOGGED: unknown = expect.stringMatching(/^configuration: .*walcast\.yaml:\d+:\d+: /);

const GOOD_LINES = /`drain_timeout` changed|the configuration was read again/;
const BAD_LINES = /drain_timeut|5 parsecs|nothing was changed/;

requires(`postgres-${NEWEST_MAJOR}`).describe('a reload that is asked for by', () => {
  let rig: ReloadRig;
  let standby: RawClient;

  beforeAll(async () => {
    rig = await ReloadRig.open(NEWEST_MAJOR);
    ({ client: standby } = await RawClient.standby(rig.ports.pg, { user: 'postgres' }));
    standby.send(query(`START_REPLICATION ${(await rig.status()).store.flushed_lsn}`));
    await standby.until('W');
  }, 60_000);

  afterAll(async () => {
    standby.close();
    await rig[Symbol.asyncDispose]();
  });

  async function counts(): Promise<readonly [number, number]> {
    const { success, failure } = (await rig.status()).configuration.reloads;
    return [success, failure];
  }

  /** Everything that is told of the last reload; of the log, the lines from `from` on that match. */
  async function outcome(from: number, lines: RegExp, wanted: 0 | 1): Promise<Outcome> {
    const { configuration, findings } = await rig.status();
    const look = (): Promise<number> => rig.metric('walcast_config_last_reload_successful');
    await rig.see('the metric', look, wanted);
    const { pg: port } = rig.ports;
    const target = { host: '127.0.0.1', port, user: 'ops', database: 'walcast' };
    await using session = await openSqlSession(target);
    const [state = []] = await session.query('SHOW STATE');
    const entries = await rig.get<readonly ConfigEntryJson[]>('/api/v1/config');
    return {
      seconds: entries.find(({ key }) => key === 'drain_timeout')?.value ?? null,
      lastReloadGood: configuration.last_reload_good,
      problems: configuration.problems,
      findings: findings
        .filter(({ code }) => code === 'reload_failed')
        .map(({ message }) => message),
      counted: await counts(),
      metric: await look(),
      failures: await rig.metric('walcast_config_reloads_total{result="failure"}'),
      console: [state.at(10) ?? '', state.at(-1) ?? ''],
      logged: rig.process.log
        .slice(from)
        .filter((line) => line.includes('"component":"config"') && lines.test(line))
        .map((line) => String((JSON.parse(line) as { msg: string }).msg)),
    };
  }

  describe.each(Object.entries(ROUTES))('%s', (name, { put, ask, announced }) => {
    it('is refused as a whole where the file is bad, is told everywhere, and is over with a good one', async () => {
      await rig.become();
      const [success, failure] = await counts();
      const from = rig.process.log.length;
      await put(rig, `${rig.text({ drain_timeut: '5s' })}wal_sender_timeout: 5 parsecs\n`);
      const told = await ask(rig);
      await rig.see('it is counted', counts, [success, failure + 1]);
      const refused = await outcome(from, BAD_LINES, 0);
      const places = [
        expect.stringMatching(/walcast\.yaml:\d+:1: unknown key `drain_timeut`/),
        expect.stringMatching(/walcast\.yaml:\d+:21: invalid value for `wal_sender_timeout`/),
      ];
      expect(refused).toEqual({
        seconds: '30s',
        lastReloadGood: false,
        problems: places,
        findings: [expect.stringMatching(/refused.*walcast\.yaml:\d+:1: unknown key.*and 1 more/)],
        counted: [success, failure + 1],
        metric: 0,
        failures: failure + 1,
        console: ['f', expect.stringMatching(/unknown key.*5 parsecs/)],
        logged: [...places.map(() => LOGGED), expect.stringContaining('nothing was changed')],
      });
      expect(rig.process.log.slice(from).join('\n')).toMatch(announced);
      if (name.startsWith('POST')) expect(told).toMatch(/^422 .*drain_timeut.*parsecs/);
      if (name.startsWith('RELOAD')) expect(told).toMatch(/^F0000 .*drain_timeut.*parsecs/s);
      await isGoodAgain({ put, ask }, [success, failure + 1]);
    });
  });

  async function isGoodAgain(
    { put, ask }: Pick<Route, 'put' | 'ask'>,
    [success, failure]: readonly [number, number],
  ): Promise<void> {
    const from = rig.process.log.length;
    await put(rig, rig.text({ drain_timeout: '7s' }));
    const told = await ask(rig);
    await rig.see('it is counted', counts, [success + 1, failure]);
    await rig.process.waitForLog(/the configuration was read again/, { from });
    expect(await outcome(from, GOOD_LINES, 1)).toEqual({
      seconds: '7s',
      lastReloadGood: true,
      problems: [],
      findings: [],
      counted: [success + 1, failure],
      metric: 1,
      failures: failure,
      console: ['t', '{}'],
      logged: ['`drain_timeout` changed', 'the configuration was read again'],
    });
    expect(told).toBe(told === TOLD_NOTHING ? TOLD_NOTHING : 'done');
  }

  it('a link that is swapped twice in a row, and while another is under way, ends with the last', async () => {
    const from = rig.process.log.length;
    const reloads = [1, 2, 3].map(() => rig.request('POST', '/api/v1/reload', TOKEN));
    for (const seconds of [11, 12, 13]) await swap(rig, rig.text({ drain_timeout: `${seconds}s` }));
    rig.process.signal('SIGHUP');
    await swap(rig, rig.text({ drain_timeout: '14s' }));
    await rig.process.waitForLog(/"to":"14s".*`drain_timeout` changed/, { from });
    expect((await Promise.all(reloads)).map(({ status }) => status)).toEqual([200, 200, 200]);
    expect((await rig.status()).configuration).toMatchObject({ last_reload_good: true });
  });

  requires('psql', 'curl').it('the lines of the page', async () => {
    const page = await readFile(new URL('../../docs/reload.md', import.meta.url), 'utf8');
    const lines = (/```sh\n([^`]*)```/.exec(page)?.[1] ?? '').trim().split('\n');
    expect(lines).toHaveLength(4);
    const { pg, http } = rig.ports;
    await rm(rig.file);
    await symlink('current/walcast.yaml', rig.file);
    await mkdir(rig.path('release-1'));
    await symlink('release-1', rig.path('current'));
    await writeFile(rig.path('current/walcast.yaml'), rig.text());
    await rig.request('POST', '/api/v1/reload', TOKEN);
    for (const line of lines) {
      const [success, failure] = await counts();
      const command = line.replace('5432', String(pg)).replace('9188', String(http));
      const env = { ...process.env, WALCAST_PID: String(rig.process.pid) };
      execFileSync('bash', ['-c', command], { cwd: rig.workspace.directory, env, stdio: 'pipe' });
      expect(await rig.see(line, counts, [success + 1, failure])).toEqual([success + 1, failure]);
    }
  });

  it('nobody disturbs the standby that was there from the beginning', async () => {
    await rig.primary.query("SELECT pg_logical_emit_message(false, '', 'still there')");
    const end = await rig.primary.value('SELECT pg_current_wal_flush_lsn()');
    await rig.see(
      'it is sent',
      async () => {
        const { standbys } = await rig.status();
        return standbys.map(({ sent_lsn: sent }) => sent);
      },
      [end],
    );
    const { standbys } = await rig.status();
    expect(standbys.map(({ sent_lsn: sent }) => sent)).toEqual([end]);
    expect(standby.isClosed).toBe(false);
  });
});
