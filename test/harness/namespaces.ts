// A network namespace a node, joined by virtual cables that can be cut, slowed down and forgotten by the kernel itself: no RST, no
// FIN, no proxy whose own sockets answer. For root on Linux with iproute2.
//
//     primary ═ l1 ── [p1s  b1  p1c] ── l1 ═ relay      one bridge a link, all of them in a namespace of their own:
//                        switch                         what is done there neither end can notice
//
// SQL goes through Unix sockets, which namespaces do not separate; a relay's HTTP port is reached over one more cable.
import { execFile, spawnSync } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { isProcessAlive } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import type { LinkRecord } from './ledger-audit.ts';
import type { Link, LinkServer, Network, NodeKind, NodePlace } from './topology-links.ts';
import { RelayTaps } from './topology-taps.ts';
import type { Direction } from './wire-proxy.ts';

const PREFIX = 'walcast-';
const LINKS_MAX = 250;
/** Addresses of the links; they exist inside the namespaces only. */
const LINK_NETWORK = '10.77';
/** Where this process and the relays meet: a range for tests of networks, which nobody routes. (RFC 2544) */
const MANAGEMENT_NETWORK = '198.18';
const MANAGEMENT_SUBNETS = 256 * 64;
/**
 * A walreceiver of PostgreSQL heeds no connect_timeout: where nobody answers, it goes on to the next host of its
 * primary_conninfo when the kernel gives up, after 127 s by default. With one more try that is after 3 s.
 */
const SYN_RETRIES = 1;
const SYN_RETRIES_FILE = '/proc/sys/net/ipv4/tcp_syn_retries';
const SUPERUSER_PATH = '/usr/sbin:/usr/bin:/sbin:/bin';

let networks = 0;

/** Why this machine cannot do it; null when it can. */
export function namespaceProblem(): string | null {
  if (process.getuid?.() !== 0) return 'network namespaces need root';
  const env = { PATH: SUPERUSER_PATH };
  for (const program of ['ip', 'tc', 'ss', 'nsenter']) {
    if (spawnSync(program, ['-V'], { env, stdio: 'ignore' }).error !== undefined)
      return `${program} is not installed`;
  }
  const probe = `${PREFIX}${process.pid}-probe`;
  const made = spawnSync('ip', ['netns', 'add', probe], { env, encoding: 'utf8' });
  spawnSync('ip', ['netns', 'del', probe], { env, stdio: 'ignore' });
  return made.status === 0 ? null : `no network namespace can be made: ${made.stderr.trim()}`;
}

/** Makes a network; what dead processes left behind goes first. */
export async function openNamespaces(workspace: Workspace): Promise<NamespaceNetwork> {
  await removeStaleNamespaces();
  networks += 1;
  const network = new NamespaceNetwork(workspace, `${PREFIX}${process.pid}-${networks}`);
  await network.open();
  return network;
}

/** Removes the namespaces of processes that are gone, and all cables with them. */
export async function removeStaleNamespaces(): Promise<void> {
  const names = (await ip(['netns', 'list'])).split('\n').map((line) => line.split(' ')[0] ?? '');
  for (const name of names) {
    const pid = new RegExp(`^${PREFIX}(\\d+)-`).exec(name)?.[1];
    if (pid !== undefined && !isProcessAlive(Number(pid))) await ip(['netns', 'del', name]);
  }
}

/** The nodes' namespaces and the one with the bridges between them. */
export class NamespaceNetwork implements Network {
  readonly #workspace: Workspace;
  readonly #prefix: string;
  readonly #taps: RelayTaps;
  readonly #nodes: string[] = [];
  #links = 0;
  #cables = 0;

  /** Use {@link openNamespaces}. */
  constructor(workspace: Workspace, prefix: string) {
    this.#workspace = workspace;
    this.#prefix = prefix;
    this.#taps = new RelayTaps(workspace.directory);
  }

  async open(): Promise<void> {
    await this.#add('switch');
  }

  async place(node: string, kind: NodeKind): Promise<NodePlace> {
    await this.#add(node);
    const isRelay = kind === 'relay';
    const { user } = this.#workspace;
    const identity =
      isRelay || user === null ? [] : ['--setuid', String(user.uid), '--setgid', String(user.gid)];
    const space = `--net=/run/netns/${this.#nameOf(node)}`;
    await run('nsenter', [space, 'sh', '-c', `echo ${SYN_RETRIES} > ${SYN_RETRIES_FILE}`]);
    const enter = ['nsenter', space, ...identity, '--'];
    return {
      wrapper: enter,
      host: isRelay ? await this.#manage(node) : null,
      listenHost: isRelay ? '0.0.0.0' : '*',
      hba: [LINK_NETWORK, MANAGEMENT_NETWORK]
        .flatMap((network) => [
          ...(isRelay ? [] : [`host all all ${network}.0.0/16 trust\n`]),
          `host replication all ${network}.0.0/16 trust\n`,
        ])
        .join(''),
      ...(isRelay ? this.#taps.add(node) : { nodeArguments: [], environment: {} }),
    };
  }

  async link(server: LinkServer, to: string): Promise<Link> {
    this.#links += 1;
    const number = this.#links;
    if (number > LINKS_MAX) throw new Error('too many links');
    const { name: from } = server;
    const [switchName, fromName, toName] = [
      this.#nameOf('switch'),
      this.#nameOf(from),
      this.#nameOf(to),
    ];
    const cable = (end: 's' | 'c', node: string): string =>
      `link add p${number}${end} netns ${switchName} type veth peer name l${number} address ${mac(number, end)} netns ${node}`;
    await ipBatch([cable('s', fromName), cable('c', toName)]);
    await ipBatch(
      [
        `link add b${number} type bridge`,
        `link set b${number} up`,
        ...['s', 'c'].map((end) => `link set p${number}${end} master b${number} up`),
      ],
      switchName,
    );
    await ipBatch(endpoint(number, 's'), fromName);
    await ipBatch(endpoint(number, 'c'), toName);
    const link = new CableLink(server, to, { number, switchName, fromName });
    this.#taps.addLink(link);
    return link;
  }

  records(): Promise<readonly LinkRecord[]> {
    return this.#taps.read();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const node of this.#nodes.toReversed()) await ip(['netns', 'del', this.#nameOf(node)]);
  }

  async #add(node: string): Promise<void> {
    await ip(['netns', 'add', this.#nameOf(node)]);
    this.#nodes.push(node);
    await ipBatch(['link set lo up'], this.#nameOf(node));
  }

  /** A cable between this process and `node`. Gives the node's end of it. */
  async #manage(node: string): Promise<string> {
    this.#cables += 1;
    const ours = `wc${process.pid}m${networks}${this.#cables}`;
    const subnet = await freeSubnet();
    await ipBatch([
      `link add ${ours} type veth peer name m0 netns ${this.#nameOf(node)}`,
      `addr add ${subnet.ours}/30 dev ${ours}`,
      `link set ${ours} up`,
    ]);
    await ipBatch([`addr add ${subnet.theirs}/30 dev m0`, 'link set m0 up'], this.#nameOf(node));
    return subnet.theirs;
  }

  #nameOf(node: string): string {
    return `${this.#prefix}-${node}`;
  }
}

/** A pair of cables with a bridge between them. */
class CableLink implements Link {
  readonly from: string;
  readonly to: string;
  readonly host: string;
  readonly proxy = null;
  readonly #port: () => number;
  readonly #number: number;
  readonly #switchName: string;
  readonly #fromName: string;

  constructor(
    server: LinkServer,
    to: string,
    where: { readonly number: number; readonly switchName: string; readonly fromName: string },
  ) {
    this.from = server.name;
    this.to = to;
    this.#port = server.port;
    this.#number = where.number;
    this.#switchName = where.switchName;
    this.#fromName = where.fromName;
    this.host = address(where.number, 's');
  }

  get port(): number {
    return this.#port();
  }

  async cut(): Promise<void> {
    await this.cutOneWay('fromServer');
    await this.cutOneWay('fromClient');
  }

  async cutOneWay(direction: Direction): Promise<void> {
    // A queue without a place loses everything.
    await this.#queue(direction, 'pfifo limit 0');
  }

  async rate(bitsPerSecond: number): Promise<void> {
    for (const direction of ['fromServer', 'fromClient'] as const)
      await this.#queue(direction, `tbf rate ${bitsPerSecond}bit burst 16kb latency 50ms`);
  }

  async reset(): Promise<void> {
    // The server's kernel forgets its connections; that it says so is lost with the cut.
    await this.cut();
    await run('ip', ['netns', 'exec', this.#fromName, 'ss', '-K', 'src', this.host]);
    await this.heal();
  }

  async heal(): Promise<void> {
    for (const end of ['s', 'c'])
      await run(
        'tc',
        ['-n', this.#switchName, 'qdisc', 'del', 'dev', `p${this.#number}${end}`, 'root'],
        {
          mayFail: true,
        },
      );
  }

  /** What goes towards a node leaves the switch at that node's end. */
  async #queue(direction: Direction, discipline: string): Promise<void> {
    const end = direction === 'fromServer' ? 'c' : 's';
    const device = ['dev', `p${this.#number}${end}`, 'root', ...discipline.split(' ')];
    await run('tc', ['-n', this.#switchName, 'qdisc', 'replace', ...device]);
  }
}

function endpoint(link: number, end: 's' | 'c'): string[] {
  const other = end === 's' ? 'c' : 's';
  return [
    `addr add ${address(link, end)}/30 dev l${link}`,
    `link set l${link} up`,
    // Known for good: a cut link is silent then, as one behind a router is, and no neighbour "unreachable".
    `neigh replace ${address(link, other)} lladdr ${mac(link, other)} dev l${link} nud permanent`,
  ];
}

function address(link: number, end: 's' | 'c'): string {
  return `${LINK_NETWORK}.${link}.${end === 's' ? 1 : 2}`;
}

function mac(link: number, end: 's' | 'c'): string {
  return `02:00:00:00:${link.toString(16).padStart(2, '0')}:${end === 's' ? '01' : '02'}`;
}

/** A /30 of {@link MANAGEMENT_NETWORK} that no interface here has. */
async function freeSubnet(): Promise<{ ours: string; theirs: string }> {
  const taken = await ip(['-o', '-4', 'addr', 'show']);
  for (;;) {
    const subnet = randomInt(MANAGEMENT_SUBNETS);
    const at = (host: number): string =>
      `${MANAGEMENT_NETWORK}.${subnet >> 6}.${((subnet & 63) << 2) + host}`;
    if (!taken.includes(`${at(1)}/`)) return { ours: at(1), theirs: at(2) };
  }
}

function ip(args: readonly string[]): Promise<string> {
  return run('ip', args);
}

/** Several commands of `ip` at once, inside `namespace` if one is named. */
function ipBatch(commands: readonly string[], namespace?: string): Promise<string> {
  const where = namespace === undefined ? [] : ['-n', namespace];
  return run('ip', [...where, '-batch', '-'], { input: `${commands.join('\n')}\n` });
}

function run(
  program: string,
  args: readonly string[],
  { input = '', mayFail = false }: { input?: string; mayFail?: boolean } = {},
): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = { env: { PATH: SUPERUSER_PATH } };
    const child = execFile(program, [...args], options, (error, stdout, stderr) => {
      if (error === null || mayFail) resolve(stdout);
      else reject(new Error(`${program} ${args.join(' ')}: ${stderr.trim()}\n${input}`));
    });
    // One that needs no input may be gone already.
    child.stdin?.on('error', () => {});
    child.stdin?.end(input);
  });
}
