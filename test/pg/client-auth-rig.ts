// A primary and a walcast in front of it with the same rules, the same certificate and the same users, who are known to the
// primary alone: whatever a client does at one of them it can do at the other.
import { mkdir, writeFile } from 'node:fs/promises';
import { connect as connectTcp } from 'node:net';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { createRelay } from '../harness/walcast-process.ts';
import type { WalcastRelay } from '../harness/walcast-process.ts';
import { makeCertificate } from '../support/certificates.ts';
import { packet } from '../support/naive-writer.ts';
import { RawSession } from '../support/raw-session.ts';
import { accessRules, AuthRig, PASSWORD } from './upstream-auth-rig.ts';
import type { Outcome } from './upstream-auth-rig.ts';

const SSL_REQUEST = packet(80_877_103);

/** What the relay asks the primary about a user. */
const AUTH_QUERY =
  'SELECT rolname, rolpassword, rolvaliduntil, rolreplication OR rolsuper FROM pg_authid WHERE rolname = $1 AND rolcanlogin';

/** Rules of this rig; the first that matches decides. */
function ownRules(major: number): string[] {
  return [
    'hostssl replication full 127.0.0.1/32 scram-sha-256 clientcert=verify-full',
    'hostssl replication fulltrust 127.0.0.1/32 trust clientcert=verify-full',
    'hostssl replication roleless 127.0.0.1/32 trust',
    'hostssl replication catrust 127.0.0.1/32 trust clientcert=verify-ca',
    'hostssl replication mapped,plica,unmapped 127.0.0.1/32 cert map=people',
    'hostssl replication mapless 127.0.0.1/32 cert map=nomap',
    ...(major >= 14
      ? ['hostssl replication subject 127.0.0.1/32 cert clientname=DN map=subjects']
      : []),
    'host replication expired,unset,oldhash 127.0.0.1/32 scram-sha-256',
    'host replication migrated,hashed 127.0.0.1/32 md5',
  ];
}

/** Names in certificates, and who they may be. */
const IDENT = [
  'people replicator mapped',
  'people /^re(.*)tor$ \\1',
  'subjects "CN=replicator" subject',
  '',
].join('\n');

/** Which of the two. */
export type Side = 'postgres' | 'walcast';
export const SIDES = ['postgres', 'walcast'] as const;

export class ClientAuthRig implements AsyncDisposable {
  readonly upstream: AuthRig;
  readonly relay: WalcastRelay;

  private constructor(upstream: AuthRig, relay: WalcastRelay) {
    this.upstream = upstream;
    this.relay = relay;
  }

  static async open(major: number): Promise<ClientAuthRig> {
    const upstream = await AuthRig.open(major);
    try {
      const { workspace, primary } = upstream;
      const rules = [...ownRules(major), accessRules()].join('\n');
      await writeFile(join(primary.dataDirectory, 'pg_hba.conf'), rules);
      await writeFile(join(primary.dataDirectory, 'pg_ident.conf'), IDENT);
      await primary.query(roleCommands(major));
      await primary.reload();
      for (const name of ['me', 'replicator']) {
        const own = makeCertificate({ commonName: name, issuer: upstream.authority });
        await upstream.write(`${name}.crt`, own.pem);
        await upstream.write(`${name}.key`, own.key);
      }
      const relay = await createRelay(workspace, {
        name: 'walcast',
        upstream: () => primary.target(),
      });
      relay.configure({
        listen: [{ address: `127.0.0.1:${relay.port}`, tls: await tlsFiles(upstream) }],
        auth: { hba: withoutUnsupported(rules), ident: IDENT, auth_query: AUTH_QUERY },
      });
      await relay.start();
      return new ClientAuthRig(upstream, relay);
    } catch (error) {
      await upstream[Symbol.asyncDispose]();
      throw error;
    }
  }

  get primary(): PostgresCluster {
    return this.upstream.primary;
  }

  get workspace(): Workspace {
    return this.upstream.workspace;
  }

  portOf(side: Side): number {
    return side === 'postgres' ? this.primary.port : this.relay.port;
  }

  /** psql logs in for replication. `@name` is a file. */
  async psql(side: Side, conninfo: string): Promise<Outcome> {
    return await this.upstream.libpq(`${conninfo} port=${this.portOf(side)}`);
  }

  /** Conninfo as libpq takes it, for programs that get it as it is. */
  conninfo(side: Side, text: string): string {
    return this.upstream.conninfo(`${text} port=${this.portOf(side)}`);
  }

  /** A socket to a side, inside TLS where that is asked for. */
  async connect(side: Side, isTls: boolean): Promise<RawSession> {
    const socket = connectTcp(this.portOf(side), '127.0.0.1');
    await event(socket, 'connect');
    if (!isTls) return new RawSession(socket);
    socket.write(SSL_REQUEST);
    await event(socket, 'data');
    const inner = connectTls({ socket, rejectUnauthorized: false });
    await event(inner, 'secureConnect');
    return new RawSession(inner);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.upstream[Symbol.asyncDispose]();
  }
}

function event(
  socket: { once(name: string, listener: (value?: unknown) => void): unknown },
  name: string,
): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.once(name, () => resolve());
    socket.once('error', reject);
  });
}

/** The primary's own, in files that walcast may read. */
async function tlsFiles(rig: AuthRig): Promise<Record<'cert' | 'key' | 'ca', string>> {
  const directory = rig.path('tls');
  await mkdir(directory);
  const files = {
    cert: join(directory, 'tls.crt'),
    key: join(directory, 'tls.key'),
    ca: join(directory, 'ca.crt'),
  };
  await writeFile(files.cert, rig.served.pem);
  await writeFile(files.key, rig.served.key, { mode: 0o600 });
  await writeFile(files.ca, rig.authority.pem);
  return files;
}

/** Walcast knows no passwords in clear text, nor databases but its own. */
function withoutUnsupported(rules: string): string {
  const lines = rules.split('\n').filter((line) => !/\bpassword$/.test(line));
  return `${lines.join('\n')}\n`;
}

function roleCommands(major: number): string {
  const role = (name: string, more: string): string => `CREATE ROLE ${name} LOGIN ${more}`;
  const password = `PASSWORD '${PASSWORD}'`;
  return [
    ...(major >= 18 ? ['SET md5_password_warnings = off'] : []),
    `SET password_encryption = 'md5'`,
    role('oldhash', `REPLICATION ${password}`),
    role('hashed', `REPLICATION ${password}`),
    `SET password_encryption = 'scram-sha-256'`,
    role('migrated', `REPLICATION ${password}`),
    role('full', `REPLICATION ${password}`),
    role('expired', `REPLICATION ${password} VALID UNTIL '2001-01-01'`),
    ...['unset', 'fulltrust', 'catrust', 'mapped', 'plica', 'unmapped', 'mapless', 'subject'].map(
      (name) => role(name, 'REPLICATION'),
    ),
  ].join('; ');
}
