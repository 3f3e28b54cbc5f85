// Does deploy/compose do what its README says? Its file is executed service by service, and the README line by line.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { ComposeProject } from '../harness/compose-rig.ts';
import { shellLines, shellWords } from '../harness/docker-lines.ts';
import { imageProblem } from '../harness/image-tree.ts';
import { openClusterNetwork } from '../harness/kubelet-network.ts';
import type { ClusterNetwork } from '../harness/kubelet-network.ts';
import { namespaceProblem } from '../harness/namespaces.ts';
import { needs, requires } from '../support/requirements.ts';

const FOLDER = fileURLToPath(new URL('../../deploy/compose', import.meta.url));
const README = readFileSync(join(FOLDER, 'README.md'), 'utf8');

/** With everything that a shell, a connection string or SQL might take for something else. */
const PASSWORD = `it's "odd" \\ $HOME; --`;

/** The first who builds the image asks the registry for its packages. */
const BUILD_TIMEOUT_MS = 300_000;

const problem = namespaceProblem() ?? (await imageProblem());

requires('pg_basebackup', 'initdb').describe('the compose file, as its README uses it', () => {
  let workspace: Workspace;
  let network: ClusterNetwork | null = null;
  let project: ComposeProject;
  const executed: string[] = [];

  beforeAll(async () => {
    workspace = await openWorkspace(await serverUser());
    if (problem !== null) return;
    network = await openClusterNetwork();
    const env = { REPLICATION_PASSWORD: PASSWORD };
    project = new ComposeProject(join(FOLDER, 'docker-compose.yml'), { workspace, network, env });
    await project.build();
  }, BUILD_TIMEOUT_MS);

  afterAll(async () => {
    await workspace.close();
    await network?.[Symbol.asyncDispose]();
  });

  /** The next line of the README; it has to begin as given. Returns what it said. */
  async function line(begin: string): Promise<string> {
    const next = shellLines(README)[executed.length] ?? '(none)';
    expect(next).toMatch(new RegExp(`^${begin.replaceAll(/[$()*+.?[\]^{|}]/g, '\\$&')}`));
    const output = await execute(project, shellWords(next));
    executed.push(next);
    return output;
  }

  it('comes up: the primary, walcast, and a standby whose data came through walcast', async (context) => {
    needs(context, problem);
    await line('cd deploy/compose');
    await line('docker compose up --build --detach --wait');
    // It is healthy once it can be asked, which may be before it streams.
    const sql = 'SELECT status, sender_host, slot_name FROM pg_stat_wal_receiver';
    await pollUntil(
      'the standby to stream from walcast',
      async () => {
        const words = ['psql', '-U', 'postgres', '-At', '-c', sql];
        const { output } = await project.exec('standby', words);
        return output.trim() === 'streaming|walcast|standby_1' ? true : null;
      },
      { timeoutMs: 20_000 },
    );
  });

  it('brings to the standby what is written at the primary', async (context) => {
    needs(context, problem);
    expect(await line('docker compose exec primary psql')).toContain('SELECT 1');
    await pollUntil(
      'the row at the standby',
      async () => {
        const { output } = await project.exec('standby', [
          'psql',
          '-U',
          'postgres',
          '-c',
          'TABLE greeting',
        ]);
        return output.includes('hello') ? true : null;
      },
      { timeoutMs: 20_000 },
    );
    expect(await line('docker compose exec standby psql')).toContain('hello');
  });

  it('tells of the standby on the console and at the command line', async (context) => {
    needs(context, problem);
    expect(await line("docker compose exec standby psql 'host=walcast")).toContain('standby_1');
    expect(await line('docker compose exec walcast node')).toContain('standby_1');
    const answer = await fetch(`http://${project.addressOf('walcast')}:9188/`);
    expect(await answer.text()).toContain('<html');
  });

  it('lets commits wait for walcast', async (context) => {
    needs(context, problem);
    await line('docker compose exec primary psql -U postgres -c "ALTER SYSTEM');
    const sql = "SELECT sync_state FROM pg_stat_replication WHERE application_name = 'walcast'";
    await pollUntil(
      'walcast to be synchronous',
      async () => {
        const told = await project.exec('primary', ['psql', '-U', 'postgres', '-At', '-c', sql]);
        return told.output.trim() === 'sync' ? true : null;
      },
      { timeoutMs: 20_000 },
    );
    expect(await line('docker compose exec primary psql')).toMatch(/walcast\s+\| sync/);
    expect(await line('docker compose exec primary psql')).toContain('INSERT 0 1');
  });

  it('drains walcast when it is restarted, and the standby goes on', async (context) => {
    needs(context, problem);
    expect(await line('docker compose restart walcast')).toContain('"exitCode":0');
    await line('docker compose exec walcast sh');
    await pollUntil(
      'the configuration to be read again',
      async () =>
        /the configuration was read again/.test(project.logOf('walcast').join('\n')) ? true : null,
      { timeoutMs: 20_000 },
    );
    const insert = "INSERT INTO greeting VALUES ('after')";
    await project.exec('primary', ['psql', '-U', 'postgres', '-c', insert]);
    await pollUntil(
      'the row at the standby',
      async () => {
        const told = await project.exec('standby', [
          'psql',
          '-U',
          'postgres',
          '-c',
          'TABLE greeting',
        ]);
        return told.output.includes('after') ? true : null;
      },
      { timeoutMs: 30_000 },
    );
  });

  it('goes on where it was after down and up, and every line of the README was executed', async (context) => {
    needs(context, problem);
    expect(await line('docker compose down')).toBe('{"standby":0,"walcast":0,"primary":0}');
    await project.up();
    // It did not take another backup.
    expect(project.logOf('standby').join('\n')).not.toContain('initiating base backup');
    const told = await project.exec('standby', [
      'psql',
      '-U',
      'postgres',
      '-At',
      '-c',
      'TABLE greeting',
    ]);
    expect(told.output).toContain('after');
    await line('docker compose down --volumes');
    expect(executed).toEqual(shellLines(README));
  });
});

/** Does what `docker compose …` would. */
async function execute(project: ComposeProject, command: readonly string[]): Promise<string> {
  if (command[0] === 'cd') return '';
  const [, , verb, ...rest] = command;
  const service = rest[0] ?? '';
  if (verb === 'up') await project.up();
  else if (verb === 'exec') {
    const { code, output } = await project.exec(service, rest.slice(1));
    if (code !== 0) throw new Error(`${command.join(' ')}: ${code}: ${output}`);
    return output;
  } else if (verb === 'restart') {
    const end = await project.stop(service);
    await project.start(service);
    return JSON.stringify(end);
  } else if (verb === 'down') {
    const ends = [...(await project.down())].map(([name, end]) => [name, end.exitCode]);
    return JSON.stringify(Object.fromEntries(ends));
  } else throw new Error(`${command.join(' ')}: nobody knows how to do that here`);
  return '';
}
