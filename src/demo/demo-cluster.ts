// The servers of the demonstration and how they are joined: primary → walcast → standbys seeded through walcast.
import { encodeQuery } from '../wire/frontend-messages.ts';
import { createPrimary, createStandby } from './postgres-cluster.ts';
import type { PostgresCluster } from './postgres-cluster.ts';
import { connectPostgres } from './postgres-connect.ts';
import type { ConnectTarget } from './postgres-connect.ts';
import type { Workspace } from './postgres-workspace.ts';
import { listeningAt, spawnWalcast, waitUntilReady } from './walcast-process.ts';
import type { WalcastProcess } from './walcast-process.ts';

/** A running relay of the demonstration. */
export interface DemoRelay {
  readonly process: WalcastProcess;
  readonly url: string;
  /** Where standbys connect. */
  readonly target: ConnectTarget;
}

/** Tells people what is going on while things start. */
export type Progress = (text: string) => void;

/** The table the writer fills. */
export const DEMO_TABLE = 'walcast_demo';

/** Makes and starts the primary, with the table the writer fills. */
export async function startDemoPrimary(
  workspace: Workspace,
  major: number,
): Promise<PostgresCluster> {
  const primary = await createPrimary(workspace, { major, name: 'primary' });
  await primary.start();
  await primary.query(
    `CREATE TABLE ${DEMO_TABLE} (id bigserial PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(), note text NOT NULL)`,
  );
  return primary;
}

/** Starts walcast in front of `primary` and waits until it is ready. */
export async function startDemoRelay(
  workspace: Workspace,
  primary: PostgresCluster,
): Promise<DemoRelay> {
  const directory = `${workspace.directory}/walcast-store`;
  const walcast = await spawnWalcast(workspace, {
    name: 'walcast',
    configuration: demoConfiguration(primary, directory),
  });
  const { port, url } = await listeningAt(walcast);
  await waitUntilReady(walcast, url);
  return {
    process: walcast,
    url,
    target: { host: '127.0.0.1', port, user: 'postgres', database: 'replication' },
  };
}

/** Seeds one standby through walcast, with a slot of its own there, and starts it. */
export async function startDemoStandby(
  workspace: Workspace,
  relay: DemoRelay,
  options: { name: string; major: number; progress: Progress },
): Promise<PostgresCluster> {
  const { name, major, progress } = options;
  await createSlot(relay.target, name, major);
  const standby = await createStandby(workspace, {
    major,
    name,
    backupFrom: relay.target,
    upstream: relay.target,
    slot: name,
    onBackupProgress: (bytes) =>
      progress(`${name}: base backup through walcast, ${megabytes(bytes)}`),
  });
  progress(`${name}: starting`);
  await standby.start();
  return standby;
}

/** `23.4 MB`, decimal point, binary megabytes as PostgreSQL's. */
export function megabytes(bytes: number): string {
  return `${(bytes / (1024 * 1024)).toFixed(1)} MB`;
}

async function createSlot(relay: ConnectTarget, name: string, major: number): Promise<void> {
  await using client = await connectPostgres({ ...relay, replication: true });
  const reserve = major >= 15 ? '(RESERVE_WAL)' : 'RESERVE_WAL';
  client.send(encodeQuery(`CREATE_REPLICATION_SLOT "${name}" PHYSICAL ${reserve}`));
  for (;;) {
    const message = await client.next();
    if (message.type === 'ErrorResponse') throw client.refusal(message.fields);
    if (message.type === 'ReadyForQuery') return;
  }
}

function demoConfiguration(primary: PostgresCluster, directory: string): string {
  const conninfo = `host=127.0.0.1 port=${primary.port} user=postgres sslmode=disable`;
  return [
    'upstream:',
    `  conninfo: ${conninfo}`,
    '  slot: walcast',
    'listen:',
    '  - address: 127.0.0.1:0',
    'auth:',
    '  hba: |',
    '    host replication all 127.0.0.1/32 trust',
    '    host walcast all 127.0.0.1/32 trust',
    'storage:',
    `  directory: ${directory}`,
    'http:',
    '  listen: 127.0.0.1:0',
    'log:',
    '  level: info',
    '  format: json',
    '',
  ].join('\n');
}
