// What `npm test` runs after the bootstrap: all suites (unit, session, real servers), or what the arguments choose.
// Arguments go to vitest as they are: `npm test -- --project 'unit*'`, `npm test -- test/pg/harness-cluster.test.ts`.
// Environment: WALCAST_TEST_MAJORS=13,15,18 chooses servers; WALCAST_TEST_REQUIRE=all turns skips into failures.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildIfStale } from './compiled-program.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));

// Tests that start walcast run the compiled program: one that is older than its sources would test yesterday's.
buildIfStale(root);

const vitest = join(root, 'node_modules/vitest/vitest.mjs');
const child = spawn(process.execPath, [vitest, 'run', ...process.argv.slice(2)], {
  cwd: root,
  stdio: 'inherit',
  // Logs of machines are read as text.
  env: process.stdout.isTTY ? process.env : { ...process.env, NO_COLOR: '1' },
});
// A signal at the terminal reaches vitest by itself; one sent to us alone is handed on, and its end is ours.
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal));
child.on('error', (error) => {
  console.error(`walcast: vitest did not start: ${error.message}`);
  process.exit(1);
});
child.on('exit', (code) => process.exit(code ?? 1));
