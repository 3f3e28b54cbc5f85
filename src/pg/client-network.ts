// Which addresses are one client? Where something is counted per client, a host that has a whole IPv6 network to itself
// must not get a count for each of its addresses.
import { parseIpAddress } from './ip-address.ts';

/** Stands for every address that is none, and for those that there is no place for. */
export const OTHER_NETWORKS: string = 'others';

/** A key for the network of a client: an IPv4 address, also one mapped into IPv6, or the first 64 bits of an IPv6 address. */
export function clientNetwork(address: string): string {
  const bytes = parseIpAddress(address);
  if (bytes === null) return OTHER_NETWORKS;
  const text = Buffer.from(bytes).toString('hex');
  if (bytes.length === 4) return text;
  const isMappedV4 = text.startsWith('00000000000000000000ffff');
  return isMappedV4 ? text.slice(24) : text.slice(0, 16);
}
