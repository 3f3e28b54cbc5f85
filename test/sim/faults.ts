// What goes wrong in a run, and when? Faults of every kind, one after the other and side by side, each with its own end.
import { MACHINE } from './machine/world.ts';
import { Cluster, SEGMENT_BYTES } from './postgres/cluster.ts';
import { Server } from './postgres/server.ts';
import { MANNERS } from './postgres/standby.ts';
import type { RelayHost } from './relay-host.ts';
import type { Scene } from './scene.ts';
import { ANY_ONE, drawPolicy } from './sync-policy.ts';

type Fault = (faults: Faults) => void;

/** What happens, by name, with how often compared to others. */
const KINDS: readonly (readonly [name: string, weight: number, fault: Fault])[] = [
  ['relay killed', 3, (faults) => faults.relay().kill()],
  ['relay lost power', 4, (faults) => faults.relay().losePower()],
  ['relay drained', 2, (faults) => faults.relay().drain()],
  ['relay stopped (SIGSTOP)', 2, (faults) => faults.stopRelay()],
  ['told to connect anew', 3, (faults) => faults.relay().reconnect()],
  ['policy changed', 3, (faults) => faults.changePolicy()],
  ['wall clock set', 1, (faults) => faults.setClock()],
  ['link cut', 5, (faults) => faults.cut()],
  ['connection broken', 6, (faults) => faults.breakConnection()],
  ['fsync slow', 4, (faults) => faults.slowDisk()],
  ['fsync failed', 2, (faults) => faults.failSync()],
  ['disk full', 2, (faults) => faults.fillDisk()],
  ['primary crashed', 2, (faults) => faults.crashPrimary()],
  ['primary restarted', 2, (faults) => faults.restartPrimary()],
  ['failover', 2, (faults) => faults.failOver()],
  ['switchover', 2, (faults) => faults.switchOver()],
  ['two primaries', 1, (faults) => faults.splitBrain()],
  ['stranger at an address', 1, (faults) => faults.stranger()],
  ['bit flipped', 2, (faults) => faults.flipBit()],
  ['standby killed', 3, (faults) => faults.standby().process?.kill('kill')],
  ['standby lost power', 1, (faults) => faults.standbyLosesPower()],
  ['standby changed its manner', 2, (faults) => faults.changeManner()],
];

/** Makes faults. */
export class Faults {
  readonly counts = new Map<string, number>();
  readonly #scene: Scene;
  readonly #favours: string | null;
  #primary: Server;
  #restores: (() => void)[] = [];
  #isOver = false;
  timelineSwitches = 0;

  constructor(scene: Scene, primary: Server, favours: string | null) {
    this.#favours = favours;
    this.#scene = scene;
    this.#primary = primary;
  }

  get primary(): Server {
    return this.#primary;
  }

  /** From now on, every `meanMs` on average. */
  begin(meanMs: number): void {
    const { world, random } = this.#scene;
    world.schedule(MACHINE, random.exponential(meanMs), 'fault', () => {
      if (this.#isOver) return;
      this.#strike();
      this.begin(meanMs);
    });
  }

  /** Everything is put right, and nothing goes wrong any more. */
  end(): void {
    this.#isOver = true;
    const { servers, relays, standbys, network } = this.#scene;
    const hosts = [...servers.keys(), ...relays.keys(), ...standbys.keys()];
    for (const from of hosts) for (const to of hosts) network.setCut(from, to, false);
    for (const restore of this.#restores.splice(0)) restore();
    this.#primary.following = null;
    for (const server of servers.values()) {
      if (server !== this.#primary) server.follow(this.#primary);
      server.isStopping = false;
      server.commits.policy = ANY_ONE;
      server.start();
    }
    for (const host of relays.values()) {
      host.mounted.slowUntilMs = 0;
      host.mounted.disk.failingSyncs = 0;
      host.mounted.disk.capacity = Number.POSITIVE_INFINITY;
      host.setStopped(false);
      host.start();
      // One that whoever is there can satisfy.
      host.changePolicy(ANY_ONE);
    }
    for (const standby of standbys.values()) {
      standby.manner = 'honest';
      standby.start();
    }
  }

  #strike(): void {
    const { random, world } = this.#scene;
    const weightOf = (name: string, weight: number): number =>
      name === this.#favours ? weight * 10 : weight;
    const total = KINDS.reduce((sum, [name, weight]) => sum + weightOf(name, weight), 0);
    let at = random.next() * total;
    for (const [name, weight, fault] of KINDS) {
      at -= weightOf(name, weight);
      if (at >= 0) continue;
      world.trace.note(`FAULT ${name}`);
      this.counts.set(name, (this.counts.get(name) ?? 0) + 1);
      fault(this);
      return;
    }
  }

  /** Some time later, unless the faults are over by then. */
  #later(minMs: number, maxMs: number, run: () => void): void {
    const { world, random } = this.#scene;
    world.schedule(MACHINE, random.real(minMs, maxMs), 'fault ends', () => {
      if (!this.#isOver) run();
    });
  }

  // --- who

  relay(): RelayHost {
    return this.#scene.random.pick([...this.#scene.relays.values()]);
  }

  standby(): NonNullable<ReturnType<Scene['standbys']['get']>> {
    return this.#scene.random.pick([...this.#scene.standbys.values()]);
  }

  /** A server that could be promoted; null when there is none. */
  #heir(): Server | null {
    const heirs = [...this.#scene.servers.values()].filter(
      (server) =>
        server !== this.#primary &&
        server.isUp &&
        server.parts.cluster === this.#scene.cluster &&
        server.timeline === this.#primary.timeline,
    );
    return heirs.length === 0 ? null : this.#scene.random.pick(heirs);
  }

  // --- relays and their disks

  stopRelay(): void {
    const host = this.relay();
    host.setStopped(true);
    this.#later(100, 90_000, () => host.setStopped(false));
  }

  changePolicy(): void {
    const { random, relays, standbys } = this.#scene;
    const host = this.relay();
    const others = [...standbys.keys(), ...relays.keys()].filter((name) => name !== host.name);
    host.changePolicy(random.chance(0.25) ? null : drawPolicy(others, random));
  }

  setClock(): void {
    const { process } = this.relay();
    if (process !== null) process.wallOffsetMs += this.#scene.random.real(-3_600_000, 3_600_000);
  }

  slowDisk(): void {
    const { mounted } = this.relay();
    mounted.slowUntilMs = this.#scene.world.nowMs + this.#scene.random.real(100, 10_000);
  }

  failSync(): void {
    const { disk } = this.relay().mounted;
    disk.failingSyncs = 1;
    this.#later(2_000, 10_000, () => {
      disk.failingSyncs = 0;
    });
  }

  fillDisk(): void {
    const { disk } = this.relay().mounted;
    disk.capacity = disk.usedBytes + this.#scene.random.between(0, 1 << 20);
    this.#later(500, 90_000, () => {
      disk.capacity = Number.POSITIVE_INFINITY;
    });
  }

  // --- network

  cut(): void {
    const { random, network } = this.#scene;
    const relay = this.relay().name;
    const others = [
      ...this.#scene.servers.keys(),
      ...this.#scene.standbys.keys(),
      ...this.#scene.relays.keys(),
    ];
    const other = random.pick(others.filter((name) => name !== relay));
    const ways = random.pick([
      [true, true],
      [true, false],
      [false, true],
    ] as const);
    const pairs = [[relay, other] as const, [other, relay] as const].filter(
      (_, index) => ways[index],
    );
    for (const [from, to] of pairs) network.setCut(from, to, true);
    const maxMs = random.pick([500, 5_000, 75_000]);
    this.#later(50, maxMs, () => {
      for (const [from, to] of pairs) network.setCut(from, to, false);
    });
  }

  breakConnection(): void {
    const { network, random } = this.#scene;
    const connections = [...network.connections];
    if (connections.length > 0) random.pick(connections).break();
  }

  // --- servers

  crashPrimary(): void {
    const primary = this.#primary;
    primary.crash(this.#scene.random.chance(0.5));
    this.#later(200, 10_000, () => primary.start());
  }

  restartPrimary(): void {
    const primary = this.#primary;
    primary.stopFast(() => this.#later(100, 3_000, () => primary.start()));
  }

  /** The primary dies, and what nobody had is gone. */
  failOver(): void {
    const [old, heir] = [this.#primary, this.#heir()];
    if (heir === null || !old.isUp || old.isStopping) return;
    old.crash(this.#scene.random.chance(0.5));
    this.#promote(heir);
    this.#comesBack(old);
  }

  /** Nothing is lost: the heir gets everything first. */
  switchOver(): void {
    const [old, heir] = [this.#primary, this.#heir()];
    if (heir === null || old.isStopping) return;
    old.stopFast(() => {
      if (this.#isOver || this.#primary !== old || !heir.isUp) {
        this.#later(100, 200, () => old.start());
        return;
      }
      heir.walEnd = old.walEnd;
      heir.timeline = old.timeline;
      this.#promote(heir);
      this.#comesBack(old);
    });
  }

  /** The old one goes on for a while, as if nothing had happened. */
  splitBrain(): void {
    const { relays } = this.#scene;
    const [old, heir] = [this.#primary, this.#heir()];
    if (heir === null || !old.isUp || old.isStopping) return;
    this.#promote(heir);
    // A relay that keeps less than that would have lost where the timelines part.
    const keptBytes = Math.min(...[...relays.values()].map(({ keepBytes }) => keepBytes));
    old.writeLimitLsn = old.walEnd + BigInt(keptBytes - SEGMENT_BYTES);
    this.#later(500, 15_000, () => {
      old.crash(false);
      this.#comesBack(old);
    });
  }

  #promote(heir: Server): void {
    heir.promote();
    this.#primary = heir;
    this.timelineSwitches += 1;
    for (const server of this.#scene.servers.values()) {
      if (server.following !== null && server !== heir) server.follow(heir);
    }
  }

  #comesBack(old: Server): void {
    this.#later(500, 10_000, () => {
      if (this.#primary === old) return;
      old.follow(this.#primary);
      old.start();
    });
  }

  /** Somebody else's server answers at the address of one of ours. */
  stranger(): void {
    const { random } = this.#scene;
    const victim = random.pick([...this.#scene.servers.values()]);
    if (!victim.isUp || victim.isStopping || victim.parts.cluster !== this.#scene.cluster) return;
    victim.crash(false);
    victim.isReplaced = true;
    const cluster = new Cluster({
      major: this.#scene.cluster.major,
      systemIdentifier: '7300000000000000999',
      minor: 5,
    });
    for (let left = random.between(1, 300); left > 0; left -= 1)
      cluster.write(cluster.newest, random);
    for (let left = random.between(0, 2); left > 0; left -= 1)
      cluster.branch(cluster.newest, cluster.endLsn(cluster.newest));
    const parts = {
      ...victim.parts,
      cluster,
      random: random.fork(),
      writeEveryMs: 200,
      onReleased: () => {},
    };
    const stranger = new Server(victim.name, parts, null);
    this.#scene.servers.set(victim.name, stranger);
    const isPrimary = victim === this.#primary;
    stranger.start();
    const restore = (): void => {
      stranger.crash(false);
      this.#scene.servers.set(victim.name, victim);
      victim.isReplaced = false;
      if (!isPrimary && victim !== this.#primary) victim.follow(this.#primary);
      victim.start();
    };
    this.#restores.push(restore);
    this.#later(500, 8_000, () => {
      this.#restores = this.#restores.filter((one) => one !== restore);
      restore();
    });
  }

  flipBit(): void {
    const { relays, servers, random } = this.#scene;
    // What `verify: page` does not see is told by docs; here every byte counts.
    if ([...relays.values()].some((host) => host.setup.verify !== 'record')) return;
    random.pick([...servers.values()]).flipsNextBit = true;
  }

  // --- standbys

  standbyLosesPower(): void {
    const standby = this.standby();
    standby.process?.kill('power');
    this.#scene.network.setDown(standby.name, true);
  }

  changeManner(): void {
    const standby = this.standby();
    if (standby.name !== 's1') standby.manner = this.#scene.random.pick(MANNERS);
  }

  /** Those that ended are started again, as their service managers do. */
  restartStandbys(): void {
    const { world, random, standbys } = this.#scene;
    for (const standby of standbys.values()) {
      if (standby.process === null && random.chance(0.3)) standby.start();
    }
    world.schedule(MACHINE, 1_000, 'standbys again', () => this.restartStandbys());
  }
}
