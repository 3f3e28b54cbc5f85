// Who gets in at a real server: every kind of authentication with every sslmode and every kind of access rule, walcast
// and libpq side by side. The same conninfo must have the same end, and a refusal must give libpq's reasons.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SSL_MODES } from '../../src/pg/conninfo.ts';
import { parseLsn } from '../../src/pg/lsn.ts';
import { toSegmentSize } from '../../src/pg/segment.ts';
import { compareWal } from '../harness/compare-wal.ts';
import { createRelay } from '../harness/walcast-process.ts';
import { makeCertificate, makeRevocationList } from '../support/certificates.ts';
import type { SignatureKind } from '../support/certificates.ts';
import { newestMajors, needs } from '../support/requirements.ts';
import {
  AuthRig,
  METHODS,
  PASSWORD,
  roleName,
  RULES,
  witnessProblem,
} from './upstream-auth-rig.ts';
import type { Outcome, Rule } from './upstream-auth-rig.ts';

type Transport = 'plain' | 'tls';

/** One cell. */
interface Cell {
  readonly name: string;
  readonly conninfo: string;
  readonly isIn: boolean;
}

const TRANSPORTS: Readonly<Record<string, readonly Transport[]>> = {
  disable: ['plain'],
  allow: ['plain', 'tls'],
  prefer: ['tls', 'plain'],
};

const PERMITTED: Readonly<Record<Rule, readonly Transport[]>> = {
  host: ['plain', 'tls'],
  hostssl: ['tls'],
  hostnossl: ['plain'],
};

const MODES = [...SSL_MODES, 'direct'] as const;

/** How many attempts run side by side. */
const SIDE_BY_SIDE = 4;

function modeOptions(mode: string): string {
  const name = mode === 'direct' ? 'verify-full sslnegotiation=direct' : mode;
  return mode.startsWith('verify') || mode === 'direct'
    ? `sslmode=${name} sslrootcert=@root.crt`
    : `sslmode=${name}`;
}

/** Which way an attempt gets past the access rules; null when it does not. */
function wayIn(mode: string, rule: Rule, major: number): Transport | null {
  if (mode === 'direct' && major < 17) return null;
  const order = TRANSPORTS[mode] ?? ['tls'];
  return order.find((transport) => PERMITTED[rule].includes(transport)) ?? null;
}

function cells(major: number): Cell[] {
  const list: Cell[] = [];
  for (const mode of MODES) {
    for (const rule of RULES) {
      for (const method of [...METHODS, 'plus']) {
        const asked = method === 'plus' ? 'scram-sha-256' : method;
        const way = wayIn(mode, rule, major);
        const auth = asked === 'trust' ? 'none' : asked;
        const binding = method === 'plus' ? 'require' : 'prefer';
        list.push({
          name: `${method} by ${rule} with ${mode}`,
          conninfo: `user=${roleName(rule, asked)} password=${PASSWORD} require_auth=${auth} channel_binding=${binding} ${modeOptions(mode)}`,
          isIn: method === 'plus' ? way === 'tls' : way !== null,
        });
      }
    }
    list.push({
      name: `cert with ${mode}`,
      conninfo: `user=replicator sslcert=@me.crt sslkey=@me.key ${modeOptions(mode)}`,
      isIn: wayIn(mode, 'hostssl', major) !== null,
    });
  }
  return list;
}

/** What both clients made of one conninfo. */
interface Comparison {
  readonly name: string;
  readonly walcast: Outcome;
  readonly libpq: Outcome;
}

describe.each(newestMajors())('PostgreSQL %i', (major) => {
  let rig: AuthRig;

  beforeAll(async () => {
    rig = await AuthRig.open(major);
    const me = makeCertificate({ commonName: 'replicator', issuer: rig.authority });
    await rig.write('me.crt', me.pem);
    await rig.write('me.key', me.key);
  });

  afterAll(async () => {
    await rig[Symbol.asyncDispose]();
  });

  async function compare(list: readonly (readonly [string, string])[]): Promise<Comparison[]> {
    const waiting = [...list.entries()];
    const results: Comparison[] = [];
    const work = async (): Promise<void> => {
      for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
        const [index, [name, conninfo]] = next;
        const [walcast, libpq] = await Promise.all([rig.walcast(conninfo), rig.libpq(conninfo)]);
        results[index] = { name, walcast, libpq };
      }
    };
    await Promise.all(Array.from({ length: SIDE_BY_SIDE }, work));
    return results;
  }

  /** Everything in which walcast differs from libpq. */
  function differences(results: readonly Comparison[]): string[] {
    const different = results.filter(({ walcast, libpq }) => {
      if (walcast.isIn !== libpq.isIn) return true;
      // Connections that end in a handshake have words of the system.
      const told = libpq.complaints.filter(
        (line) => !/SYSCALL|reset by peer|Broken pipe/.test(line),
      );
      return told.some((line) => walcast.message?.includes(line) !== true);
    });
    return different.map(({ name, walcast, libpq }) => {
      const us = walcast.isIn ? 'is in' : `${walcast.code}: ${walcast.message}`;
      return `${name}: walcast ${us}; libpq ${libpq.isIn ? 'is in' : libpq.complaints.join('; ')}`;
    });
  }

  it('lets in who may come in, by every method, rule and sslmode, as it does libpq', async (context) => {
    needs(context, witnessProblem());
    const list = cells(major);
    const results = await compare(list.map(({ name, conninfo }) => [name, conninfo]));
    expect(results).toHaveLength(MODES.length * (RULES.length * 5 + 1));
    expect(differences(results)).toEqual([]);
    const isIn = results.map(({ name, walcast }) => [name, walcast.isIn]);
    expect(isIn).toEqual(list.map((cell) => [cell.name, cell.isIn]));
  });

  it('is reached in every other way in which libpq reaches it', async (context) => {
    needs(context, witnessProblem());
    const stranger = makeCertificate({ commonName: 'stranger', isAuthority: true });
    await rig.write('foreign.crt', stranger.pem);
    await rig.write('shared.key', stranger.key, 0o644);
    await rig.write('good.crl', makeRevocationList(rig.authority, []));
    const me = 'sslcert=@me.crt sslkey=@me.key';
    const scram = `user=hostssl_scramsha256 password=${PASSWORD}`;
    const full = modeOptions('verify-full');
    const cases: readonly (readonly [version: string | null, conninfo: string])[] = [
      [
        'TLSv1.3',
        `user=two_proofs password=${PASSWORD} ${me} ${full} sslcertmode=require channel_binding=require`,
      ],
      ['TLSv1.3', `user=replicator ${me} ${full} sslcertmode=require require_auth=none`],
      ['TLSv1.3', `${scram} ${full} require_auth=!password,!md5,!none`],
      ['TLSv1.3', `${scram} ${full} require_auth=scram-sha-256,none sslcertmode=disable`],
      ['TLSv1.3', `${scram} ${full} sslsni=0 sslcrl=@good.crl`],
      ['TLSv1.3', `host=127.0.0.1 ${scram} ${modeOptions('verify-ca')}`],
      ['TLSv1.2', `${scram} ${full} ssl_max_protocol_version=TLSv1.2 channel_binding=require`],
      ['TLSv1.3', `${scram} ${full} ssl_min_protocol_version=TLSv1.3`],
      // Files that are named and missing are passed over where nothing depends on them.
      ['TLSv1.3', `${scram} sslmode=require sslrootcert=@no.crt sslcert=@no.crt sslkey=@no.key`],
      // TLS that fails is given up with prefer, whatever the reason.
      [null, 'user=host_trust sslmode=prefer sslrootcert=@foreign.crt'],
      [null, 'user=host_trust sslmode=prefer sslcert=@foreign.crt sslkey=@shared.key'],
      [null, `user=hostnossl_scramsha256 password=${PASSWORD} sslmode=prefer`],
      ['TLSv1.3', `${scram} sslmode=allow`],
    ];
    const results = await compare(cases.map(([, conninfo]) => [conninfo, conninfo]));
    expect(differences(results)).toEqual([]);
    const versions = results.map(({ name, walcast }) => [walcast.isIn, walcast.tlsVersion, name]);
    expect(versions).toEqual(cases.map(([version, conninfo]) => [true, version, conninfo]));
  });

  it('is told the reason for every other refusal', async (context) => {
    needs(context, witnessProblem());
    const stranger = makeCertificate({ commonName: 'stranger', isAuthority: true });
    const other = makeCertificate({ commonName: 'replicator', issuer: stranger });
    const late = makeCertificate({ commonName: 'replicator', issuer: rig.authority, to: -0.5 });
    await rig.write('other.crt', other.pem);
    await rig.write('other.key', other.key);
    await rig.write('late.crt', late.pem);
    await rig.write('late.key', late.key);
    await rig.write('open.key', other.key, 0o644);
    await rig.write('stranger.crt', stranger.pem);
    await rig.write('bad.crl', makeRevocationList(rig.authority, [rig.served]));
    const me = 'sslcert=@me.crt sslkey=@me.key';
    const scram = `user=hostssl_scramsha256 password=${PASSWORD}`;
    const cases: readonly (readonly [code: string | RegExp, conninfo: string])[] = [
      ['28P01', 'user=host_scramsha256 password=wrong'],
      ['28P01', 'user=nobody password=wrong sslmode=require'],
      ['PASSWORD_MISSING', 'user=host_scramsha256 sslmode=require'],
      ['42501', `user=plain password=${PASSWORD}`],
      ['28000', 'user=stranger sslmode=require'],
      ['28000', 'user=unheard-of sslmode=disable'],
      ['28000', `user=replicator ${modeOptions('require')}`],
      ['28000', `user=somebody ${me} sslmode=require`],
      ['28000', `user=two_proofs password=${PASSWORD} sslmode=require`],
      ['AUTH_METHOD_REFUSED', 'user=host_md5 password=x require_auth=scram-sha-256'],
      ['AUTH_METHOD_REFUSED', 'user=host_trust require_auth=!none sslmode=require'],
      ['AUTH_METHOD_REFUSED', 'user=host_password password=x require_auth=!password'],
      ['CHANNEL_BINDING_MISSING', 'user=hostssl_trust channel_binding=require sslmode=require'],
      ['CHANNEL_BINDING_MISSING', `user=replicator ${me} channel_binding=require sslmode=require`],
      ['TLS_UNKNOWN_CA', `${scram} sslmode=verify-ca sslrootcert=@stranger.crt`],
      ['TLS_UNKNOWN_CA', `${scram} sslmode=require sslrootcert=@stranger.crt`],
      ['TLS_UNKNOWN_CA', `${scram} sslmode=verify-full sslrootcert=system`],
      ['TLS_CERTIFICATE_REVOKED', `${scram} ${modeOptions('verify-ca')} sslcrl=@bad.crl`],
      ['TLS_CERTIFICATE_NOT_SENT', `${scram} sslmode=require sslcertmode=require`],
      ['28000', `user=replicator ${me} sslmode=require sslcertmode=disable`],
      ['TLS_NAME_MISMATCH', `host=127.0.0.1 ${scram} sslmode=verify-full sslrootcert=@root.crt`],
      ['TLS_NAME_MISMATCH', `host=pg-a ${scram} sslmode=verify-full sslrootcert=@root.crt`],
      ['TLS_ROOT_CERT_MISSING', `${scram} sslmode=verify-full sslrootcert=@no.crt`],
      ['TLS_KEY_PERMISSIONS', `${scram} sslmode=require sslcert=@other.crt sslkey=@open.key`],
      ['TLS_KEY_MISMATCH', `${scram} sslmode=require sslcert=@other.crt sslkey=@me.key`],
      ['TLS_KEY_UNREADABLE', `${scram} sslmode=require sslcert=@other.crt sslkey=@no.key`],
      // The server looks at our certificate behind the handshake of TLS 1.3, and its word may be lost.
      [
        /^(TLS_CLIENT_CERTIFICATE_REFUSED|UPSTREAM_CLOSED)$/,
        `user=replicator sslmode=require sslcert=@other.crt sslkey=@other.key`,
      ],
      [
        /^(TLS_CLIENT_CERTIFICATE_REFUSED|UPSTREAM_CLOSED)$/,
        `user=replicator sslmode=require sslcert=@late.crt sslkey=@late.key`,
      ],
    ];
    const results = await compare(cases.map(([, conninfo]) => [conninfo, conninfo]));
    const alerts = /tlsv1 alert|sslv3 alert|closed (the connection|unexpectedly)|has been closed/;
    const comparable = results.map((result) => ({
      ...result,
      libpq: {
        ...result.libpq,
        complaints: result.libpq.complaints.filter(
          (line) => !alerts.test(line) && !line.startsWith('Either provide'),
        ),
      },
    }));
    expect(differences(comparable)).toEqual([]);
    const codes = cases.map(([code, conninfo]) => {
      const actual = results.find(({ name }) => name === conninfo)?.walcast.code ?? '';
      return [conninfo, code instanceof RegExp && code.test(actual) ? code : actual];
    });
    expect(codes).toEqual(cases.map(([code, conninfo]) => [conninfo, code]));
  });

  it('is asked for no password in clear text or as MD5 unless require_auth names it', async () => {
    for (const method of ['password', 'md5']) {
      const outcome = await rig.walcast(
        `user=${roleName('host', method)} password=${PASSWORD} ${modeOptions('verify-full')}`,
      );
      expect(outcome.code).toBe('AUTH_METHOD_REFUSED');
    }
  });

  it('is bound to by whatever its certificate was signed with', async (context) => {
    needs(context, witnessProblem());
    const conninfo = `user=hostssl_scramsha256 password=${PASSWORD} ${modeOptions('require')}`;
    const kinds: SignatureKind[] = ['ecdsa-sha384', 'rsa-sha512', 'rsa-pss-sha384'];
    for (const kind of kinds) {
      // RSA-PSS has a key of its own kind in TLS, so an authority signs with it.
      const authority = makeCertificate({ commonName: kind, isAuthority: true, kind });
      await rig.serve(makeCertificate({ dns: ['localhost'], issuer: authority }));
      const [bound] = await compare([[kind, `${conninfo} channel_binding=require`]]);
      expect(bound).toMatchObject({ name: kind, walcast: { isIn: true }, libpq: { isIn: true } });
    }
    const authority = makeCertificate({ commonName: 'ed', isAuthority: true, kind: 'ed25519' });
    await rig.serve(makeCertificate({ dns: ['localhost'], issuer: authority }));
    const [without, refused] = await compare([
      ['without', `${conninfo} channel_binding=disable`],
      ['with', `${conninfo} channel_binding=prefer`],
    ]);
    expect(without).toMatchObject({ walcast: { isIn: true }, libpq: { isIn: true } });
    expect(refused).toMatchObject({
      walcast: { isIn: false, code: 'CHANNEL_BINDING_UNAVAILABLE' },
      libpq: { isIn: false, complaints: ['could not find digest for NID UNDEF'] },
    });
  });

  it('streams to walcast inside TLS, both sides proven, what it writes', async () => {
    await rig.serve(makeCertificate({ dns: ['localhost'], issuer: rig.authority }));
    const conninfo = rig.conninfo(
      `user=hostssl_scramsha256 password=${PASSWORD} channel_binding=require sslcert=@me.crt sslkey=@me.key ${modeOptions('verify-full')}`,
    );
    const { primary, workspace } = rig;
    const relay = await createRelay(workspace, {
      name: 'relay',
      upstream: () => primary.target(),
      settings: { upstream: { conninfo } },
    });
    await relay.start();
    await primary.query(
      "CREATE TABLE t AS SELECT i, repeat('x', 500) AS filler FROM generate_series(1, 40000) i",
    );
    const untilLsn = await primary.walPosition();
    await relay.waitForStatus(
      'everything being stored',
      ({ store }) => (parseLsn(store.flushed_lsn ?? '') ?? 0n) >= untilLsn,
    );
    expect(await relay.get('/api/v1/upstream')).toMatchObject({
      tls: true,
      tls_version: 'TLSv1.3',
      client_certificate_expires_at: expect.stringMatching(/^\d{4}-.*Z$/),
    });
    const comparison = await compareWal({
      expected: primary.walDirectory,
      actual: relay.walDirectory,
      segmentSize: toSegmentSize(1 << 20),
      untilLsn,
    });
    expect(comparison.differences).toEqual([]);
    expect(comparison.comparedBytes).toBeGreaterThan(20 << 20);
    expect(await relay.stop('SIGTERM')).toEqual({ exitCode: 0, signal: null });
    expect(relay.problems()).toEqual([]);
  });
});
