// Who takes part in a run, and how are they set up? Decided by the seed.
import type { Network } from './machine/network.ts';
import type { World } from './machine/world.ts';
import { Cluster } from './postgres/cluster.ts';
import { Server } from './postgres/server.ts';
import { MANNERS, Standby } from './postgres/standby.ts';
import type { Manner } from './postgres/standby.ts';
import { RelayHost } from './relay-host.ts';
import type { RelaySetup } from './relay-host.ts';
import type { Scene } from './scene.ts';
import { drawPolicy } from './sync-policy.ts';
import type { SyncPolicy } from './sync-policy.ts';
import type { Verdict } from './verdict.ts';

/** What a test may decide in the seed's place. */
export interface ScenarioWishes {
  /** What every standby but the first does wrong. */
  readonly manner?: Manner;
  readonly keepMb?: number;
  readonly hasSlots?: boolean;
  /** The fault that is ten times as frequent as else. */
  readonly favours?: string;
  /** Milliseconds between two writes of the primary, on average. */
  readonly writeEveryMs?: number;
  readonly verify?: RelaySetup['verify'];
  /** That of every relay. */
  readonly policy?: SyncPolicy;
}

/** The parts that every run has. */
export interface Stage {
  readonly world: World;
  readonly network: Network;
  readonly verdict: Verdict;
}

/** `alone`: one relay. `pair`: two for the same standbys. `chain`: one behind the other. */
const SHAPES = ['alone', 'alone', 'pair', 'chain'] as const;
type Shape = (typeof SHAPES)[number];

/** Builds everything; nothing runs yet. */
export function buildScene(stage: Stage, wishes: ScenarioWishes): Scene {
  const { world, network, verdict } = stage;
  const random = world.random.fork();
  const cluster = new Cluster({ major: random.pick([13, 15, 18]) });
  const scene: Scene = {
    world,
    network,
    random,
    verdict,
    cluster,
    servers: new Map(),
    relays: new Map(),
    standbys: new Map(),
    onReleased: () => {},
  };
  const shape = random.pick(SHAPES);
  for (let left = random.between(0, 200); left > 0; left -= 1)
    cluster.write(cluster.newest, random);
  const parts = {
    world,
    network,
    cluster,
    random: random.fork(),
    writeEveryMs: wishes.writeEveryMs ?? random.pick([150, 300, 600]),
    policy: drawPolicy(shape === 'pair' ? ['r1', 'r2'] : ['r1'], random),
    onReleased: (...args: Parameters<Scene['onReleased']>): void => scene.onReleased(...args),
  };
  const primary = new Server('p1', parts, null);
  scene.servers.set('p1', primary);
  for (let index = 2; index <= random.between(1, 3); index += 1) {
    scene.servers.set(`p${index}`, new Server(`p${index}`, parts, primary));
  }
  addRelays(scene, shape, wishes);
  return scene;
}

function addRelays(scene: Scene, shape: Shape, wishes: ScenarioWishes): void {
  const { random } = scene;
  const names = shape === 'alone' ? ['r1'] : ['r1', 'r2'];
  const standbys = Array.from(
    { length: random.between(wishes.manner === undefined ? 1 : 3, 4) },
    (_, index) => `s${index + 1}`,
  );
  const setup: RelaySetup = {
    upstreams: [...scene.servers.keys()],
    targetSessionAttrs: random.pick(['any', 'any', 'primary', 'prefer-standby']),
    verify: wishes.verify ?? random.pick(['record', 'record', 'page']),
    forward: random.pick(['received', 'received', 'flushed']),
    keepMb: wishes.keepMb ?? random.pick([1, 2, 4]),
    slots: random.chance(wishes.hasSlots === true ? 1 : 0.6) ? standbys : [],
    policy: null,
  };
  for (const name of names) {
    const isBehind = shape === 'chain' && name === 'r2';
    const own = isBehind ? { ...setup, upstreams: ['r1'], targetSessionAttrs: 'any' } : setup;
    const slots =
      shape === 'chain' && name === 'r1' && setup.slots.length > 0
        ? [...setup.slots, 'r2']
        : own.slots;
    const behind = shape === 'chain' && name === 'r1' ? [...standbys, 'r2'] : standbys;
    const policy = wishes.policy ?? (random.chance(0.3) ? null : drawPolicy(behind, random));
    scene.relays.set(
      name,
      new RelayHost(name, { ...own, slots, policy }, { ...scene, random: random.fork() }),
    );
  }
  for (const name of standbys)
    addStandby(scene, name, { shape, wishes, hasSlots: setup.slots.length > 0 });
}

function addStandby(
  scene: Scene,
  name: string,
  how: { shape: Shape; wishes: ScenarioWishes; hasSlots: boolean },
): void {
  const { random, world, network } = scene;
  const lists: Readonly<Record<Shape, readonly (readonly string[])[]>> = {
    alone: [['r1']],
    pair: [
      ['r1', 'r2'],
      ['r2', 'r1'],
    ],
    chain: [['r2'], ['r1'], ['r2', 'r1']],
  };
  const isHonest = name === 's1' || (how.wishes.manner === undefined && random.chance(0.5));
  scene.standbys.set(
    name,
    new Standby(
      name,
      {
        world,
        network,
        random: random.fork(),
        relays: random.pick(lists[how.shape]),
        slot: how.hasSlots ? name : null,
      },
      {
        manner: isHonest ? 'honest' : (how.wishes.manner ?? random.pick(MANNERS)),
        startLsn: random.chance(0.3)
          ? scene.cluster.startLsn()
          : scene.cluster.endLsn(scene.cluster.newest),
      },
    ),
  );
}
