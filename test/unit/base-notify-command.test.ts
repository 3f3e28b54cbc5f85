// Is a message that cannot be sent a reason to go on with, whatever the machine refuses? It may be short of files, or of memory.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { buildSync } from 'esbuild';
import { expect, test } from 'vitest';
import { notifyCommand } from '../../src/base/notify-command.ts';
import { ManualClock } from '../support/manual-clock.ts';

const SOURCE = fileURLToPath(new URL('../../src/base/notify-command.ts', import.meta.url));

test.each([
  ['no such program', '/nonexistent', 'ENOENT'],
  // Node has no event for this one, it throws: as where there is no memory for a child, or a filter of system calls forbids it.
  ['a PATH that leads through a file', SOURCE, 'ENOTDIR'],
])('%s is a reason, and no rejection', async (_what, path, code) => {
  const clock = new ManualClock();
  const notify = notifyCommand({ socket: '/nonexistent', path, clock, timeoutMs: 1_000 });
  expect(await notify(['READY=1'])).toContain(code);
  expect(clock.nextTimerMs()).toBeNull();
});

test('no file left for a pipe is a reason, and no rejection', () => {
  const script = `
    const { openSync } = await import('node:fs');
    const clock = { setTimer: () => ({ cancel() {} }) };
    const notify = notifyCommand({ socket: '/nonexistent', path: process.env.PATH, clock, timeoutMs: 1000 });
    try { for (;;) openSync('/dev/null'); } catch {}
    notify(['READY=1']).then((reason) => console.log(reason), (error) => console.log('rejected', error));
  `;
  const { outputFiles } = buildSync({
    entryPoints: [SOURCE],
    bundle: true,
    write: false,
    format: 'esm',
    platform: 'node',
  });
  const words = ['-c', 'ulimit -n 64; exec "$0" --input-type=module -', process.execPath];
  const { stdout } = spawnSync('sh', words, {
    input: `${outputFiles[0]?.text}${script}`,
    encoding: 'utf8',
  });
  expect(stdout).toMatch(/^spawn \S+ EMFILE$/m);
});
