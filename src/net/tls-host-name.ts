// Is a certificate for the host we meant? (src/interfaces/libpq/fe-secure-common.c, fe-secure-openssl.c)
import { parseIpAddress } from '../pg/ip-address.ts';
import type { ServerCertificate } from '../wire/server-certificate.ts';

/**
 * Why `certificate` is not for `host`, in libpq's words; null when it is. A host name is looked for among the dNSName
 * entries, an address among the iPAddress entries too; without an entry of the host's own kind the common name counts.
 * Other than in libpq, no wildcard stands for a part of an address.
 */
export function hostNameProblem(certificate: ServerCertificate, host: string): string | null {
  if (host === '') return 'host name must be specified for a verified SSL connection';
  const address = parseIpAddress(host);
  const hostKind = address === null ? 'dns' : 'ip';
  const isNamed = (name: string): boolean => {
    const wanted = textOf(Buffer.from(host));
    return isSameName(name, wanted) || (address === null && isInWildcard(name, wanted));
  };
  const names: string[] = [];
  let looksAtCommonName = true;
  for (const { kind, value } of certificate.alternativeNames) {
    if (kind === hostKind) looksAtCommonName = false;
    const problem = kind === 'dns' ? nameProblem(value) : addressProblem(value);
    if (problem !== null) return problem;
    names.push(kind === 'dns' ? textOf(value) : formatAddress(value));
    const isMatch = kind === 'dns' ? isNamed(textOf(value)) : equals(value, address);
    if (isMatch) return null;
  }
  if (looksAtCommonName && certificate.commonName !== null) {
    const problem = nameProblem(certificate.commonName);
    if (problem !== null) return problem;
    const name = textOf(certificate.commonName);
    names.push(name);
    if (isNamed(name)) return null;
  }
  return mismatch(names, host);
}

/** True when the server name extension may carry `host`: it may not carry addresses (RFC 6066). */
export function isServerName(host: string): boolean {
  return host !== '' && !/^[0-9.]+$/.test(host) && !host.includes(':');
}

function mismatch(names: readonly string[], host: string): string {
  const [first] = names;
  if (first === undefined) return "could not get server's host name from server certificate";
  const others = names.length - 1;
  const more = others === 0 ? '' : ` (and ${others} other ${others === 1 ? 'name' : 'names'})`;
  return `server certificate for "${printable(first)}"${more} does not match host name "${host}"`;
}

/** Letters compare without case. (pg_strcasecmp) */
function isSameName(name: string, host: string): boolean {
  return asciiLower(name) === asciiLower(host);
}

/** `*.` stands for one label. (wildcard_certificate_match) */
function isInWildcard(pattern: string, host: string): boolean {
  const name = asciiLower(pattern);
  const wanted = asciiLower(host);
  if (name.length < 3 || !name.startsWith('*.') || name.length > wanted.length) return false;
  const suffix = name.slice(1);
  return wanted.endsWith(suffix) && wanted.indexOf('.') >= wanted.length - suffix.length;
}

/** A name that goes on behind a NUL was made to look like another one. */
function nameProblem(value: Uint8Array): string | null {
  return value.includes(0) ? "SSL certificate's name contains embedded null" : null;
}

function addressProblem(value: Uint8Array): string | null {
  const isAddress = value.length === 4 || value.length === 16;
  return isAddress ? null : `certificate contains IP address with invalid length ${value.length}`;
}

function equals(value: Uint8Array, address: Uint8Array | null): boolean {
  return address !== null && Buffer.compare(value, address) === 0;
}

function formatAddress(value: Uint8Array): string {
  if (value.length === 4) return value.join('.');
  const groups: string[] = [];
  for (let index = 0; index < value.length; index += 2) {
    groups.push((((value[index] ?? 0) << 8) | (value[index + 1] ?? 0)).toString(16));
  }
  return groups.join(':');
}

/** One character a byte. */
function textOf(value: Uint8Array): string {
  return Buffer.from(value).toString('latin1');
}

function asciiLower(text: string): string {
  return text.replaceAll(/[A-Z]/g, (letter) => letter.toLowerCase());
}

/** A name of a peer in our own message: bounded, without control characters. */
function printable(text: string): string {
  return text.slice(0, NAME_CHARACTERS_MAX).replaceAll(/\p{Cc}/gu, '?');
}

const NAME_CHARACTERS_MAX = 255;
