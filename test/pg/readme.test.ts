// Does "For your own primary" of the README lead to a standby behind walcast, with TLS and passwords? Its lines, typed in order.
import { spawn } from 'node:child_process';
import { appendFile, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished } from 'vitest';
import { createPrimary } from '../../src/demo/postgres-cluster.ts';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import { SUPERUSER } from '../../src/demo/postgres-server.ts';
import { runCommand, serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import { openSqlSession } from '../../src/demo/sql-session.ts';
import { freePort } from '../harness/free-port.ts';
import { makeCertificate } from '../support/certificates.ts';
import { clientMajor, findProgram, installedMajors, requires } from '../support/requirements.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** The newest that the installed pg_basebackup takes a backup of. */
const MAJOR = installedMajors().findLast((major) => major <= clientMajor('pg_basebackup')) ?? 15;

/** The fenced blocks of the section, in order, without what they are indented by. */
async function blocksOfSection(): Promise<string[]> {
  const readme = await readFile(join(ROOT, 'README.md'), 'utf8');
  const [, section = ''] = /^## For your own primary\n([\s\S]*?)^## /m.exec(readme) ?? [];
  return [...section.matchAll(/^( *)```\w*\n([\s\S]*?)^ *```$/gm)].map(
    ([, indent = '', text = '']) => text.replaceAll(new RegExp(`^${indent}`, 'gm'), ''),
  );
}

requires('pg_basebackup', `postgres-${MAJOR}`).it(
  'the section for an own primary can be typed as it stands',
  { timeout: 180_000 },
  async () => {
    const workspace = await openWorkspace(await serverUser());
    onTestFinished(() => workspace.close());
    const { user } = workspace;
    const home = await workspace.makeDirectory('home');
    const [port, http, standbyPort] = [await freePort(), await freePort(), await freePort()];
    // One certificate for both: here they are one machine.
    const made = makeCertificate({
      commonName: 'localhost',
      dns: ['localhost'],
      isAuthority: true,
    });
    const secret = async (name: string, text: string): Promise<string> => {
      await writeFile(join(home, name), text, { mode: 0o600 });
      await workspace.giveAway(join(home, name));
      return join(home, name);
    };
    const files = {
      cert: await secret('relay.crt', made.pem),
      key: await secret('relay.key', made.key),
    };
    const primary = await createPrimary(workspace, {
      major: MAJOR,
      name: 'primary',
      settings: { ssl: 'on', ssl_cert_file: files.cert, ssl_key_file: files.key },
    });
    /** The names of the page are those of this machine. */
    const here = (text: string): string =>
      text
        .replaceAll('npx walcast', `"${process.execPath}" "${ROOT}/bin/walcast.mjs"`)
        .replaceAll('host=pg-primary port=5432', `host=localhost port=${primary.port}`)
        .replaceAll(/host=relay port=5433/g, `host=localhost port=${port}`)
        .replaceAll('0.0.0.0:5433', `127.0.0.1:${port} --http 127.0.0.1:${http}`)
        .replaceAll('10.0.0.0/8', '127.0.0.0/8')
        .replaceAll('/etc/walcast', home)
        .replaceAll('/var/lib/postgresql/18/main', 'data')
        .replaceAll(/^pg_basebackup/gm, findProgram('pg_basebackup') ?? '')
        .replaceAll('status --watch', `status --url http://127.0.0.1:${http}`);
    const shell = async (line: string): Promise<string> => {
      const done = await runCommand('sh', ['-ec', line], { user, cwd: home });
      expect([line, done.exitCode, done.stderr]).toEqual([line, 0, expect.any(String)]);
      return done.stdout;
    };
    const blocks = await blocksOfSection();
    expect(blocks).toHaveLength(7);
    const [role = '', rule = '', init = '', , commands = '', seeding = '', lines = ''] =
      blocks.map(here);

    await writeFile(join(primary.dataDirectory, 'pg_hba.conf'), `local all all trust\n${rule}`);
    await primary.start();
    const local = { host: primary.directory };
    await using session = await primary.session(local);
    await session.query(role.replace('…', 'pencil'));
    await secret('.pgpass', `localhost:${primary.port}:*:replicator:pencil\n`);
    await shell('mkdir .postgresql && cp relay.crt .postgresql/root.crt');

    expect(await shell(`${init.trimEnd()} --data store`)).toContain('\n0 errors, ');
    const [check = '', run = '', status = ''] = commands.trimEnd().split('\n');
    expect(await shell(check)).toContain('\n0 errors, ');
    const walcast = spawn('sh', ['-c', `exec ${run}`], {
      cwd: home,
      env: { PATH: process.env['PATH'], HOME: home, WALCAST_LOG_LEVEL: 'error' },
      stdio: ['ignore', 'ignore', 'inherit'],
      ...(user === null ? {} : { uid: user.uid, gid: user.gid }),
    });
    onTestFinished(() => void walcast.kill('SIGKILL'));
    const until = async (what: string, look: () => Promise<boolean>): Promise<void> => {
      await pollUntil(what, async () => ((await look()) ? true : null), { timeoutMs: 60_000 });
    };
    await until('walcast being ready', async () => {
      const answer = await fetch(`http://127.0.0.1:${http}/readyz`).catch(() => null);
      return answer?.status === 200;
    });

    await shell('cat standby.pgpass >> ~/.pgpass');
    await shell(seeding);
    const control = `${primary.binaries.binDirectory}/pg_ctl -D data -l log -w`;
    const options = `-c port=${standbyPort} -c unix_socket_directories=${home} -c listen_addresses= -c ssl=off`;
    await shell(`${control} -o '${options}' start`);
    onTestFinished(async () => {
      await runCommand('sh', ['-c', `${control} -m immediate stop`], { user, cwd: home });
    });
    const isStreaming = async (): Promise<boolean> =>
      /\| standby1 +\|.*\| streaming \|/.test(await shell(status));
    await until('the standby streaming', isStreaming);

    // The same standby, now as one that has only the lines for its configuration.
    await writeFile(join(home, 'data', 'postgresql.auto.conf'), '');
    await appendFile(join(home, 'data', 'postgresql.conf'), `\n${lines}`);
    await shell(`${control} -m fast restart`);
    await session.query('CREATE TABLE seen AS SELECT 1 AS n');
    const standby = { host: home, port: standbyPort, user: SUPERUSER, database: 'postgres' };
    await until('the row on the standby', async () => {
      await using there = await openSqlSession(standby);
      return (await there.query("SELECT to_regclass('seen')"))[0]?.[0] === 'seen';
    });
    expect(await isStreaming()).toBe(true);
  },
);
