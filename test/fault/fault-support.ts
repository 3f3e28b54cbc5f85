// What the tests of bad input share: walcast as a process under any user, its log line by line, and a fingerprint of a
// directory that shows whether anything in it changed.
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { accessSync, constants } from 'node:fs';
import { lstat, readFile, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { stringify } from 'yaml';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import { SUPERUSER } from '../../src/demo/postgres-server.ts';
import { renderConninfo } from '../../src/demo/postgres-settings.ts';
import { runCommand } from '../../src/demo/postgres-user.ts';
import type { ServerUser } from '../../src/demo/postgres-user.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { WalcastProcess } from '../../src/demo/walcast-process.ts';
import type { StoreJson } from '../../src/http/api-types.ts';
import { INVALID_LSN, formatLsn, parseLsn } from '../../src/pg/lsn.ts';
import type { Lsn } from '../../src/pg/lsn.ts';
import { freePort } from '../harness/free-port.ts';

/** The program as a user starts it. */
export const PROGRAM: string = fileURLToPath(new URL('../../bin/walcast.mjs', import.meta.url));

/** One line of the log. */
export interface LogLine {
  readonly level: string;
  readonly msg: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

/** What to run; everything that is not given is as it should be. */
export interface AttemptOptions {
  readonly directory: string;
  readonly upstreamPort: number;
  readonly conninfo?: Readonly<Record<string, string>>;
  readonly slot?: string;
  readonly receiverTimeoutMs?: number;
  /** null: no `auth` at all. */
  readonly hba?: string | null;
  readonly port?: number;
  readonly httpPort?: number;
  /** What changes something over HTTP needs the token in it. */
  readonly httpTokenFile?: string;
  /** Further lines of walcast.yaml. */
  readonly extraYaml?: string;
  /** As whom; default ourselves. */
  readonly user?: ServerUser | null;
  /** A program with its arguments that runs ours. */
  readonly wrapper?: readonly string[];
  /** Environment besides ours. */
  readonly environment?: Readonly<Record<string, string>>;
}

/** A started walcast and the ports it was given. */
export interface Attempt {
  readonly process: WalcastProcess;
  readonly port: number;
  readonly httpPort: number;
  readonly configurationFile: string;
}

let attempts = 0;

/** Starts `walcast run`; nothing is waited for. */
export async function attempt(workspace: Workspace, options: AttemptOptions): Promise<Attempt> {
  attempts += 1;
  const file = join(workspace.directory, `attempt-${attempts}.yaml`);
  const port = options.port ?? (await freePort());
  const httpPort = options.httpPort ?? (await freePort());
  await writeFile(file, configurationOf(options, { port, httpPort }), { mode: 0o600 });
  const { user = null } = options;
  // It may hold a password: it belongs to whom walcast runs as.
  if (user !== null) await workspace.giveAway(file);
  const command = [...(options.wrapper ?? []), process.execPath, PROGRAM, 'run', '-c', file];
  const child = spawn(command[0] ?? '', command.slice(1), {
    ...(user === null ? {} : { uid: user.uid, gid: user.gid }),
    cwd: workspace.directory,
    env: { ...process.env, ...options.environment },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  const started = await new Promise<WalcastProcess>((resolve, reject) => {
    child.once('error', reject);
    child.once('spawn', () => resolve(new WalcastProcess(child, child.pid ?? 0)));
  });
  workspace.onClose(async () => {
    await started.stop('SIGINT');
  });
  return { process: started, port, httpPort, configurationFile: file };
}

function configurationOf(
  options: AttemptOptions,
  { port, httpPort }: { port: number; httpPort: number },
): string {
  const { hba = 'host replication all 127.0.0.1/32 trust\n', extraYaml = '' } = options;
  const settings = {
    upstream: {
      conninfo: renderConninfo({
        host: '127.0.0.1',
        port: String(options.upstreamPort),
        user: SUPERUSER,
        sslmode: 'disable',
        ...options.conninfo,
      }),
      slot: options.slot ?? 'walcast',
      ...(options.receiverTimeoutMs === undefined
        ? {}
        : { wal_receiver_timeout: `${options.receiverTimeoutMs}ms` }),
    },
    listen: [{ address: `127.0.0.1:${port}` }],
    ...(hba === null ? {} : { auth: { hba } }),
    storage: { directory: options.directory },
    http: {
      listen: `127.0.0.1:${httpPort}`,
      ...(options.httpTokenFile === undefined ? {} : { token_file: options.httpTokenFile }),
    },
  };
  return `${stringify(settings)}${extraYaml}`;
}

/** The process id that walcast itself names: behind a wrapper it is another one than the started process'. */
export async function programPid(walcast: WalcastProcess): Promise<number> {
  const line = await walcast.waitForLog(/"msg":"walcast starts"/);
  return Number(/"pid":(\d+)/.exec(line)?.[1]);
}

/** The log so far. A line that is no JSON (a stack, a warning of Node.js) has the level `noise`. */
export function logLines(walcast: WalcastProcess): LogLine[] {
  return walcast.log.map((line) => {
    try {
      const { level, msg, ...fields } = JSON.parse(line) as Record<string, unknown>;
      return { level: String(level), msg: String(msg), fields };
    } catch {
      return { level: 'noise', msg: line, fields: {} };
    }
  });
}

/** Lines that a person should read: warnings, errors and noise; the warning about `trust` rules is left out. */
export function complaints(walcast: WalcastProcess): LogLine[] {
  return logLines(walcast).filter(
    ({ level, msg }) => level !== 'info' && level !== 'debug' && !/"trust" lets anybody/.test(msg),
  );
}

/** What one line tells a person: the message and the next step. */
export function told(line: LogLine | undefined): string {
  if (line === undefined) return 'nothing';
  const hint = line.fields['hint'];
  return typeof hint === 'string' ? `${line.msg} ${hint}` : line.msg;
}

/** `GET path` of a walcast's HTTP port as JSON. */
export async function httpJson(httpPort: number, path: string): Promise<Record<string, unknown>> {
  const response = await fetch(`http://127.0.0.1:${httpPort}${path}`);
  return (await response.json()) as Record<string, unknown>;
}

/** Waits until the status shows `state`. */
export async function waitForState(started: Attempt, state: string): Promise<void> {
  let shown: unknown = null;
  await pollUntil(
    `state ${state}`,
    async () => {
      const status = await httpJson(started.httpPort, '/api/v1/status').catch(() => null);
      shown = status?.['state'];
      if (started.process.end !== null)
        throw new Error(`state ${state} will not come: it has ended`);
      return shown === state ? true : null;
    },
    { timeoutMs: 30_000 },
  ).catch((error: unknown) => {
    const log = started.process.log.slice(-8).join('\n');
    throw new Error(`${String(error)}; it is ${String(shown)}; log: ${log}`, { cause: error });
  });
}

/** Waits until the store says that everything before `endLsn` is durable. */
export async function waitForFlushed(started: Attempt, endLsn: Lsn): Promise<void> {
  await pollUntil(
    `flushed up to ${formatLsn(endLsn)}; log: ${started.process.log.slice(-5).join('\n')}`,
    async () => {
      const status = await httpJson(started.httpPort, '/api/v1/status').catch(() => null);
      const { flushed_lsn: text = null } = (status?.['store'] ?? {}) as Partial<StoreJson>;
      return (parseLsn(text ?? '') ?? INVALID_LSN) >= endLsn ? true : null;
    },
    { timeoutMs: 30_000 },
  );
}

/** A counter of /metrics; null when it is not there. `series` is a name with its labels as they are printed. */
export async function metric(httpPort: number, series: string): Promise<number | null> {
  const text = await (await fetch(`http://127.0.0.1:${httpPort}/metrics`)).text();
  const line = text.split('\n').find((each) => each.startsWith(`${series} `));
  return line === undefined ? null : Number(line.slice(series.length + 1));
}

/** Waits until `count` further attempts to connect upstream have failed. */
export async function waitForFailedConnects(started: Attempt, count: number): Promise<void> {
  const failed = async (): Promise<number> =>
    (await metric(started.httpPort, FAILED_CONNECTS).catch(() => null)) ?? 0;
  const goal = (await failed()) + count;
  await pollUntil(
    `${count} more failed connects`,
    async () => ((await failed()) >= goal ? true : null),
    { timeoutMs: 30_000 },
  );
}

const FAILED_CONNECTS = 'walcast_upstream_connects_total{upstream="default",outcome="failure"}';

/**
 * Everything in a directory by relative path: kind, mode, size, and the SHA-1 of the content; `withTimes` adds when files
 * were last modified, which shows a file that was replaced by its like.
 */
export async function fingerprint(
  directory: string,
  { withTimes = true, leaveOut = [] }: { withTimes?: boolean; leaveOut?: readonly string[] } = {},
): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  const walk = async (path: string, name: string): Promise<void> => {
    if (leaveOut.includes(name)) return;
    const entry = await lstat(path, { bigint: true });
    const mode = (Number(entry.mode) & 0o7777).toString(8);
    if (entry.isDirectory()) {
      found[`${name}/`] = mode;
      for (const child of await readdir(path)) {
        await walk(join(path, child), name === '' ? child : `${name}/${child}`);
      }
    } else if (entry.isFile()) {
      const digest = createHash('sha1')
        .update(await readFile(path))
        .digest('hex');
      const time = withTimes ? ` ${entry.mtimeNs}` : '';
      found[name] = `${mode} ${entry.size} ${digest}${time}`;
    } else {
      found[name] = `${mode} ${entry.isSocket() ? 'socket' : 'other'}`;
    }
  };
  await walk(directory, '');
  return found;
}

/** Copies a store, owners and times included. */
export async function copyTree(from: string, to: string): Promise<void> {
  const result = await runCommand('cp', ['-a', from, to], { user: null, cwd: '/' });
  if (result.exitCode !== 0) throw new Error(result.stderr);
}

/** Why tests cannot run the program as an unprivileged user; null when they can. */
export async function unprivilegedProblem(user: ServerUser | null): Promise<string | null> {
  if (user === null) return null;
  const result = await runCommand(process.execPath, [PROGRAM, '--version'], { user, cwd: '/' });
  return result.exitCode === 0 ? null : `${user.name} may not run the program in this place`;
}

/** Mounts a tmpfs at `directory`; resolves to why that is not possible, or null. It is unmounted with the workspace. */
export async function mountTmpfs(
  workspace: Workspace,
  directory: string,
  options: string,
): Promise<string | null> {
  try {
    accessSync('/bin/mount', constants.X_OK);
  } catch {
    return 'there is no mount program';
  }
  const result = await runCommand(
    '/bin/mount',
    ['-t', 'tmpfs', '-o', options, 'tmpfs', directory],
    {
      user: null,
      cwd: '/',
    },
  );
  if (result.exitCode !== 0) return `mounting is not allowed: ${result.stderr.trim()}`;
  workspace.onClose(async () => {
    await runCommand('/bin/umount', ['-l', directory], { user: null, cwd: '/' });
  });
  return null;
}

/** Changes the options of a mount. */
export async function remount(directory: string, options: string): Promise<void> {
  const result = await runCommand('/bin/mount', ['-o', `remount,${options}`, directory], {
    user: null,
    cwd: '/',
  });
  if (result.exitCode !== 0) throw new Error(result.stderr);
}
