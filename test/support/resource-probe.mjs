// Loaded into a walcast with `--import`: what the process holds at this moment, written as JSON to the file that
// WALCAST_TEST_PROBE names, each time SIGUSR2 comes. Garbage is collected first (`--expose-gc`).
import { renameSync, writeFileSync } from 'node:fs';

const file = process.env['WALCAST_TEST_PROBE'];

if (file !== undefined) process.on('SIGUSR2', () => report(file));

/** @param {string} path */
function report(path) {
  globalThis.gc?.();
  /** @type {Record<string, number>} */
  const resources = {};
  for (const name of process.getActiveResourcesInfo()) resources[name] = (resources[name] ?? 0) + 1;
  const emitters = [process, ...activeHandles()];
  const { heapUsed, rss, external } = process.memoryUsage();
  const listeners = emitters.reduce((sum, emitter) => sum + listenersOf(emitter), 0);
  const text = JSON.stringify({ resources, listeners, heapUsed, rss, external });
  writeFileSync(`${path}.new`, text);
  renameSync(`${path}.new`, path);
}

/** Sockets, servers, workers that keep the process alive; Node.js has no public name for this list. @returns {unknown[]} */
function activeHandles() {
  return Reflect.get(process, '_getActiveHandles').call(process);
}

/** @param {unknown} emitter @returns {number} */
function listenersOf(emitter) {
  if (typeof emitter !== 'object' || emitter === null || !('eventNames' in emitter)) return 0;
  const events = /** @type {import('node:events').EventEmitter} */ (emitter);
  return events.eventNames().reduce((sum, name) => sum + events.listenerCount(name), 0);
}
