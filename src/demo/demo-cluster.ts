// The servers of the demonstration and how they are joined: primary → walcast → standbys seeded through walcast.
import { randomBytes } from 'node:crypto';
import {
  deriveScramSecret,
  formatScramSecret,
  SCRAM_ITERATIONS_DEFAULT,
  SCRAM_SALT_BYTES,
} from '../auth/scram-secret.ts';
import { encodeQuery } from '../wire/frontend-messages.ts';
import { createPrimary, createStandby } from './postgres-cluster.ts';
import type { PostgresCluster } from './postgres-cluster.ts';
import { SUPERUSER } from './postgres-server.ts';
import { connectPostgres } from './postgres-connect.ts';
import type { ConnectTarget } from './postgres-connect.ts';
import type { Workspace } from './postgres-workspace.ts';
import { listeningAt, spawnWalcast, waitUntilReady } from './walcast-process.ts';
import type { WalcastProcess } from './walcast-process.ts';

/** A running relay of the demonstration. */
export interface DemoRelay {
  readonly process: WalcastProcess;
  readonly url: string;
  /** Where standbys connect, and with which password. */
  readonly target: ConnectTarget & { readonly password: string };
}

/** Tells people what is going on while things start. */
export type Progress = (text: string) => void;

/** Of a password that nobody has to remember. */
const PASSWORD_BYTES = 16;

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
  const password = randomBytes(PASSWORD_BYTES).toString('hex');
  const salt = randomBytes(SCRAM_SALT_BYTES);
  const secret = await deriveScramSecret(password, { salt, iterations: SCRAM_ITERATIONS_DEFAULT });
  const walcast = await spawnWalcast(workspace, {
    name: 'walcast',
    configuration: demoConfiguration(primary, directory, formatScramSecret(secret)),
  });
  const { port, url } = await listeningAt(walcast);
  await waitUntilReady(walcast, url);
  return {
    process: walcast,
    url,
    target: { host: '127.0.0.1', port, user: SUPERUSER, database: 'replication', password },
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

function demoConfiguration(primary: PostgresCluster, directory: string, secret: string): string {
  const conninfo = `host=127.0.0.1 port=${primary.port} user=${SUPERUSER} sslmode=disable`;
  return [
    'upstream:',
    `  conninfo: ${conninfo}`,
    '  slot: walcast',
    'listen:',
    '  - address: 127.0.0.1:0',
    'auth:',
    '  hba: |',
    '    host replication all 127.0.0.1/32 scram-sha-256',
    '    host walcast all 127.0.0.1/32 scram-sha-256',
    '  users:',
    `    ${SUPERUSER}: ${secret}`,
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
