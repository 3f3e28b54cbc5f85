// In which order are the addresses of a host name tried? With load_balance_hosts=random in a random one, anew for every
// connection. (fe-connect.c:PQconnectPoll, store_conn_addrinfo)
import { lookup } from 'node:dns';
import type { LookupAddress } from 'node:dns';
import type { LookupFunction } from 'node:net';
import { shuffled } from '../base/shuffle.ts';

/** Finds all addresses of a name. */
export type LookUpAll = (
  host: string,
  callback: (error: NodeJS.ErrnoException | null, addresses: readonly LookupAddress[]) => void,
) => void;

const systemLookup: LookUpAll = (host, callback) => {
  lookup(host, { all: true }, (error, addresses) => callback(error, addresses));
};

/** A `lookup` for node:net that gives the addresses in random order. 0 ≤ random() < 1. */
export function randomLookup(
  random: () => number,
  lookUpAll: LookUpAll = systemLookup,
): LookupFunction {
  return (host, options, callback) => {
    lookUpAll(host, (error, addresses) => {
      const order = error === null ? shuffled(addresses, random) : [];
      const [first] = order;
      if (error !== null || first === undefined) {
        callback(error ?? new Error(`${host} has no address`), '', 0);
      } else if (options.all === true) callback(null, order);
      else callback(null, first.address, first.family);
    });
  };
}
