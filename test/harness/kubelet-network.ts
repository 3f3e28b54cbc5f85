// How do pods reach each other? Each in a network namespace of its own with one address, on a bridge of this machine, where servers
// outside the cluster listen, too. A pod whose node is lost falls silent.
import { execFile } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { isProcessAlive } from '../../src/demo/postgres-workspace.ts';
import { removeStaleNamespaces } from './namespaces.ts';

/** Half of the range for tests of networks, which nobody routes; namespaces.ts uses the other. (RFC 2544) */
const NETWORK = '198.19';
const GATEWAY = 1;
const FIRST_POD = 2;
const FIRST_SERVICE = 200;
const LAST_SERVICE = 254;
const NOBODY = '02:00:00:00:00:01';
const BRIDGE = /\bwk(\d+)b\d+\b/g;

let networks = 0;

/** Where a pod runs. */
export interface PodPlace {
  readonly address: string;
  /** A program with its arguments that runs others there. */
  readonly enter: readonly string[];
  /** Nothing leaves it and nothing comes in any more, and nobody hears of it. */
  cutOff(): Promise<void>;
  /** Takes it away. */
  remove(): Promise<void>;
}

/** The pods' network. */
export class ClusterNetwork implements AsyncDisposable {
  /** Of this process. */
  readonly number: number;
  readonly #subnet: string;
  readonly #bridge: string;
  readonly #prefix: string;
  readonly #places = new Set<string>();
  #pods = 0;
  #services = FIRST_SERVICE;

  /** Use {@link openClusterNetwork}. */
  constructor(subnet: string, number: number) {
    this.number = number;
    this.#subnet = subnet;
    this.#bridge = `wk${process.pid}b${number}`;
    this.#prefix = `walcast-${process.pid}-k${number}`;
  }

  /** This machine, as pods see it. */
  get gateway(): string {
    return this.#at(GATEWAY);
  }

  /** All of its addresses. */
  get cidr(): string {
    return `${this.#at(0)}/24`;
  }

  async open(): Promise<void> {
    await ip([
      `link add ${this.#bridge} type bridge`,
      `addr add ${this.gateway}/24 dev ${this.#bridge}`,
      `link set ${this.#bridge} up`,
    ]);
  }

  /** Another address of this machine, for a Service. */
  async serviceAddress(): Promise<string> {
    if (this.#services > LAST_SERVICE) throw new Error('too many services');
    const address = this.#at(this.#services);
    this.#services += 1;
    await ip([`addr add ${address}/24 dev ${this.#bridge}`]);
    return address;
  }

  /** A place with an address that no pod had before. */
  async addPod(): Promise<PodPlace> {
    this.#pods += 1;
    const number = this.#pods;
    if (FIRST_POD + number >= FIRST_SERVICE) throw new Error('too many pods');
    const [space, cable] = [`${this.#prefix}p${number}`, `${this.#bridge}p${number}`];
    const address = this.#at(FIRST_POD + number);
    await ip([
      `netns add ${space}`,
      `link add ${cable} type veth peer name eth0 netns ${space}`,
      `link set ${cable} master ${this.#bridge} up`,
    ]);
    this.#places.add(space);
    await ip(['link set lo up', `addr add ${address}/24 dev eth0`, 'link set eth0 up'], space);
    return {
      address,
      enter: ['nsenter', `--net=/run/netns/${space}`, '--'],
      cutOff: async () => {
        if (!this.#places.has(space)) return;
        // Known for good: as behind a router that has nobody to hand packets to, and says nothing. A neighbour would be "unreachable".
        await ip([
          `link set ${cable} down`,
          `neigh replace ${address} lladdr ${NOBODY} dev ${this.#bridge} nud permanent`,
        ]);
      },
      remove: async () => {
        if (this.#places.delete(space)) await ip([`netns del ${space}`]);
      },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const space of this.#places) await ip([`netns del ${space}`]);
    this.#places.clear();
    await ip([`link del ${this.#bridge}`]);
  }

  #at(host: number): string {
    return `${NETWORK}.${this.#subnet}.${host}`;
  }
}

/** Opens a network; what dead processes left behind goes first. */
export async function openClusterNetwork(): Promise<ClusterNetwork> {
  await removeStaleNamespaces();
  const links = await text(['-o', 'link', 'show', 'type', 'bridge']);
  for (const [name, pid] of links.matchAll(BRIDGE))
    if (!isProcessAlive(Number(pid))) await ip([`link del ${name}`]);
  const taken = await text(['-o', '-4', 'addr', 'show']);
  let subnet = randomInt(256);
  while (taken.includes(`${NETWORK}.${subnet}.`)) subnet = randomInt(256);
  networks += 1;
  const network = new ClusterNetwork(String(subnet), networks);
  await network.open();
  return network;
}

async function ip(commands: readonly string[], namespace?: string): Promise<void> {
  const where = namespace === undefined ? [] : ['-n', namespace];
  await text([...where, '-batch', '-'], `${commands.join('\n')}\n`);
}

function text(args: readonly string[], input = ''): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = execFile('ip', [...args], (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else reject(new Error(`ip ${args.join(' ')}: ${stderr.trim()}\n${input}`));
    });
    child.stdin?.on('error', () => {});
    child.stdin?.end(input);
  });
}
