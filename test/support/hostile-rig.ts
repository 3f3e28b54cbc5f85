// A server with every kind of user and rule, and a walcast in front of it with the same: whoever is asked, the answer
// should be the same. The server has been promoted once, so that there are old timelines to ask for.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createPrimary } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { createRelay } from '../harness/walcast-process.ts';
import type { WalcastRelay } from '../harness/walcast-process.ts';
import type { HostileCase, Side } from './hostile-case.ts';

/** Rules of both; nobody comes from 127.0.0.3. The order matters, as always. */
const RULES = [
  'local replication trusty trust',
  'host replication trusty 127.0.0.1/32 trust',
  'host replication rejected 127.0.0.1/32 reject',
];

/** Rules that only the server has: the harness and walcast come in by them. */
const SERVER_RULES = [
  'local all postgres trust',
  'host all postgres 127.0.0.1/32 trust',
  'host replication postgres 127.0.0.1/32 trust',
];

/** Both, and what was said on each so far. */
export class HostileRig implements AsyncDisposable {
  readonly workspace: Workspace;
  readonly primary: PostgresCluster;
  readonly relay: WalcastRelay;
  readonly #major: number;

  private constructor(workspace: Workspace, primary: PostgresCluster, relay: WalcastRelay) {
    this.workspace = workspace;
    this.primary = primary;
    this.relay = relay;
    this.#major = primary.major;
  }

  static async open(major: number): Promise<HostileRig> {
    const workspace = await openWorkspace(await serverUser());
    try {
      const primary = await preparePrimary(workspace, major);
      const relay = await createRelay(workspace, {
        name: 'walcast',
        upstream: () => primary.target(),
      });
      relay.configure({
        listen: [
          { address: `127.0.0.1:${relay.port}` },
          { address: `${workspace.directory}:${relay.port}` },
        ],
        auth: { hba: `${RULES.join('\n')}\n` },
      });
      await relay.start();
      return new HostileRig(workspace, primary, relay);
    } catch (error) {
      await workspace.close();
      throw error;
    }
  }

  get postgres(): Side {
    const { port, directory } = this.primary;
    return { name: 'postgres', major: this.#major, port, socketDirectory: directory };
  }

  get walcast(): Side {
    const { port } = this.relay;
    const socketDirectory = this.workspace.directory;
    return { name: 'walcast', major: this.#major, port, socketDirectory };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.workspace.close();
  }
}

async function preparePrimary(workspace: Workspace, major: number): Promise<PostgresCluster> {
  const primary = await createPrimary(workspace, {
    major,
    name: 'primary',
    settings: { max_wal_senders: '90', max_connections: '100', max_replication_slots: '40' },
  });
  await primary.becomeStandby(primary.target());
  await primary.configure({ primary_conninfo: null });
  await writeFile(
    join(primary.dataDirectory, 'pg_hba.conf'),
    `${[...SERVER_RULES, ...RULES].join('\n')}\n`,
  );
  await primary.start();
  await primary.promote();
  await primary.query('CREATE ROLE trusty LOGIN REPLICATION');
  await primary.query('CREATE ROLE rejected LOGIN REPLICATION');
  return primary;
}

/** What both said to one case. */
export interface Answers {
  readonly postgres: string[];
  readonly walcast: string[];
}

/** As many cases at once: enough that those who wait do not add up, few enough for a limit of sessions and two cores. */
const AT_ONCE = 16;

/** Runs the cases on both sides, several at a time. The answers come as they come; a case that fails rejects. */
export function runCases(
  rig: HostileRig,
  cases: readonly HostileCase[],
): Map<HostileCase, Promise<Answers>> {
  const answers = new Map<HostileCase, Promise<Answers>>();
  const lanes: Promise<unknown>[] = Array.from({ length: AT_ONCE }, () => Promise.resolve());
  for (const [index, each] of cases.entries()) {
    const lane = index % AT_ONCE;
    const answer = (lanes[lane] ?? Promise.resolve()).then(() => runCase(rig, each));
    lanes[lane] = answer.catch(() => null);
    answers.set(each, answer);
    // Whoever asks for it hears of the failure.
    answer.catch(() => {});
  }
  return answers;
}

async function runCase(rig: HostileRig, each: HostileCase): Promise<Answers> {
  const [postgres, walcast] = await Promise.all([each.run(rig.postgres), each.run(rig.walcast)]);
  return { postgres, walcast };
}
