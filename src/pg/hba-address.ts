// Which clients does the address of a rule mean? (hba.c:parse_hba_line, hostname_match)
import type { HbaAddress } from './hba-rule.ts';
import type { HbaField } from './hba-tokens.ts';
import { isKeyword } from './hba-words.ts';
import { parseIpAddress, prefixMask } from './ip-address.ts';
import type { IpAddress } from './ip-address.ts';

/** Takes the address, and the mask where it is a field of its own, off `fields`; or says what is wrong. */
export function readAddress(fields: HbaField[]): HbaAddress | string {
  const field = fields.shift();
  const word = field?.[0];
  if (field === undefined || word === undefined) {
    return 'end-of-line before IP address specification';
  }
  if (field.length > 1) return 'multiple values specified for host address';
  if (isKeyword(word, 'all')) return { kind: 'all' };
  if (isKeyword(word, 'samehost')) return { kind: 'samehost' };
  if (isKeyword(word, 'samenet')) return { kind: 'samenet' };
  const slash = word.text.indexOf('/');
  const addressText = slash < 0 ? word.text : word.text.slice(0, slash);
  const address = parseIpAddress(addressText);
  if (address === null) return readHostName(word.text, addressText, slash >= 0);
  return slash < 0
    ? readMask(fields, address)
    : readPrefix(word.text, address, word.text.slice(slash + 1));
}

/**
 * What is no address is a name of a host, as for PostgreSQL; but not what looks like an address: it would be a rule that
 * nobody matches, and one that rejects nobody.
 */
function readHostName(text: string, name: string, hasMask: boolean): HbaAddress | string {
  if (/^(?:(?:0x[\da-f]*|\d*)(?:\.|$))*$|^0x|:|%/i.test(name))
    return `invalid IP address "${text}"`;
  if (hasMask) return `specifying both host name and CIDR mask is invalid: "${text}"`;
  return { kind: 'name', name };
}

function readPrefix(text: string, address: IpAddress, prefixText: string): HbaAddress | string {
  const mask = /^\d{1,3}$/.test(prefixText) ? prefixMask(Number(prefixText), address.length) : null;
  if (mask === null) return `invalid CIDR mask in address "${text}"`;
  return { kind: 'network', network: { address, mask } };
}

function readMask(fields: HbaField[], address: IpAddress): HbaAddress | string {
  const field = fields.shift();
  if (field === undefined) return 'end-of-line before netmask specification';
  if (field.length > 1) return 'multiple values specified for netmask';
  const text = field[0]?.text ?? '';
  const mask = parseIpAddress(text);
  if (mask === null) return `invalid IP mask "${text}"`;
  if (mask.length !== address.length) return 'IP address and mask do not match';
  return { kind: 'network', network: { address, mask } };
}

/** True when `name`, the name of a client, is the one of a rule, or ends with it where that begins with a dot. */
export function matchesHostName(pattern: string, name: string): boolean {
  const [wanted, actual] = [lowerAscii(pattern), lowerAscii(name)];
  return wanted.startsWith('.') ? actual.endsWith(wanted) : actual === wanted;
}

/** (pg_strcasecmp, for names of hosts) */
function lowerAscii(text: string): string {
  return text.replace(/[A-Z]/g, (letter) => letter.toLowerCase());
}
