// Whose certificate did a client show? (src/backend/libpq/be-secure-openssl.c:be_tls_open_server)
import { ProtocolViolation } from '../base/errors.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import { DER_SEQUENCE, DerReader } from './der-reader.ts';
import {
  commonNameOf,
  decodeUtf8,
  formatOneLine,
  formatRfc2253,
  readName,
} from './distinguished-name.ts';
import type { TlsPeer } from './tls-facts.ts';

const DER_INTEGER = 0x02;
const TAG_VERSION = 0xa0;

/**
 * Reads what access rules look at. Throws ProtocolViolation 08P01 for a malformed certificate, and, in PostgreSQL's words,
 * for a common name with a NUL in it: what stands before it was made to look like somebody else's (CVE-2009-4034).
 */
export function decodeClientCertificate(der: Uint8Array): TlsPeer {
  const body = new DerReader(der).enter(DER_SEQUENCE).enter(DER_SEQUENCE);
  body.skip(TAG_VERSION);
  const serial = body.next(DER_INTEGER).content;
  // Signature algorithm.
  body.next();
  const issuer = readName(body.enter(DER_SEQUENCE));
  // Validity.
  body.next();
  const subject = readName(body.enter(DER_SEQUENCE));
  const commonName = commonNameOf(subject);
  if (commonName?.includes(0) === true) {
    throw new ProtocolViolation(
      SQLSTATE.protocolViolation,
      "SSL certificate's common name contains embedded null",
    );
  }
  return {
    // With replacements for bytes that are no text, different names would be one user.
    commonName: commonName === null ? null : decodeUtf8(commonName),
    distinguishedName: formatRfc2253(subject),
    serial: formatSerial(serial),
    issuer: formatOneLine(issuer),
  };
}

/** Two's complement, as every integer in DER. */
function formatSerial(content: Uint8Array): string {
  const magnitude = BigInt(`0x0${Buffer.from(content).toString('hex')}`);
  return BigInt.asIntN(Math.max(1, content.length) * 8, magnitude).toString();
}
