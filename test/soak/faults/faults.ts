// What the campaign of random faults does to a fleet: each kind with its weight, how it strikes, how it is healed, and what it
// touches, so that two at once do not undo each other.
import { rm, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import type { PostgresCluster } from '../../../src/demo/postgres-cluster.ts';
import { pollUntil, signalProcess } from '../../../src/demo/postgres-process.ts';
import type { StopMode } from '../../../src/demo/postgres-server.ts';
import { runCommand } from '../../../src/demo/postgres-user.ts';
import { FLIP_PLACES } from '../../harness/fault-proxy.ts';
import type { WalFault, Ways } from '../../harness/fault-proxy.ts';
import type { WalcastRelay } from '../../harness/walcast-process.ts';
import { SERVERS } from './fleet.ts';
import type { Fleet, FleetLink } from './fleet.ts';
import { failOver, switchOver, takeBack } from './fleet-switch.ts';

/** One thing that goes wrong. */
export interface Fault {
  readonly kind: string;
  /** For people: to whom. */
  readonly what: string;
  /** Nodes and links; no two faults at once have one in common. */
  readonly touches: readonly string[];
  /** How long it lasts before it is healed. */
  readonly holdMs: number;
  /** Error lines of relays that it explains. */
  readonly expected?: readonly RegExp[];
  strike(): Promise<void>;
  heal(): Promise<void>;
}

/** Draws of one round; the same seed and round give the same ones. */
export class Draw {
  readonly random: () => number;

  constructor(random: () => number) {
    this.random = random;
  }

  pick<T>(list: readonly T[]): T {
    const item = list[Math.floor(this.random() * list.length)];
    if (item === undefined) throw new Error('nothing to draw from');
    return item;
  }

  /** Whole milliseconds. */
  between(least: number, most: number): number {
    return Math.round(least + this.random() * (most - least));
  }
}

/** Makes a fault of a kind; null where the machine cannot. */
type Maker = (fleet: Fleet, draw: Draw) => Omit<Fault, 'kind'> | null;

/** One kind of fault; the weight is how often it is drawn, compared with the others. */
export interface Kind {
  readonly name: string;
  readonly weight: number;
  readonly make: Maker;
}

/** Longer than either end waits for the other, and shorter. */
const HOLD_MS = [500, 9_000] as const;
/** What is left of a disk that is full: the segment that is being written. */
const DISK_LEFT_BYTES = 1_400_000;
const LANES: readonly Ways[] = ['fromServer', 'fromClient'];
const WAL_FAULTS: readonly WalFault[] = [
  ...FLIP_PLACES.map((place): WalFault => ({ kind: 'flip', place })),
  { kind: 'drop' },
  { kind: 'repeat' },
  { kind: 'swap' },
];

const KINDS: readonly Kind[] = [
  { name: 'relay killed', weight: 3, make: relayEnds((relay) => relay.kill()) },
  { name: 'relay drained', weight: 3, make: relayEnds(async (relay) => void (await relay.stop())) },
  { name: 'relay stopped (SIGSTOP)', weight: 3, make: relayFrozen },
  { name: 'relay reloaded', weight: 1, make: relayReloaded },
  { name: 'disk of a relay full', weight: 2, make: diskFull },
  { name: 'standby stopped (SIGSTOP)', weight: 2, make: standbyFrozen },
  { name: 'standby killed', weight: 2, make: standbyKilled },
  { name: 'primary restarted, fast', weight: 2, make: primaryStopped('fast') },
  { name: 'primary restarted, immediate', weight: 2, make: primaryStopped('immediate') },
  { name: 'primary killed, started', weight: 1, make: primaryStopped('kill') },
  { name: 'walsender of the primary killed', weight: 2, make: walSenderKilled },
  { name: 'slot of a relay dropped', weight: 1, make: slotDropped },
  { name: 'switchover', weight: 2, make: switchover },
  { name: 'failover', weight: 2, make: failover },
  { name: 'upstream cut', weight: 2, make: linkFault(upstreamOf, cut) },
  { name: 'downstream cut', weight: 2, make: linkFault(downstreamOf, cut) },
  { name: 'upstream half-open', weight: 2, make: linkFault(upstreamOf, halfOpen) },
  { name: 'downstream half-open', weight: 2, make: linkFault(downstreamOf, halfOpen) },
  { name: 'upstream one way', weight: 2, make: linkFault(upstreamOf, oneWay) },
  { name: 'downstream one way', weight: 2, make: linkFault(downstreamOf, oneWay) },
  { name: 'upstream slow', weight: 1, make: linkFault(upstreamOf, slow) },
  { name: 'downstream slow', weight: 1, make: linkFault(downstreamOf, slow) },
  { name: 'upstream in crumbs', weight: 1, make: linkFault(upstreamOf, crumbs) },
  { name: 'downstream in crumbs', weight: 1, make: linkFault(downstreamOf, crumbs) },
  { name: 'WAL damaged on the way', weight: 3, make: damage },
];

/** All kinds, for the figures. */
export const FAULT_KINDS: readonly string[] = KINDS.map(({ name }) => name);

/** Draws one fault, or two that have nothing in common; `only` narrows the kinds. */
export function drawFaults(fleet: Fleet, draw: Draw, only?: string): Fault[] {
  const wanted = draw.random() < 0.3 && only === undefined ? 2 : 1;
  const drawn: Fault[] = [];
  for (let attempt = 0; attempt < 50 && drawn.length < wanted; attempt += 1) {
    const kind = drawKind(draw, only);
    const made = kind.make(fleet, draw);
    if (made === null) continue;
    const isApart = drawn.every(({ touches }) =>
      touches.every((one) => !made.touches.includes(one)),
    );
    if (isApart) drawn.push({ kind: kind.name, ...made });
  }
  return drawn;
}

/** Draws a kind by its weight; `only` narrows the choice to names with this text. */
export function drawKind(draw: Draw, only?: string): Kind {
  const kinds = KINDS.filter(({ name }) => only === undefined || name.includes(only));
  let left = draw.random() * kinds.reduce((sum, { weight }) => sum + weight, 0);
  for (const kind of kinds) {
    left -= kind.weight;
    if (left < 0) return kind;
  }
  return draw.pick(kinds);
}

function relayEnds(end: (relay: WalcastRelay) => Promise<void>): Maker {
  return (fleet, draw) => {
    const { relay } = draw.pick(fleet.relays);
    return {
      what: relay.name,
      touches: [relay.name],
      holdMs: draw.between(0, 3_000),
      strike: () => end(relay),
      heal: () => relay.start(),
    };
  };
}

function relayFrozen(fleet: Fleet, draw: Draw): Omit<Fault, 'kind'> {
  const { relay } = draw.pick(fleet.relays);
  return {
    what: relay.name,
    touches: [relay.name],
    holdMs: draw.between(...HOLD_MS),
    strike: async () => signalProcess(relay.process.pid, 'SIGSTOP'),
    heal: async () => signalProcess(relay.process.pid, 'SIGCONT'),
  };
}

function relayReloaded(fleet: Fleet, draw: Draw): Omit<Fault, 'kind'> {
  const { relay } = draw.pick(fleet.relays);
  const seconds = 10 + draw.between(0, 10);
  const first = draw.between(0, SERVERS.length - 1);
  return {
    what: `${relay.name}, other order of hosts`,
    touches: [relay.name],
    holdMs: draw.between(0, 500),
    strike: () =>
      relay.reload({
        drain_timeout: `${seconds}s`,
        upstream: { conninfo: fleet.upstreamConninfo(relay.name, first) },
      }),
    heal: async () => {},
  };
}

function diskFull(fleet: Fleet, draw: Draw): Omit<Fault, 'kind'> | null {
  const { relay, volume } = draw.pick(fleet.relays);
  if (volume === null) return null;
  const filler = join(volume.directory, 'filler');
  return {
    what: relay.name,
    touches: [relay.name],
    holdMs: draw.between(3_000, 9_000),
    expected: [/"msg":"no space for WAL/],
    strike: async () => {
      const { bavail, bsize } = await statfs(volume.directory);
      const bytes = bavail * bsize - DISK_LEFT_BYTES;
      if (bytes <= 0) return;
      const args = ['-l', String(bytes), filler];
      const result = await runCommand('fallocate', args, { user: null, cwd: '/' });
      if (result.exitCode !== 0) throw new Error(`fallocate: ${result.stderr}`);
    },
    heal: () => rm(filler, { force: true }),
  };
}

function standbyFrozen(fleet: Fleet, draw: Draw): Omit<Fault, 'kind'> {
  const standby = draw.pick(fleet.standbys);
  let pids: number[] = [];
  return {
    what: standby.name,
    touches: [standby.name],
    holdMs: draw.between(...HOLD_MS),
    strike: async () => {
      pids = (await standby.process?.pids()) ?? [];
      for (const pid of pids) signalProcess(pid, 'SIGSTOP');
    },
    heal: async () => {
      for (const pid of pids) signalProcess(pid, 'SIGCONT');
    },
  };
}

function standbyKilled(fleet: Fleet, draw: Draw): Omit<Fault, 'kind'> {
  const standby = draw.pick(fleet.standbys);
  return {
    what: standby.name,
    touches: [standby.name],
    holdMs: draw.between(0, 3_000),
    strike: () => standby.kill(),
    heal: () => standby.start(),
  };
}

function primaryStopped(how: StopMode | 'kill'): Maker {
  return (fleet, draw) => {
    const { primary } = fleet;
    return {
      what: primary.name,
      touches: [primary.name],
      holdMs: draw.between(0, 2_000),
      strike: () => (how === 'kill' ? primary.kill() : fleet.stopPrimary(how)),
      heal: () => primary.start(),
    };
  };
}

function walSenderKilled(fleet: Fleet, draw: Draw): Omit<Fault, 'kind'> {
  const { primary } = fleet;
  const { relay } = draw.pick(fleet.relays);
  return {
    what: `the one of ${relay.name} on ${primary.name}`,
    touches: [primary.name, relay.name, linkName(primary.name, relay.name)],
    holdMs: 0,
    strike: async () => {
      const from = primary.log.mark();
      const pid = await walSenderOf(primary, relay);
      signalProcess(pid, 'SIGKILL');
      await primary.waitForLog(/ready to accept connections/, { from });
    },
    heal: async () => {},
  };
}

function slotDropped(fleet: Fleet, draw: Draw): Omit<Fault, 'kind'> {
  const { primary } = fleet;
  const { relay } = draw.pick(fleet.relays);
  const { proxy } = fleet.link(primary.name, relay.name);
  return {
    what: `${relay.name} on ${primary.name}`,
    touches: [primary.name, relay.name, linkName(primary.name, relay.name)],
    holdMs: draw.between(0, 1_000),
    strike: async () => {
      proxy.refuse(true);
      proxy.cut();
      const where = `WHERE slot_name = '${relay.name}'`;
      await primary.waitForValue(
        `SELECT count(*) FROM pg_replication_slots ${where} AND active`,
        '0',
      );
      await primary.query(
        `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots ${where}`,
      );
    },
    heal: async () => proxy.refuse(false),
  };
}

function switchover(fleet: Fleet, draw: Draw): Omit<Fault, 'kind'> {
  const [old, next] = [fleet.primary, draw.pick(fleet.standbys)];
  return {
    what: `${old.name} to ${next.name}`,
    touches: touchedBySwitch(fleet, old, next),
    holdMs: draw.between(0, 1_000),
    strike: () => switchOver(fleet, next),
    heal: () => fleet.rejoin(old),
  };
}

function failover(fleet: Fleet, draw: Draw): Omit<Fault, 'kind'> {
  const [old, next] = [fleet.primary, draw.pick(fleet.standbys)];
  return {
    what: `${old.name} to ${next.name}`,
    touches: touchedBySwitch(fleet, old, next),
    holdMs: draw.between(0, 1_000),
    strike: () => failOver(fleet, next),
    heal: () => takeBack(fleet, old),
  };
}

/** Whoever decides about a switch needs both relays: what was acknowledged may be on one of them alone. */
function touchedBySwitch(fleet: Fleet, old: PostgresCluster, next: PostgresCluster): string[] {
  const relays = fleet.relays.map(({ relay }) => relay.name);
  return [
    old.name,
    next.name,
    ...relays.flatMap((relay) => [
      relay,
      linkName(old.name, relay),
      linkName(next.name, relay),
      linkName(relay, next.name),
      linkName(relay, old.name),
    ]),
  ];
}

function damage(fleet: Fleet, draw: Draw): Omit<Fault, 'kind'> {
  const { primary } = fleet;
  const { relay } = draw.pick(fleet.relays);
  const { proxy } = fleet.link(primary.name, relay.name);
  const fault = draw.pick(WAL_FAULTS);
  const text = fault.kind === 'flip' ? `flip in a ${fault.place}` : fault.kind;
  return {
    what: `${text} of a message to ${relay.name}`,
    touches: [primary.name, relay.name, linkName(primary.name, relay.name)],
    holdMs: draw.between(0, 500),
    strike: async () => void (await proxy.faultNextWal(fault, 30_000)),
    heal: async () => {},
  };
}

interface LinkFault {
  readonly strike: () => void;
  readonly heal: () => void;
  readonly what?: string;
}

type LinkAction = (link: FleetLink, draw: Draw) => LinkFault;

function linkFault(choose: (fleet: Fleet, draw: Draw) => FleetLink, action: LinkAction): Maker {
  return (fleet, draw) => {
    const link = choose(fleet, draw);
    const { strike, heal, what } = action(link, draw);
    return {
      what: `${link.from} → ${link.to}${what === undefined ? '' : `, ${what}`}`,
      touches: [linkName(link.from, link.to)],
      holdMs: draw.between(...HOLD_MS),
      strike: async () => strike(),
      heal: async () => heal(),
    };
  };
}

function upstreamOf(fleet: Fleet, draw: Draw): FleetLink {
  return fleet.link(fleet.primary.name, draw.pick(fleet.relays).relay.name);
}

function downstreamOf(fleet: Fleet, draw: Draw): FleetLink {
  return fleet.link(draw.pick(fleet.relays).relay.name, draw.pick(fleet.standbys).name);
}

function cut({ proxy }: FleetLink, draw: Draw): LinkFault {
  const how = draw.pick(['reset', 'orderly'] as const);
  return {
    what: how,
    strike: () => {
      proxy.refuse(true);
      proxy.cut(how);
    },
    heal: () => proxy.refuse(false),
  };
}

function halfOpen({ proxy }: FleetLink): LinkFault {
  return { strike: () => proxy.halfOpen(), heal: () => proxy.resume() };
}

function oneWay({ proxy }: FleetLink, draw: Draw): LinkFault {
  const ways = draw.pick(LANES);
  return {
    what: `nothing passes ${ways}`,
    strike: () => proxy.halfOpen(ways),
    heal: () => proxy.resume(ways),
  };
}

function slow({ proxy }: FleetLink, draw: Draw): LinkFault {
  const delayMs = draw.between(20, 200);
  return {
    what: `${delayMs} ms each way`,
    strike: () => proxy.setDelay(delayMs),
    heal: () => proxy.setDelay(0),
  };
}

function crumbs({ proxy }: FleetLink, draw: Draw): LinkFault {
  const bytes = draw.between(40, 1_000);
  return {
    what: `${bytes} bytes at a time`,
    strike: () => proxy.fragment(bytes),
    heal: () => proxy.fragment(0),
  };
}

async function walSenderOf(primary: PostgresCluster, relay: WalcastRelay): Promise<number> {
  const sql = `SELECT coalesce(max(pid), 0) FROM pg_stat_replication WHERE application_name = '${relay.name}'`;
  return await pollUntil(
    `a walsender for ${relay.name}`,
    async () => {
      const pid = Number(await primary.value(sql));
      return pid === 0 ? null : pid;
    },
    { timeoutMs: 30_000 },
  );
}

function linkName(from: string, to: string): string {
  return `${from} → ${to}`;
}
