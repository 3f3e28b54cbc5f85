// What psql shows of a replication connection: commands in, both outputs back, command by command, with what must differ
// between two servers taken out.
import type { CommandResult } from '../../src/demo/postgres-user.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { runTool } from '../harness/pg-tools.ts';

/** Which server. */
export interface PsqlTarget {
  readonly host: string;
  readonly port: number;
  /** Connection parameters besides; `replication=true` when absent. */
  readonly conninfo?: string;
}

/** One command and what psql printed for it. */
export interface PsqlAnswer {
  readonly command: string;
  readonly stdout: string;
  readonly stderr: string;
}

const MARK = '=== next ===';

/**
 * Runs `commands` in one session, each sent as one Query as it stands (psql's own `\` commands are allowed). SQLSTATEs
 * are shown; a failed command does not end the session.
 */
export async function psqlAnswers(
  workspace: Workspace,
  target: PsqlTarget,
  commands: readonly string[],
): Promise<PsqlAnswer[]> {
  const result = await runPsql(workspace, target, commands);
  const stdout = result.stdout.split(`${MARK}\n`);
  const stderr = result.stderr.split(`${MARK}\n`);
  if (stdout.length !== commands.length + 1)
    throw new Error(`psql ended early (exit code ${result.exitCode}): ${result.stderr}`);
  return commands.map((command, index) => ({
    command,
    stdout: comparable(stdout[index + 1] ?? ''),
    stderr: comparable(stderr[index + 1] ?? ''),
  }));
}

function runPsql(
  workspace: Workspace,
  { host, port, conninfo = 'replication=true' }: PsqlTarget,
  commands: readonly string[],
): Promise<CommandResult> {
  const server = `host=${host} port=${port} user=postgres sslmode=disable ${conninfo}`;
  const marked = commands.flatMap((command) => [
    '-c',
    `\\echo ${MARK}`,
    '-c',
    `\\warn ${MARK}`,
    '-c',
    command,
  ]);
  const settings = ['-v', 'VERBOSITY=verbose', '-P', 'null=(null)', '--no-align'];
  return runTool(workspace, 'psql', ['-X', '-w', '-d', server, ...settings, ...marked]);
}

/** Without positions, process ids and places in source files. */
export function comparable(text: string): string {
  return text
    .replaceAll(/\bport \d+/g, 'port n')
    .replaceAll(/\b[0-9A-F]{1,8}\/[0-9A-F]{1,8}\b/g, 'LSN')
    .replaceAll(/\bPID \d+/g, 'PID n')
    .replaceAll(/^LOCATION: .*\n/gm, '');
}
