// Does pg_basebackup take the same backups from walcast as from the primary, in every form, under load, and are they
// standbys of walcast that end where the primary is?
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { PostgresCluster } from '../../src/demo/postgres-server.ts';
import { toSegmentSize } from '../../src/pg/segment.ts';
import { compareWal } from '../harness/compare-wal.ts';
import { runTool } from '../harness/pg-tools.ts';
import { createPhysicalSlot } from '../harness/relay-scenario.ts';
import { tableDigest } from '../harness/table-digest.ts';
import { startWriteLoad } from '../harness/write-load.ts';
import type { WriteLoad } from '../harness/write-load.ts';
import { backupPlace, clusterOf, unpack, verifyBackup } from '../support/clients-backup.ts';
import { comparable } from '../support/clients-psql.ts';
import { connectArguments, openClientsRig } from '../support/clients-rig.ts';
import type { ClientsRig } from '../support/clients-rig.ts';
import { clientMajor, spannedMajors, requires } from '../support/requirements.ts';

const SEGMENT_SIZE = toSegmentSize(16 << 20);
const QUICK = ['--checkpoint=fast', '--no-sync'];

interface BackupForm {
  readonly name: string;
  readonly args: readonly string[];
  /** Started as a standby of walcast afterwards. */
  readonly isStarted?: boolean;
  readonly slot?: string;
}

const FORMS: readonly BackupForm[] = [
  { name: 'stream', args: ['-X', 'stream', '-P'], isStarted: true },
  { name: 'stream_slot', args: ['-X', 'stream', '--slot=made_before'], slot: 'made_before' },
  {
    name: 'stream_new_slot',
    args: ['-X', 'stream', '-C', '--slot=made_by_it'],
    slot: 'made_by_it',
    isStarted: true,
  },
  { name: 'stream_no_slot', args: ['-X', 'stream', '--no-slot'] },
  { name: 'fetch', args: ['-X', 'fetch', '-P'] },
  { name: 'none', args: ['-X', 'none'], isStarted: true },
  { name: 'tar_stream', args: ['-F', 't', '-X', 'stream'] },
  { name: 'tar_fetch', args: ['-F', 't', '-X', 'fetch', '-P'] },
  { name: 'tar_none', args: ['-F', 't', '-X', 'none', '--no-slot'] },
];

/** pg_basebackup takes backups of servers up to its own major. */
const CLIENT_MAJOR = clientMajor('pg_basebackup');
const MAJORS = spannedMajors();
const SERVED = MAJORS.filter((major) => major <= CLIENT_MAJOR);
const NEWER = MAJORS.filter((major) => major > CLIENT_MAJOR);

/** Those whose commands differ between majors; the whole list is gone through with the newest. */
const FORMS_OF_OLDER = ['stream', 'stream_new_slot', 'fetch', 'tar_stream'];

const { describe } = requires('pg_basebackup', 'pg_verifybackup');

describe.each(SERVED)('pg_basebackup from walcast before PostgreSQL %i', (major) => {
  const forms = FORMS.filter(
    ({ name }) => major === Math.max(...SERVED) || FORMS_OF_OLDER.includes(name),
  );
  let rig: ClientsRig;
  let load: WriteLoad;
  const standbys: PostgresCluster[] = [];

  beforeAll(async () => {
    rig = await openClientsRig({ major });
    await createPhysicalSlot(rig.relay.target(), 'made_before', major);
    load = await startWriteLoad(rig.primary);
    await load.waitForCommits(50);
  });

  afterAll(async () => {
    await load.stop();
    await rig[Symbol.asyncDispose]();
  });

  it.each(forms)('takes a whole backup: $name', async (form) => {
    const directory = await backupPlace(rig.workspace, form.name);
    const result = await runTool(rig.workspace, 'pg_basebackup', [
      ...connectArguments(rig.relay),
      ...QUICK,
      '-R',
      '-D',
      directory,
      ...form.args,
    ]);
    expect(result).toMatchObject({ exitCode: 0 });
    if (form.args.includes('-P')) expect(result.stderr).toMatch(/\(100%\), 1\/1 tablespace/);
    else expect(result.stderr).toMatch(/^(NOTICE: .*\n)*$/);
    if (form.args.includes('t')) await unpack(rig.workspace, directory);
    // The WAL is read by pg_waldump, which knows that of its own major.
    const hasWal = !form.args.includes('none') && major === clientMajor('pg_waldump');
    const verified = await verifyBackup(rig.workspace, directory, { hasWal });
    expect(verified).toMatchObject({ exitCode: 0, stderr: '' });
    const settings = await readFile(join(directory, 'postgresql.auto.conf'), 'utf8');
    expect(settings).toContain(`port=${rig.relay.port}`);
    expect(/^primary_slot_name = '(.*)'/m.exec(settings)?.[1]).toBe(form.slot);
    if (form.isStarted !== true) return;
    // Of its own libpq's options pg_basebackup writes one into primary_conninfo that libpq has from 14 on.
    if (major < 14) {
      const file = join(directory, 'postgresql.auto.conf');
      await writeFile(file, settings.replaceAll(/ sslsni=\d/g, ''));
    }
    const standby = await clusterOf(rig.workspace, { name: form.name, major });
    await standby.start();
    standbys.push(standby);
  });

  it('makes standbys that follow walcast to the end of the primary', async () => {
    await load.waitForCommits(50);
    await load.stop();
    const endLsn = await rig.primary.walPosition();
    for (const standby of standbys) await standby.waitForReplay(endLsn);
    const { standbys: connected } = await rig.relay.waitForStatus(
      'nobody but the standbys',
      (status) => status.standbys.every(({ state }) => state === 'streaming'),
    );
    const slotsInUse = connected.map(({ application_name: name, slot_name: slot }) => [name, slot]);
    const started = forms.filter(({ isStarted }) => isStarted === true);
    expect(started.length).toBeGreaterThan(1);
    expect(Object.fromEntries(slotsInUse)).toEqual(
      Object.fromEntries(started.map(({ name, slot = null }) => [name, slot])),
    );
    expect(connected).toHaveLength(started.length);
    expect(await rig.primary.query('SELECT application_name FROM pg_stat_replication')).toEqual([
      ['walcast'],
    ]);
    expect(await rig.primary.query('SELECT slot_name FROM pg_replication_slots')).toEqual([
      ['walcast'],
    ]);
    const expected = await tableDigest(rig.primary);
    expect(expected.rows).toBeGreaterThan(100);
    for (const standby of standbys) {
      expect(await tableDigest(standby)).toEqual(expected);
      expect(await load.lostOn(standby)).toEqual([]);
      const compared = await compareWal({
        expected: rig.primary.walDirectory,
        actual: standby.walDirectory,
        segmentSize: SEGMENT_SIZE,
        untilLsn: endLsn,
      });
      expect(compared.differences).toEqual([]);
      expect(compared.comparedBytes).toBeGreaterThan(100_000);
    }
    expect(rig.relay.problems()).toEqual([]);
    // Each backup ends with a segment switch, which standbys replay before its last zeros have come.
    expect(rig.relay.log.filter((line) => line.includes('claims WAL'))).toEqual([]);
  });

  it('leaves no slot behind but those asked for', async () => {
    const metrics = await rig.relay.metrics();
    const slots = [...metrics.matchAll(/^walcast_slot_active\{slot="(.*)"\}/gm)];
    expect(new Set(slots.map(([, name]) => name))).toEqual(new Set(['made_before', 'made_by_it']));
  });

  it('is refused with the words of the primary', async () => {
    const attempts = [
      ['-X', 'stream', '--slot=nowhere'],
      ['-X', 'stream', '-C', '--slot=Not_a_Name'],
      ['-X', 'none', '-F', 't', '-t', 'server:not/absolute'],
      ['-X', 'fetch', '-t', 'nonsense'],
      ['-X', 'none', '--manifest-checksums=nonsense'],
    ];
    for (const [number, args] of attempts.entries()) {
      const [theirs, ours] = await Promise.all(
        [rig.primary.target(), rig.relay].map(async (server, index) => {
          const place = args.includes('-t')
            ? []
            : ['-D', join(rig.workspace.directory, `refused-${number}-${index}`)];
          const { exitCode, stderr } = await runTool(rig.workspace, 'pg_basebackup', [
            ...connectArguments(server),
            ...QUICK,
            ...place,
            ...args,
          ]);
          return {
            args,
            exitCode,
            stderr: comparable(stderr).replaceAll(/refused-\d+-\d/g, 'refused'),
          };
        }),
      );
      expect(ours).toEqual(theirs);
      expect(theirs?.exitCode).toBe(1);
    }
  });
});

describe.each(NEWER)('pg_basebackup from walcast before PostgreSQL %i, which is newer', (major) => {
  it('refuses walcast as it refuses the server, and nothing else happens', async () => {
    await using rig = await openClientsRig({ major });
    const answers = await Promise.all(
      [rig.primary.target(), rig.relay].map(async (server, index) => {
        const directory = await backupPlace(rig.workspace, `newer-${index}`);
        const { exitCode, stderr } = await runTool(rig.workspace, 'pg_basebackup', [
          ...connectArguments(server),
          ...QUICK,
          '-D',
          directory,
        ]);
        return { exitCode, stderr: stderr.replaceAll(/newer-\d/g, 'newer') };
      }),
    );
    expect(answers[1]).toEqual(answers[0]);
    const version = await rig.primary.value('SHOW server_version');
    expect(answers[1]?.exitCode).toBe(1);
    expect(answers[1]?.stderr).toContain(
      `pg_basebackup: error: incompatible server version ${version}\n`,
    );
    expect(rig.relay.problems()).toEqual([]);
  });
});
