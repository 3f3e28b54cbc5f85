// Real Patroni nodes on loopback, each with its PostgreSQL: their configuration made of what an example says and what a place needs.
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { openSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import { serverEnvironment } from '../../src/demo/postgres-user.ts';
import type { CommandResult } from '../../src/demo/postgres-user.ts';
import { openSqlSession } from '../../src/demo/sql-session.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { freePort } from '../harness/free-port.ts';
import { findProgram } from '../support/requirements.ts';
import { at, merged, runClient, serverFile } from './deploy-examples-rig.ts';

/** Where Debian puts the server that Patroni runs. */
export const BIN_DIRECTORY = '/usr/lib/postgresql/15/bin';

export const SUPERUSER_PASSWORD = 'of the superuser';
const WAIT_MS = 60_000;

/** A cluster of Patroni. */
export interface PatroniOptions {
  readonly scope: string;
  readonly members: readonly string[];
  /** Put over each node's configuration. */
  readonly settings: unknown;
  /** Certificate and key of the servers, PEM. */
  readonly certificate: { readonly pem: string; readonly key: string };
}

interface Node {
  readonly name: string;
  readonly port: number;
  readonly restPort: number;
  readonly raftPort: number;
  readonly file: string;
}

/** One member as `GET /cluster` has it. */
export interface MemberAnswer {
  readonly name: string;
  readonly role: string;
  readonly state: string;
  readonly timeline?: number;
}

export class PatroniCluster {
  readonly #workspace: Workspace;
  readonly #options: PatroniOptions;
  readonly #nodes: Node[] = [];

  private constructor(workspace: Workspace, options: PatroniOptions) {
    this.#workspace = workspace;
    this.#options = options;
  }

  /** Starts all nodes; they make the cluster by themselves. */
  static async start(workspace: Workspace, options: PatroniOptions): Promise<PatroniCluster> {
    const cluster = new PatroniCluster(workspace, options);
    for (const name of options.members) {
      const [port, restPort, raftPort] = [await freePort(), await freePort(), await freePort()];
      const directory = await workspace.makeDirectory(name);
      const file = join(directory, 'patroni.yml');
      cluster.#nodes.push({ name, port, restPort, raftPort, file });
    }
    for (const node of cluster.#nodes) await cluster.#startNode(node);
    return cluster;
  }

  /** Port of a member's server. */
  port(name: string): number {
    return this.#node(name).port;
  }

  /** Base of a member's REST API. */
  url(name: string): string {
    return `http://127.0.0.1:${this.#node(name).restPort}`;
  }

  /** What all members are, from the first one that answers. */
  async members(): Promise<readonly MemberAnswer[]> {
    for (const { name } of this.#nodes) {
      const answer = await fetch(`${this.url(name)}/cluster`).catch(() => null);
      if (answer?.status !== 200) continue;
      const body: unknown = await answer.json();
      const members = at(body, 'members');
      return Array.isArray(members) ? members.map(memberOf) : [];
    }
    return [];
  }

  /** Polls the members until `check` holds. Rejects with the ends of the logs. */
  async waitForMembers(
    what: string,
    check: (members: readonly MemberAnswer[]) => boolean,
  ): Promise<void> {
    let last: readonly MemberAnswer[] = [];
    try {
      await pollUntil(
        what,
        async () => {
          last = await this.members();
          return check(last) ? true : null;
        },
        { timeoutMs: WAIT_MS },
      );
    } catch (error) {
      throw new Error(`${String(error)}; ${JSON.stringify(last)}\n${await this.log()}`, {
        cause: error,
      });
    }
  }

  /** The ends of what all nodes said. */
  async log(): Promise<string> {
    const texts = this.#nodes.map(async ({ name, file }) => {
      const text = await readFile(`${file}.log`, 'utf8').catch(() => '');
      return `${name}:\n${text.split('\n').slice(-40).join('\n')}`;
    });
    return (await Promise.all(texts)).join('\n');
  }

  /** Runs `patronictl` with the configuration of the first node. */
  async patronictl(args: readonly string[]): Promise<CommandResult> {
    const file = this.#nodes[0]?.file ?? '';
    return await runClient(this.#workspace, 'patronictl', ['-c', file, ...args]);
  }

  /** Has another member lead; resolves when Patroni says that it does. */
  async switchover(leader: string, candidate: string): Promise<void> {
    const response = await fetch(`${this.url(leader)}/switchover`, {
      method: 'POST',
      body: JSON.stringify({ leader, candidate }),
    });
    if (response.status !== 200) throw new Error(`${response.status} ${await response.text()}`);
  }

  /** Changes the dynamic configuration. */
  async configure(patch: unknown): Promise<void> {
    const [node] = this.#nodes;
    if (node === undefined) throw new Error('no members');
    const response = await fetch(`${this.url(node.name)}/config`, {
      method: 'PATCH',
      body: JSON.stringify(patch),
    });
    if (response.status !== 200) throw new Error(`${response.status} ${await response.text()}`);
  }

  /** Members that have permanent physical slots: before 3.2 the leader alone. (docs/releases.rst) */
  async withPermanentSlots(): Promise<string[]> {
    const members = await this.members();
    const { stdout } = await this.patronictl(['version']);
    const [major = 0, minor = 0] = /version (\d+)\.(\d+)/.exec(stdout)?.slice(1).map(Number) ?? [];
    const isOnAll = major > 3 || (major === 3 && minor >= 2);
    return members.filter(({ role }) => isOnAll || role === 'leader').map(({ name }) => name);
  }

  /** Rows of a query at a member, as superuser. */
  async query(name: string, sql: string): Promise<string[][]> {
    await using session = await openSqlSession({
      host: this.#directoryOf(name),
      port: this.port(name),
      user: 'postgres',
      database: 'postgres',
    });
    return await session.query(sql);
  }

  /** Polls a query until it answers `expected`. */
  async waitForRows(name: string, sql: string, expected: readonly string[][]): Promise<void> {
    let last: unknown = null;
    try {
      await pollUntil(
        sql,
        async () => {
          last = await this.query(name, sql).catch((error: unknown) => String(error));
          return JSON.stringify(last) === JSON.stringify(expected) ? true : null;
        },
        { timeoutMs: WAIT_MS },
      );
    } catch (error) {
      throw new Error(`${String(error)}; ${JSON.stringify(last)}\n${await this.log()}`, {
        cause: error,
      });
    }
  }

  #node(name: string): Node {
    const node = this.#nodes.find((one) => one.name === name);
    if (node === undefined) throw new Error(`no member ${name}`);
    return node;
  }

  #directoryOf(name: string): string {
    return join(this.#workspace.directory, name);
  }

  async #startNode(node: Node): Promise<void> {
    const directory = this.#directoryOf(node.name);
    const { certificate } = this.#options;
    await serverFile(this.#workspace, join(directory, 'server.crt'), certificate.pem);
    await serverFile(this.#workspace, join(directory, 'server.key'), certificate.key);
    await mkdir(join(directory, 'raft'));
    await this.#workspace.giveAway(join(directory, 'raft'));
    const settings = merged(this.#settings(node), this.#options.settings);
    await serverFile(this.#workspace, node.file, stringify(settings));
    await writeFile(`${node.file}.log`, '');
    const child = this.#spawn(node);
    this.#workspace.onClose(() => ended(child));
  }

  #spawn(node: Node): ChildProcess {
    const { user, directory } = this.#workspace;
    const log = openSync(`${node.file}.log`, 'a');
    return spawn(programOf('patroni'), [node.file], {
      ...(user === null ? {} : { uid: user.uid, gid: user.gid }),
      cwd: directory,
      env: serverEnvironment(directory),
      stdio: ['ignore', log, log],
      detached: true,
    });
  }

  /** What a node needs besides the example, with the shortest times that Patroni takes. */
  #settings(node: Node): unknown {
    const directory = this.#directoryOf(node.name);
    const partners = this.#nodes.filter((other) => other !== node);
    return {
      scope: this.#options.scope,
      name: node.name,
      restapi: {
        listen: `127.0.0.1:${node.restPort}`,
        connect_address: `127.0.0.1:${node.restPort}`,
      },
      raft: {
        self_addr: `127.0.0.1:${node.raftPort}`,
        partner_addrs: partners.map(({ raftPort }) => `127.0.0.1:${raftPort}`),
        data_dir: join(directory, 'raft'),
      },
      bootstrap: {
        dcs: { ttl: 20, loop_wait: 1, retry_timeout: 3 },
        initdb: [{ encoding: 'UTF8' }, { locale: 'C' }],
        pg_hba: [
          'local all postgres trust',
          'hostssl replication replicator all scram-sha-256',
          'host replication replicator 127.0.0.1/32 scram-sha-256',
          'host all all 127.0.0.1/32 scram-sha-256',
        ],
      },
      postgresql: {
        listen: `127.0.0.1:${node.port}`,
        connect_address: `127.0.0.1:${node.port}`,
        data_dir: join(directory, 'data'),
        bin_dir: BIN_DIRECTORY,
        pgpass: join(directory, 'pgpass'),
        authentication: {
          superuser: { username: 'postgres', password: SUPERUSER_PASSWORD },
          replication: { username: 'replicator' },
        },
        parameters: {
          unix_socket_directories: directory,
          ssl: 'on',
          ssl_cert_file: join(directory, 'server.crt'),
          ssl_key_file: join(directory, 'server.key'),
          shared_buffers: '16MB',
          password_encryption: 'scram-sha-256',
          wal_retrieve_retry_interval: '500ms',
        },
      },
    };
  }
}

function memberOf(value: unknown): MemberAnswer {
  const timeline = at(value, 'timeline');
  return {
    name: String(at(value, 'name')),
    role: String(at(value, 'role')),
    state: String(at(value, 'state')),
    ...(typeof timeline === 'number' ? { timeline } : {}),
  };
}

/** Patroni stops its server on SIGTERM. */
async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((resolve) => {
    child.once('exit', resolve);
  });
  child.kill('SIGTERM');
  await gone;
}

function programOf(name: string): string {
  const path = findProgram(name);
  if (path === null) throw new Error(`${name} is not installed`);
  return path;
}
