// Does the example for Patroni work? Real Patroni: a cluster of two that keeps the relay's slots, the relay of the example behind it,
// and a standby cluster that Patroni itself makes from the relay, through a switchover.
import { afterAll, beforeAll, expect, it } from 'vitest';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { makeCertificate } from '../support/certificates.ts';
import { requires } from '../support/requirements.ts';
import { PatroniCluster } from './deploy-examples-patroni-rig.ts';
import {
  certificateOf,
  credentials,
  exampleObjects,
  examplePath,
  exampleText,
  merged,
  placed,
  startPod,
  userLine,
} from './deploy-examples-rig.ts';
import type { ExamplePod } from './deploy-examples-rig.ts';

const EXAMPLE = 'patroni';
const PASSWORD = 'change-me';

/** Its store here is its own Raft, which comes as a package of its own. */
const { describe: describeWithPatroni } = requires(
  'patroni',
  'patronictl',
  'syncobj_admin',
  'pg_basebackup',
  'initdb',
);

describeWithPatroni('Patroni', () => {
  const authority = makeCertificate({ commonName: 'servers', isAuthority: true });
  const certificate = certificateOf(authority, 'pg', ['pg-a', 'pg-b', 'walcast']);
  let workspace: Workspace;
  let main: PatroniCluster;
  let remote: PatroniCluster;
  let pod: ExamplePod;

  beforeAll(async () => {
    workspace = await openWorkspace(await serverUser());
    main = await PatroniCluster.start(workspace, {
      scope: 'main',
      members: ['pg-a', 'pg-b'],
      certificate,
      settings: {
        postgresql: { authentication: { replication: { password: PASSWORD, sslmode: 'require' } } },
      },
    });
    await main.waitForMembers('a leader and a replica', (members) => {
      const states = members.map(({ role, state }) => `${role} ${state}`);
      return (
        states.includes('leader running') &&
        states.some((one) => /^replica (running|streaming)/.test(one))
      );
    });
  }, 180_000);

  afterAll(async () => {
    await workspace.close();
  }, 60_000);

  async function leader(): Promise<string> {
    const members = await main.members();
    return members.find(({ role }) => role === 'leader')?.name ?? '';
  }

  it('takes the configuration of the example and makes its slots, on all members where it knows how', async () => {
    const file = examplePath(EXAMPLE, 'primary.yml');
    const { exitCode, stdout, stderr } = await main.patronictl([
      'edit-config',
      '--force',
      '--apply',
      file,
    ]);
    expect({ exitCode, stdout, stderr }).toMatchObject({ exitCode: 0 });
    const slots =
      "SELECT slot_name FROM pg_replication_slots WHERE slot_name LIKE 'walcast%' ORDER BY 1";
    for (const name of await main.withPermanentSlots()) {
      await main.waitForRows(name, slots, [['walcast_0']]);
    }
    const limit = 'SHOW max_slot_wal_keep_size';
    await main.waitForRows(await leader(), limit, [['8GB']]);
  });

  it('drops a slot that it was not told of as soon as it looks at them again', async () => {
    const name = await leader();
    await main.query(name, "SELECT pg_create_physical_replication_slot('walcast_9', true)");
    // It looks when it has made one.
    await main.configure({ slots: { walcast_2: { type: 'physical' } } });
    const slots =
      "SELECT slot_name FROM pg_replication_slots WHERE slot_name LIKE 'walcast%' ORDER BY 1";
    await main.waitForRows(name, slots, [['walcast_0'], ['walcast_2']]);
  });

  it('names the leader to the relay, which streams from it through the slot that Patroni keeps', async () => {
    pod = await startPod(workspace, {
      example: EXAMPLE,
      index: 0,
      places: Object.fromEntries(
        ['pg-a', 'pg-b', 'pg-c'].map((name) => [
          `http://${name}:8008`,
          // The third one is away.
          name === 'pg-c' ? 'http://127.0.0.1:1' : main.url(name),
        ]),
      ),
      secrets: {
        '/etc/walcast-tls': { 'tls.crt': certificate.pem, 'tls.key': certificate.key },
        '/etc/walcast-secrets': credentials({
          'userlist.txt': await userLine('replicator', PASSWORD),
          // What is replaced are names that this machine has not.
          conninfo: placed(await exampleText(EXAMPLE, 'conninfo'), {
            'host=pg-a,pg-b,pg-c port=5432': 'host=127.0.0.1 port=1',
          }),
        }),
      },
    });
    const { upstream } = await pod.streams();
    const name = await leader();
    expect(upstream.port).toBe(main.port(name));
    const slots =
      "SELECT slot_name, active FROM pg_replication_slots WHERE slot_name = 'walcast_0'";
    await main.waitForRows(name, slots, [['walcast_0', 't']]);
  });

  it('makes a standby cluster from the relay, which keeps its slot', async () => {
    const [standby] = await exampleObjects(EXAMPLE, 'standby.yml');
    remote = await PatroniCluster.start(workspace, {
      scope: 'remote',
      members: ['remote-a'],
      certificate,
      settings: merged(standby, {
        bootstrap: { dcs: { standby_cluster: { host: '127.0.0.1', port: pod.port } } },
      }),
    });
    await remote.waitForMembers('a standby leader', (members) =>
      members.some(
        ({ role, state }) => role === 'standby_leader' && /^(running|streaming)$/.test(state),
      ),
    );
    await main.query(await leader(), 'CREATE TABLE seen AS SELECT generate_series(1, 1000) AS id');
    await remote.waitForRows('remote-a', 'SELECT count(*) FROM seen', [['1000']]);
    const { standbys } = await pod.status();
    expect(standbys).toMatchObject([
      { application_name: 'remote-a', slot_name: 'standby_cluster', state: 'streaming' },
    ]);
  });

  it('a list of relays is one of which Patroni wants a primary, and a relay of a primary counts as that', async () => {
    await remote.configure({ standby_cluster: { host: 'localhost,127.0.0.1' } });
    const conninfo =
      "SELECT conninfo ~ 'target_session_attrs=read-write', status FROM pg_stat_wal_receiver";
    await remote.waitForRows('remote-a', conninfo, [['t', 'streaming']]);
  });

  it('through a switchover the relay goes where the leader goes, and the standby cluster comes along', async () => {
    const [before, after] = (await leader()) === 'pg-a' ? ['pg-a', 'pg-b'] : ['pg-b', 'pg-a'];
    await main.switchover(before, after);
    const { upstream } = await pod.streams(2);
    expect(upstream.port).toBe(main.port(after));
    const slots =
      "SELECT slot_name, active FROM pg_replication_slots WHERE slot_name = 'walcast_0'";
    await main.waitForRows(after, slots, [['walcast_0', 't']]);
    await main.query(after, 'INSERT INTO seen VALUES (0)');
    await remote.waitForRows('remote-a', 'SELECT count(*) FROM seen', [['1001']]);
    const timeline = 'SELECT received_tli FROM pg_stat_wal_receiver';
    await remote.waitForRows('remote-a', timeline, [['2']]);
    expect(pod.problems()).toEqual([]);
  });
});
