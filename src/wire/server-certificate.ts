// What does a server's certificate say: which names is it for, and which hash binds a login to it? (RFC 5280, RFC 5929)
import { createHash } from 'node:crypto';
import { OperationalError, ProtocolViolation } from '../base/errors.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import { DER_BOOLEAN, DER_OCTET_STRING, DER_SEQUENCE, DER_SET, DerReader } from './der-reader.ts';

/** An entry of the subject alternative names of a kind that libpq looks at. The value is a view of the certificate. */
export interface AlternativeName {
  readonly kind: 'dns' | 'ip';
  /** The name's characters, or 4 or 16 address bytes in network order (not checked). */
  readonly value: Uint8Array;
}

/** The parts of a certificate that a client of PostgreSQL looks at. Fields are views of the DER bytes. */
export interface ServerCertificate {
  /** The certificate as it was sent. */
  readonly der: Uint8Array;
  /** The first common name of the subject, as its bytes; null when there is none. */
  readonly commonName: Uint8Array | null;
  readonly alternativeNames: readonly AlternativeName[];
  /** Name of the hash in the signature, as `node:crypto` knows it; null where the algorithm has none (Ed25519). */
  readonly signatureHash: string | null;
}

/** Not more than are looked at: behind one that was left out, the common name would count. */
const ALTERNATIVE_NAMES_MAX = 1_000;

const OID_COMMON_NAME = '2.5.4.3';
const OID_SUBJECT_ALT_NAME = '2.5.29.17';
const OID_RSA_PSS = '1.2.840.113549.1.1.10';

const TAG_VERSION = 0xa0;
const TAG_EXTENSIONS = 0xa3;
const TAG_PSS_HASH = 0xa0;
const TAG_DNS_NAME = 0x82;
const TAG_IP_ADDRESS = 0x87;

/** Hash algorithms by object identifier, for RSASSA-PSS, which names its hash in parameters. */
const HASHES: ReadonlyMap<string, string> = new Map([
  ['1.2.840.113549.2.5', 'md5'],
  ['1.3.14.3.2.26', 'sha1'],
  ['2.16.840.1.101.3.4.2.1', 'sha256'],
  ['2.16.840.1.101.3.4.2.2', 'sha384'],
  ['2.16.840.1.101.3.4.2.3', 'sha512'],
  ['2.16.840.1.101.3.4.2.4', 'sha224'],
  ['2.16.840.1.101.3.4.2.5', 'sha512-224'],
  ['2.16.840.1.101.3.4.2.6', 'sha512-256'],
  ['2.16.840.1.101.3.4.2.7', 'sha3-224'],
  ['2.16.840.1.101.3.4.2.8', 'sha3-256'],
  ['2.16.840.1.101.3.4.2.9', 'sha3-384'],
  ['2.16.840.1.101.3.4.2.10', 'sha3-512'],
]);

/** Signature algorithms that name their hash themselves: RSA, ECDSA and DSA. */
const SIGNATURE_HASHES: ReadonlyMap<string, string> = new Map([
  ['1.2.840.113549.1.1.4', 'md5'],
  ['1.2.840.113549.1.1.5', 'sha1'],
  ['1.2.840.113549.1.1.11', 'sha256'],
  ['1.2.840.113549.1.1.12', 'sha384'],
  ['1.2.840.113549.1.1.13', 'sha512'],
  ['1.2.840.113549.1.1.14', 'sha224'],
  ['1.2.840.113549.1.1.15', 'sha512-224'],
  ['1.2.840.113549.1.1.16', 'sha512-256'],
  ['1.2.840.10045.4.1', 'sha1'],
  ['1.2.840.10045.4.3.1', 'sha224'],
  ['1.2.840.10045.4.3.2', 'sha256'],
  ['1.2.840.10045.4.3.3', 'sha384'],
  ['1.2.840.10045.4.3.4', 'sha512'],
  ['1.2.840.10040.4.3', 'sha1'],
  ['2.16.840.1.101.3.4.3.1', 'sha224'],
  ['2.16.840.1.101.3.4.3.2', 'sha256'],
  ['2.16.840.1.101.3.4.3.3', 'sha384'],
  ['2.16.840.1.101.3.4.3.4', 'sha512'],
  ['2.16.840.1.101.3.4.3.9', 'sha3-224'],
  ['2.16.840.1.101.3.4.3.10', 'sha3-256'],
  ['2.16.840.1.101.3.4.3.11', 'sha3-384'],
  ['2.16.840.1.101.3.4.3.12', 'sha3-512'],
  ['2.16.840.1.101.3.4.3.13', 'sha3-224'],
  ['2.16.840.1.101.3.4.3.14', 'sha3-256'],
  ['2.16.840.1.101.3.4.3.15', 'sha3-384'],
  ['2.16.840.1.101.3.4.3.16', 'sha3-512'],
]);

/** Reads a certificate. Throws ProtocolViolation 08P01 when it is malformed. `der` must not change afterwards. */
export function decodeServerCertificate(der: Uint8Array): ServerCertificate {
  const certificate = new DerReader(der).enter(DER_SEQUENCE);
  const body = certificate.enter(DER_SEQUENCE);
  body.skip(TAG_VERSION);
  // Serial number, signature algorithm, issuer, validity.
  for (let index = 0; index < 4; index += 1) body.next();
  const commonName = readCommonName(body.enter(DER_SEQUENCE));
  // Public key.
  body.next(DER_SEQUENCE);
  let alternativeNames: readonly AlternativeName[] = [];
  while (!body.isAtEnd) {
    const field = body.next();
    if (field.tag === TAG_EXTENSIONS) alternativeNames = readExtensions(field.content);
  }
  const signatureHash = readSignatureHash(certificate.enter(DER_SEQUENCE));
  return { der, commonName, alternativeNames, signatureHash };
}

/**
 * The channel binding data of type tls-server-end-point: the certificate's hash by the hash of its signature, SHA-256 in
 * place of MD5 and SHA-1 (RFC 5929 section 4.1; fe-secure-openssl.c:pgtls_get_peer_certificate_hash). Throws
 * {@link OperationalError} `CHANNEL_BINDING_UNAVAILABLE` for a signature without one hash, as libpq does.
 */
export function serverEndPointBinding(certificate: ServerCertificate): Uint8Array {
  const { signatureHash, der } = certificate;
  if (signatureHash === null) {
    throw new OperationalError(
      'CHANNEL_BINDING_UNAVAILABLE',
      "could not find digest for NID UNDEF: the signature of the upstream's certificate has no hash that a login could be bound by",
      {
        isRetryable: true,
        hint: 'Give the upstream a certificate signed with RSA or ECDSA (not Ed25519), or set channel_binding=disable in upstream.conninfo.',
      },
    );
  }
  return bindingBy(signatureHash, der);
}

/**
 * The same binding, of a certificate that we present ourselves: null for a signature without one hash. Nothing else of it is
 * read. Throws ProtocolViolation 08P01 when it is malformed. (be-secure-openssl.c:be_tls_get_certificate_hash)
 */
export function ownEndPointBinding(der: Uint8Array): Uint8Array | null {
  const certificate = new DerReader(der).enter(DER_SEQUENCE);
  certificate.next(DER_SEQUENCE);
  const signatureHash = readSignatureHash(certificate.enter(DER_SEQUENCE));
  return signatureHash === null ? null : bindingBy(signatureHash, der);
}

function bindingBy(signatureHash: string, der: Uint8Array): Uint8Array {
  const isWeak = signatureHash === 'md5' || signatureHash === 'sha1';
  return createHash(isWeak ? 'sha256' : signatureHash)
    .update(der)
    .digest();
}

/** The first one in the order of the certificate, as X509_NAME_get_index_by_NID finds it. */
function readCommonName(subject: DerReader): Uint8Array | null {
  while (!subject.isAtEnd) {
    const names = subject.enter(DER_SET);
    while (!names.isAtEnd) {
      const attribute = names.enter(DER_SEQUENCE);
      if (attribute.oid() === OID_COMMON_NAME) return attribute.next().content;
    }
  }
  return null;
}

function readExtensions(content: Uint8Array): AlternativeName[] {
  const names: AlternativeName[] = [];
  const extensions = new DerReader(content).enter(DER_SEQUENCE);
  while (!extensions.isAtEnd) {
    const extension = extensions.enter(DER_SEQUENCE);
    const oid = extension.oid();
    // "critical"
    extension.skip(DER_BOOLEAN);
    const value = extension.next(DER_OCTET_STRING).content;
    if (oid === OID_SUBJECT_ALT_NAME) names.push(...readAlternativeNames(value));
  }
  if (names.length > ALTERNATIVE_NAMES_MAX) {
    throw new ProtocolViolation(
      SQLSTATE.protocolViolation,
      `certificate with more than ${ALTERNATIVE_NAMES_MAX} names`,
    );
  }
  return names;
}

function readAlternativeNames(value: Uint8Array): AlternativeName[] {
  const names: AlternativeName[] = [];
  const reader = new DerReader(value).enter(DER_SEQUENCE);
  while (!reader.isAtEnd) {
    const { tag, content } = reader.next();
    if (tag === TAG_DNS_NAME) names.push({ kind: 'dns', value: content });
    else if (tag === TAG_IP_ADDRESS) names.push({ kind: 'ip', value: content });
  }
  return names;
}

function readSignatureHash(algorithm: DerReader): string | null {
  const oid = algorithm.oid();
  if (oid !== OID_RSA_PSS) return SIGNATURE_HASHES.get(oid) ?? null;
  // RSASSA-PSS-params: the hash is the first field, SHA-1 when it is left out (RFC 4055).
  if (algorithm.nextTag !== DER_SEQUENCE) return 'sha1';
  const parameters = algorithm.enter(DER_SEQUENCE);
  if (parameters.nextTag !== TAG_PSS_HASH) return 'sha1';
  const hash = parameters.enter(TAG_PSS_HASH).enter(DER_SEQUENCE);
  return HASHES.get(hash.oid()) ?? null;
}
