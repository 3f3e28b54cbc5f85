// The operations guide, typed as it stands: the state directory, upgrade and downgrade.
import { expect } from 'vitest';
import { encodeStateFile } from '../../src/base/state-file.ts';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import { GUIDE_PGDATA, GuideHosts, guideHostsProblem } from '../harness/guide-hosts.ts';
import { everywhere, GUIDE_TIMEOUT_MS } from '../harness/guide-rows.ts';
import { ONE_RELAY, runPage } from '../harness/guide-run.ts';
import { needs, requires } from '../support/requirements.ts';

const LOST_SEGMENTS = 4;

const TOOLS = requires('initdb', 'pg_ctl', 'pg_basebackup', 'psql');

TOOLS.describe('the operations guide', () => {
  TOOLS.it(
    'the state directory lost, reset, copied, restored; upgrade and downgrade',
    async (context) => {
      needs(context, guideHostsProblem());
      await using workspace = await openWorkspace(await serverUser());
      const hosts = await GuideHosts.open(workspace, ['pg-a', 'relay-a', 'standby-1']);
      await hosts.makePrimary('pg-a');
      await runPage(hosts, ONE_RELAY);
      await hosts.makeStandby('standby-1', 'relay-a');
      const times = new Map<string, number>();
      /** Until the standby has a row that was written behind the step. */
      const timed =
        (name: string) =>
        async (run: () => Promise<void>): Promise<void> => {
          const from = performance.now();
          await run();
          await hosts.sql('pg-a', 'INSERT INTO entries DEFAULT VALUES');
          await everywhere(hosts, 'pg-a', ['standby-1']);
          times.set(name, (performance.now() - from) / 1_000);
        };
      await runPage(hosts, 'docs/operations/state.md', {
        lose: timed('lost'),
        reset: timed('reset'),
        restore: async (run) => {
          await loseWal(hosts, 'pg-a', 'relay-a');
          await run();
        },
      });
      await everywhere(hosts, 'pg-a', ['standby-1']);
      await runPage(hosts, 'docs/operations/upgrade.md', {
        restart: timed('restarted'),
        downgrade: async (run) => {
          await hosts.must('relay-a', 'systemctl stop walcast');
          const control = '/var/lib/walcast/walcast.control';
          const whole = await hosts.must('relay-a', `cat ${control}`);
          const newer = encodeStateFile({ magic: 'walcast-control', version: 3 }, {});
          await hosts.write('relay-a', control, Buffer.from(newer).toString('utf8'));
          await run();
          expect(await hosts.must('relay-a', `cat ${control}`)).toBe(Buffer.from(newer).toString());
          await hosts.write('relay-a', control, whole);
          await hosts.must('relay-a', 'systemctl start walcast');
        },
      });
      await everywhere(hosts, 'pg-a', ['standby-1']);
      const said = [...times].map(([name, seconds]) => `${name} ${seconds.toFixed(1)} s`);
      process.stdout.write(`state: the standby has the next row: ${said.join(', ')}\n`);
    },
  );
});

/** The primary goes on, and keeps no WAL of what it wrote meanwhile but in an archive on the relay's host. */
async function loseWal(hosts: GuideHosts, primary: string, relay: string): Promise<void> {
  for (let segment = 0; segment < LOST_SEGMENTS; segment += 1) {
    await hosts.sql(primary, 'INSERT INTO entries DEFAULT VALUES');
    await hosts.sql(primary, 'SELECT pg_switch_wal()');
  }
  await hosts.sql(primary, 'INSERT INTO entries DEFAULT VALUES');
  const isAcknowledged = `SELECT bool_and(restart_lsn >= pg_current_wal_flush_lsn()) FROM pg_replication_slots`;
  await pollUntil(
    'the relay has it all',
    async () => ((await hosts.sql(primary, isAcknowledged)) === 't' ? true : null),
    { timeoutMs: GUIDE_TIMEOUT_MS },
  );
  const archive = '/var/lib/backup/archive';
  await hosts.must(relay, `install -d -m 0755 ${archive}`);
  await hosts.copyFiles([primary, `${GUIDE_PGDATA}/pg_wal`], [relay, archive], /^[0-9A-F]{24}$/);
  const first = await hosts.must(primary, 'ls $PGDATA/pg_wal | head -1');
  await hosts.sql(primary, 'CHECKPOINT');
  await hosts.sql(primary, 'CHECKPOINT');
  expect(await hosts.must(primary, 'ls $PGDATA/pg_wal | head -1')).not.toBe(first);
}
