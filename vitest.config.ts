import { defineConfig } from 'vitest/config';
import { SlowestFiles } from './test/support/slowest-files.ts';

/** Files side by side. Vitest's own choice leaves one of two cores to itself; suites wait more than they compute. */
const WORKERS = 2;

// One project a layer. The real-server suites wait for servers half of the time, so two of their files run at once; what
// one machine has once only (a port, a directory, a mount) is drawn anew by each.
export default defineConfig({
  test: {
    environment: 'node',
    retry: 0,
    reporters: [new SlowestFiles(), 'default'],
    maxWorkers: WORKERS,
    projects: [
      // Property tests take seconds on a machine that does something else, too.
      {
        extends: true,
        test: { name: 'unit', include: ['test/unit/**/*.test.ts'], testTimeout: 20_000 },
      },
      {
        extends: true,
        test: { name: 'session', include: ['test/session/**/*.test.ts'], testTimeout: 20_000 },
      },
      {
        extends: true,
        test: {
          name: 'pg',
          include: ['test/pg/**/*.test.ts', 'test/fault/**/*.test.ts'],
          testTimeout: 180_000,
          hookTimeout: 120_000,
        },
      },
    ],
  },
});
