// What is a numeric IP address, and does it lie inside a network? Text in, bytes out, no name is ever looked up.
// (src/common/ip.c, src/backend/libpq/ifaddr.c)

/** 4 bytes for IPv4, 16 for IPv6, in network order. */
export type IpAddress = Uint8Array;

/** A network: an address and as many mask bytes. */
export interface IpNetwork {
  readonly address: IpAddress;
  readonly mask: IpAddress;
}

const GROUPS_V6 = 8;

/** Reads `10.0.0.1` or `fe80::1`, without zone; null when the text is no numeric address. */
export function parseIpAddress(text: string): IpAddress | null {
  return text.includes(':') ? parseV6(text) : parseV4(text);
}

/** The text of an address, as inet_ntop writes it: without zeros in front, the longest run of zero groups as `::`. */
export function formatIpAddress(address: IpAddress): string {
  if (address.length === 4) return address.join('.');
  const groups = Array.from({ length: GROUPS_V6 }, (_, index) => {
    return ((address[2 * index] ?? 0) << 8) | (address[2 * index + 1] ?? 0);
  });
  const { start, length } = longestZeroRun(groups);
  // Those that stand for addresses of IPv4 end like one.
  if (start === 0 && (length === 6 || (length === 5 && groups[5] === 0xffff))) {
    return `::${length === 5 ? 'ffff:' : ''}${address.subarray(12).join('.')}`;
  }
  const texts = groups.map((group) => group.toString(16));
  if (length < 2) return texts.join(':');
  return `${texts.slice(0, start).join(':')}::${texts.slice(start + length).join(':')}`;
}

function longestZeroRun(groups: readonly number[]): { start: number; length: number } {
  let best = { start: -1, length: 0 };
  for (let start = 0; start < groups.length; start += 1) {
    let length = 0;
    while (groups[start + length] === 0) length += 1;
    if (length > best.length) best = { start, length };
  }
  return best;
}

/** The mask with `prefixLength` leading ones; null when there are not that many bits. (pg_sockaddr_cidr_mask) */
export function prefixMask(prefixLength: number, byteLength: number): IpAddress | null {
  if (!Number.isInteger(prefixLength) || prefixLength < 0 || prefixLength > byteLength * 8) {
    return null;
  }
  const mask = new Uint8Array(byteLength);
  for (let bit = 0; bit < prefixLength; bit += 1) {
    mask[bit >> 3] = (mask[bit >> 3] ?? 0) | (0x80 >> (bit & 7));
  }
  return mask;
}

/** True when both are of one family and equal under the mask. (pg_range_sockaddr) */
export function isInNetwork(address: IpAddress, network: IpNetwork): boolean {
  if (address.length !== network.address.length || address.length !== network.mask.length) {
    return false;
  }
  return address.every((byte, index) => {
    const mask = network.mask[index] ?? 0;
    return (byte & mask) === ((network.address[index] ?? 0) & mask);
  });
}

function parseV4(text: string): IpAddress | null {
  const parts = text.split('.');
  if (parts.length !== 4) return null;
  const bytes = parts.map((part) => (/^(0|[1-9]\d{0,2})$/.test(part) ? Number(part) : 256));
  return bytes.some((byte) => byte > 255) ? null : Uint8Array.from(bytes);
}

function parseV6(text: string): IpAddress | null {
  const halves = text.split('::');
  if (halves.length > 2) return null;
  const head = parseGroups(halves[0] ?? '', halves.length === 1);
  const tail = halves.length === 2 ? parseGroups(halves[1] ?? '', true) : [];
  if (head === null || tail === null) return null;
  const missing = GROUPS_V6 - head.length - tail.length;
  if (halves.length === 2 ? missing < 1 : missing !== 0) return null;
  const groups = [...head, ...Array.from({ length: missing }, () => 0), ...tail];
  return Uint8Array.from(groups.flatMap((group) => [group >> 8, group & 0xff]));
}

/** 16-bit groups; the last may be a dotted IPv4 address when the text ends the whole address. */
function parseGroups(text: string, isLast: boolean): number[] | null {
  if (text === '') return [];
  const parts = text.split(':');
  const groups: number[] = [];
  for (const [index, part] of parts.entries()) {
    if (part.includes('.')) {
      const v4 = isLast && index === parts.length - 1 ? parseV4(part) : null;
      if (v4 === null) return null;
      groups.push(((v4[0] ?? 0) << 8) | (v4[1] ?? 0), ((v4[2] ?? 0) << 8) | (v4[3] ?? 0));
    } else if (/^[0-9A-Fa-f]{1,4}$/.test(part)) {
      groups.push(Number.parseInt(part, 16));
    } else {
      return null;
    }
  }
  return groups;
}
