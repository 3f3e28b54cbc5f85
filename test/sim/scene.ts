// Everything that takes part in one run, by name: what checkers and faults look around in.
import type { TimelineHistory } from '../../src/pg/timeline.ts';
import type { SimConnection } from './machine/connection.ts';
import type { Network } from './machine/network.ts';
import type { Random } from './machine/random.ts';
import type { World } from './machine/world.ts';
import type { Cluster } from './postgres/cluster.ts';
import type { Server } from './postgres/server.ts';
import type { WaitingCommit } from './postgres/sync-commits.ts';
import type { Standby } from './postgres/standby.ts';
import type { RelayHost } from './relay-host.ts';
import type { Verdict } from './verdict.ts';
import type { WireStream } from './wire-taps.ts';
import type { StatusFrame } from './postgres/frames.ts';

/** One run. */
export interface Scene {
  readonly world: World;
  readonly network: Network;
  readonly random: Random;
  readonly verdict: Verdict;
  readonly cluster: Cluster;
  readonly servers: Map<string, Server>;
  readonly relays: Map<string, RelayHost>;
  readonly standbys: Map<string, Standby>;
  /** A primary tells a client of its commit. */
  onReleased: (server: Server, commit: WaitingCommit, by: readonly string[]) => void;
}

/** Checks one invariant. Whatever it is not told it does not need. */
export interface Checker {
  onDial?(connection: SimConnection): void;
  onStart?(stream: WireStream): void;
  onWal?(stream: WireStream, startLsn: bigint, bytes: Buffer): void;
  onStatus?(stream: WireStream, status: StatusFrame, before: StatusFrame | null): void;
  onReleased?(server: Server, commit: WaitingCommit, by: readonly string[]): void;
  afterStep?(): void;
}

/** The relay whose upstream a stream comes from; null when it is none of ours, or one that reads older WAL for a standby. */
export function receivingRelay(scene: Scene, stream: WireStream): RelayHost | null {
  if (stream.applicationName.endsWith('_read_through')) return null;
  return scene.relays.get(stream.client) ?? null;
}

/** What a relay has in its store at this moment; null while it is empty or not running. */
export interface StoredNow {
  readonly timeline: number;
  readonly oldestLsn: bigint;
  readonly receivedLsn: bigint;
  readonly writtenLsn: bigint;
  readonly flushedLsn: bigint;
}

export function storedNow(host: RelayHost): StoredNow | null {
  const store = host.status()?.store ?? null;
  if (store === null || store.timeline === null) return null;
  return { ...store, timeline: store.timeline };
}

/** The history of a timeline of the scene's cluster; null for one it does not have. */
export function historyOf(scene: Scene, timeline: number): TimelineHistory | null {
  const { cluster } = scene;
  const id = timeline as TimelineHistory['timeline'];
  return cluster.has(id) ? cluster.history(id) : null;
}
