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
import { PASSWORD } from './hostile-scram.ts';
import { AUTHORITY, SERVER_CERTIFICATE } from './hostile-tls.ts';

/** Rules of both; no rule is for whoever comes from 127.0.0.2. The order matters, as always. */
const RULES = [
  'local replication trusty trust',
  'host replication trusty 127.0.0.1/32 trust',
  'host replication rejected 127.0.0.1/32 reject',
  'hostssl replication certuser,certstranger 127.0.0.1/32 cert',
  'hostssl replication mapped 127.0.0.1/32 cert map=people',
  'hostssl replication twofold 127.0.0.1/32 scram-sha-256 clientcert=verify-full',
  'hostssl replication verified 127.0.0.1/32 scram-sha-256 clientcert=verify-ca',
  'hostssl replication tlsonly 127.0.0.1/32 scram-sha-256',
  'hostnossl replication tlsonly 127.0.0.1/32 reject',
  'host replication md5user 127.0.0.1/32 md5',
  'host replication all 127.0.0.1/32 scram-sha-256',
];

const MAPS = 'people /^standby-[0-9]+$ mapped\n';

/** Rules that only the server has: the harness and walcast come in by them. */
const SERVER_RULES = [
  'local all postgres trust',
  'host all postgres 127.0.0.1/32 trust',
  'host replication postgres 127.0.0.1/32 trust',
];

/** Users who prove who they are by a password. */
const WITH_PASSWORD = ['scram', 'twofold', 'verified', 'tlsonly', 'rejected'];

/** Users whom only the server knows: walcast has to ask it. */
const KNOWN_UPSTREAM: Readonly<Record<string, string>> = {
  expired: "LOGIN REPLICATION VALID UNTIL '2001-01-01'",
  expires: "LOGIN REPLICATION VALID UNTIL '2999-01-01'",
  reader: 'LOGIN',
  nologin: 'NOLOGIN REPLICATION',
};

const QUESTION =
  'SELECT rolname, rolpassword, rolvaliduntil, rolreplication FROM pg_authid WHERE rolcanlogin AND rolname = $1';

const WITHOUT_PASSWORD = ['trusty', 'nopassword', 'certuser', 'mapped'];

/** Both, and what was said on each so far. */
export class HostileRig implements AsyncDisposable {
  readonly workspace: Workspace;
  readonly primary: PostgresCluster;
  readonly relay: WalcastRelay;
  readonly #major: number;
  readonly #begun = new Set<Promise<unknown>>();
  #isClosing = false;

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
      return new HostileRig(workspace, primary, await startRelay(workspace, primary));
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

  /** Sends one case to both. Rejects where the suite is over: not all of its tests may have been asked for. */
  async ask(each: HostileCase): Promise<Answers> {
    if (this.#isClosing) throw new Error('the servers are being stopped');
    const asked = Promise.allSettled([each.run(this.postgres), each.run(this.walcast)]);
    this.#begun.add(asked);
    const [postgres, walcast] = await asked;
    this.#begun.delete(asked);
    if (postgres.status === 'rejected') throw postgres.reason;
    if (walcast.status === 'rejected') throw walcast.reason;
    return { postgres: postgres.value, walcast: walcast.value };
  }

  /** From now on whoever is not let in within two seconds is sent away. */
  async setDeadline(): Promise<void> {
    if (this.#isClosing) return;
    const set = this.#setDeadline();
    this.#begun.add(set);
    await set;
  }

  async #setDeadline(): Promise<void> {
    await this.primary.configure({ authentication_timeout: '2s' });
    await this.primary.reload();
    await this.relay.reload({ authentication_timeout: '2s' });
  }

  /** Begins no more cases, waits for those that run, and stops the servers. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosing = true;
    await Promise.allSettled(this.#begun);
    await this.workspace.close();
  }
}

async function startRelay(workspace: Workspace, primary: PostgresCluster): Promise<WalcastRelay> {
  const relay = await createRelay(workspace, {
    name: 'walcast',
    upstream: () => primary.target(),
  });
  const tls = {
    cert: await secretFile(workspace, 'relay.crt', SERVER_CERTIFICATE.pem),
    key: await secretFile(workspace, 'relay.key', SERVER_CERTIFICATE.key),
    ca: await secretFile(workspace, 'relay-ca.crt', AUTHORITY.pem),
  };
  relay.configure({
    listen: [
      { address: `127.0.0.1:${relay.port}`, tls },
      { address: `${workspace.directory}:${relay.port}` },
    ],
    auth: {
      hba: `${RULES.join('\n')}\n`,
      ident: MAPS,
      users: await secretsOf(primary),
      auth_query: QUESTION,
    },
  });
  await relay.start();
  return relay;
}

/** walcast is given what the server has. */
async function secretsOf(primary: PostgresCluster): Promise<Record<string, string>> {
  const rows = await primary.query(
    'SELECT rolname, rolpassword FROM pg_authid WHERE rolpassword IS NOT NULL',
  );
  const named = rows.filter(([name = '']) => KNOWN_UPSTREAM[name] === undefined);
  return Object.fromEntries(named.map(([name = '', secret = '']) => [name, secret]));
}

async function secretFile(workspace: Workspace, name: string, text: string): Promise<string> {
  const path = join(workspace.directory, name);
  await writeFile(path, text, { mode: 0o600 });
  return path;
}

async function preparePrimary(workspace: Workspace, major: number): Promise<PostgresCluster> {
  const primary = await createPrimary(workspace, {
    major,
    name: 'primary',
    settings: {
      max_wal_senders: '90',
      max_connections: '100',
      max_replication_slots: '40',
      ssl: 'on',
      ssl_ca_file: 'root.crt',
    },
  });
  await primary.becomeStandby(primary.target());
  await primary.configure({ primary_conninfo: null });
  const files = {
    'pg_hba.conf': `${[...SERVER_RULES, ...RULES].join('\n')}\n`,
    'pg_ident.conf': MAPS,
    'server.crt': SERVER_CERTIFICATE.pem,
    'server.key': SERVER_CERTIFICATE.key,
    'root.crt': AUTHORITY.pem,
  };
  for (const [name, text] of Object.entries(files)) {
    const path = join(primary.dataDirectory, name);
    await writeFile(path, text, { mode: 0o600 });
    await workspace.giveAway(path);
  }
  await primary.start();
  await primary.promote();
  const roles = [
    ...WITHOUT_PASSWORD.map((name) => `CREATE ROLE ${name} LOGIN REPLICATION`),
    ...WITH_PASSWORD.map((name) => `CREATE ROLE ${name} LOGIN REPLICATION PASSWORD '${PASSWORD}'`),
    ...Object.entries(KNOWN_UPSTREAM).map(
      ([name, what]) => `CREATE ROLE ${name} ${what} PASSWORD '${PASSWORD}'`,
    ),
    "SET password_encryption = 'md5'",
    `CREATE ROLE md5user LOGIN REPLICATION PASSWORD '${PASSWORD}'`,
  ];
  await primary.query(`SET password_encryption = 'scram-sha-256'; ${roles.join('; ')}`);
  return primary;
}

/** What both said to one case. */
export interface Answers {
  readonly postgres: string[];
  readonly walcast: string[];
}

/** As many cases at once: enough that those who wait do not add up, few enough for a limit of sessions and two cores. */
const AT_ONCE = 16;

/**
 * Runs the cases on both sides, several at a time, those about the deadline behind all others. The answers come as they
 * come; a case that fails rejects.
 */
export function runCases(
  rig: HostileRig,
  cases: readonly HostileCase[],
): Map<HostileCase, Promise<Answers>> {
  const quick = cases.filter(({ isSlow }) => isSlow !== true);
  const answers = runInLanes(rig, quick, Promise.resolve());
  const isDone = Promise.allSettled(answers.values()).then(() => rig.setDeadline());
  // Whoever waits for it hears of the failure, and nobody does where no case is slow.
  isDone.catch(() => {});
  const slow = cases.filter(({ isSlow }) => isSlow === true);
  return new Map([...answers, ...runInLanes(rig, slow, isDone)]);
}

function runInLanes(
  rig: HostileRig,
  cases: readonly HostileCase[],
  begin: Promise<void>,
): Map<HostileCase, Promise<Answers>> {
  const answers = new Map<HostileCase, Promise<Answers>>();
  const lanes: Promise<unknown>[] = [];
  for (const [index, each] of cases.entries()) {
    const lane = index % AT_ONCE;
    const answer = (lanes[lane] ?? begin).then(() => rig.ask(each));
    lanes[lane] = answer.catch(() => null);
    answers.set(each, answer);
    // Whoever asks for it hears of the failure.
    answer.catch(() => {});
  }
  return answers;
}
