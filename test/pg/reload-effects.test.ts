// Does every key that is marked reloadable take effect when it is reloaded, and is every other one told as waiting for a restart?
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openSqlSession } from '../../src/demo/sql-session.ts';
import { SETTINGS } from '../../src/config/settings.ts';
import { query, RawClient } from '../support/raw-client.ts';
import { NEWEST_MAJOR, requires } from '../support/requirements.ts';
import { of } from './reload-effect.ts';
import type { Effects } from './reload-effect.ts';
import { CLIENT_EFFECTS } from './reload-effects-clients.ts';
import { STORAGE_EFFECTS } from './reload-effects-storage.ts';
import { UPSTREAM_EFFECTS } from './reload-effects-upstream.ts';
import { ReloadRig } from './reload-rig.ts';

const EFFECTS: Effects = { ...UPSTREAM_EFFECTS, ...CLIENT_EFFECTS, ...STORAGE_EFFECTS };

/** Shown last: what shows it ends the process. */
const LAST = 'drain_timeout';

const RELOADABLE = SETTINGS.filter(({ isReloadable }) => isReloadable).map(({ path }) => path);

interface ConfigItem {
  readonly key: string;
  readonly pending_restart: boolean;
}

// What a reload does does not depend on the version of the servers.
requires(`postgres-${NEWEST_MAJOR}`).describe('a reload', () => {
  let rig: ReloadRig;
  let pid: number;

  beforeAll(async () => {
    rig = await ReloadRig.open(NEWEST_MAJOR);
    pid = rig.process.pid;
  }, 60_000);

  afterAll(async () => {
    await rig[Symbol.asyncDispose]();
  });

  it('is looked at for every key that is marked so, and for no other', () => {
    expect(Object.keys(EFFECTS).toSorted()).toEqual(
      RELOADABLE.filter((path) => path !== LAST).toSorted(),
    );
  });

  it.each(Object.entries(EFFECTS))(
    'puts %s in effect',
    async (key, effect) => {
      expect((await rig.reset()).status).toBe(200);
      const made = (await effect.prepare?.(rig)) ?? {};
      const before = of(effect.before ?? {}, rig, made);
      expect(await rig.become(before)).toMatchObject({ status: 200 });
      await effect.arrange?.(rig);
      const see = (): Promise<unknown> => effect.observe(rig);
      if (effect.old !== undefined) {
        const old = of(effect.old, rig, made);
        expect(await rig.see(`${key} before`, see, old)).toEqual(old);
      }
      const report = await rig.become(before, of(effect.after, rig, made));
      expect(report).toMatchObject({ status: 200, body: { changed: [key], pending_restart: [] } });
      const now = of(effect.now, rig, made);
      expect(await rig.see(key, see, now)).toEqual(now);
      expect([rig.process.pid, rig.process.end]).toEqual([pid, null]);
    },
    60_000,
  );

  describe('of what only a restart can change', () => {
    const waiting = SETTINGS.filter(({ isReloadable }) => !isReloadable).map(({ path }) => path);

    it('says so in the log, the API and the console, and takes the rest', async () => {
      await rig.become();
      const from = rig.process.log.length;
      const answer = await rig.become({
        listen: [{ address: '127.0.0.1:1' }],
        storage: { directory: 'elsewhere', verify: 'page', forward: 'flushed' },
        http: {
          listen: '127.0.0.1:1',
          tls: { cert: 'server.crt', key: 'server.key', ca: 'ca.crt' },
        },
        wal_sender_timeout: '59s',
      });
      expect(answer.body).toEqual({ changed: ['wal_sender_timeout'], pending_restart: waiting });
      const log = rig.process.log.slice(from);
      const entries = await rig.get<readonly ConfigItem[]>('/api/v1/config');
      expect(pendingOf(entries)).toEqual(waiting);
      const { configuration, findings } = await rig.status();
      expect(configuration).toMatchObject({ last_reload_good: true, pending_restart: waiting });
      expect(findings).toContainEqual(expect.objectContaining({ code: 'restart_pending' }));
      expect(await consolePending()).toEqual(waiting);
      for (const key of waiting) {
        const line = `\`${key}\` cannot be changed without a restart`;
        expect(
          log.some((one) => one.includes(line) && one.includes('"warn"')),
          key,
        ).toBe(true);
      }
    });

    it('says no more of it when the file is as it was', async () => {
      expect((await rig.become()).body).toMatchObject({ pending_restart: [] });
      const entries = await rig.get<readonly ConfigItem[]>('/api/v1/config');
      expect([pendingOf(entries), await consolePending()]).toEqual([[], []]);
    });
  });

  it(`puts ${LAST} in effect`, async () => {
    await rig.become();
    const { client } = await RawClient.standby(rig.ports.pg, { user: 'postgres' });
    client.send(query(`START_REPLICATION ${(await rig.status()).store.flushed_lsn}`));
    await client.until('W');
    client.pause();
    expect((await rig.become({ drain_timeout: '1s' })).body).toMatchObject({ changed: [LAST] });
    await rig.primary.query("SELECT pg_logical_emit_message(false, '', '')");
    const startMs = performance.now();
    expect(await rig.process.stop('SIGTERM')).toEqual({ exitCode: 0, signal: null });
    // The default is half a minute.
    expect(performance.now() - startMs).toBeLessThan(20_000);
    client.close();
  }, 60_000);

  async function consolePending(): Promise<string[]> {
    const { pg: port } = rig.ports;
    const target = { host: '127.0.0.1', port, user: 'ops', database: 'walcast' };
    await using session = await openSqlSession(target);
    const rows = await session.query('SHOW CONFIG');
    return rows.filter((row) => row.at(-1) === 't').map(([key = '']) => key);
  }
});

function pendingOf(entries: readonly ConfigItem[]): string[] {
  return entries.filter(({ pending_restart: isPending }) => isPending).map(({ key }) => key);
}
