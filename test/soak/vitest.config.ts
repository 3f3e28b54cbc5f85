import { defineConfig } from 'vitest/config';

// Campaigns one after the other: each fills the machine.
export default defineConfig({
  test: {
    environment: 'node',
    retry: 0,
    include: ['test/soak/*.test.ts'],
    fileParallelism: false,
    reporters: ['dot'],
    disableConsoleIntercept: true,
  },
});
