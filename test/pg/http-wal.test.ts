// Does a standby that has nothing but a restore_command on walcast's HTTP port get all of the primary's WAL, byte for
// byte? Do the actions of the API do to real clients what they say, and do its events tell of them?
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createStandby } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import type { UpstreamDetailJson } from '../../src/http/api-types.ts';
import { INVALID_LSN, parseLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { segmentNumber, toSegmentSize, walFileName } from '../../src/pg/segment.ts';
import { toTimelineId } from '../../src/pg/timeline.ts';
import { freePort } from '../harness/free-port.ts';
import { startTool } from '../harness/pg-tools.ts';
import { connectArguments, openClientsRig, writeWal } from '../support/clients-rig.ts';
import type { ClientsRig } from '../support/clients-rig.ts';
import { followUntil, openEvents } from '../support/event-client.ts';
import { eventually } from '../support/eventually.ts';
import { clientMajor, newestMajors, itWhen } from '../support/requirements.ts';

const SEGMENT_SIZE = toSegmentSize(1 << 20);
const TOKEN = 'the-token-of-the-real-server-tests';

/** `node SCRIPT URL PATH TOKEN_FILE`: puts the file there, or fails without a trace. */
const RESTORE_SCRIPT = `
const { readFile, rename, writeFile } = await import('node:fs/promises');
const [url, path, tokenFile] = process.argv.slice(2);
const authorization = 'Bearer ' + (await readFile(tokenFile, 'utf8')).trim();
const response = await fetch(url, { headers: { authorization } });
if (!response.ok) process.exit(1);
await writeFile(path + '.part', Buffer.from(await response.arrayBuffer()));
await rename(path + '.part', path);
`;

describe.each(newestMajors())('the HTTP port, with PostgreSQL %i', (major) => {
  let rig: ClientsRig;
  let secrets: string;
  let standby: PostgresCluster;

  beforeAll(async () => {
    secrets = await mkdtemp(join(tmpdir(), 'walcast-token-'));
    await writeFile(join(secrets, 'token'), `${TOKEN}\n`, { mode: 0o600 });
    rig = await openClientsRig({
      major,
      segmentSizeMb: 1,
      relaySettings: { http: { token_file: join(secrets, 'token') } },
    });
  });

  afterAll(async () => {
    await rig[Symbol.asyncDispose]();
    await rm(secrets, { recursive: true });
  });

  function ask(method: string, path: string, body?: object): Promise<Response> {
    return fetch(`${rig.relay.url}${path}`, {
      method,
      headers: {
        authorization: `Bearer ${TOKEN}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  }

  function nameAt(lsn: Lsn): string {
    return walFileName(toTimelineId(1), segmentNumber(lsn, SEGMENT_SIZE), SEGMENT_SIZE);
  }

  /** Ends the present segment, begins the next, and waits until walcast has both on its disk. Gives the name of the first. */
  async function endSegment(): Promise<string> {
    await rig.primary.query('SELECT pg_create_restore_point($$in front$$)');
    const lsn = parseLsn(await rig.primary.value('SELECT pg_switch_wal()')) ?? INVALID_LSN;
    await rig.primary.query('SELECT pg_create_restore_point($$behind$$)');
    const behindLsn = await rig.primary.walPosition();
    await rig.relay.waitForStatus('all of it is on the disk', ({ store }) => {
      const flushedLsn = parseLsn(store.flushed_lsn ?? '');
      return flushedLsn !== null && flushedLsn >= behindLsn;
    });
    return nameAt(lsn);
  }

  it('gives every whole segment as the primary has it, and nothing else', async () => {
    await writeWal(rig.primary, 3);
    const last = await endSegment();
    const names = (await readdir(rig.relay.walDirectory)).filter((name) => name <= last);
    expect(names.length).toBeGreaterThan(3);
    for (const name of names) {
      const response = await rig.relay.walFile(name);
      expect([name, response.status]).toEqual([name, 200]);
      const expected = await readFile(join(rig.primary.walDirectory, name));
      expect(expected.equals(Buffer.from(await response.arrayBuffer())), name).toBe(true);
    }
    // The server writes of its own accord, too: asked again when it began another segment in between.
    let present = '';
    await eventually(async () => {
      present = nameAt(await rig.relay.flushedLsn());
      return (await rig.relay.walFile(present)).status;
    }).toBe(409);
    await endSegment();
    expect((await rig.relay.walFile(present)).status).toBe(200);
    expect((await rig.relay.walFile('00000002.history')).status).toBe(404);
    expect((await rig.relay.walFile(`${present}.partial`)).status).toBe(400);
  });

  it('gives nothing to a user of the same machine who has no token', async () => {
    const [name = ''] = await readdir(rig.relay.walDirectory);
    expect((await fetch(`${rig.relay.url}/wal/${name}`)).status).toBe(401);
  });

  it('feeds a standby that never streams', async () => {
    const script = join(rig.workspace.directory, 'restore.mjs');
    await writeFile(script, RESTORE_SCRIPT, { mode: 0o644 });
    const tokenFile = await rig.relay.walTokenFileForServers();
    const command = `"${process.execPath}" "${script}" ${rig.relay.url}/wal/%f "%p" "${tokenFile}"`;
    standby = await createStandby(rig.workspace, {
      major,
      name: 'restoring',
      backupFrom: rig.primary.target(),
      // Nobody listens there.
      upstream: { ...rig.primary.target(), port: await freePort() },
      settings: { restore_command: command, wal_retrieve_retry_interval: '100ms' },
    });
    await standby.start();
    await rig.primary.query('CREATE TABLE restored AS SELECT generate_series(1, 1000) AS n');
    const lsn = await rig.primary.walPosition();
    await endSegment();
    await standby.waitForReplay(lsn);
    expect(await standby.value('SELECT sum(n) FROM restored')).toBe('500500');
    expect(await standby.value('SELECT count(*) FROM pg_stat_wal_receiver')).toBe('0');
    await standby.stop('immediate');
  });

  it('tells who listens, and load balancers, of a standby that comes, receives and goes', async () => {
    const check = async (query = ''): Promise<number> =>
      (await fetch(`${rig.relay.url}/standbys${query}`)).status;
    const client = await openEvents(rig.relay.url);
    let known = await followUntil(client, ({ status }) => status.standbys.length === 0);
    expect(await check()).toBe(503);
    await standby.followUpstream(rig.relay.target());
    await standby.start();
    known = await followUntil(
      client,
      ({ status }) => status.standbys[0]?.state === 'streaming',
      known,
    );
    const lsn = await rig.primary.walPosition();
    await standby.waitForReplay(lsn);
    known = await followUntil(
      client,
      ({ status }) => (parseLsn(status.standbys[0]?.replay_lsn ?? '') ?? INVALID_LSN) >= lsn,
      known,
    );
    expect(await check('?lag=16MB')).toBe(200);
    expect(await check(`?lag=16MB&name=${known.status.standbys[0]?.application_name}`)).toBe(200);
    expect(await check('?lag=16MB&min=2')).toBe(503);
    expect(await check('?name=nobody')).toBe(503);
    // A replay that stands still is a lag, however much was received.
    await standby.query('SELECT pg_wal_replay_pause()');
    await standby.waitForValue('SELECT pg_is_wal_replay_paused()', 't');
    await writeWal(rig.primary, 2);
    known = await followUntil(
      client,
      ({ status }) => (status.standbys[0]?.lag_bytes ?? 0) > 1024 * 1024,
      known,
    );
    expect([await check('?lag=1MB'), await check()]).toEqual([503, 200]);
    const replayed = await standby.value('SELECT pg_last_wal_replay_lsn()');
    known = await followUntil(
      client,
      ({ status }) => status.standbys[0]?.replay_lsn === replayed,
      known,
    );
    await standby.query('SELECT pg_wal_replay_resume()');
    await standby.stop('fast');
    known = await followUntil(client, ({ status }) => status.standbys.length === 0, known);
    expect(known.status.absent_standbys).toMatchObject([{ how: 'terminated' }]);
    expect(await check()).toBe(503);
    await client.close();
  });

  it('tells of the upstream what the primary tells of itself', async () => {
    const answer = await fetch(`${rig.relay.url}/api/v1/upstream`).then((response) =>
      response.json(),
    );
    const upstream = answer as UpstreamDetailJson;
    expect(upstream).toMatchObject({
      state: 'streaming',
      system_identifier: await rig.primary.value(
        'SELECT system_identifier FROM pg_control_system()',
      ),
      timeline: 1,
      tls: false,
      connects: { success: 1 },
    });
    expect(upstream.server_version).toContain(String(major));
    expect(upstream.messages.wal).toBeGreaterThan(0);
    const metrics = await rig.relay.metrics();
    const transits = /^walcast_upstream_transit_seconds_count\{upstream="default"\} (\d+)$/m.exec(
      metrics,
    );
    expect(Number(transits?.[1])).toBeGreaterThanOrEqual(upstream.messages.wal);
    // Once nothing is written, nothing is missing.
    await rig.relay.waitForStatus('all is flushed', (status) => status.upstream.lag_bytes === 0);
    const idle = (await rig.relay.get('/api/v1/upstream')) as UpstreamDetailJson;
    expect(idle.lag_seconds).toBe(0);
  });

  // A client streams from servers of its own version and older ones only.
  itWhen(major <= clientMajor('pg_receivewal'))(
    'makes and drops slots, and ends sessions',
    async () => {
      expect(
        (await ask('POST', '/api/v1/slots', { name: 'by_http', reserve_wal: true })).status,
      ).toBe(201);
      expect((await ask('POST', '/api/v1/slots', { name: 'by_http' })).status).toBe(409);
      expect((await ask('POST', '/api/v1/slots', { name: 'By HTTP' })).status).toBe(400);
      const tool = startTool(rig.workspace, 'pg_receivewal', [
        ...connectArguments(rig.relay),
        '-D',
        await rig.workspace.makeDirectory('by-http'),
        '--slot=by_http',
        '--no-loop',
      ]);
      const { standbys } = await rig.relay.waitForStatus('pg_receivewal streams', (status) =>
        status.standbys.some(
          ({ slot_name, state }) => slot_name === 'by_http' && state === 'streaming',
        ),
      );
      const pid = standbys.find(({ slot_name }) => slot_name === 'by_http')?.pid ?? 0;
      const busy = await ask('DELETE', '/api/v1/slots/by_http');
      expect([busy.status, await busy.json()]).toEqual([
        409,
        {
          type: 'urn:walcast:problem:in-use',
          title: 'It is in use',
          status: 409,
          detail: `replication slot "by_http" is active for PID ${pid}`,
          hint: expect.stringContaining('pid'),
          sqlstate: '55006',
        },
      ]);
      expect((await ask('DELETE', `/api/v1/standbys/${pid}`)).status).toBe(204);
      const ended = await tool.ended;
      expect(ended.exitCode).toBe(1);
      expect(ended.stderr).toContain('terminating connection due to administrator command');
      // The client knows a moment before walcast that the connection is closed.
      await rig.relay.waitForStatus('the session is over', (status) =>
        status.standbys.every((standby) => standby.pid !== pid),
      );
      expect((await ask('DELETE', `/api/v1/standbys/${pid}`)).status).toBe(404);
      expect((await ask('DELETE', '/api/v1/slots/by_http')).status).toBe(204);
      expect((await ask('DELETE', '/api/v1/slots/by_http')).status).toBe(404);
      expect(await rig.relay.get('/api/v1/slots')).toEqual([]);
    },
  );

  // What follows stops walcast.
  it('drains when it is asked to', async () => {
    const client = await openEvents(rig.relay.url);
    await client.nextOf('snapshot');
    const answer = await ask('POST', '/api/v1/drain');
    expect([answer.status, await answer.json()]).toEqual([202, { state: 'draining' }]);
    expect(await client.nextOf('end')).toMatchObject({ data: { reason: 'walcast ends' } });
    expect(await client.next()).toBeNull();
    expect(await rig.relay.process.ended).toMatchObject({ exitCode: 0 });
    expect(rig.relay.problems()).toEqual([]);
  });
});
