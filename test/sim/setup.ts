// Puts the machine of the simulator in the place of the real one: whatever the program imports from here on gets its disk,
// threads, network and chance from a simulation while one runs.
import { vi } from 'vitest';

vi.mock('node:fs', async (importOriginal) => {
  const { simulatedFs } = await import('./machine/node-fs.ts');
  return simulatedFs(await importOriginal());
});

vi.mock('node:fs/promises', async (importOriginal) => {
  const { simulatedFsPromises } = await import('./machine/node-fs-promises.ts');
  return simulatedFsPromises(await importOriginal());
});

vi.mock('node:worker_threads', async (importOriginal) => {
  const { SimWorker } = await import('./machine/node-worker.ts');
  const real = await importOriginal<object>();
  return { ...real, Worker: SimWorker };
});

vi.mock('node:crypto', async (importOriginal) => {
  const { activeWorld } = await import('./machine/world.ts');
  const real = await importOriginal<typeof import('node:crypto')>();
  const randomBytes = (count: number): Buffer => {
    const world = activeWorld();
    if (world === null) return real.randomBytes(count);
    return Buffer.from(Array.from({ length: count }, () => world.relayRandom.between(0, 255)));
  };
  return { ...real, randomBytes };
});

vi.mock('../../src/net/dial.ts', async (importOriginal) => {
  const { simulatedDial } = await import('./machine/net-doors.ts');
  return { ...(await importOriginal<object>()), dial: simulatedDial };
});

vi.mock('../../src/net/listener.ts', async (importOriginal) => {
  const { SimListener } = await import('./machine/net-doors.ts');
  return {
    ...(await importOriginal<object>()),
    Listener: SimListener,
    localInterfaceAddresses: () => [],
  };
});

vi.mock('../../src/net/directory-lock.ts', async (importOriginal) => {
  const { SimLock } = await import('./machine/net-doors.ts');
  return { ...(await importOriginal<object>()), DirectoryLock: SimLock };
});

// A run has a few megabytes of WAL: memory that is never full would never be given back.
vi.mock('../../src/config/limits.ts', async (importOriginal) => ({
  ...(await importOriginal<object>()),
  TAIL_BYTES_MAX: 1024 * 1024,
  UNFLUSHED_BYTES_MAX: 256 * 1024,
}));

// Not simulated, and slow to load.
vi.mock('../../src/http/server.ts', () => ({
  openHttp: () => Promise.reject(new Error('no HTTP here')),
}));
vi.mock('../../src/metrics/registry.ts', () => ({ openMetrics: () => null }));

// It asks how much CPU time was taken.
vi.mock('../../src/base/stall-watch.ts', () => ({
  StallWatch: class {
    stop(): void {}
  },
}));

// Real, with room for a planted bug.
vi.mock('../../src/relay/upstream-gate.ts', async (importOriginal) => {
  const { gateThrough } = await import('./gate-door.ts');
  const real = await importOriginal<typeof import('../../src/relay/upstream-gate.ts')>();
  return { ...real, openUpstreamGate: gateThrough(real.openUpstreamGate) };
});

// A process that is killed takes its threads along; nobody here ends them.
vi.mock('../../src/base/kernel-work.ts', async (importOriginal) => {
  const real = await importOriginal<object>();
  return { ...real, registerThread: () => () => {} };
});
