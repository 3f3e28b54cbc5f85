import { defineConfig } from 'vitest/config';

// What `npm run sim` runs.
export default defineConfig({
  test: {
    environment: 'node',
    retry: 0,
    include: ['test/sim/command/*.test.ts'],
    setupFiles: ['test/sim/setup.ts'],
    reporters: ['dot'],
    disableConsoleIntercept: true,
  },
});
