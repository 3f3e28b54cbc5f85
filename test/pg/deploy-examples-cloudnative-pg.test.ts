// Does the example for CloudNativePG work? Its own configuration of walcast behind a primary as the operator sets one up, and the
// steps of the operator's code that make a replica cluster, run against it: wait, clone, follow, probe, fail over.
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createStandby } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { parseLsn } from '../../src/pg/lsn.ts';
import { makeCertificate } from '../support/certificates.ts';
import { backupPlace, clusterOf } from '../support/clients-backup.ts';
import { clientMajor, requires, spannedMajors } from '../support/requirements.ts';
import {
  cloneArguments,
  CLONE_OPTIONS,
  connectionString,
  createOperatedPrimary,
  dressServer,
  identifyAsDriver,
  SERVER_SETTINGS,
  startupProbe,
  synchronizeSlots,
  synchronousProblem,
  synchronousStandbyNames,
  writeReplicaConfiguration,
} from './deploy-examples-cnpg.ts';
import type { DriverAnswer } from './deploy-examples-cnpg.ts';
import {
  at,
  certificateOf,
  credentials,
  exampleObjects,
  runClient,
  ServiceName,
  startPod,
  userLine,
} from './deploy-examples-rig.ts';
import type { ExamplePod } from './deploy-examples-rig.ts';

const EXAMPLE = 'cloudnative-pg';
const PASSWORD = 'of the replica: with a colon';
const WAIT_MS = 60_000;
const MAXIMUM_LAG = 16 << 20;

const { describe: describeWithTools } = requires('pg_basebackup', 'psql');

describeWithTools.each(spannedMajors())('CloudNativePG with PostgreSQL %i', (major) => {
  const authority = makeCertificate({ commonName: 'pg', isAuthority: true });
  const relayAuthority = makeCertificate({ commonName: 'relays', isAuthority: true });
  const replication = certificateOf(authority, 'streaming_replica');
  const stranger = certificateOf(relayAuthority, 'streaming_replica');
  let workspace: Workspace;
  let service: ServiceName;
  let primary: PostgresCluster;
  let second: PostgresCluster;
  let pod: ExamplePod;
  let replica: PostgresCluster;
  let external: string;

  beforeAll(async () => {
    workspace = await openWorkspace(await serverUser());
    service = await ServiceName.open();
    external = await workspace.makeDirectory('external');
    const settings = { max_slot_wal_keep_size: await slotLimit() };
    primary = await createOperatedPrimary(workspace, { major, name: 'pg-1', authority, settings });
    pod = await startPod(workspace, {
      example: EXAMPLE,
      index: 0,
      places: { 'host=pg-rw port=5432': `host=pg-rw hostaddr=127.0.0.1 port=${service.port}` },
      secrets: {
        '/etc/walcast-upstream': {
          'tls.crt': replication.pem,
          'tls.key': replication.key,
          'ca.crt': authority.pem,
        },
        '/etc/walcast-tls': relayFiles(),
        '/etc/walcast-secrets': credentials({
          'userlist.txt': await userLine('replica', PASSWORD),
        }),
      },
    });
  }, 120_000);

  afterAll(async () => {
    await workspace.close();
    await service[Symbol.asyncDispose]();
  });

  async function slotLimit(): Promise<string> {
    const [cluster] = await exampleObjects(EXAMPLE, 'cluster.yaml');
    return String(at(cluster, 'spec', 'postgresql', 'parameters', 'max_slot_wal_keep_size'));
  }

  /** The relay's certificate is by another authority than the cluster's, which standbys are let in by. */
  function relayFiles(): Record<string, string> {
    const server = certificateOf(relayAuthority, 'walcast', ['walcast', 'walcast.default.svc']);
    return { 'tls.crt': server.pem, 'tls.key': server.key, 'ca.crt': relayAuthority.pem };
  }

  /** The connection string of an example's source, as the operator makes it, and where its files are. */
  async function source(file: string, overrides: Record<string, string> = {}): Promise<string> {
    const [cluster] = await exampleObjects(EXAMPLE, file);
    const spec = at(cluster, 'spec');
    const entry = at(spec, 'externalClusters', 0);
    expect(at(entry, 'name')).toBe(at(spec, 'bootstrap', 'pg_basebackup', 'source'));
    expect(at(entry, 'name')).toBe(at(spec, 'replica', 'source'));
    const secrets = {
      'pg-replication/tls.crt': replication.pem,
      'pg-replication/tls.key': replication.key,
      'walcast-tls/ca.crt': relayAuthority.pem,
      'walcast-replica/password': PASSWORD,
    };
    const place = { hostaddr: '127.0.0.1', port: String(pod.port), ...overrides };
    return await connectionString(workspace, { entry, secrets, directory: external }, place);
  }

  async function identify(port: number, client = replication): Promise<DriverAnswer> {
    return await identifyAsDriver({ port, user: 'streaming_replica', authority, client });
  }

  it('a relay that knows no primary yet has the operator wait, and is answered for as soon as it does', async () => {
    await expect
      .poll(async () => (await identify(pod.port).catch(() => null))?.error ?? '', {
        timeout: WAIT_MS,
      })
      .toMatch(/^57P03 /);
    service.target = primary;
    await pod.streams();
    const [atRelay, atPrimary] = [await identify(pod.port), await identify(primary.port)];
    expect(atRelay.error).toBeNull();
    expect(atRelay.columns).toBe(4);
    expect(atRelay.row.slice(0, 2)).toEqual(atPrimary.row.slice(0, 2));
    // As the client wrote it, without the order of day and month that the server adds.
    expect(atRelay.parameters.get('DateStyle')).toBe('ISO');
    atRelay.parameters.set('DateStyle', 'ISO, MDY');
    expect(Object.fromEntries(atRelay.parameters)).toEqual(
      Object.fromEntries(atPrimary.parameters),
    );
    // The driver quotes nothing without these two.
    expect(atRelay.parameters.get('standard_conforming_strings')).toBe('on');
    expect(atRelay.parameters.get('client_encoding')).toBe('UTF8');
  });

  it('logs in as streaming_replica with its certificate, under a name and a slot of the pod', async () => {
    const walsenders = `SELECT r.application_name, r.usename, s.ssl, s.client_dn, l.slot_name
      FROM pg_stat_replication r JOIN pg_stat_ssl s USING (pid) LEFT JOIN pg_replication_slots l ON l.active_pid = pid`;
    expect(await primary.query(walsenders)).toEqual([
      ['walcast_0', 'streaming_replica', 't', '/CN=streaming_replica', 'walcast_0'],
    ]);
  });

  it('lets in nobody with a certificate of another authority', async () => {
    // With TLS 1.3 a client hears of it behind its own part of the handshake.
    const login = identify(pod.port, stranger);
    await expect(login.then(({ row }) => row)).resolves.toEqual([]);
  });

  it('a replica cluster is cloned through it with the arguments of the operator, and streams without a slot', async () => {
    const conninfo = await source('replica-cluster.yaml');
    await clone(conninfo + CLONE_OPTIONS);
    replica = await clusterOf(workspace, { name: 'pg-replica-1', major });
    await replica.configure(SERVER_SETTINGS);
    await dressServer(replica, authority);
    await writeReplicaConfiguration(replica, conninfo + CLONE_OPTIONS);
    await replica.start();
    await primary.query('CREATE TABLE seen AS SELECT generate_series(1, 1000) AS id');
    await replica.waitForReplay(await primary.walPosition());
    // The first reconciliation takes the options away again.
    await writeReplicaConfiguration(replica, conninfo);
    await replica.reload();
    await primary.query('INSERT INTO seen SELECT generate_series(1, 1000)');
    await replica.waitForReplay(await primary.walPosition());
    expect(await replica.value('SELECT count(*) FROM seen')).toBe('2000');
    const { standbys } = await pod.waitForStatus('the replica', (status) =>
      status.standbys.some(({ state }) => state === 'streaming'),
    );
    expect(standbys).toMatchObject([
      { application_name: 'pg_replica', user: 'streaming_replica', slot_name: null },
    ]);
  });

  /** pg_basebackup takes no backup of a newer server; those come from the primary, and only follow the relay. */
  async function clone(conninfo: string): Promise<void> {
    if (major > clientMajor('pg_basebackup')) {
      const backupFrom = primary.target();
      await createStandby(workspace, {
        major,
        name: 'pg-replica-1',
        backupFrom,
        upstream: backupFrom,
      });
      return;
    }
    const directory = await backupPlace(workspace, 'pg-replica-1');
    const { exitCode, stderr } = await runClient(
      workspace,
      'pg_basebackup',
      cloneArguments(directory, conninfo),
    );
    expect({ exitCode, stderr }).toMatchObject({
      exitCode: 0,
      stderr: expect.stringContaining('base backup completed'),
    });
  }

  it('its startup probe sees the end of WAL of the primary, not what the relay happens to have sent', async () => {
    await primary.query('INSERT INTO seen SELECT generate_series(1, 1000)');
    const end = await primary.walPosition();
    await replica.waitForReplay(end);
    await replica.waitForValue(startupProbe(MAXIMUM_LAG), 't');
    await replica.query('SELECT pg_wal_replay_pause()');
    await primary.query('INSERT INTO seen SELECT generate_series(1, 200000)');
    const later = await primary.walPosition();
    const isThere = `SELECT latest_end_lsn - '0/0' >= ${later} FROM pg_stat_wal_receiver`;
    await replica.waitForValue(isThere, 't');
    await replica.waitForValue(startupProbe(1024), 'f');
    await replica.query('SELECT pg_wal_replay_resume()');
    await replica.waitForReplay(later);
  });

  it('with a password, through the file that the operator writes, a second one logs in; not with a list of hosts', async () => {
    const ask = async (conninfo: string): Promise<string> => {
      const args = [
        '-X',
        '-w',
        '-A',
        '-t',
        '-c',
        'IDENTIFY_SYSTEM',
        '-d',
        `${conninfo} replication=true`,
      ];
      const { stdout, stderr } = await runClient(workspace, 'psql', args);
      return stdout + stderr;
    };
    const systemId = await primary.value('SELECT system_identifier FROM pg_control_system()');
    expect(await ask(await source('replica-cluster-password.yaml'))).toContain(systemId);
    const list = { host: 'walcast,walcast', hostaddr: '127.0.0.1,127.0.0.1' };
    expect(await ask(await source('replica-cluster-password.yaml', list))).toContain(
      'no password supplied',
    );
  });

  it('the operator takes the synchronous settings, and commits wait for the relay and a standby', async () => {
    second = await createStandby(workspace, {
      major,
      name: 'pg-2',
      settings: SERVER_SETTINGS,
      backupFrom: primary.target(),
      upstream: primary.target(),
    });
    await dressServer(second, authority);
    await second.start();
    const [cluster] = await exampleObjects(EXAMPLE, 'cluster.yaml');
    const [patch] = await exampleObjects(EXAMPLE, 'synchronous.yaml');
    const spec = {
      instances: at(cluster, 'spec', 'instances'),
      postgresql: at(patch, 'spec', 'postgresql'),
    };
    expect(synchronousProblem(spec)).toBeNull();
    const names = synchronousStandbyNames(spec, 'pg');
    expect(names).toBe('FIRST 2 ("walcast_0","pg-1","pg-2","pg-3")');
    await primary.configure({ synchronous_standby_names: names });
    await primary.reload();
    const states = `SELECT application_name, sync_state FROM pg_stat_replication
      WHERE sync_state <> 'async' ORDER BY 1 DESC`;
    await expect
      .poll(() => primary.query(states), { timeout: WAIT_MS })
      .toEqual([
        ['walcast_0', 'sync'],
        ['pg-2', 'sync'],
      ]);
    await primary.query('INSERT INTO seen VALUES (0)');
    const committed = await primary.walPosition();
    const { store } = await pod.status();
    // The commit came back, so the relay has it on its disk; what is behind it may be on its way.
    expect(parseLsn(store.flushed_lsn ?? '0/0')).toBeGreaterThan(committed - 65_536n);
  });

  it('follows -rw through a failover, with the copy of its slot, and the replica cluster follows it', async () => {
    await second.waitForReplay(await primary.walPosition());
    await synchronizeSlots(primary, second);
    await primary.kill();
    await second.promote();
    service.target = second;
    await pod.streams(2);
    const slots = 'SELECT slot_name, active FROM pg_replication_slots';
    expect(await second.query(slots)).toEqual([['walcast_0', 't']]);
    await second.query('INSERT INTO seen VALUES (-1)');
    await replica.waitForReplay(await second.walPosition());
    expect(await replica.value('SELECT received_tli FROM pg_stat_wal_receiver')).toBe('2');
    const count = 'SELECT count(*), min(id), max(id) FROM seen';
    expect(await replica.query(count)).toEqual(await second.query(count));
    expect(pod.problems()).toEqual([]);
  });
});
