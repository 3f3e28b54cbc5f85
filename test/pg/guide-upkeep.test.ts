// What somebody types who looks after a relay, typed as it stands: the runbooks, behind what their README says to type first
// (whether walcast understands them is a unit test's; here they find what they look for), and of the guide the state directory,
// upgrade and downgrade.
import { readdirSync } from 'node:fs';
import { expect } from 'vitest';
import { encodeStateFile } from '../../src/base/state-file.ts';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import {
  GUIDE_PASSWORD,
  GUIDE_PGDATA,
  GuideHosts,
  guideHostsProblem,
} from '../harness/guide-hosts.ts';
import { everywhere, GUIDE_TIMEOUT_MS } from '../harness/guide-rows.ts';
import { ONE_RELAY, runPage } from '../harness/guide-run.ts';
import { guideText } from '../support/guide-pages.ts';
import { findProgram, FULL_FAULTS, itWhen, needs, requires } from '../support/requirements.ts';

const TOOLS = requires('initdb', 'pg_ctl', 'pg_basebackup', 'psql', 'curl', 'openssl');

/** Programs that few machines have; where they are not, what they are for is not typed. */
const RARE = ['iostat'];

/** One relay, with what the README of the runbooks takes for granted. */
const TAKEN_FOR_GRANTED = `
sed -i 's/listen: 127.0.0.1:9188/listen: 0.0.0.0:9188/; s/^    hostssl replication.*/&\\n    hostssl walcast ops 10.0.0.0\\/8 scram-sha-256/' /etc/walcast/walcast.yaml
sed -i 's/^  users_file: .*/&\\n  admin_users: [ ops ]/' /etc/walcast/walcast.yaml
echo '${GUIDE_PASSWORD}' | walcast scram --user ops >> /etc/walcast/userlist.txt
echo '*:*:*:ops:${GUIDE_PASSWORD}' > /etc/walcast/pgpass
chmod 0600 /etc/walcast/pgpass
systemctl restart walcast`;

/** A terminal has aliases, and a bash that reads a script has none. */
const TERMINAL =
  'shopt -s expand_aliases\nset +e\nexport PGPASSFILE=/etc/walcast/pgpass TERM=dumb\n';

const LOST_SEGMENTS = 4;

interface Typed {
  readonly page: string;
  readonly line: string;
}

TOOLS.describe('what is typed where a relay is looked after', () => {
  TOOLS.it('of the runbooks finds what it looks for', async (context) => {
    needs(context, guideHostsProblem());
    await using workspace = await openWorkspace(await serverUser());
    const hosts = await GuideHosts.open(workspace, ['pg-a', 'relay-a', 'standby-1']);
    await hosts.makePrimary('pg-a');
    await runPage(hosts, ONE_RELAY);
    await hosts.makeStandby('standby-1', 'relay-a');
    await hosts.must('relay-a', TAKEN_FOR_GRANTED);

    const [first = '', ...rest] = blocksOf('README.md');
    expect(rest).toEqual([]);
    const lines = linesOfAllPages();
    expect(lines.length).toBeGreaterThan(20);
    const sql = lines.filter(({ line }) => line.startsWith('SELECT '));
    for (const { page, line } of sql) await hosts.sql('standby-1', line).catch(told(page));
    const commands = lines.filter(({ line }) => !line.startsWith('SELECT ') && isHere(line));
    // One script: as somebody would type them one after the other.
    const script = commands.map(({ line }) => `${line}\nprintf "\\n== %s\\n" $?`);
    const { stdout, stderr } = await hosts.run(
      'relay-a',
      `${TERMINAL}${first}\n${script.join('\n')}`,
    );
    const answers = stdout.split(/^== (\d+)$/m);
    const failed = commands.filter(({ line }, at) => {
      const [said = '', code = ''] = [answers[2 * at], answers[2 * at + 1]];
      // What is looked for in a log is not there when nothing is wrong.
      return looksInLog(line) ? code === '' : code !== '0' || said.trim() === '';
    });
    expect(failed, stderr).toEqual([]);
    expect(stderr).not.toMatch(/command not found|Usage:|unknown/);
  });

  itWhen(FULL_FAULTS)(
    'of the guide: the state directory lost, reset, copied, restored; upgrade and downgrade',
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
      for (const [name, outcome] of MISSING) await withoutIt(hosts, name, outcome);
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

/** What is in the state directory, and what the next start says without it. */
const MISSING: readonly (readonly [string, 'goes on' | RegExp])[] = [
  ['page_sums', 'goes on'],
  ['walcast.feedback', 'goes on'],
  ['walcast.auth-seed', 'goes on'],
  ['pg_replslot/standby_1', 'goes on'],
  ['pg_wal', /walcast ends: the WAL segment .* is missing/],
  ['walcast.control', /walcast ends: .*walcast\.control/],
];

async function withoutIt(
  hosts: GuideHosts,
  name: string,
  outcome: 'goes on' | RegExp,
): Promise<void> {
  const path = `/var/lib/walcast/${name}`;
  await hosts.must('relay-a', `systemctl stop walcast\nmv ${path} /var/lib/aside`);
  const { exitCode, stderr } = await hosts.run('relay-a', 'systemctl start walcast');
  if (outcome === 'goes on') {
    expect(exitCode, `${name}: ${stderr}`).toBe(0);
    await hosts.must('relay-a', 'rm -rf /var/lib/aside');
  } else {
    expect(stderr).toMatch(outcome);
    await hosts.must(
      'relay-a',
      `rm -rf ${path}\nmv /var/lib/aside ${path}\nsystemctl start walcast`,
    );
  }
  await hosts.sql('pg-a', 'INSERT INTO entries DEFAULT VALUES');
  await everywhere(hosts, 'pg-a', ['standby-1']);
}

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

function looksInLog(line: string): boolean {
  return /^(?:journalctl|dmesg) /.test(line);
}

function isHere(line: string): boolean {
  const [program = ''] = line.split(' ');
  if (!RARE.includes(program) || findProgram(program) !== null) return true;
  process.stderr.write(`not typed: ${line}: ${program} is not installed\n`);
  return false;
}

function told(page: string): (error: unknown) => never {
  return (error) => {
    throw new Error(page, { cause: error });
  };
}

/** Every command once, with the first page that has it. */
function linesOfAllPages(): Typed[] {
  const seen = new Map<string, Typed>();
  for (const page of readdirSync(new URL('../../docs/runbooks', import.meta.url))) {
    if (page === 'README.md') continue;
    for (const line of blocksOf(page).join('\n').split('\n'))
      if (line !== '' && !seen.has(line)) seen.set(line, { page, line });
  }
  return [...seen.values()];
}

function blocksOf(page: string): string[] {
  return [...guideText(`docs/runbooks/${page}`).matchAll(/^```(?:sql)?\n([\s\S]*?)\n```$/gm)].map(
    ([, block = '']) => block,
  );
}
