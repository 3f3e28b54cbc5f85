// Does the example for plain PostgreSQL work? Its SQL, rules and lines given to real servers, in the order of its README: a standby that
// streams goes over to the relay and back with one reload, a new one is made from it, commits wait for it, and another primary is found.
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createPrimary, createStandby } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { makeCertificate } from '../support/certificates.ts';
import { backupPlace, clusterOf } from '../support/clients-backup.ts';
import { clientMajor, itWhen, requires, spannedMajors } from '../support/requirements.ts';
import {
  certificateOf,
  credentials,
  examplePath,
  exampleText,
  placed,
  runClient,
  serverFile,
  startPod,
  userLine,
} from './deploy-examples-rig.ts';
import type { ExamplePod } from './deploy-examples-rig.ts';

const EXAMPLE = 'plain';
const PASSWORD = 'change-me';
const WAIT_MS = 60_000;

/** For this test, which is the superuser on loopback. */
const OWN_RULES = 'local all all trust\nhost all,replication postgres 127.0.0.1/32 trust\n';

const { describe: describeWithTools } = requires('pg_basebackup', 'psql');

describeWithTools.each(spannedMajors())('plain PostgreSQL %i', (major) => {
  const authority = makeCertificate({ commonName: 'ours', isAuthority: true });
  let workspace: Workspace;
  let first: PostgresCluster;
  let second: PostgresCluster;
  let standby: PostgresCluster;
  let pod: ExamplePod;
  let files: string;

  beforeAll(async () => {
    workspace = await openWorkspace(await serverUser());
    files = await workspace.makeDirectory('etc');
    await serverFile(workspace, join(files, 'walcast-ca.crt'), authority.pem);
    first = await createPrimary(workspace, { major, name: 'pg-a', settings: { ssl: 'on' } });
    await dress(first, OWN_RULES);
    await first.start();
    await runBlock(/primary\.sql/, { cwd: examplePath(EXAMPLE), env: clientOf(first) });
    second = await follower('pg-b');
    standby = await follower('standby_a');
  }, 120_000);

  afterAll(() => workspace.close());

  async function dress(server: PostgresCluster, rules: string): Promise<void> {
    const certificate = certificateOf(authority, server.name, [server.name]);
    const texts = {
      'server.crt': certificate.pem,
      'server.key': certificate.key,
      'pg_hba.conf': rules,
    };
    for (const [name, text] of Object.entries(texts)) {
      await serverFile(workspace, join(server.dataDirectory, name), text);
    }
  }

  /** A standby of the primary, as it was before there was a relay. */
  async function follower(name: string): Promise<PostgresCluster> {
    const server = await createStandby(workspace, {
      major,
      name,
      settings: { ssl: 'on' },
      backupFrom: first.target(),
      upstream: first.target(),
    });
    await dress(server, OWN_RULES + (await exampleText(EXAMPLE, 'primary-pg_hba.conf')));
    await server.start();
    return server;
  }

  /** Where psql goes that is told nothing. */
  function clientOf({ port, dataDirectory }: PostgresCluster): Record<string, string> {
    const place = { PGHOST: '127.0.0.1', PGPORT: String(port), PGUSER: 'postgres' };
    return { ...place, PGDATABASE: 'postgres', PGDATA: dataDirectory };
  }

  /** Runs the block of the README that speaks of `what`, as the user of the servers. */
  async function runBlock(
    what: RegExp,
    { cwd, env }: { cwd: string; env: Record<string, string> },
  ): Promise<void> {
    const readme = await exampleText(EXAMPLE, 'README.md');
    const blocks = [...readme.matchAll(/^```sh\n(.*?)^```$/gms)].map(([, text = '']) => text);
    const [block = '', ...others] = blocks.filter((text) => what.test(text));
    expect(others).toEqual([]);
    const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`);
    const script = `set -eu; cd '${cwd}'\n${block}`;
    const { exitCode, stderr } = await runClient(workspace, 'env', [
      ...variables,
      'bash',
      '-c',
      script,
    ]);
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
  }

  /** psql runs a file of the example at the primary; the result is what it printed. */
  async function psqlFile(name: string): Promise<string> {
    const place = `host=127.0.0.1 port=${first.port} user=postgres dbname=postgres`;
    const output = ['-X', '-A', '-t', '-v', 'ON_ERROR_STOP=1'];
    const words = [
      ...output,
      '-v',
      `password=${PASSWORD}`,
      '-f',
      examplePath(EXAMPLE, name),
      '-d',
      place,
    ];
    const { exitCode, stdout, stderr } = await runClient(workspace, 'psql', words);
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
    return stdout;
  }

  /** standby.conf for a standby of that name, with what this machine has. */
  async function standbyLines(name: string): Promise<string> {
    const passfile = `walcast:${pod.port}:*:replicator:${PASSWORD}\n`;
    await serverFile(workspace, join(files, 'passfile'), passfile);
    return placed(await exampleText(EXAMPLE, 'standby.conf'), {
      'host=walcast port=5432': `host=walcast hostaddr=127.0.0.1 port=${pod.port}`,
      '/etc/postgresql': files,
      standby_a: name,
    });
  }

  async function streamsThroughTheRelay(name: string): Promise<void> {
    await pod.waitForStatus(`${name} behind the relay`, ({ standbys }) =>
      standbys.some(
        ({ application_name: own, slot_name: slot, state, tls }) =>
          own === name && slot === name && state === 'streaming' && tls,
      ),
    );
  }

  it('the relay finds the one of two servers that takes writes, and logs in with its password', async () => {
    const certificate = certificateOf(authority, 'walcast', ['walcast']);
    pod = await startPod(workspace, {
      example: EXAMPLE,
      index: 0,
      places: {},
      secrets: {
        '/etc/walcast-tls': { 'tls.crt': certificate.pem, 'tls.key': certificate.key },
        '/etc/walcast-secrets': credentials({
          'userlist.txt': await userLine('replicator', PASSWORD),
          conninfo: placed(await exampleText(EXAMPLE, 'conninfo'), {
            'host=pg-a,pg-b port=5432': `host=127.0.0.1,127.0.0.1 port=${second.port},${first.port}`,
          }),
        }),
      },
    });
    const { upstream } = await pod.streams();
    expect(upstream.port).toBe(first.port);
  });

  it('a standby goes over with one reload, and back with another one', async () => {
    const file = join(standby.dataDirectory, 'postgresql.auto.conf');
    const before = await readFile(file, 'utf8');
    const upstreamOf = 'SELECT coalesce(max(sender_port), 0) FROM pg_stat_wal_receiver';
    await standby.waitForValue(upstreamOf, String(first.port));
    await serverFile(workspace, join(files, 'standby.conf'), await standbyLines('standby_a'));
    await runBlock(/standby\.conf/, { cwd: files, env: clientOf(standby) });
    await streamsThroughTheRelay('standby_a');
    await first.query('CREATE TABLE seen AS SELECT generate_series(1, 1000) AS id');
    await standby.waitForReplay(await first.walPosition());
    await writeFile(file, before);
    await standby.reload();
    await standby.waitForValue(upstreamOf, String(first.port));
    await first.query('INSERT INTO seen VALUES (0)');
    await standby.waitForReplay(await first.walPosition());
    await writeFile(file, before + (await standbyLines('standby_a')));
    await standby.reload();
    await streamsThroughTheRelay('standby_a');
  });

  it('a list of relays of which a standby wants one that takes writes counts as the primary is', async () => {
    const list = placed(await standbyLines('standby_a'), {
      'host=walcast hostaddr=127.0.0.1': 'host=walcast,walcast hostaddr=127.0.0.1,127.0.0.1',
      sslmode: 'target_session_attrs=read-write sslmode',
    });
    const file = join(standby.dataDirectory, 'postgresql.auto.conf');
    await writeFile(file, list);
    await standby.reload();
    const isAsked =
      "SELECT bool_or(conninfo ~ 'read-write') FROM pg_stat_wal_receiver WHERE status = 'streaming'";
    await standby.waitForValue(isAsked, 't');
    await writeFile(file, await standbyLines('standby_a'));
    await standby.reload();
    await standby.waitForValue(isAsked, 'f');
    await streamsThroughTheRelay('standby_a');
  });

  itWhen(major <= clientMajor('pg_basebackup'))(
    'a new standby is made through the relay by the line of the README',
    async () => {
      const lines = await standbyLines('standby_b');
      const conninfo = /^primary_conninfo = '(.*)'$/m.exec(lines)?.[1] ?? '';
      const directory = await backupPlace(workspace, 'standby_b');
      const words = ['-D', directory, '-d', conninfo, '--slot', 'standby_b', '-X', 'stream'];
      const { exitCode, stderr } = await runClient(workspace, 'pg_basebackup', words);
      expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
      const server = await clusterOf(workspace, { name: 'standby_b', major });
      const file = join(server.dataDirectory, 'postgresql.auto.conf');
      await writeFile(file, (await readFile(file, 'utf8')) + lines);
      await serverFile(workspace, join(server.dataDirectory, 'standby.signal'), '');
      await server.start();
      await streamsThroughTheRelay('standby_b');
    },
  );

  it('commits wait for the relay, and the primary says how it stands', async () => {
    await psqlFile('synchronous.sql');
    const state = "SELECT sync_state FROM pg_stat_replication WHERE application_name = 'walcast_0'";
    await expect.poll(() => first.value(state), { timeout: WAIT_MS }).toBe('sync');
    await first.query('INSERT INTO seen VALUES (-1)');
    const [walsender = '', slot = ''] = (await psqlFile('watch.sql')).split('\n');
    expect(walsender).toMatch(/^walcast_0\|streaming\|sync\|\d+$/);
    expect(slot).toMatch(/^walcast_0\|t\|(reserved|extended)\|[\dA-F]+\/[\dA-F]+$/);
    expect(await first.value('SHOW max_slot_wal_keep_size')).toBe('8GB');
  });

  it('another primary is found, and the standbys come along', async () => {
    await second.waitForReplay(await first.walPosition());
    await first.kill();
    await second.promote();
    const { upstream } = await pod.streams(2);
    expect(upstream.port).toBe(second.port);
    await second.query('INSERT INTO seen VALUES (-2)');
    await standby.waitForReplay(await second.walPosition());
    expect(await standby.value('SELECT count(*) FROM seen')).toBe('1003');
    expect(pod.problems()).toEqual([]);
  });
});
