// I11: has what is confirmed upstream under a policy been reached, in truth, by the standbys that the policy waits for? And is
// nothing offered while too few of them are there?
import { toLsn } from '../../../src/pg/lsn.ts';
import { toTimelineId } from '../../../src/pg/timeline.ts';
import type { StatusFrame } from '../postgres/frames.ts';
import type { Server } from '../postgres/server.ts';
import { KINDS } from '../postgres/sync-commits.ts';
import type { Kind, WaitingCommit } from '../postgres/sync-commits.ts';
import type { RelayHost } from '../relay-host.ts';
import { historyOf, receivingRelay, storedNow } from '../scene.ts';
import type { Checker, Scene } from '../scene.ts';
import { policyText, priorityOf } from '../sync-policy.ts';
import type { SyncPolicy } from '../sync-policy.ts';
import type { WireStream } from '../wire-taps.ts';

/** A position that somebody is told of. */
interface Claim {
  readonly kind: Kind;
  readonly timeline: number;
  readonly lsn: bigint;
}

/** The checker. */
export function policyIsKept(scene: Scene): Checker {
  return new PolicyChecker(scene);
}

class PolicyChecker implements Checker {
  readonly #scene: Scene;
  /** The highest of each kind that a relay ever said on a timeline: what is said again was right when it was said first. */
  readonly #said = new Map<string, Record<Kind, bigint>>();
  /** The same of what relays behind it said to a relay; `sent`: the end of what was sent to any standby. */
  readonly #behind = new Map<string, Record<Kind | 'sent', bigint>>();

  constructor(scene: Scene) {
    this.#scene = scene;
  }

  onStart(stream: WireStream): void {
    this.#noteSent(stream, stream.startLsn);
  }

  onWal(stream: WireStream, startLsn: bigint, bytes: Buffer): void {
    this.#noteSent(stream, startLsn + BigInt(bytes.length));
  }

  onStatus(stream: WireStream, status: StatusFrame): void {
    const behind = this.#behindOf(stream.server, stream.applicationName, stream.timeline);
    for (const kind of KINDS) if (status[kind] > behind[kind]) behind[kind] = status[kind];
    const host = receivingRelay(this.#scene, stream);
    if (host === null || historyOf(this.#scene, stream.timeline) === null) return;
    if (status.flush === 0n) {
      if (status.apply !== 0n) this.#violate(host, stream, 'apply is offered without flush');
      return;
    }
    this.#checkStatus(host, stream, status);
  }

  onReleased(_server: Server, commit: WaitingCommit, by: readonly string[]): void {
    for (const name of by) {
      const host = this.#scene.relays.get(name);
      if (host === undefined) {
        const what = 'a client was told of a commit because of a session that follows nothing';
        this.#scene.verdict.violate('I11', what, { by: name });
        continue;
      }
      const policies = host.policies.filter(({ untilMs }) => untilMs >= commit.sinceMs);
      if (policies.some(({ policy }) => this.#isReached(host, policy, commit))) continue;
      const what = `a client was told of a commit that waits for ${commit.kind}, and not enough of ${this.#texts(policies)} have it`;
      const { timeline, lsn } = commit;
      this.#scene.verdict.violate('I11', what, { by: name, timeline, lsn });
    }
  }

  #checkStatus(host: RelayHost, stream: WireStream, status: StatusFrame): void {
    const { timeline } = stream;
    const stored = storedNow(host);
    const isBeginning = stored?.oldestLsn === status.flush;
    // Nobody waits any more when a server stops.
    const isLast = this.#scene.cluster.isShutdownEnd(toTimelineId(timeline), toLsn(status.flush));
    const said = this.#saidBy(host, timeline);
    const policies = host.policies.filter(({ untilMs }) => untilMs >= this.#scene.world.nowMs);
    for (const kind of KINDS) {
      const lsn = status[kind];
      if (lsn <= said[kind]) continue;
      said[kind] = lsn;
      if (isLast || isBeginning) continue;
      const claim = { kind, timeline, lsn };
      const own = kind === 'write' ? stored?.writtenLsn : stored?.flushedLsn;
      if (own !== undefined && lsn > own)
        this.#violate(host, stream, `${kind} is beyond its own end`);
      if (!policies.some(({ policy }) => this.#isReached(host, policy, claim))) {
        const what = `${kind} ${lsn.toString(16)} is confirmed, and not enough of ${this.#texts(policies)} have it`;
        this.#violate(host, stream, what);
      }
      const [only, ...more] = policies;
      if (only?.policy?.method === 'FIRST' && more.length === 0)
        this.#checkChosen(host, stream, { policy: only.policy, claim });
    }
    // At the end of a drain it is said what those have who were let go.
    const isOffered =
      host.isDraining || policies.some(({ policy }) => this.#isThere(host, policy, timeline));
    if (!isOffered && !isLast && !isBeginning)
      this.#violate(
        host,
        stream,
        `too few of ${this.#texts(policies)} are there, and flush is offered`,
      );
  }

  /** Of those that are there the first ones of the list are waited for, whoever else has it. */
  #checkChosen(
    host: RelayHost,
    stream: WireStream,
    { policy, claim }: { policy: SyncPolicy; claim: Claim },
  ): void {
    const chosen = candidates(host, policy, claim.timeline)
      .toSorted((a, b) => priorityOf(policy, a) - priorityOf(policy, b))
      .slice(0, policy.required);
    for (const name of chosen) {
      if (policy.names === null || this.#hasReached(host, name, claim)) continue;
      const what = `${claim.kind} ${claim.lsn.toString(16)} is confirmed, and ${name} of ${policyText(policy)} has not got it`;
      this.#violate(host, stream, what);
    }
  }

  /** As many as are required are there, as the relay itself sees them. */
  #isThere(host: RelayHost, policy: SyncPolicy | null, timeline: number): boolean {
    return policy === null || candidates(host, policy, timeline).length >= policy.required;
  }

  #isReached(host: RelayHost, policy: SyncPolicy | null, claim: Claim): boolean {
    if (policy === null) return claim.kind !== 'apply';
    const { standbys, relays } = this.#scene;
    const everybody = [...standbys.keys(), ...relays.keys()].filter((name) => name !== host.name);
    const names = everybody.filter((name) => priorityOf(policy, name) > 0);
    const connected = host.status()?.standbys ?? [];
    let count = 0;
    for (const name of names) {
      if (!this.#hasReached(host, name, claim)) continue;
      // A dead connection counts beside the new one until it is noticed, as it does on a server.
      const own = connected.filter(({ applicationName }) => applicationName === name);
      count += Math.max(1, own.length);
    }
    return count >= policy.required;
  }

  /** In truth. Of one that lies no more is known than what it was sent; of a relay, what it said. */
  #hasReached(host: RelayHost, name: string, { kind, timeline, lsn }: Claim): boolean {
    const behind = this.#behindOf(host.name, name, timeline);
    const standby = this.#scene.standbys.get(name);
    if (standby === undefined) return behind[kind] >= lsn;
    if (standby.hasLied) return behind.sent >= lsn;
    const reached = [...standby.reached].find(([id]) => id === timeline)?.[1];
    return reached !== undefined && reached[kind] >= lsn;
  }

  #noteSent(stream: WireStream, lsn: bigint): void {
    const behind = this.#behindOf(stream.server, stream.applicationName, stream.timeline);
    if (lsn > behind.sent) behind.sent = lsn;
  }

  #saidBy(host: RelayHost, timeline: number): Record<Kind, bigint> {
    const key = `${host.name} ${timeline}`;
    const said = this.#said.get(key) ?? this.#saidBefore(host, timeline);
    this.#said.set(key, said);
    return said;
  }

  /**
   * Up to where a timeline begins it has the WAL of those before it, and what was said of that stays said: the shutdown
   * checkpoint, for one, that a server was promoted behind, and that nobody waits for on either.
   */
  #saidBefore(host: RelayHost, timeline: number): Record<Kind, bigint> {
    const before = { write: 0n, flush: 0n, apply: 0n };
    for (const ancestor of historyOf(this.#scene, timeline)?.ancestors ?? []) {
      const said = this.#said.get(`${host.name} ${ancestor.timeline}`);
      if (said === undefined) continue;
      for (const kind of KINDS) {
        const lsn = said[kind] < ancestor.endLsn ? said[kind] : ancestor.endLsn;
        if (lsn > before[kind]) before[kind] = lsn;
      }
    }
    return before;
  }

  #behindOf(server: string, name: string, timeline: number): Record<Kind | 'sent', bigint> {
    const key = `${server} ${name} ${timeline}`;
    const behind = this.#behind.get(key) ?? { write: 0n, flush: 0n, apply: 0n, sent: 0n };
    this.#behind.set(key, behind);
    return behind;
  }

  #texts(policies: readonly { readonly policy: SyncPolicy | null }[]): string {
    return policies.map(({ policy }) => `"${policyText(policy)}"`).join(', then ');
  }

  #violate(host: RelayHost, { timeline }: WireStream, what: string): void {
    this.#scene.verdict.violate('I11', what, { by: host.name, timeline });
  }
}

/** Names of those that may be waited for. */
function candidates(host: RelayHost, policy: SyncPolicy, timeline: number): string[] {
  const standbys = host.status()?.standbys ?? [];
  return standbys
    .filter(
      (standby) =>
        (standby.state === 'streaming' || standby.state === 'stopping') &&
        standby.flushLsn > 0n &&
        standby.timeline === timeline &&
        priorityOf(policy, standby.applicationName) > 0,
    )
    .map(({ applicationName }) => applicationName);
}
