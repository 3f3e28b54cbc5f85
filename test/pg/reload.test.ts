// Does a SIGHUP change what can be changed, at once, while the standby behind walcast goes on as if nothing had happened?
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse, stringify } from 'yaml';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import { SUPERUSER } from '../../src/demo/postgres-server.ts';
import { openSqlSession } from '../../src/demo/sql-session.ts';
import { INVALID_LSN } from '../../src/pg/lsn.ts';
import { streamsOf } from '../harness/ledger.ts';
import { openRecorder } from '../harness/recorder.ts';
import type { Recorder } from '../harness/recorder.ts';
import { openScenario } from '../harness/relay-scenario.ts';
import type { RelayScenario } from '../harness/relay-scenario.ts';
import type { WriteLoad } from '../harness/write-load.ts';
import { installedMajors } from '../support/requirements.ts';

interface ConfigItem {
  readonly key: string;
  readonly value: string | null;
  readonly pending_restart: boolean;
}

// What a reload does does not depend on the version of the servers.
describe.each(installedMajors().slice(-1))('a SIGHUP, with PostgreSQL %i', (major) => {
  let scenario: RelayScenario;
  let load: WriteLoad;
  let other: Recorder;
  let pid: number;
  let file: string;

  beforeAll(async () => {
    scenario = await openScenario({ major, standbys: [{ name: 'stays' }] });
    other = await openRecorder({ name: 'other', target: () => scenario.primary.target() });
    load = await scenario.startLoad(1);
    await load.waitForCommits(20);
    file = join(scenario.workspace.directory, 'walcast-1.yaml');
    pid = await standbyPid();
  });

  afterAll(async () => {
    await scenario.close();
    await other.close();
  });

  async function standbyPid(): Promise<number> {
    const { standbys } = await scenario.relay.waitForStatus(
      'the standby streams',
      ({ standbys: all }) => all.some(({ state }) => state === 'streaming'),
    );
    return standbys[0]?.pid ?? 0;
  }

  async function entry(key: string): Promise<ConfigItem | undefined> {
    const entries = (await scenario.relay.get('/api/v1/config')) as readonly ConfigItem[];
    return entries.find((candidate) => candidate.key === key);
  }

  /** Writes the file anew with `change` made to its keys, sends SIGHUP, and waits for what it says. */
  async function reload(
    change: (keys: Record<string, Record<string, unknown>>) => void,
    said: RegExp = /the configuration was read again/,
  ): Promise<string> {
    const keys = parse(await readFile(file, 'utf8'));
    change(keys);
    await writeFile(file, stringify(keys));
    return await hangUp(said);
  }

  async function hangUp(said: RegExp): Promise<string> {
    const { process } = scenario.relay;
    const from = process.log.length;
    process.signal('SIGHUP');
    return await process.waitForLog(said, { from });
  }

  /** Metrics are rendered once a second at most. */
  async function metric(line: RegExp): Promise<void> {
    await pollUntil(
      String(line),
      async () => (line.test(await scenario.relay.metrics()) ? true : null),
      { timeoutMs: 10_000 },
    );
  }

  /** The standby has what the primary has, over the session it had from the beginning. */
  async function undisturbed(): Promise<void> {
    await load.waitForCommits(20);
    await scenario.standbys[0]?.waitForReplay(await scenario.primary.walPosition(), 30_000);
    expect(await standbyPid()).toBe(pid);
  }

  async function connect(user: string): Promise<void> {
    const { host, port } = scenario.relay;
    await using session = await openSqlSession({
      host,
      port,
      user,
      database: 'replication',
      replication: true,
    });
    await session.query('IDENTIFY_SYSTEM');
  }

  it('lets access rules count for those who come, and leaves those who are there', async () => {
    await connect(SUPERUSER);
    await reload((keys) => {
      keys['auth'] = {
        hba: `host replication ${SUPERUSER} all reject\nhost replication all all trust\n`,
      };
    });
    await expect(connect(SUPERUSER)).rejects.toThrow(/pg_hba.conf|reject/);
    await connect('somebody');
    await undisturbed();
    await reload((keys) => {
      keys['auth'] = { hba: 'host replication all 127.0.0.1/32 trust\n' };
    });
    await connect(SUPERUSER);
  });

  it('changes level and format of the log', async () => {
    const line = await reload((keys) => {
      keys['log'] = { level: 'info', format: 'text' };
    });
    expect(line).toMatch(
      / INFO {2}the configuration was read again .*changed=1 pending_restart=0$/,
    );
    const from = scenario.relay.process.log.length;
    const keys = parse(await readFile(file, 'utf8'));
    await writeFile(file, stringify({ ...keys, log: { level: 'error', format: 'json' } }));
    scenario.relay.process.signal('SIGHUP');
    await pollUntil(
      'the level is in effect',
      async () => ((await entry('log.level'))?.value === 'error' ? true : null),
      { timeoutMs: 10_000 },
    );
    expect(scenario.relay.process.log.slice(from).join('\n')).not.toContain('read again changed');
    await reload((all) => {
      all['log'] = { level: 'info', format: 'json' };
    });
  });

  it('refuses a bad file whole, says the lines of a start, and goes on', async () => {
    const good = await readFile(file, 'utf8');
    await writeFile(file, `${good}drain_timeut: 5s\nwal_sender_timeout: 5 parsecs\n`);
    await hangUp(/refused; nothing was changed/);
    const lines = scenario.relay.process.log.join('\n');
    expect(lines).toMatch(
      /walcast-1\.yaml:\d+:1: unknown key `drain_timeut`\. Did you mean `drain_timeout`\?/,
    );
    expect(lines).toMatch(/walcast-1\.yaml:\d+:21: invalid value for `wal_sender_timeout`/);
    expect(await entry('wal_sender_timeout')).toMatchObject({ value: '60s' });
    await metric(/^walcast_config_last_reload_successful 0$/m);
    await rm(file);
    await hangUp(/no such file/);
    await undisturbed();
    await writeFile(file, good);
    await hangUp(/the configuration was read again/);
    await metric(/^walcast_config_last_reload_successful 1$/m);
  });

  it('says what waits for a restart', async () => {
    const { host } = scenario.relay;
    let listen: unknown;
    await reload((keys) => {
      listen = keys['listen'];
      Object.assign(keys, { listen: [{ address: `${host}:1` }] });
    }, /`listen` cannot be changed without a restart/);
    expect(await entry('listen')).toMatchObject({ pending_restart: true });
    await connect(SUPERUSER);
    await reload((keys) => Object.assign(keys, { listen }));
    expect(await entry('listen')).toMatchObject({ pending_restart: false });
  });

  it('follows the upstream to another address, without a gap, a repeat or a step back', async () => {
    await reload((keys) => {
      const upstream = keys['upstream'];
      const conninfo = String(upstream?.['conninfo']);
      expect(conninfo).toContain(String(scenario.upstream.port));
      keys['upstream'] = {
        ...upstream,
        conninfo: conninfo.replace(String(scenario.upstream.port), String(other.port)),
      };
    }, /`upstream\.conninfo` changed/);
    const [before] = streamsOf(scenario.upstream.ledger);
    const after = await pollUntil(
      'WAL streams in from the other address',
      async () => streamsOf(other.ledger).find(({ replies }) => replies.length > 1) ?? null,
      { timeoutMs: 30_000 },
    );
    expect(before?.end).toBe('client');
    const promised = before?.replies.at(-1)?.flushLsn ?? INVALID_LSN;
    expect(promised).toBeGreaterThan(INVALID_LSN);
    for (const { flushLsn } of after.replies) expect(flushLsn).toBeGreaterThanOrEqual(promised);
    await metric(/^walcast_upstream_disconnects_total\{.*reason="reload".*\} 1$/m);
    await undisturbed();
  });

  it('leaves the standby alone when the new upstream does not answer, and comes back from it', async () => {
    const good = await readFile(file, 'utf8');
    await reload((keys) => {
      keys['upstream'] = { ...keys['upstream'], conninfo: 'host=127.0.0.1 port=1 user=nobody' };
    });
    await scenario.relay.waitForStatus(
      'the attempts fail',
      ({ upstream }) => upstream.state === 'disconnected' && upstream.port === 1,
    );
    expect(await standbyPid()).toBe(pid);
    await writeFile(file, good);
    await hangUp(/the configuration was read again/);
    await undisturbed();
  });

  it('leaves bytes, rows and replies as they have to be', async () => {
    const endLsn = await scenario.settle();
    scenario.upstream.ledger.connections.push(...other.ledger.connections);
    const wrong = await scenario.violations(endLsn);
    const refused = /configuration|refused|reject/;
    expect(wrong.filter((line) => !refused.test(line))).toEqual([]);
  });

  it('lets go of WAL at once when the window becomes smaller', async () => {
    const segments = async (): Promise<number> => (await scenario.relay.status()).store.segments;
    for (let count = 0; count < 4; count += 1) {
      await scenario.primary.query(
        "SELECT pg_logical_emit_message(false, '', ''), pg_switch_wal()",
      );
    }
    await scenario.standbys[0]?.waitForReplay(await scenario.primary.walPosition(), 30_000);
    expect(await segments()).toBeGreaterThan(4);
    await reload((keys) => Object.assign(keys['storage'] ?? {}, { wal_keep_size: '16MB' }));
    await pollUntil('segments are removed', async () => ((await segments()) < 4 ? true : null), {
      timeoutMs: 10_000,
    });
    expect(await standbyPid()).toBe(pid);
  });
});
