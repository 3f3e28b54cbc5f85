// PostgreSQL's own client programs, as far as this machine has them (Debian's postgresql-client).
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { runCommand, serverEnvironment } from '../../src/demo/postgres-user.ts';
import type { CommandResult } from '../../src/demo/postgres-user.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { findProgram } from '../support/requirements.ts';

/** Programs the suites use. */
export type PgTool =
  | 'pg_basebackup'
  | 'pg_receivewal'
  | 'pg_recvlogical'
  | 'pg_rewind'
  | 'pg_waldump'
  | 'pgbench'
  | 'psql';

/** Runs a tool to its end as the workspace's user. Throws when it is not installed; ask `requires` first. */
export function runTool(
  workspace: Workspace,
  tool: PgTool,
  args: readonly string[],
): Promise<CommandResult> {
  return runCommand(pathOf(tool), args, { user: workspace.user, cwd: workspace.directory });
}

/** Runs a tool and gives its standard output. Rejects with all it said when it fails. */
export async function runToolChecked(
  workspace: Workspace,
  tool: PgTool,
  args: readonly string[],
): Promise<string> {
  const result = await runTool(workspace, tool, args);
  if (result.exitCode === 0) return result.stdout;
  throw new Error(
    `${tool} failed (exit code ${result.exitCode}): ${result.stderr}${result.stdout}`,
  );
}

/** A tool that goes on until it is told to stop, like pg_receivewal. */
export interface RunningTool {
  readonly child: ChildProcess;
  /** What it has said so far on both outputs. */
  output(): string;
  /** Sends a signal and waits for the end. */
  stop(signal?: NodeJS.Signals): Promise<CommandResult>;
  /** How it ended, once it has. */
  readonly ended: Promise<CommandResult>;
}

/** Starts a tool as the workspace's user. It is ended with the workspace at the latest. */
export function startTool(
  workspace: Workspace,
  tool: PgTool,
  args: readonly string[],
): RunningTool {
  const { user, directory } = workspace;
  const child = spawn(pathOf(tool), [...args], {
    ...(user === null ? {} : { uid: user.uid, gid: user.gid }),
    cwd: directory,
    env: serverEnvironment(directory),
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  const said = { stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => (said.stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said.stderr += text));
  const ended = new Promise<CommandResult>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (exitCode) => resolve({ exitCode, ...said }));
  });
  ended.catch(() => {});
  const stop = async (signal: NodeJS.Signals = 'SIGINT'): Promise<CommandResult> => {
    child.kill(signal);
    return await ended;
  };
  workspace.onClose(async () => {
    if (child.exitCode === null && child.signalCode === null) await stop('SIGKILL');
  });
  return { child, output: () => said.stderr + said.stdout, stop, ended };
}

function pathOf(tool: PgTool): string {
  const path = findProgram(tool);
  if (path === null) throw new Error(`${tool} is not installed`);
  return path;
}
