// Real servers that stand still, are stopped, promoted and cut off: who is followed then, is a relay ever its own upstream, and
// does what is stored stay the primary's, byte for byte?
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createPrimary, createStandby } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import type { StatusJson } from '../../src/http/api-types.ts';
import { parseLsn } from '../../src/pg/lsn.ts';
import { freePort } from '../harness/free-port.ts';
import { createRelay } from '../harness/walcast-process.ts';
import type { WalcastRelay } from '../harness/walcast-process.ts';
import { installedMajors } from '../support/requirements.ts';

/** Where hosts are, in the order in which they are tried. */
function conninfo(...ports: readonly number[]): string {
  const hosts = ports.map(() => '127.0.0.1').join(',');
  return `host=${hosts} port=${ports.join(',')} user=postgres sslmode=disable`;
}

interface Connects {
  readonly success: number;
  readonly failure: number;
}

async function connects(relay: WalcastRelay): Promise<Connects> {
  return ((await relay.get('/api/v1/upstream')) as { connects: Connects }).connects;
}

function follows(port: number): (status: StatusJson) => boolean {
  return ({ upstream }) => upstream.port === port && upstream.state === 'streaming';
}

describe.each(installedMajors().slice(-1))('PostgreSQL %i', (major) => {
  let workspace: Workspace;
  let primary: PostgresCluster;
  let cut: PostgresCluster;
  let heir: PostgresCluster;

  beforeAll(async () => {
    workspace = await openWorkspace(await serverUser());
    primary = await createPrimary(workspace, { major, name: 'primary' });
    await primary.start();
    const standby = async (name: string): Promise<PostgresCluster> => {
      const target = primary.target();
      const made = await createStandby(workspace, {
        major,
        name,
        backupFrom: target,
        upstream: target,
      });
      await made.start();
      return made;
    };
    [cut, heir] = [await standby('cut'), await standby('heir')];
  });

  afterAll(async () => {
    await workspace.close();
  });

  async function relay(name: string, ...ports: readonly number[]): Promise<WalcastRelay> {
    const made = await createRelay(workspace, {
      name,
      slot: '',
      upstream: () => primary.target(),
      settings: {
        upstream: { conninfo: conninfo(...ports), wal_receiver_timeout: '2s' },
      },
    });
    return made;
  }

  async function everythingArrives(at: WalcastRelay, from: PostgresCluster): Promise<void> {
    await from.query('CREATE TABLE IF NOT EXISTS t (i int)');
    await from.query('INSERT INTO t SELECT generate_series(1, 1000)');
    const endLsn = await from.walPosition();
    await at.waitForStatus(
      'all of it',
      ({ store }) => (parseLsn(store.flushed_lsn ?? '0/0') ?? 0n) >= endLsn,
    );
  }

  it('a standby that its primary no longer reaches is left for the primary, and not returned to', async () => {
    const at = await relay('left', cut.port, primary.port);
    await at.start();
    await at.waitForStatus('the standby is followed', follows(cut.port));
    await cut.followUpstream({ ...primary.target(), port: await freePort() });
    await cut.reload();
    await cut.waitForValue('SELECT count(*) FROM pg_stat_wal_receiver', '0');
    await everythingArrives(at, primary);
    const after = await at.waitForStatus('the primary is followed', follows(primary.port));
    expect(after.detail).toBeNull();
    await cut.followUpstream(primary.target());
    await cut.reload();
    await everythingArrives(at, primary);
    await cut.waitForReplay(await primary.walPosition());
    expect(await connects(at)).toMatchObject({ success: 2 });
    await at.stop();
  });

  it('relays that name each other and themselves follow the primary again when it is back', async () => {
    const ports = [await freePort(), await freePort()];
    const relays: WalcastRelay[] = [];
    for (const [index, name] of ['one', 'two'].entries()) {
      const made = await createRelay(workspace, {
        name,
        slot: '',
        upstream: () => primary.target(),
        settings: {
          listen: [{ address: `127.0.0.1:${ports[index]}` }],
          upstream: {
            conninfo: conninfo(primary.port, ...ports),
            wal_receiver_timeout: '2s',
          },
        },
      });
      await made.start();
      await made.waitForStatus('the primary is followed', follows(primary.port));
      relays.push(made);
    }
    const ends = await Promise.all(relays.map((each) => each.flushedLsn()));
    await primary.stop();
    for (const [index, each] of relays.entries()) {
      const itself = `127.0.0.1:${ports[index]}`;
      const { detail } = await each.waitForStatus(
        'nobody follows himself',
        ({ upstream }) => upstream.port === ports[1 - index] || upstream.detail !== null,
      );
      expect(each.log.join('\n')).not.toContain(`"upstream":"${itself}","state":"streaming"`);
      expect(detail ?? '').not.toContain('lost WAL');
    }
    await primary.start();
    await Promise.all(relays.map((each) => everythingArrives(each, primary)));
    for (const [index, each] of relays.entries()) {
      expect(await each.flushedLsn()).toBeGreaterThan(ends[index] ?? 0n);
      const { success, failure } = await connects(each);
      // A storm would be thousands.
      expect(success + failure).toBeLessThan(200);
      expect(each.problems()).toEqual([]);
      await each.stop();
    }
  });

  it('a standby of our own brings nothing, is told of, and is left when the primary is back', async () => {
    const at = await relay('own', primary.port, cut.port);
    await at.start();
    await at.waitForStatus('the primary is followed', follows(primary.port));
    await cut.followUpstream(at.target());
    await cut.reload();
    await everythingArrives(at, primary);
    await cut.waitForReplay(await primary.walPosition());
    await primary.stop();
    await at.waitForStatus('its own standby is followed', follows(cut.port));
    await at.process.waitForLog(/a standby at the same address streams from here/);
    await primary.start();
    await everythingArrives(at, primary);
    await at.waitForStatus('the primary is followed', follows(primary.port));
    await cut.waitForReplay(await primary.walPosition());
    expect(at.problems()).toEqual([]);
    await cut.followUpstream(primary.target());
    await cut.reload();
    await at.stop();
  });

  it('a standby that stays on the old timeline is left for one that was promoted', async () => {
    const at = await relay('promoted', cut.port, heir.port);
    await at.start();
    await at.waitForStatus('the standby is followed', follows(cut.port));
    await everythingArrives(at, primary);
    const endLsn = await primary.walPosition();
    await Promise.all([cut, heir].map((each) => each.waitForReplay(endLsn)));
    await primary.stop();
    await heir.promote();
    await at.waitForStatus('the new primary is followed', follows(heir.port));
    await everythingArrives(at, heir);
    expect(await at.status()).toMatchObject({ timeline: 2, detail: null });
    expect(at.problems()).toEqual([]);
    await at.stop();
  });
});
