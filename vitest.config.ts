import { defineConfig } from 'vitest/config';
import { SlowestFiles } from './test/support/slowest-files.ts';

// One project a layer: unit and session suites are quick and run side by side; the real-server suites
// start clusters, so they run one file at a time on a two-core machine.
export default defineConfig({
  test: {
    environment: 'node',
    retry: 0,
    reporters: [new SlowestFiles(), 'default'],
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
          fileParallelism: false,
        },
      },
    ],
  },
});
