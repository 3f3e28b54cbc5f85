// A certificate is renewed while standbys stream: the new one is presented from then on, a broken one never, and nobody is cut off.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, rm } from 'node:fs/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { ServerCertificates } from '../../src/net/server-certificates.ts';
import { TlsAcceptor } from '../../src/net/tls-acceptor.ts';
import { makeCertificate } from '../support/certificates.ts';
import type { TestCertificate } from '../support/certificates.ts';
import { deferred } from '../support/deferred.ts';
import { eventually } from '../support/eventually.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { query, STANDBY, startup, StreamReader } from '../support/raw-client.ts';
import { classic, MountedSecret, rawClient, TlsServerRig } from '../support/tls-server-rig.ts';
import { Fixture, LogRecord, START_LSN } from '../support/wal-senders-fixture.ts';

const POLL_MS = 5_000;

let rig: TlsServerRig;
let clock: ManualClock;
let fixture: Fixture;

beforeEach(async () => {
  clock = new ManualClock();
  rig = await TlsServerRig.open({ clock, pollMs: POLL_MS });
  fixture = await Fixture.start({ tls: rig.acceptor });
});

afterEach(async () => {
  await fixture.finish();
  await rig.close();
});

/** Fingerprint of the certificate that a newcomer sees. */
async function presented(port: number): Promise<string> {
  const socket = await classic(port);
  const { fingerprint256 } = socket.getPeerCertificate();
  socket.destroy();
  return fingerprint256;
}

function fingerprint({ der }: TestCertificate): string {
  const hex = createHash('sha256').update(der).digest('hex').toUpperCase();
  return hex.replaceAll(/..(?=.)/g, '$&:');
}

/** Month and day of its end are none. */
function withoutDates({ der }: TestCertificate): Buffer {
  const copy = Buffer.from(der);
  const start = copy.indexOf(Buffer.from([0x17, 13]), copy.indexOf(Buffer.from([0x17, 13])) + 1);
  copy.write('9999', start + 4, 'latin1');
  return copy;
}

function pemOf(der: Buffer): string {
  return `-----BEGIN CERTIFICATE-----\n${der.toString('base64')}\n-----END CERTIFICATE-----\n`;
}

/** The next look at the files, and what comes of it. */
async function look(): Promise<void> {
  clock.advance(POLL_MS);
  await rig.certificates.refresh();
}

async function stream(): Promise<StreamReader> {
  const client = rawClient(await classic(fixture.port));
  client.send(startup(STANDBY));
  await client.until('Z');
  client.send(query(`START_REPLICATION 0/${START_LSN.toString(16)} TIMELINE 1`));
  expect((await client.next())?.type).toBe('W');
  return new StreamReader(client, START_LSN);
}

describe('a certificate that is replaced', () => {
  it('is presented to newcomers, and sessions go on', async () => {
    const reader = await stream();
    expect(await presented(fixture.port)).toBe(fingerprint(rig.server));
    const next = makeCertificate({ commonName: 'localhost', kind: 'rsa-sha256', to: 90 });
    await rig.write('server.crt', next.pem);
    await rig.write('server.key', next.key);
    await look();
    expect(await presented(fixture.port)).toBe(fingerprint(next));
    await reader.readTo(fixture.feed.append(200_000));
    expect(rig.certificates.problem).toBeNull();
    expect(rig.certificates.current().notAfterMs).toBeGreaterThan(Date.now() + 80 * 86_400_000);
    expect(rig.log.lines.join('\n')).toContain('a new certificate is in use');
    reader.client.close();
  });

  it('is not in use while its key is not there, and comes into use by itself when it is', async () => {
    const next = makeCertificate({ commonName: 'localhost' });
    await rig.write('server.crt', next.pem);
    await look();
    expect(await presented(fixture.port)).toBe(fingerprint(rig.server));
    expect(rig.certificates.problem).toBe('check of private key failed: key values mismatch');
    await look();
    await look();
    // Told once, however often it is looked at.
    expect(rig.log.lines.filter((line) => line.startsWith('error'))).toHaveLength(1);
    await rig.write('server.key', next.key);
    await look();
    expect(rig.certificates.problem).toBeNull();
    expect(await presented(fixture.port)).toBe(fingerprint(next));
  });

  it.each<[string, () => Promise<void>, RegExp]>([
    [
      'that is no certificate',
      () => rig.write('server.crt', 'hello'),
      /could not load server certificate file ".*server.crt": no start line/,
    ],
    [
      'that is cut in the middle',
      () => rig.write('server.crt', rig.server.pem.slice(0, 200)),
      /could not load server certificate file ".*server.crt": no start line/,
    ],
    [
      'that is good until no date',
      () => rig.write('server.crt', pemOf(withoutDates(rig.server))),
      /could not load server certificate file ".*server.crt": its validity is no date/,
    ],
    [
      'behind that of its authority',
      () => rig.write('server.crt', rig.authority.pem + rig.server.pem),
      /check of private key failed: key values mismatch/,
    ],
    [
      'with a chain that is cut in the middle',
      () => rig.write('server.crt', rig.server.pem + rig.authority.pem.slice(0, 300)),
      /could not create SSL context: /,
    ],
    [
      'whose place is a pipe that nobody writes',
      async () => {
        await rm(rig.path('server.crt'));
        execFileSync('mkfifo', [rig.path('server.crt')]);
      },
      /could not load server certificate file ".*server.crt": it is not a regular file/,
    ],
    [
      'with a key that is none',
      () => rig.write('server.key', 'hello'),
      /could not load private key file ".*server.key": /,
    ],
    [
      'with a key that others may read',
      () => rig.write('server.key', makeCertificate().key, 0o644),
      /private key file ".*server.key" has group or world access/,
    ],
    [
      'that is gone',
      () => rm(rig.path('server.crt')),
      /could not load server certificate file ".*server.crt": ENOENT/,
    ],
    [
      'whose place is a directory',
      async () => {
        await rm(rig.path('server.key'));
        await mkdir(rig.path('server.key'));
      },
      /private key file ".*server.key" is not a regular file/,
    ],
  ])('and one %s leaves the old one in use, with an alarm', async (_name, spoil, problem) => {
    await spoil();
    await look();
    expect(rig.certificates.problem).toMatch(problem);
    expect(await presented(fixture.port)).toBe(fingerprint(rig.server));
    expect(rig.log.lines.join('\n')).toContain('the one before stays in use');
  });

  it('too weak for OpenSSL leaves the old one in use', async () => {
    const weak = makeCertificate({ commonName: 'localhost', kind: 'rsa-sha1' });
    await rig.write('server.crt', weak.pem);
    await rig.write('server.key', weak.key);
    await look();
    // Whether SHA-1 will do is OpenSSL's matter: it is in use, or it is told of.
    const isTaken = rig.certificates.problem === null;
    expect(await presented(fixture.port)).toBe(fingerprint(isTaken ? weak : rig.server));
  });

  it('has expired: it is presented as PostgreSQL would, with a warning', async () => {
    const old = makeCertificate({ commonName: 'localhost', from: -4000, to: -3000 });
    await rig.write('server.crt', old.pem);
    await rig.write('server.key', old.key);
    await look();
    expect(await presented(fixture.port)).toBe(fingerprint(old));
    expect(rig.log.lines.join('\n')).toContain(
      'the certificate that is presented to clients has expired',
    );
  });

  it('expires while it is in use: it is said once', async () => {
    const soon = makeCertificate({ commonName: 'localhost', from: -4000, to: 1 });
    await rig.write('server.crt', soon.pem);
    await rig.write('server.key', soon.key);
    const wall = new ManualClock();
    wall.skip(Date.now() - wall.wallMs());
    const { certificates, log } = await reopened(wall);
    await certificates.refresh();
    expect(log.lines).toEqual([]);
    wall.skip(86_400_000);
    await certificates.refresh();
    await certificates.refresh();
    expect(log.lines).toEqual([
      expect.stringContaining('the certificate that is presented to clients has expired'),
    ]);
    certificates.close();
  });

  /** The same files, by another clock. */
  async function reopened(
    wall: ManualClock,
  ): Promise<{ certificates: ServerCertificates; log: LogRecord }> {
    const log = new LogRecord();
    const paths = {
      cert: rig.path('server.crt'),
      key: rig.path('server.key'),
      ca: null,
      crl: null,
    };
    const certificates = await ServerCertificates.open({
      paths,
      pollMs: POLL_MS,
      clock: wall,
      log,
    });
    return { certificates, log };
  }

  it('in a handshake that has begun is still the one that the login is bound to', async () => {
    const before = rig.certificates.current().der;
    const next = makeCertificate({ commonName: 'localhost' });
    const facts = deferred<Uint8Array | null>();
    const begin = rig.acceptor.begin.bind(rig.acceptor);
    rig.acceptor.begin = (socket, onOutcome) => {
      begin(socket, (outcome) => {
        if (outcome.kind === 'secure') facts.resolve(outcome.facts.endPoint());
        onOutcome(outcome);
      });
      // The answer is on its way with the old one.
      void rig
        .write('server.crt', next.pem)
        .then(() => rig.write('server.key', next.key))
        .then(() => rig.certificates.refresh());
    };
    const socket = await classic(fixture.port, { maxVersion: 'TLSv1.3' });
    expect(socket.getPeerCertificate().fingerprint256).toBe(fingerprint(rig.server));
    expect(await facts.promise).toEqual(createHash('sha256').update(before).digest());
    socket.destroy();
    await eventually(() => rig.certificates.current().der).toEqual(next.der);
  });
});

describe('a mounted secret', () => {
  it('is followed through every swap of its link', async () => {
    const secret = new MountedSecret(rig.directory);
    const generations = Array.from({ length: 3 }, () =>
      makeCertificate({ commonName: 'localhost' }),
    );
    const filesOf = ({ pem, key }: TestCertificate): Record<string, string> => ({
      'tls.crt': pem,
      'tls.key': key,
    });
    const [first] = generations;
    if (first === undefined) throw new Error('no certificate');
    await secret.replace(filesOf(first));
    const certificates = await ServerCertificates.open({
      paths: { cert: secret.path('tls.crt'), key: secret.path('tls.key'), ca: null, crl: null },
      pollMs: 20,
      clock: systemClock,
      log: rig.log,
    });
    const acceptor = new TlsAcceptor(certificates, 'none');
    const mounted = await Fixture.start({ tls: acceptor });
    for (const generation of generations) {
      if (generation !== first) await secret.replace(filesOf(generation));
      await eventually(() => certificates.current().der).toEqual(generation.der);
      expect(await presented(mounted.port)).toBe(fingerprint(generation));
    }
    expect(rig.log.lines.filter((line) => line.startsWith('error'))).toEqual([]);
    certificates.close();
    acceptor.close();
    await mounted.finish();
  });
});

it('a start with files that cannot be used is refused with what to do', async () => {
  const options = {
    paths: { cert: rig.path('server.crt'), key: rig.path('none.key'), ca: null, crl: null },
    pollMs: POLL_MS,
    clock,
    log: rig.log,
  };
  await expect(ServerCertificates.open(options)).rejects.toMatchObject({
    code: 'TLS_KEY_UNREADABLE',
    message: expect.stringContaining('could not access private key file'),
    hint: expect.stringContaining('tls.key'),
  });
  await rig.write('other.key', makeCertificate().key);
  const mismatch = { ...options, paths: { ...options.paths, key: rig.path('other.key') } };
  await expect(ServerCertificates.open(mismatch)).rejects.toMatchObject({
    code: 'TLS_KEY_MISMATCH',
  });
});
