// Which name has a client's address, and does the name lead back to it? For access rules with names of hosts. Who owns an
// address also owns the name service that says its name, and may let it hang: that is asked outside of the pool that also
// writes WAL, kept for a while, and never waited for longer than a bound. (hba.c:check_hostname)
import { lookup, Resolver } from 'node:dns/promises';
import { readFile } from 'node:fs/promises';
import type { Clock } from '../base/clock.ts';
import { systemErrorCode } from '../base/errors.ts';
import type { HostNames } from '../pg/hba.ts';
import { clientNetwork } from '../pg/client-network.ts';
import { parseIpAddress } from '../pg/ip-address.ts';

/** How names are looked up. Each may reject, and may never answer. */
export interface NameLookups {
  /** Names of an address, the first of which counts. */
  names(address: string): Promise<readonly string[]>;
  addresses(name: string): Promise<readonly string[]>;
}

/** Bounds of {@link KnownHostNames}. */
export interface HostNameLimits {
  /** How long somebody waits for an answer. */
  readonly waitMs: number;
  /** How long an answer counts, that there is none too. */
  readonly keepMs: number;
  /** How long an older answer counts while no new one is to be had. */
  readonly staleMs: number;
  /** Answers that are kept; the oldest go first. */
  readonly entriesMax: number;
  /** Questions under way; further ones have no answer. */
  readonly askedMax: number;
  /** Of these about addresses of one network: who owns it may let all of them hang. */
  readonly askedPerNetworkMax: number;
}

/** For the running process. */
export const HOST_NAME_LIMITS: HostNameLimits = {
  waitMs: 5_000,
  keepMs: 60_000,
  staleMs: 3_600_000,
  entriesMax: 2_000,
  askedMax: 64,
  askedPerNetworkMax: 16,
};

interface Entry {
  /** Null: nobody has answered yet. */
  answer: readonly string[] | null;
  answeredMs: number;
  /** Under way. */
  asking: Promise<void> | null;
}

/** Names of hosts with a memory. */
export class KnownHostNames implements HostNames {
  readonly #clock: Clock;
  readonly #lookups: NameLookups;
  readonly #limits: HostNameLimits;
  readonly #entries = new Map<string, Entry>();
  #asked = 0;
  /** By network, while there are any. */
  readonly #askedPerNetwork = new Map<string, number>();

  constructor(
    clock: Clock,
    lookups: NameLookups = systemLookups(HOST_NAME_LIMITS.waitMs),
    limits: HostNameLimits = HOST_NAME_LIMITS,
  ) {
    this.#clock = clock;
    this.#lookups = lookups;
    this.#limits = limits;
  }

  async nameOf(address: string): Promise<string | null> {
    const ask = async (): Promise<readonly string[]> => {
      // An answer may hold thousands.
      const [first] = await this.#lookups.names(address);
      return first === undefined ? [] : [first];
    };
    const [name = null] = await this.#answer(`name ${address}`, ask, clientNetwork(address));
    return name !== null && HOST_NAME.test(name) ? name : null;
  }

  async addressesOf(name: string): Promise<readonly string[]> {
    return await this.#answer(`address ${name}`, () => this.#lookups.addresses(name));
  }

  async #answer(
    key: string,
    ask: () => Promise<readonly string[]>,
    network: string | null = null,
  ): Promise<readonly string[]> {
    const entry = this.#entryOf(key);
    const isFresh = this.#ageMs(entry) < this.#limits.keepMs;
    if (!isFresh) await this.#renew(entry, ask, network);
    return this.#ageMs(entry) < this.#limits.staleMs ? (entry.answer ?? []) : [];
  }

  #ageMs({ answer, answeredMs }: Entry): number {
    return answer === null ? Number.POSITIVE_INFINITY : this.#clock.nowMs() - answeredMs;
  }

  /** The entry becomes the newest one. */
  #entryOf(key: string): Entry {
    const entry = this.#entries.get(key) ?? { answer: null, answeredMs: 0, asking: null };
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    for (const [oldest] of this.#entries) {
      if (this.#entries.size <= this.#limits.entriesMax) break;
      this.#entries.delete(oldest);
    }
    return entry;
  }

  /** Resolves when there is an answer, or there will be none in time. */
  async #renew(
    entry: Entry,
    ask: () => Promise<readonly string[]>,
    network: string | null,
  ): Promise<void> {
    if (entry.asking === null) {
      if (this.#asked >= this.#limits.askedMax) return;
      if (this.#askedOf(network) >= this.#limits.askedPerNetworkMax) return;
      this.#count(network, 1);
      entry.asking = this.#ask(entry, ask).finally(() => {
        this.#count(network, -1);
        entry.asking = null;
      });
    }
    await this.#waitFor(entry.asking);
  }

  #askedOf(network: string | null): number {
    return network === null ? 0 : (this.#askedPerNetwork.get(network) ?? 0);
  }

  #count(network: string | null, change: number): void {
    this.#asked += change;
    if (network === null) return;
    const asked = this.#askedOf(network) + change;
    if (asked === 0) this.#askedPerNetwork.delete(network);
    else this.#askedPerNetwork.set(network, asked);
  }

  async #ask(entry: Entry, ask: () => Promise<readonly string[]>): Promise<void> {
    try {
      entry.answer = await ask();
      entry.answeredMs = this.#clock.nowMs();
    } catch (error) {
      // That there is no such name is an answer, too; anything else is none.
      if (systemErrorCode(error) === 'ENOTFOUND' || systemErrorCode(error) === 'ENODATA') {
        entry.answer = [];
        entry.answeredMs = this.#clock.nowMs();
      }
    }
  }

  #waitFor(asking: Promise<void>): Promise<void> {
    return new Promise((resolve) => {
      const timer = this.#clock.setTimer(this.#limits.waitMs, resolve);
      void asking.then(() => {
        timer.cancel();
        resolve();
      });
    });
  }
}

/** Who owns an address chooses its name: what no host can be called is not looked up. (res_hnok) */
const HOST_NAME = /^(?=.{1,253}$)[A-Za-z0-9_][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_][A-Za-z0-9_-]*)*\.?$/;

const HOSTS_FILE = '/etc/hosts';

/** /etc/hosts, then the name service, as most systems have it. */
function systemLookups(timeoutMs: number): NameLookups {
  const resolver = new Resolver({ timeout: Math.floor(timeoutMs / 2), tries: 2 });
  return {
    names: async (address) => {
      const known = nameInHosts(await hostsText(), address);
      return known === null ? await resolver.reverse(address) : [known];
    },
    addresses: async (name) => {
      const found = await lookup(name, { all: true });
      return found.map(({ address }) => address);
    },
  };
}

async function hostsText(): Promise<string> {
  try {
    return await readFile(HOSTS_FILE, 'utf8');
  } catch {
    return '';
  }
}

/** The first name of the first line with that address; null when there is none. (hosts(5)) */
export function nameInHosts(text: string, address: string): string | null {
  const wanted = parseIpAddress(address);
  if (wanted === null) return null;
  for (const line of text.split('\n')) {
    const [written = '', name] = line.replace(/#.*/, '').trim().split(/\s+/);
    const known = parseIpAddress(written);
    if (name !== undefined && known !== null && Buffer.compare(known, wanted) === 0) return name;
  }
  return null;
}
