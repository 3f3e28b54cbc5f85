import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { defineConfig } from 'vitest/config';
import { SlowestFiles } from './test/support/slowest-files.ts';

/** Files side by side that compute. Vitest's own choice leaves one of two cores to itself. */
const WORKERS = 2;

/** Files side by side that wait for servers and disks about half of the time. */
const WAITING_WORKERS = 4;

/** Unit tests that replace a module, a global or an environment variable: what they leave is nobody else's. */
const ALONE = readdirSync(join(import.meta.dirname, 'test/unit'), { encoding: 'utf8' })
  .filter((name) => name.endsWith('.test.ts'))
  .map((name) => `test/unit/${name}`)
  .filter((path) => /\bvi\.(mock|doMock|resetModules|stub)/.test(read(path)));

function read(path: string): string {
  return readFileSync(join(import.meta.dirname, path), 'utf8');
}

// One project a layer. What one machine has once only (a port, a directory, a mount) is drawn anew by each file.
export default defineConfig({
  test: {
    environment: 'node',
    retry: 0,
    reporters: [new SlowestFiles(), 'default'],
    projects: [
      // Property tests take seconds on a machine that does something else, too.
      {
        extends: true,
        test: {
          name: 'unit',
          include: ['test/unit/**/*.test.ts'],
          exclude: ALONE,
          // Loading the program anew for each file takes longer than most of them.
          isolate: false,
          testTimeout: 20_000,
          maxWorkers: WORKERS,
        },
      },
      {
        extends: true,
        test: {
          name: 'unit-alone',
          include: ALONE,
          testTimeout: 20_000,
          maxWorkers: WORKERS,
        },
      },
      {
        extends: true,
        test: {
          name: 'session',
          include: ['test/session/**/*.test.ts'],
          // None replaces a module.
          isolate: false,
          testTimeout: 20_000,
          maxWorkers: WORKERS,
        },
      },
      {
        extends: true,
        test: {
          name: 'sim',
          include: ['test/sim/*.test.ts'],
          // The machine that the program sees there is made up, see docs/simulator.md.
          setupFiles: ['test/sim/setup.ts'],
          // Hundreds of runs are one test.
          testTimeout: 600_000,
          maxWorkers: WORKERS,
        },
      },
      {
        extends: true,
        test: {
          name: 'pg',
          include: ['pg', 'cluster', 'fault', 'browser'].map((name) => `test/${name}/**/*.test.ts`),
          testTimeout: 180_000,
          hookTimeout: 120_000,
          maxWorkers: WAITING_WORKERS,
          // Only projects of one group share their workers; this one comes behind the others.
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
});
