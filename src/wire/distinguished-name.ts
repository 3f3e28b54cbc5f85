// How are the names in a certificate written? As OpenSSL prints them for PostgreSQL: RFC 2253 for maps, one line for logs.
// (be-secure-openssl.c:be_tls_open_server and X509_NAME_to_cstring; OpenSSL's a_strex.c:do_name_ex, do_esc_char)
import { ProtocolViolation } from '../base/errors.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import { DER_SEQUENCE, DER_SET, DerReader } from './der-reader.ts';
import type { DerValue } from './der-reader.ts';

/** One attribute of a name. */
export interface NameAttribute {
  /** Object identifier in dotted form. */
  readonly oid: string;
  /** As in the certificate: tag and a view of the content. */
  readonly value: DerValue;
  /** Which relative name of the sequence it belongs to; those with several attributes are rare. */
  readonly place: number;
}

/** More than any name has; each is read once per handshake. */
const ATTRIBUTES_MAX = 100;

const OID_COMMON_NAME = '2.5.4.3';

/** OpenSSL's short names of the attributes that certificates have. (obj_dat.h) */
const SHORT_NAMES: ReadonlyMap<string, string> = new Map([
  ['2.5.4.3', 'CN'],
  ['2.5.4.4', 'SN'],
  ['2.5.4.5', 'serialNumber'],
  ['2.5.4.6', 'C'],
  ['2.5.4.7', 'L'],
  ['2.5.4.8', 'ST'],
  ['2.5.4.9', 'street'],
  ['2.5.4.10', 'O'],
  ['2.5.4.11', 'OU'],
  ['2.5.4.12', 'title'],
  ['2.5.4.13', 'description'],
  ['2.5.4.15', 'businessCategory'],
  ['2.5.4.16', 'postalAddress'],
  ['2.5.4.17', 'postalCode'],
  ['2.5.4.18', 'postOfficeBox'],
  ['2.5.4.20', 'telephoneNumber'],
  ['2.5.4.41', 'name'],
  ['2.5.4.42', 'GN'],
  ['2.5.4.43', 'initials'],
  ['2.5.4.44', 'generationQualifier'],
  ['2.5.4.45', 'x500UniqueIdentifier'],
  ['2.5.4.46', 'dnQualifier'],
  ['2.5.4.65', 'pseudonym'],
  ['2.5.4.97', 'organizationIdentifier'],
  ['0.9.2342.19200300.100.1.1', 'UID'],
  ['0.9.2342.19200300.100.1.3', 'mail'],
  ['0.9.2342.19200300.100.1.25', 'DC'],
  ['1.2.840.113549.1.9.1', 'emailAddress'],
  ['1.2.840.113549.1.9.2', 'unstructuredName'],
  ['1.3.6.1.4.1.311.60.2.1.1', 'jurisdictionL'],
  ['1.3.6.1.4.1.311.60.2.1.2', 'jurisdictionST'],
  ['1.3.6.1.4.1.311.60.2.1.3', 'jurisdictionC'],
]);

/** Bytes a character has in each kind of string; 0 is UTF-8. Others are no strings. (a_strex.c:tag2nbyte) */
const CHARACTER_BYTES: ReadonlyMap<number, number> = new Map([
  [0x0c, 0],
  [0x12, 1],
  [0x13, 1],
  [0x14, 1],
  [0x16, 1],
  [0x17, 1],
  [0x18, 1],
  [0x1a, 1],
  [0x1c, 4],
  [0x1e, 2],
]);

/** The attributes of a name, in its own order. Throws ProtocolViolation 08P01 for a malformed one, or one of more than 100. */
export function readName(name: DerReader): NameAttribute[] {
  const attributes: NameAttribute[] = [];
  for (let place = 0; !name.isAtEnd; place += 1) {
    const set = name.enter(DER_SET);
    while (!set.isAtEnd) {
      const attribute = set.enter(DER_SEQUENCE);
      attributes.push({ oid: attribute.oid(), value: attribute.next(), place });
      if (attributes.length > ATTRIBUTES_MAX) {
        throw new ProtocolViolation(SQLSTATE.protocolViolation, 'certificate with too long a name');
      }
    }
  }
  return attributes;
}

/** The bytes of the first common name; null without one. (X509_NAME_get_text_by_NID) */
export function commonNameOf(attributes: readonly NameAttribute[]): Uint8Array | null {
  return attributes.find(({ oid }) => oid === OID_COMMON_NAME)?.value.content ?? null;
}

/** As XN_FLAG_RFC2253 writes it: the last attribute first, everything beyond ASCII escaped. */
export function formatRfc2253(attributes: readonly NameAttribute[]): string {
  let text = '';
  let before: number | null = null;
  for (const { oid, value, place } of attributes.toReversed()) {
    if (before !== null) text += before === place ? '+' : ',';
    before = place;
    const name = SHORT_NAMES.get(oid);
    // A field that nobody knows may hold anything: its bytes are shown.
    const shown = name === undefined ? dump(value) : escapeValue(value, true);
    text += `${name ?? oid}=${shown}`;
  }
  return text;
}

/** As PostgreSQL writes the issuer: `/C=DE/CN=x`, in the certificate's order. */
export function formatOneLine(attributes: readonly NameAttribute[]): string {
  return attributes
    .map(({ oid, value }) => `/${SHORT_NAMES.get(oid) ?? oid}=${escapeValue(value, false)}`)
    .join('');
}

function escapeValue(value: DerValue, escapesBeyondAscii: boolean): string {
  const width = CHARACTER_BYTES.get(value.tag);
  const text = width === undefined ? null : decodeText(value.content, width);
  if (text === null) return dump(value);
  const characters = Array.from(text);
  const last = characters.length - 1;
  return characters
    .map((character, index) => {
      const edge = { isFirst: index === 0, isLast: index === last };
      return escapeCharacter(character, edge, escapesBeyondAscii);
    })
    .join('');
}

function escapeCharacter(
  character: string,
  edge: { isFirst: boolean; isLast: boolean },
  escapesBeyondAscii: boolean,
): string {
  const code = character.codePointAt(0) ?? 0;
  if (code > 0x7f) return escapesBeyondAscii ? hexEscaped(character) : character;
  if (',+"\\<>;'.includes(character)) return `\\${character}`;
  if (character === ' ' && (edge.isFirst || edge.isLast)) return '\\ ';
  if (character === '#' && edge.isFirst) return '\\#';
  if (code < 0x20 || code === 0x7f) return hexEscaped(character);
  return character;
}

function hexEscaped(character: string): string {
  return Array.from(
    Buffer.from(character, 'utf8'),
    (byte) => `\\${byte.toString(16).toUpperCase().padStart(2, '0')}`,
  ).join('');
}

/** Null where the bytes are no text of that kind. */
function decodeText(content: Uint8Array, width: number): string | null {
  if (width === 1) return Buffer.from(content).toString('latin1');
  if (width === 0) return decodeUtf8(content);
  if (content.length % width !== 0) return null;
  let text = '';
  for (let offset = 0; offset < content.length; offset += width) {
    let code = 0;
    for (let index = 0; index < width; index += 1) {
      code = code * 256 + (content[offset + index] ?? 0);
    }
    if (code > 0x10_ffff) return null;
    text += String.fromCodePoint(code);
  }
  return text;
}

/** The text of UTF-8 bytes, a byte order mark included; null where they are none. */
export function decodeUtf8(content: Uint8Array): string | null {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(content);
  } catch {
    return null;
  }
}

/** `#` and the DER of the value in hexadecimal digits. (do_dump with ASN1_STRFLGS_DUMP_DER) */
function dump({ tag, content }: DerValue): string {
  const { length } = content;
  const octets: number[] = [];
  for (let rest = length; rest > 0; rest = Math.floor(rest / 256)) octets.unshift(rest % 256);
  const header = length < 0x80 ? [tag, length] : [tag, 0x80 + octets.length, ...octets];
  const der = Buffer.concat([Buffer.from(header), content]);
  return `#${der.toString('hex').toUpperCase()}`;
}
