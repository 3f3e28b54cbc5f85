// One walcast in front of a real primary whose configuration file a test writes anew, whole, as often as it likes; and what can be
// seen from outside of what is in effect.
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { connect as connectTcp } from 'node:net';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import { stringify } from 'yaml';
import { createPrimary } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { openSqlSession } from '../../src/demo/sql-session.ts';
import { spawnWalcast, waitUntilReady } from '../../src/demo/walcast-process.ts';
import type { WalcastProcess } from '../../src/demo/walcast-process.ts';
import type { StatusJson } from '../../src/http/api-types.ts';
import { freePort } from '../harness/free-port.ts';
import { makeCertificate } from '../support/certificates.ts';
import { packet } from '../support/naive-writer.ts';
import { RawSession, startup } from '../support/raw-session.ts';

/** Keys of walcast.yaml; null takes one away. */
export interface Keys {
  readonly [key: string]: string | number | boolean | null | Keys | readonly (string | Keys)[];
}

/** An answer of the HTTP port. */
export interface Answer {
  readonly status: number;
  readonly body: Record<string, unknown>;
}

export const TOKEN = 'the-first-token-of-the-tests';
export const OTHER_TOKEN = 'the-other-token-of-the-tests';
export const PASSWORD = 'the password of the tests';

const OBSERVED_MS = 20_000;

/** Rules under which every kind of client of these tests has its own way in. */
export const RULES = [
  'host walcast,replication postgres,ops 127.0.0.1/32 trust',
  'host walcast,replication pw,q 127.0.0.1/32 scram-sha-256',
  'hostssl walcast mapped 127.0.0.1/32 cert map=m',
  '',
].join('\n');

/** The relay, its file and its primary. */
export class ReloadRig implements AsyncDisposable {
  readonly workspace: Workspace;
  readonly primary: PostgresCluster;
  readonly ports: { readonly pg: number; readonly tls: number; readonly http: number };
  /** Those that stay for longer than one look; gone with the next {@link reset}. */
  readonly clients: RawSession[] = [];
  #process: WalcastProcess | null = null;

  private constructor(parts: Pick<ReloadRig, 'workspace' | 'primary' | 'ports'>) {
    this.workspace = parts.workspace;
    this.primary = parts.primary;
    this.ports = parts.ports;
  }

  /** A primary with small segments, walcast streaming from it. */
  static async open(major: number): Promise<ReloadRig> {
    const workspace = await openWorkspace(await serverUser());
    try {
      const settings = { wal_keep_size: '64MB', autovacuum: 'off' };
      const options = { major, name: 'primary', settings, segmentSizeMb: 1 };
      const primary = await createPrimary(workspace, options);
      await primary.start();
      const ports = { pg: await freePort(), tls: await freePort(), http: await freePort() };
      const rig = new ReloadRig({ workspace, primary, ports });
      await rig.#start();
      return rig;
    } catch (error) {
      await workspace.close();
      throw error;
    }
  }

  get process(): WalcastProcess {
    if (this.#process === null) throw new Error('walcast was not started');
    return this.#process;
  }

  get url(): string {
    return `http://127.0.0.1:${this.ports.http}`;
  }

  /** The configuration file, and where the files that it names are. */
  get file(): string {
    return this.path('walcast.yaml');
  }

  path(name: string): string {
    return join(this.workspace.directory, name);
  }

  /** A file beside the configuration that nobody else may read; its name there. */
  async put(name: string, text: string): Promise<string> {
    await writeFile(this.path(name), text, { mode: 0o600 });
    return this.path(name);
  }

  /** The text of a file with these keys over those of the rig. */
  text(...over: readonly Keys[]): string {
    return stringify(over.reduce(merge, this.#base()));
  }

  /** Writes the file and has it read again by request. */
  async become(...over: readonly Keys[]): Promise<Answer> {
    await writeFile(this.file, this.text(...over));
    for (const token of [TOKEN, OTHER_TOKEN]) {
      const answer = await this.request('POST', '/api/v1/reload', token);
      if (answer.status !== 401) return answer;
    }
    throw new Error('no token is taken');
  }

  async request(method: string, path: string, token: string | null = null): Promise<Answer> {
    const headers = token === null ? {} : { authorization: `Bearer ${token}` };
    const response = await fetch(`${this.url}${path}`, { method, headers });
    const text = await response.text();
    const isJson = response.headers.get('content-type')?.includes('json') === true;
    return { status: response.status, body: isJson ? JSON.parse(text) : {} };
  }

  async get<T>(path: string): Promise<T> {
    const response = await fetch(`${this.url}${path}`);
    return (await response.json()) as T;
  }

  async status(): Promise<StatusJson> {
    return await this.get<StatusJson>('/api/v1/status');
  }

  /** Value of a metric by its name, with its labels where it has some. */
  async metric(name: string): Promise<number> {
    const text = await (await fetch(`${this.url}/metrics`)).text();
    const line = text.split('\n').find((one) => one.startsWith(`${name} `));
    return Number(line?.slice(name.length + 1));
  }

  /** Looks until what is seen is this; what was seen last, where it never is. */
  async see(what: string, look: () => Promise<unknown>, wanted: unknown): Promise<unknown> {
    let seen: unknown = null;
    const text = JSON.stringify(wanted);
    const isSeen = async (): Promise<true | null> => {
      // What fails while things change is looked at again.
      seen = await look().catch(String);
      return JSON.stringify(seen) === text ? true : null;
    };
    await pollUntil(what, isSeen, { timeoutMs: OBSERVED_MS }).catch(() => {});
    return seen;
  }

  /** `in`, or the SQLSTATE that a client of the console is refused with. */
  async login(user: string, password?: string, sql = 'SHOW VERSION'): Promise<string> {
    const { pg: port } = this.ports;
    const target = { host: '127.0.0.1', port, user, database: 'walcast' };
    try {
      await using session = await openSqlSession({
        ...target,
        ...(password === undefined ? {} : { password }),
      });
      await session.query(sql);
      return 'in';
    } catch (error) {
      return String((error as { code: unknown }).code);
    }
  }

  /** One command of a session for replication: its rows, or the SQLSTATE. */
  async replication(command: string): Promise<string> {
    const { pg: port } = this.ports;
    const target = { host: '127.0.0.1', port, user: 'postgres', database: 'replication' };
    try {
      await using session = await openSqlSession({ ...target, replication: true });
      return JSON.stringify(await session.query(command));
    } catch (error) {
      return String((error as { code: unknown }).code);
    }
  }

  /** `in`, or `out`, for user `mapped` with a certificate of `person`. */
  async certificateLogin(): Promise<string> {
    const socket = connectTcp(this.ports.tls, '127.0.0.1');
    await once(socket, 'connect');
    socket.write(packet(80_877_103));
    await once(socket, 'data');
    const { pem: cert, key } = PERSON;
    const inner = connectTls({ socket, cert, key, rejectUnauthorized: false });
    await once(inner, 'secureConnect');
    const session = new RawSession(inner);
    session.send(startup({ user: 'mapped', database: 'walcast' }));
    const messages = await session.until('ZE');
    session.close();
    return messages.at(-1)?.type === 'Z' ? 'in' : 'out';
  }

  /** What the log says while `act` runs, up to a line that is written afterwards. */
  async said(act: () => Promise<unknown>): Promise<string> {
    const from = this.process.log.length;
    await act();
    const before = this.process.log.length;
    await this.request('POST', '/api/v1/resume', TOKEN);
    await this.process.waitForLog(/resume/, { from: before });
    return this.process.log.slice(from).join('\n');
  }

  /** Ends some segments; walcast has them when it resolves. */
  async switchSegments(count: number): Promise<void> {
    for (let done = 0; done < count; done += 1) {
      await this.primary.query("SELECT pg_logical_emit_message(false, '', ''), pg_switch_wal()");
    }
    const end = await this.primary.value('SELECT pg_current_wal_flush_lsn()');
    const has = `SELECT flush_lsn >= '${end}' FROM pg_stat_replication WHERE state = 'streaming'`;
    await this.see('walcast has it', () => this.primary.query(has), [['t']]);
  }

  async slotNames(): Promise<string[]> {
    const slots = await this.get<readonly { slot_name: string }[]>('/api/v1/slots');
    return slots.map(({ slot_name: name }) => name);
  }

  async walStatus(slot: string): Promise<string | undefined> {
    const slots =
      await this.get<readonly { slot_name: string; wal_status: string }[]>('/api/v1/slots');
    return slots.find(({ slot_name: name }) => name === slot)?.wal_status;
  }

  /** The rig's own configuration, nobody connected but the upstream, no slots. */
  async reset(): Promise<Answer> {
    for (const client of this.clients.splice(0)) client.close();
    const answer = await this.become();
    for (const name of await this.slotNames()) {
      await this.request('DELETE', `/api/v1/slots/${name}`, TOKEN);
    }
    await this.see('nobody is there', async () => (await this.status()).standbys.length, 0);
    return answer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.workspace.close();
  }

  async #start(): Promise<void> {
    await this.put('token', TOKEN);
    await this.put('server.crt', SERVER.pem);
    await this.put('server.key', SERVER.key);
    await this.put('ca.crt', AUTHORITY.pem);
    const options = { name: 'walcast', configuration: this.text() };
    this.#process = await spawnWalcast(this.workspace, options);
    await waitUntilReady(this.#process, this.url);
  }

  #base(): Keys {
    const { pg, tls, http } = this.ports;
    const files = { cert: 'server.crt', key: 'server.key', ca: 'ca.crt' };
    return {
      upstream: { conninfo: this.conninfo('postgres') },
      listen: [
        { address: `127.0.0.1:${pg}` },
        { address: `127.0.0.1:${tls}`, tls: { ...files, client_cert: 'optional' } },
      ],
      auth: { hba: RULES, admin_users: ['ops'] },
      storage: { directory: 'data' },
      http: { listen: `127.0.0.1:${http}`, token_file: 'token' },
      log: { format: 'json' },
    };
  }

  /** The primary, as that user. */
  conninfo(user: string): string {
    return `host=127.0.0.1 port=${this.primary.port} user=${user} sslmode=disable`;
  }
}

const AUTHORITY = makeCertificate({ commonName: 'authority', isAuthority: true, keyUsage: 0x06 });
const SERVER = makeCertificate({ commonName: 'localhost', issuer: AUTHORITY });
const PERSON = makeCertificate({ commonName: 'person', issuer: AUTHORITY });

function merge(base: Keys, over: Keys): Keys {
  const merged: Record<string, Keys[string]> = { ...base };
  for (const [key, value] of Object.entries(over)) {
    const before = merged[key];
    if (value === null) delete merged[key];
    else merged[key] = isKeys(value) && isKeys(before) ? merge(before, value) : value;
  }
  return merged;
}

function isKeys(value: unknown): value is Keys {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
