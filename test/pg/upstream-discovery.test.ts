// Does walcast follow the servers that Patroni names through a real failover: the leader, a standby where that is preferred,
// whoever is left where the preferred one dies, and the preferred one again when it is back?
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createPrimary, createStandby } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import type { StatusJson, UpstreamDetailJson } from '../../src/http/api-types.ts';
import { parseLsn } from '../../src/pg/lsn.ts';
import { toSegmentSize } from '../../src/pg/segment.ts';
import { freePort } from '../harness/free-port.ts';
import { memberAt, openPatroniApi } from '../harness/patroni-api.ts';
import type { PatroniApi } from '../harness/patroni-api.ts';
import { historyOf, timelineWalViolations } from '../harness/timeline-wal.ts';
import { createRelay } from '../harness/walcast-process.ts';
import type { WalcastRelay } from '../harness/walcast-process.ts';
import { startWriteLoad } from '../harness/write-load.ts';
import { FULL_FAULTS, itWhen, NEWEST_MAJOR } from '../support/requirements.ts';

let workspace: Workspace;
let alpha: PostgresCluster;
let beta: PostgresCluster;
let gamma: PostgresCluster;
let patroni: PatroniApi;
let toPrimary: WalcastRelay;
let toStandby: WalcastRelay;

/** Patroni is asked a second after the loss of a stream at the latest; the rest is connecting, on a busy machine. */
const SECONDS_MS = 20_000;

beforeAll(async () => {
  workspace = await openWorkspace(await serverUser());
  patroni = await openPatroniApi();
  const settings = { wal_keep_size: '2GB' };
  alpha = await createPrimary(workspace, { major: NEWEST_MAJOR, name: 'alpha', settings });
  await alpha.start();
  [beta, gamma] = await Promise.all([standby('beta'), standby('gamma')]);
  patroni.members = [
    memberAt('alpha', alpha.port, { role: 'leader', timeline: 1 }),
    memberAt('beta', beta.port, { timeline: 1, lag: 0 }),
    memberAt('gamma', gamma.port, { timeline: 1, lag: 0 }),
  ];
  [toPrimary, toStandby] = await Promise.all([relay('primary'), relay('standby')]);
}, 120_000);

afterAll(async () => {
  await workspace.close();
  await patroni[Symbol.asyncDispose]();
});

async function standby(name: string): Promise<PostgresCluster> {
  const server = await createStandby(workspace, {
    major: NEWEST_MAJOR,
    name,
    settings: { wal_keep_size: '2GB' },
    backupFrom: alpha.target(),
    upstream: alpha.target(),
  });
  await server.start();
  return server;
}

/** Its connection string names nobody who is there: whom it follows, it knows from Patroni. */
async function relay(prefer: string): Promise<WalcastRelay> {
  const nobody = { host: '127.0.0.1', port: await freePort() };
  const made = await createRelay(workspace, {
    name: `to-${prefer}`,
    upstream: () => nobody,
    slot: `to_${prefer}`,
    settings: { upstream: { discovery: { patroni: [patroni.url] }, prefer } },
  });
  await made.start();
  return made;
}

async function follows(
  one: WalcastRelay,
  server: PostgresCluster,
  timeline: number,
  atMostMs: number,
): Promise<StatusJson> {
  return await one.waitForStatus(
    `${one.name} streaming from ${server.name}`,
    ({ upstream, state, timeline: now }) =>
      upstream.port === server.port && state === 'streaming' && now === timeline,
    atMostMs,
  );
}

async function detail(one: WalcastRelay): Promise<UpstreamDetailJson> {
  return (await one.get('/api/v1/upstream')) as UpstreamDetailJson;
}

/** After the load: everything that is on `server` is on the disk of the relay, and the same. */
async function expectSameBytes(
  one: WalcastRelay,
  server: PostgresCluster,
  timeline = 2,
): Promise<void> {
  const endLsn = await server.walPosition();
  const { store } = await one.waitForStatus(
    'everything on the disk',
    (status) => (parseLsn(status.store.flushed_lsn ?? '0/0') ?? 0n) >= endLsn,
  );
  const violations = await timelineWalViolations({
    expected: server.walDirectory,
    actual: one.walDirectory,
    history: await historyOf(server, timeline),
    segmentSize: toSegmentSize(16 << 20),
    endLsn,
    mustHave: parseLsn(store.oldest_lsn ?? '0/0'),
  });
  expect(violations).toEqual([]);
  // A primary writes by itself, too, and may have done so in its last moment.
  const isTrue = (line: string): boolean => line.includes('is not on the next timeline');
  expect(one.problems().filter((line) => !isTrue(line))).toEqual([]);
}

test('through a failover, the leader or a standby is followed within seconds, and the bytes are the same', async () => {
  await follows(toPrimary, alpha, 1, SECONDS_MS);
  await follows(toStandby, beta, 1, SECONDS_MS);
  expect((await detail(toStandby)).discovery).toMatchObject({
    source: 'patroni',
    scope: 'demo',
    last_answer_from: patroni.url,
    last_error: null,
    members: [
      { name: 'beta', rank: 'preferred', port: beta.port, lag: 0 },
      { name: 'gamma', rank: 'preferred' },
      { name: 'alpha', rank: 'other', role: 'primary', timeline: 1, lag: null },
    ],
  });
  const before = await startWriteLoad(alpha, 2);
  await before.waitForCommits(200);
  await before.stop();
  const endLsn = await alpha.walPosition();
  await Promise.all([beta.waitForReplay(endLsn), gamma.waitForReplay(endLsn)]);
  for (const one of [toPrimary, toStandby]) {
    await one.waitForStatus(
      'all of the old leader',
      ({ store }) => (parseLsn(store.flushed_lsn ?? '0/0') ?? 0n) >= endLsn,
    );
  }

  await alpha.kill();
  // Nobody leads; whoever is left is followed meanwhile, because nothing forbids it.
  patroni.members = [
    memberAt('beta', beta.port, { timeline: 1, lag: 0 }),
    memberAt('gamma', gamma.port, { timeline: 1, lag: 0 }),
  ];
  await beta.promote();
  await gamma.followUpstream(beta.target());
  await gamma.reload();
  patroni.members = [
    memberAt('beta', beta.port, { role: 'leader', timeline: 2 }),
    memberAt('gamma', gamma.port, { timeline: 2, lag: 0 }),
  ];
  const load = await startWriteLoad(beta, 2, 5);
  await follows(toPrimary, beta, 2, SECONDS_MS);

  // The standby that was followed leads now; another one is preferred, and gone over to without haste, under load.
  await follows(toStandby, gamma, 2, 60_000);
  expect((await detail(toStandby)).disconnects).toMatchObject({ reload: 1 });

  // The preferred one dies: the other one does as well. That Patroni is away as well is no matter.
  patroni.isDown = true;
  await gamma.kill();
  await toStandby.waitForStatus(
    'streaming from the leader',
    ({ upstream }) => upstream.port === beta.port && upstream.state === 'streaming',
    SECONDS_MS,
  );
  await load.stop();
  await expectSameBytes(toPrimary, beta);
  await expectSameBytes(toStandby, beta);
  const told = await pollUntil(
    'the loss of Patroni',
    async () => {
      const { discovery } = await detail(toStandby);
      return discovery?.last_error === null ? null : discovery;
    },
    { timeoutMs: SECONDS_MS },
  );
  expect(told).toMatchObject({
    last_error: expect.stringMatching(/answered with status 503$/),
    members: [{ name: 'gamma' }, { name: 'beta' }],
  });
}, 120_000);

itWhen(FULL_FAULTS)(
  'a primary that lives on beside the new leader is left in order, whatever is preferred',
  async () => {
    await gamma.becomeStandby(beta.target());
    await gamma.start();
    await gamma.waitForReplay(await beta.walPosition());
    patroni.members = [
      memberAt('beta', beta.port, { role: 'leader', timeline: 2 }),
      memberAt('gamma', gamma.port, { timeline: 2, lag: 0 }),
    ];
    patroni.isDown = false;
    for (const one of [toPrimary, toStandby]) await follows(one, beta, 2, SECONDS_MS);
    const before = (await detail(toPrimary)).disconnects.reload;
    await gamma.promote();
    // Nobody stopped it, and it does not know.
    patroni.members = [memberAt('gamma', gamma.port, { role: 'leader', timeline: 3 })];
    for (const one of [toPrimary, toStandby]) await follows(one, gamma, 3, 40_000);
    expect((await detail(toPrimary)).disconnects.reload).toBe(before + 1);
    await expectSameBytes(toPrimary, gamma, 3);
    await expectSameBytes(toStandby, gamma, 3);
  },
);
