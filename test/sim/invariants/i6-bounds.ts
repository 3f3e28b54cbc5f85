// I6: is everything that a relay holds for others below its bound?
import {
  FILE_READ_BYTES_MAX,
  TAIL_BYTES_MAX,
  UNFLUSHED_BYTES_MAX,
} from '../../../src/config/limits.ts';
import type { Checker, Scene } from '../scene.ts';

/** One batch read from files with its headers, and small messages beside it. */
const PENDING_BYTES_MAX: number = FILE_READ_BYTES_MAX + 64 * 1024;

/** The tail gives memory away in blocks. */
const TAIL_SLACK_BYTES = 2 << 20;

/** The checker. */
export function memoryIsBounded(scene: Scene): Checker {
  return {
    afterStep(): void {
      for (const connection of scene.network.connections) {
        const by = connection.process.host;
        if (connection.pendingBytes() <= PENDING_BYTES_MAX || !scene.relays.has(by)) continue;
        const what = `holds ${connection.pendingBytes()} bytes for ${connection.far.process.host}`;
        scene.verdict.violate('I6', what, { by });
      }
      if (scene.world.steps % 256 !== 0) return;
      for (const host of scene.relays.values()) {
        const tailBytes = host.status()?.store?.tailBytes ?? 0;
        if (tailBytes <= TAIL_BYTES_MAX + UNFLUSHED_BYTES_MAX + TAIL_SLACK_BYTES) continue;
        scene.verdict.violate('I6', `has ${tailBytes} bytes of WAL in memory`, { by: host.name });
      }
    },
  };
}
