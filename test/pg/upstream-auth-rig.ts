// A primary whose access rules tell apart how and by what a role comes in, and two clients that try: walcast's own and
// psql, with the libpq of PostgreSQL 18 where it can be had.
import { execFile } from 'node:child_process';
import { mkdtempSync, readdirSync, symlinkSync } from 'node:fs';
import { chmod, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { delimiter, dirname, join } from 'node:path';
import { systemClock } from '../../src/base/clock.ts';
import type { OperationalError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import { createPrimary } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { TRUST_HBA } from '../../src/demo/postgres-settings.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { dial } from '../../src/net/dial.ts';
import { UpstreamConnection } from '../../src/walreceiver/upstream-connection.ts';
import { makeCertificate } from '../support/certificates.ts';
import type { TestCertificate } from '../support/certificates.ts';
import { findProgram } from '../support/requirements.ts';
import { targetFor } from '../support/upstream-target.ts';

export const PASSWORD = 'sesame';
export const RULES = ['host', 'hostssl', 'hostnossl'] as const;
export type Rule = (typeof RULES)[number];
export const METHODS = ['trust', 'password', 'md5', 'scram-sha-256'] as const;

/** What became of an attempt. */
export interface Outcome {
  readonly isIn: boolean;
  /** Lines of the refusal, without what each client puts in front of them. */
  readonly complaints: readonly string[];
  /** Code of walcast's error. */
  readonly code?: string;
  readonly message?: string;
  readonly tlsVersion?: string | null;
}

const PSQL_MS_MAX = 20_000;

/** A role for each rule and method: `hostssl_md5`. */
export function roleName(rule: Rule, method: string): string {
  return `${rule}_${method.replaceAll('-', '')}`;
}

export class AuthRig implements AsyncDisposable {
  readonly workspace: Workspace;
  readonly primary: PostgresCluster;
  readonly authority: TestCertificate;
  readonly #libraries: string;
  #served: TestCertificate | null = null;

  private constructor(parts: {
    workspace: Workspace;
    primary: PostgresCluster;
    authority: TestCertificate;
  }) {
    this.workspace = parts.workspace;
    this.primary = parts.primary;
    this.authority = parts.authority;
    this.#libraries = libpqLibraries(parts.workspace.directory);
  }

  /** Starts a primary with TLS, and roles for every rule. */
  static async open(major: number): Promise<AuthRig> {
    const workspace = await openWorkspace(await serverUser());
    const primary = await createPrimary(workspace, {
      major,
      name: 'primary',
      segmentSizeMb: 1,
      settings: { ssl: 'on', ssl_ca_file: 'root.crt', wal_keep_size: '128MB' },
    });
    const authority = makeCertificate({ commonName: 'authority', isAuthority: true });
    const rig = new AuthRig({ workspace, primary, authority });
    await rig.write('root.crt', authority.pem);
    await rig.#serverFile('root.crt', authority.pem);
    await rig.#showCertificate(makeCertificate({ dns: ['localhost'], issuer: authority }));
    await rig.#serverFile('pg_hba.conf', accessRules());
    await primary.start();
    await primary.query(roleCommands(major));
    return rig;
  }

  /** What the server shows. */
  get served(): TestCertificate {
    if (this.#served === null) throw new Error('the server shows no certificate');
    return this.#served;
  }

  /** Path of a file for clients. */
  path(name: string): string {
    return join(this.workspace.directory, name);
  }

  /** Writes a file for clients. */
  async write(name: string, content: string, mode = 0o600): Promise<void> {
    await writeFile(this.path(name), content);
    await chmod(this.path(name), mode);
    await this.workspace.giveAway(this.path(name));
  }

  /** The server shows this certificate from now on. */
  async serve(certificate: TestCertificate): Promise<void> {
    await this.#showCertificate(certificate);
    // The postmaster takes no connection before it is through with what it read.
    await this.primary.reload();
  }

  /** Conninfo for a role; both clients take it as it is. `@name` is a file of {@link path}. */
  conninfo(text: string): string {
    const place = `host=localhost hostaddr=127.0.0.1 port=${this.primary.port}`;
    const isNamed = /\bhost=/.test(text);
    const own = isNamed ? `hostaddr=127.0.0.1 port=${this.primary.port}` : place;
    return `${own} ${text.replaceAll('=@', `=${this.workspace.directory}/`)}`;
  }

  /** walcast's own client logs in for replication and asks one thing. */
  async walcast(conninfo: string): Promise<Outcome> {
    const target = targetFor(this.conninfo(conninfo));
    const [host] = target.hosts;
    if (host === undefined) throw new Error('no host');
    const opening = UpstreamConnection.open({
      target,
      host,
      database: 'replication',
      applicationName: 'matrix',
      isReplication: true,
      timeoutMs: 20_000,
      readBufferBytes: 64 << 10,
      clock: systemClock,
      log: silentLog,
      dial,
    });
    return await opening.then(
      async (connection) => {
        const { tlsVersion } = connection;
        const outcome = await connection.query('IDENTIFY_SYSTEM', { timeoutMs: 10_000 });
        connection.destroy();
        return { isIn: outcome.error === null, complaints: [], tlsVersion };
      },
      ({ code, message }: OperationalError) => ({
        isIn: false,
        complaints: [message],
        code,
        message,
      }),
    );
  }

  /** psql does the same. */
  async libpq(conninfo: string): Promise<Outcome> {
    const psql = findProgram('psql');
    if (psql === null) throw new Error('psql is not installed');
    const args = ['-X', '-w', '-A', '-t', '-c', 'IDENTIFY_SYSTEM'];
    const text = `${this.conninfo(conninfo)} replication=true`;
    return await new Promise((resolve, reject) => {
      const env = { LC_ALL: 'C', HOME: '/nonexistent', LD_LIBRARY_PATH: this.#libraries };
      const options = { env, timeout: PSQL_MS_MAX };
      execFile(psql, [...args, '-d', text], options, (error, _stdout, stderr) => {
        if (error?.killed === true) reject(new Error(`psql hung: ${conninfo}`));
        else resolve({ isIn: error === null, complaints: complaintsOf(stderr) });
      });
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.workspace.close();
  }

  async #showCertificate(certificate: TestCertificate): Promise<void> {
    this.#served = certificate;
    await this.#serverFile('server.key', certificate.key);
    await this.#serverFile('server.crt', certificate.pem);
  }

  async #serverFile(name: string, content: string): Promise<void> {
    const path = join(this.primary.dataDirectory, name);
    await writeFile(path, content, { mode: 0o600 });
    await this.workspace.giveAway(path);
  }
}

/** Why psql cannot be the witness; null when it can. */
export function witnessProblem(): string | null {
  if (findProgram('psql') === null) return 'psql is not installed';
  return nativeLibraries() === null ? 'PostgreSQL 18 is not installed (run npm ci)' : null;
}

/** Rules of the server: a role for each way in. */
export function accessRules(): string {
  const lines: string[] = [];
  for (const rule of RULES) {
    for (const method of METHODS) {
      lines.push(`${rule} replication ${roleName(rule, method)} 127.0.0.1/32 ${method}`);
    }
  }
  lines.push('hostssl replication replicator 127.0.0.1/32 cert');
  lines.push('hostssl replication somebody 127.0.0.1/32 cert');
  lines.push('hostssl replication two_proofs 127.0.0.1/32 scram-sha-256 clientcert=verify-ca');
  lines.push('host replication plain,nobody 127.0.0.1/32 scram-sha-256');
  lines.push('host replication stranger 127.0.0.1/32 reject');
  const own = TRUST_HBA.split('\n').filter((line) => !line.startsWith('host replication'));
  return [...lines, 'host replication postgres 127.0.0.1/32 trust', ...own].join('\n');
}

function roleCommands(major: number): string {
  const commands = [`SET password_encryption = 'md5'`];
  for (const rule of RULES) {
    commands.push(`CREATE ROLE ${roleName(rule, 'md5')} LOGIN REPLICATION PASSWORD '${PASSWORD}'`);
  }
  commands.push(`SET password_encryption = 'scram-sha-256'`);
  for (const rule of RULES) {
    for (const method of ['trust', 'password', 'scram-sha-256']) {
      commands.push(
        `CREATE ROLE ${roleName(rule, method)} LOGIN REPLICATION PASSWORD '${PASSWORD}'`,
      );
    }
  }
  for (const role of ['replicator', 'somebody', 'two_proofs', 'stranger']) {
    commands.push(`CREATE ROLE ${role} LOGIN REPLICATION PASSWORD '${PASSWORD}'`);
  }
  commands.push(`CREATE ROLE plain LOGIN PASSWORD '${PASSWORD}'`);
  // Since 18 a warning comes with an md5 password.
  return `${major >= 18 ? 'SET md5_password_warnings = off; ' : ''}${commands.join('; ')}`;
}

/** libpq's complaints, one for each attempt. */
function complaintsOf(stderr: string): string[] {
  return stderr
    .split('\n')
    .map((line) =>
      line
        .replace(/^psql: error: /, '')
        .replace(/^connection to server at .*? failed: /, '')
        .replace(/^(FATAL|ERROR): {2}/, ''),
    )
    .filter((line) => line !== '' && !/^(DETAIL|HINT|\t)/.test(line));
}

/** A directory list for the loader, with the link that npm packages cannot hold. */
function libpqLibraries(directory: string): string {
  const native = nativeLibraries();
  if (native === null) return '';
  const file = readdirSync(native).find((name) => /^libpq\.so\.5\.\d+$/.test(name));
  const links = mkdtempSync(join(directory, 'libpq-'));
  if (file !== undefined) symlinkSync(join(native, file), join(links, 'libpq.so.5'));
  return [links, native].join(delimiter);
}

function nativeLibraries(): string | null {
  try {
    const entry = createRequire(import.meta.url).resolve(
      `pg18-${process.platform}-${process.arch}`,
    );
    return join(dirname(dirname(entry)), 'native', 'lib');
  } catch {
    return null;
  }
}
