// Certificates and revocation lists for tests, written out field by field: whatever a test needs to be wrong with them.
import { constants, createHash, generateKeyPairSync, sign } from 'node:crypto';
import type { KeyObject } from 'node:crypto';

/** How an issuer signs. */
export type SignatureKind =
  | 'ecdsa-sha256'
  | 'ecdsa-sha384'
  | 'rsa-sha1'
  | 'rsa-sha256'
  | 'rsa-sha512'
  | 'rsa-pss-sha384'
  | 'ed25519';

export interface CertificateOptions {
  readonly commonName?: string | Buffer;
  /** A second common name behind the first one. */
  readonly secondName?: string;
  readonly dns?: readonly (string | Buffer)[];
  readonly ip?: readonly Buffer[];
  /** Who signs; itself when absent. */
  readonly issuer?: TestCertificate;
  /** Kind of its own key, and how it signs others. */
  readonly kind?: SignatureKind;
  /** Days from now. */
  readonly from?: number;
  readonly to?: number;
  readonly isAuthority?: boolean;
  /** Authorities that may stand below this one. */
  readonly pathLength?: number;
  /** The KeyUsage bits as they are written, `0x06` for an authority. */
  readonly keyUsage?: number;
  /** ExtendedKeyUsage: object identifiers. */
  readonly purposes?: readonly string[];
  /** NameConstraints: the one domain that certificates below may be for. */
  readonly permittedDomain?: string;
  /** DER of further extensions. */
  readonly extensions?: readonly Buffer[];
}

export interface TestCertificate {
  readonly der: Buffer;
  readonly pem: string;
  readonly privateKey: KeyObject;
  /** PEM, PKCS#8, not encrypted. */
  readonly key: string;
  readonly kind: SignatureKind;
  readonly name: Buffer;
  readonly serial: Buffer;
}

const DAY_MS = 86_400_000;
let serials = 0;

/** Makes a certificate with a key of its own. */
export function makeCertificate(options: CertificateOptions = {}): TestCertificate {
  const kind = options.kind ?? 'ecdsa-sha256';
  const { privateKey, publicKey } = generateKeys(kind);
  const names = [options.commonName, options.secondName].filter((each) => each !== undefined);
  const name = sequence(
    ...(names.length === 0 ? [attribute('2.5.4.10', 'walcast tests')] : []),
    ...names.map((each) => attribute('2.5.4.3', each)),
  );
  serials += 1;
  const serial = integer(0x10_00_00 + serials);
  const signer = options.issuer ?? { privateKey, kind, name };
  const body = sequence(
    tlv(0xa0, integer(2)),
    serial,
    algorithmOf(signer.kind),
    signer.name,
    sequence(time(options.from ?? -1), time(options.to ?? 30)),
    name,
    publicKey.export({ type: 'spki', format: 'der' }),
    tlv(0xa3, sequence(...extensions(options, publicKey))),
  );
  const der = signed(body, signer);
  return {
    der,
    pem: pem('CERTIFICATE', der),
    privateKey,
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    kind,
    name,
    serial,
  };
}

/** A revocation list of `issuer`, PEM. */
export function makeRevocationList(
  issuer: TestCertificate,
  revoked: readonly TestCertificate[],
  to = 30,
): string {
  const entries = revoked.map(({ serial }) => sequence(serial, time(-1)));
  const body = sequence(
    integer(1),
    algorithmOf(issuer.kind),
    issuer.name,
    time(-1),
    time(to),
    ...(entries.length === 0 ? [] : [sequence(...entries)]),
  );
  return pem('X509 CRL', signed(body, issuer));
}

function attribute(id: string, value: string | Buffer): Buffer {
  return set(sequence(oid(id), tlv(0x0c, Buffer.from(value))));
}

function generateKeys(kind: SignatureKind): { privateKey: KeyObject; publicKey: KeyObject } {
  if (kind === 'ed25519') return generateKeyPairSync('ed25519');
  if (kind.startsWith('rsa')) return generateKeyPairSync('rsa', { modulusLength: 2048 });
  return generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
}

function signed(body: Buffer, signer: { privateKey: KeyObject; kind: SignatureKind }): Buffer {
  const { kind, privateKey } = signer;
  const hash = kind === 'ed25519' ? null : (kind.split('-').at(-1) ?? null);
  const key = kind.startsWith('rsa-pss')
    ? { key: privateKey, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 48 }
    : privateKey;
  const signature = sign(hash, body, key);
  return sequence(body, algorithmOf(kind), tlv(0x03, Buffer.of(0), signature));
}

function algorithmOf(kind: SignatureKind): Buffer {
  const nothing = tlv(0x05);
  switch (kind) {
    case 'ecdsa-sha256':
      return sequence(oid('1.2.840.10045.4.3.2'));
    case 'ecdsa-sha384':
      return sequence(oid('1.2.840.10045.4.3.3'));
    case 'rsa-sha1':
      return sequence(oid('1.2.840.113549.1.1.5'), nothing);
    case 'rsa-sha256':
      return sequence(oid('1.2.840.113549.1.1.11'), nothing);
    case 'rsa-sha512':
      return sequence(oid('1.2.840.113549.1.1.13'), nothing);
    case 'rsa-pss-sha384': {
      const hash = sequence(oid('2.16.840.1.101.3.4.2.2'), nothing);
      const mask = sequence(oid('1.2.840.113549.1.1.8'), hash);
      const parameters = sequence(tlv(0xa0, hash), tlv(0xa1, mask), tlv(0xa2, integer(48)));
      return sequence(oid('1.2.840.113549.1.1.10'), parameters);
    }
    case 'ed25519':
      return sequence(oid('1.3.101.112'));
  }
}

function extensions(options: CertificateOptions, publicKey: KeyObject): Buffer[] {
  const keyId = createHash('sha1')
    .update(publicKey.export({ type: 'spki', format: 'der' }))
    .digest();
  const list = [sequence(oid('2.5.29.14'), tlv(0x04, tlv(0x04, keyId)))];
  const { isAuthority, pathLength, keyUsage, purposes = [], permittedDomain } = options;
  if (isAuthority !== undefined) {
    const limit = pathLength === undefined ? [] : [integer(pathLength)];
    const constraints = isAuthority ? sequence(tlv(0x01, Buffer.of(0xff)), ...limit) : sequence();
    list.push(extension('2.5.29.19', constraints));
  }
  if (keyUsage !== undefined) list.push(extension('2.5.29.15', tlv(0x03, Buffer.of(0, keyUsage))));
  if (purposes.length > 0) list.push(extension('2.5.29.37', sequence(...purposes.map(oid))));
  if (permittedDomain !== undefined) {
    const subtree = sequence(tlv(0x82, Buffer.from(permittedDomain)));
    list.push(extension('2.5.29.30', sequence(tlv(0xa0, subtree))));
  }
  const names = [
    ...(options.dns ?? []).map((name) => tlv(0x82, Buffer.from(name))),
    ...(options.ip ?? []).map((address) => tlv(0x87, address)),
  ];
  if (names.length > 0) list.push(sequence(oid('2.5.29.17'), tlv(0x04, sequence(...names))));
  return [...list, ...(options.extensions ?? [])];
}

/** A critical one. */
export function extension(id: string, value: Buffer): Buffer {
  return sequence(oid(id), tlv(0x01, Buffer.of(0xff)), tlv(0x04, value));
}

function tlv(tag: number, ...parts: readonly Buffer[]): Buffer {
  const content = Buffer.concat(parts);
  const { length } = content;
  if (length < 0x80) return Buffer.concat([Buffer.of(tag, length), content]);
  return Buffer.concat([Buffer.of(tag, 0x82, length >> 8, length & 0xff), content]);
}

function sequence(...parts: readonly Buffer[]): Buffer {
  return tlv(0x30, ...parts);
}

function set(...parts: readonly Buffer[]): Buffer {
  return tlv(0x31, ...parts);
}

function integer(value: number): Buffer {
  const hex = value.toString(16);
  const bytes = Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, 'hex');
  return tlv(0x02, (bytes[0] ?? 0) >= 0x80 ? Buffer.concat([Buffer.of(0), bytes]) : bytes);
}

function oid(dotted: string): Buffer {
  const [first = 0, second = 0, ...others] = dotted.split('.').map(Number);
  const bytes = [first * 40 + second, ...others].flatMap((arc) => {
    const groups = [arc & 0x7f];
    for (let rest = arc >>> 7; rest > 0; rest >>>= 7) groups.unshift((rest & 0x7f) | 0x80);
    return groups;
  });
  return tlv(0x06, Buffer.from(bytes));
}

/** UTCTime: enough until 2049. */
function time(daysFromNow: number): Buffer {
  const iso = new Date(Date.now() + daysFromNow * DAY_MS).toISOString();
  return tlv(0x17, Buffer.from(`${iso.slice(2, 19).replaceAll(/[-:T]/g, '')}Z`));
}

function pem(label: string, der: Buffer): string {
  const lines = der.toString('base64').replaceAll(/.{64}(?=.)/g, '$&\n');
  return `-----BEGIN ${label}-----\n${lines}\n-----END ${label}-----\n`;
}
