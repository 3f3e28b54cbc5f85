// I5: after an error of fsync on the WAL path, is nothing more acknowledged, nothing flushed again, and does the process end?
import type { StatusFrame } from '../postgres/frames.ts';
import type { SimProcess } from '../machine/sim-process.ts';
import type { RelayHost } from '../relay-host.ts';
import { receivingRelay, storedNow } from '../scene.ts';
import type { Checker, Scene } from '../scene.ts';
import type { WireStream } from '../wire-taps.ts';

/** A process has so long to say that it cannot go on. */
const END_MS_MAX = 2_000;

interface Failure {
  readonly process: SimProcess;
  /** Of the file, whatever its name: one that is written anew is another. */
  readonly file: number;
  readonly atMs: number;
  readonly flushedLsn: bigint;
}

/** The checker. */
export function failedDiskIsBelieved(scene: Scene): Checker {
  const failures = new Map<RelayHost, Failure>();
  const failureOf = (host: RelayHost): Failure | null => {
    const failure = failures.get(host);
    return failure !== undefined && failure.process === host.process ? failure : null;
  };
  for (const host of scene.relays.values()) {
    host.mounted.disk.onSyncFailed = (path, file) => {
      const { process } = host;
      scene.world.trace.note(`fsync of ${path} fails`);
      if (process === null || failureOf(host) !== null) return;
      const flushedLsn = storedNow(host)?.flushedLsn ?? 0n;
      // A call that takes long tells of its failure when it is over.
      const atMs = Math.max(scene.world.nowMs, host.mounted.slowUntilMs);
      failures.set(host, { process, file, atMs, flushedLsn });
    };
    host.mounted.disk.onSynced = (path, file) => {
      if (failureOf(host)?.file !== file) return;
      scene.verdict.violate('I5', `fsync of ${path} was tried again after it had failed`, {
        by: host.name,
      });
    };
  }
  return {
    onStatus(stream: WireStream, status: StatusFrame): void {
      const host = receivingRelay(scene, stream);
      const failure = host === null ? null : failureOf(host);
      if (failure === null || status.flush <= failure.flushedLsn) return;
      const place = { by: stream.client, timeline: stream.timeline, lsn: status.flush };
      scene.verdict.violate('I5', 'acknowledged WAL after fsync had failed', place);
    },
    afterStep(): void {
      for (const host of scene.relays.values()) {
        const failure = failures.size === 0 ? null : failureOf(host);
        if (failure === null || host.process?.isStopped === true || host.failedAtMs !== null)
          continue;
        if (scene.world.nowMs - failure.atMs <= END_MS_MAX + host.stoppedMs(failure.atMs)) continue;
        failures.delete(host);
        scene.verdict.violate('I5', 'fsync failed, and the process goes on', { by: host.name });
      }
    },
  };
}
