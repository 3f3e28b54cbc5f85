// Certificates around a real standby: renewed under it as Kubernetes does it, broken, revoked, of others; and what stock clients
// of every way into TLS are told, at walcast and at a real server.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createStandby } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import { createRelay } from '../harness/walcast-process.ts';
import type { WalcastRelay } from '../harness/walcast-process.ts';
import { runToolChecked } from '../harness/pg-tools.ts';
import { makeCertificate, makeRevocationList } from '../support/certificates.ts';
import type { CertificateOptions, TestCertificate } from '../support/certificates.ts';
import { clientMajor, itWhen, newestMajors } from '../support/requirements.ts';
import { MountedSecret } from '../support/tls-server-rig.ts';
import { AuthRig, witnessProblem } from './upstream-auth-rig.ts';

const VERIFY = 'user=postgres sslmode=verify-full sslrootcert=@root.crt';

describe.each(newestMajors())('certificates in front of PostgreSQL %i', (major) => {
  let rig: AuthRig;
  let relay: WalcastRelay;
  let secret: MountedSecret;
  let standby: PostgresCluster;
  let revoked: TestCertificate;
  const spare = makeCertificate({ commonName: 'spare', isAuthority: true });

  /** Files of the mounted secret. */
  function filesOf({ pem, key }: TestCertificate): Record<string, string> {
    const crl = makeRevocationList(rig.authority, [revoked]);
    return { 'tls.crt': pem, 'tls.key': key, 'ca.crt': rig.authority.pem, 'ca.crl': crl };
  }

  /** A certificate for walcast, by the authority that all believe unless another is given. */
  function serverCertificate(options: CertificateOptions = {}): TestCertificate {
    return makeCertificate({ dns: ['localhost'], issuer: rig.authority, ...options });
  }

  beforeAll(async () => {
    rig = await AuthRig.open(major);
    const { workspace, primary } = rig;
    revoked = makeCertificate({ commonName: 'postgres', issuer: rig.authority });
    await rig.write('spare.crt', spare.pem);
    await rig.write('root.crt', rig.authority.pem);
    const crl = join(primary.dataDirectory, 'root.crl');
    await writeFile(crl, makeRevocationList(rig.authority, [revoked]));
    await workspace.giveAway(crl);
    await primary.configure({ ssl_crl_file: 'root.crl' });
    await primary.reload();
    secret = new MountedSecret(await workspace.makeDirectory('secret'));
    await secret.replace(filesOf(serverCertificate()));
    relay = await createRelay(workspace, { name: 'walcast', upstream: () => primary.target() });
    const [cert, key, ca, list] = ['tls.crt', 'tls.key', 'ca.crt', 'ca.crl'];
    relay.configure({
      listen: [
        {
          address: `127.0.0.1:${relay.port}`,
          tls: {
            cert: secret.path(cert ?? ''),
            key: secret.path(key ?? ''),
            ca: secret.path(ca ?? ''),
            crl: secret.path(list ?? ''),
          },
        },
      ],
      auth: { hba: 'hostssl replication all 127.0.0.1/32 trust\n' },
    });
    await relay.start();
    standby = await createStandby(workspace, {
      major,
      name: 'standby',
      backupFrom: primary.target(),
      upstream: relay.target(),
    });
    const negotiation = major >= 17 ? ' sslnegotiation=direct' : '';
    const conninfo = rig.conninfo(
      `${VERIFY}${negotiation} application_name=standby port=${relay.port}`,
    );
    await standby.configure({ primary_conninfo: conninfo });
    await standby.start();
  });

  afterAll(() => rig[Symbol.asyncDispose]());

  async function walSenderPid(): Promise<number | undefined> {
    const { standbys } = await relay.status();
    return standbys.find(({ application_name: name }) => name === 'standby')?.pid;
  }

  async function replayed(): Promise<void> {
    await rig.primary.query(
      'CREATE TABLE IF NOT EXISTS seen (id int); INSERT INTO seen VALUES (1)',
    );
    await standby.waitForReplay(await rig.primary.walPosition());
  }

  /** A newcomer that believes one authority only gets in. */
  async function isServedBy(root: string): Promise<boolean> {
    const conninfo = `${VERIFY.replace('root.crt', root)} port=${relay.port}`;
    return (await rig.libpq(conninfo)).isIn;
  }

  it('are renewed by a swapped link while a standby streams, and nobody notices', async (context) => {
    const problem = witnessProblem();
    if (problem !== null) context.skip(problem);
    await replayed();
    const pid = await walSenderPid();
    expect(await isServedBy('root.crt')).toBe(true);
    expect(await isServedBy('spare.crt')).toBe(false);
    // The client's reason, in the server's words for it.
    await relay.process.waitForLog(/could not accept SSL connection: tlsv1 alert unknown ca/);
    // A pair that does not fit is no renewal.
    const other = serverCertificate({ issuer: spare });
    await secret.replace({ ...filesOf(other), 'tls.key': serverCertificate().key });
    await relay.waitForStatus('the problem in the status', ({ access }) =>
      access.certificates.some((one) => one.problem?.includes('key values mismatch') === true),
    );
    expect(await isServedBy('root.crt')).toBe(true);
    await secret.replace(filesOf(other));
    const isRenewed = async (): Promise<true | null> =>
      (await isServedBy('spare.crt')) ? true : null;
    await pollUntil('the new certificate', isRenewed, { timeoutMs: 30_000 });
    await relay.waitForStatus('no problem in the status', ({ access }) =>
      access.certificates.every(({ problem: text }) => text === null),
    );
    expect(await isServedBy('root.crt')).toBe(false);
    await replayed();
    expect(await walSenderPid()).toBe(pid);
    // And at once by a reload.
    await secret.replace(filesOf(serverCertificate()));
    await relay.reload({});
    expect(await isServedBy('root.crt')).toBe(true);
    expect(await walSenderPid()).toBe(pid);
    const told = relay.log.filter((line) => line.includes('the one before stays in use'));
    expect(told).toHaveLength(1);
  });

  it.each(['TLSv1.2', 'TLSv1.3'])('%s is spoken', async (version) => {
    const range = `ssl_min_protocol_version=${version} ssl_max_protocol_version=${version}`;
    expect(await rig.libpq(`${VERIFY} ${range} port=${relay.port}`)).toMatchObject({ isIn: true });
  });

  itWhen(clientMajor('pg_basebackup') >= major)('a backup comes through TLS whole', async () => {
    const directory = await rig.workspace.makeDirectory('backup');
    const dbname = rig.conninfo(`${VERIFY} port=${relay.port}`);
    const args = ['-d', dbname, '-D', directory, '-X', 'stream', '-c', 'fast'];
    await runToolChecked(rig.workspace, 'pg_basebackup', args);
  });

  it.each<[string, () => TestCertificate]>([
    [
      'expired',
      () => makeCertificate({ commonName: 'postgres', issuer: rig.authority, to: -1, from: -9 }),
    ],
    ['of another authority', () => makeCertificate({ commonName: 'postgres', issuer: spare })],
    ['revoked', () => revoked],
    ['with a NUL in its name', () => nulNamed()],
  ])('a client’s that is %s is refused as by the server', async (name, make) => {
    const certificate = make();
    await rig.write('bad.crt', certificate.pem);
    await rig.write('bad.key', certificate.key);
    const login = `${VERIFY} sslcert=@bad.crt sslkey=@bad.key`;
    const walcast = await rig.libpq(`${login} port=${relay.port}`);
    const server = await rig.libpq(`${login.replace('user=postgres', 'user=hostssl_trust')}`);
    expect([name, walcast.isIn, server.isIn]).toEqual([name, false, false]);
  });

  it('a client’s that is good is taken as by the server', async () => {
    const good = makeCertificate({ commonName: 'postgres', issuer: rig.authority });
    await rig.write('good.crt', good.pem);
    await rig.write('good.key', good.key);
    const login = 'sslcert=@good.crt sslkey=@good.key';
    expect(await rig.libpq(`${VERIFY} ${login} port=${relay.port}`)).toMatchObject({ isIn: true });
    const server = await rig.libpq(`${VERIFY} ${login}`.replace('postgres', 'hostssl_trust'));
    expect(server).toMatchObject({ isIn: true });
  });

  function nulNamed(): TestCertificate {
    return makeCertificate({ commonName: Buffer.from('postgres\0.org'), issuer: rig.authority });
  }
});
