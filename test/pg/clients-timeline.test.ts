// A primary that was promoted before walcast ever saw it: does walcast begin on its timeline, hand out its history byte
// for byte, and seed and feed standbys there?
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createStandby } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { connectPostgres } from '../../src/demo/postgres-connect.ts';
import type { ConnectTarget } from '../../src/demo/postgres-connect.ts';
import { formatLsn, parseLsn, toLsn } from '../../src/pg/lsn.ts';
import { toSegmentSize } from '../../src/pg/segment.ts';
import { encodeQuery } from '../../src/wire/frontend-messages.ts';
import { compareWal } from '../harness/compare-wal.ts';
import { runTool } from '../harness/pg-tools.ts';
import { tableDigest } from '../harness/table-digest.ts';
import { backupPlace, clusterOf, verifyBackup } from '../support/clients-backup.ts';
import { psqlAnswers } from '../support/clients-psql.ts';
import { connectArguments, openClientsRig, writeWal } from '../support/clients-rig.ts';
import type { ClientsRig } from '../support/clients-rig.ts';
import { clientMajor, spannedMajors, requires } from '../support/requirements.ts';

/** Debian's clients refuse servers that are newer than they are. */
const CLIENT_MAJOR = clientMajor('pg_basebackup');

const { describe } = requires('pg_basebackup', 'pg_verifybackup', 'psql');

describe.each(spannedMajors())('a primary of PostgreSQL %i on timeline 2', (major) => {
  let rig: ClientsRig;

  beforeAll(async () => {
    rig = await openClientsRig({ major, prepare: promote });
  });

  afterAll(async () => {
    await rig[Symbol.asyncDispose]();
  });

  it('is followed on timeline 2, with its history kept', async () => {
    const { timeline } = await rig.relay.waitForStatus(
      'something stored',
      ({ store }) => store.segments > 0,
    );
    expect(timeline).toBe(2);
    const theirs = await readFile(join(rig.primary.walDirectory, '00000002.history'));
    const ours = await readFile(join(rig.relay.walDirectory, '00000002.history'));
    expect(ours.equals(theirs)).toBe(true);
    expect(theirs.length).toBeGreaterThan(20);
    const segments = (await readdir(rig.relay.walDirectory)).filter((name) => name.length === 24);
    expect(segments.length).toBeGreaterThan(0);
    for (const name of segments) expect(name).toMatch(/^00000002/);
  });

  it('has its history handed out byte for byte', async () => {
    const [theirs, ours] = await Promise.all(
      [rig.primary.target(), rig.relay.target()].map((target) => timelineHistory(target)),
    );
    const file = await readFile(join(rig.primary.walDirectory, '00000002.history'));
    expect(ours?.equals(theirs ?? Buffer.alloc(0))).toBe(true);
    expect(ours?.includes(file)).toBe(true);
  });

  it('is shown by walcast to psql as by itself', async () => {
    const history = await readFile(join(rig.primary.walDirectory, '00000002.history'), 'utf8');
    const switchText = /^1\t([0-9A-F]+\/[0-9A-F]+)\t/m.exec(history)?.[1] ?? '';
    const switchLsn = parseLsn(switchText) ?? toLsn(0n);
    const beyond = formatLsn(toLsn(switchLsn + 1n));
    const commands = [
      'IDENTIFY_SYSTEM',
      'TIMELINE_HISTORY 1',
      'TIMELINE_HISTORY 2',
      'TIMELINE_HISTORY 3',
      `START_REPLICATION ${switchText} TIMELINE 1`,
      `START_REPLICATION ${beyond} TIMELINE 1`,
      `START_REPLICATION ${switchText} TIMELINE 3`,
      'CREATE_REPLICATION_SLOT here TEMPORARY PHYSICAL RESERVE_WAL',
      'READ_REPLICATION_SLOT here',
    ];
    const [theirs, ours] = await Promise.all(
      [rig.primary.target(), rig.relay].map((server) =>
        psqlAnswers(rig.workspace, server, commands),
      ),
    );
    expect(ours).toEqual(theirs);
    expect(ours?.[4]?.stdout).toBe(
      'next_tli|next_tli_startpos\n2|LSN\n(1 row)\nSTART_REPLICATION\n',
    );
    expect(ours?.[5]?.stderr).toContain("This server's history forked from timeline 1 at LSN.");
  });

  it('seeds and feeds a standby through walcast', async () => {
    const standby =
      major <= CLIENT_MAJOR ? await standbyByTool(rig, major) : await standbyByHand(rig, major);
    await standby.start();
    await writeWal(rig.primary, 2);
    const endLsn = await rig.primary.walPosition();
    await standby.waitForReplay(endLsn);
    expect(await tableDigest(standby)).toEqual(await tableDigest(rig.primary));
    const { standbys } = await rig.relay.status();
    expect(standbys).toMatchObject([{ application_name: 'standby', timeline: 2 }]);
    const segmentSize = toSegmentSize(16 << 20);
    for (const directory of [rig.relay.walDirectory, standby.walDirectory]) {
      const compared = await compareWal({
        expected: rig.primary.walDirectory,
        actual: directory,
        segmentSize,
        untilLsn: endLsn,
      });
      expect(compared.differences).toEqual([]);
      expect(compared.comparedBytes).toBeGreaterThan(1_000_000);
    }
    expect(rig.relay.problems()).toEqual([]);
  });
});

/** Makes a running primary one of timeline 2. */
async function promote(primary: PostgresCluster): Promise<void> {
  await writeWal(primary, 1);
  await primary.stop('fast');
  // Nobody listens there: it has everything that there is.
  await primary.becomeStandby({ ...primary.target(), port: 1 });
  await primary.start();
  await primary.promote();
  await primary.query('CHECKPOINT');
}

/** All the bytes of the row that TIMELINE_HISTORY 2 gives, and its column descriptions. */
async function timelineHistory(target: ConnectTarget): Promise<Buffer> {
  const client = await connectPostgres({ ...target, replication: true });
  client.send(encodeQuery('TIMELINE_HISTORY 2'));
  const parts: Buffer[] = [];
  for (;;) {
    const answer = await client.next();
    if (answer.type === 'ReadyForQuery') break;
    if (answer.type !== 'DataRow') continue;
    for (const value of answer.values) parts.push(Buffer.from(value ?? []), Buffer.from('|'));
  }
  client.close();
  return Buffer.concat(parts);
}

async function standbyByTool(rig: ClientsRig, major: number): Promise<PostgresCluster> {
  // With -R it writes connection options that older servers do not know.
  const isOwnMajor = major === CLIENT_MAJOR;
  const directory = await backupPlace(rig.workspace, 'standby');
  const result = await runTool(rig.workspace, 'pg_basebackup', [
    ...connectArguments(rig.relay),
    '--checkpoint=fast',
    '--no-sync',
    ...(isOwnMajor ? ['-R'] : []),
    '-D',
    directory,
  ]);
  expect(result).toMatchObject({ exitCode: 0, stderr: '' });
  // pg_waldump, which it uses for the WAL, reads its own major only.
  const verified = await verifyBackup(rig.workspace, directory, { hasWal: isOwnMajor });
  expect(verified).toMatchObject({ exitCode: 0, stderr: '' });
  const standby = await clusterOf(rig.workspace, { name: 'standby', major });
  if (!isOwnMajor) await standby.becomeStandby(rig.relay.target());
  return standby;
}

async function standbyByHand(rig: ClientsRig, major: number): Promise<PostgresCluster> {
  return await createStandby(rig.workspace, {
    major,
    name: 'standby',
    backupFrom: rig.relay.target(),
    upstream: rig.relay.target(),
  });
}
