// A running program whose disk takes its time: strace delays each fdatasync of it.
import { spawn } from 'node:child_process';
import { findProgram } from '../support/requirements.ts';

/** Delays from when this resolves until the given function has been awaited. Needs strace, and the right to trace. */
export async function slowDownFsync(pid: number, delayMs: number): Promise<() => Promise<void>> {
  const strace = findProgram('strace');
  if (strace === null) throw new Error('strace is not installed');
  const delay = `inject=fdatasync:delay_enter=${delayMs * 1000}`;
  const args = ['-f', '-p', `${pid}`, '-e', 'trace=fdatasync', '-e', delay, '-o', '/dev/null'];
  const child = spawn(strace, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  const ended = new Promise<void>((resolve) => {
    child.once('close', () => resolve());
  });
  let said = '';
  await new Promise<void>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', () => reject(new Error(`strace ended: ${said}`)));
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      said += text;
      if (/ attached/.test(said)) resolve();
    });
  });
  return async () => {
    child.kill('SIGTERM');
    await ended;
  };
}
