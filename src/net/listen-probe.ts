// Could these addresses be listened on? Tries them all at once and lets go; nobody is accepted, and no socket file is
// touched.
import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { OperationalError, systemErrorCode } from '../base/errors.ts';
import { unixSocketPath } from './dial.ts';
import { Listener, probeSocket, requireShortPath } from './listener.ts';
import type { ListenTarget } from './listener.ts';

/** For each target null when it is free, or why a listener there would be refused; also for one that is there twice. */
export async function probeListen(
  targets: readonly ListenTarget[],
): Promise<readonly (OperationalError | null)[]> {
  const listeners: Listener[] = [];
  const problems: (OperationalError | null)[] = [];
  try {
    for (const target of targets) problems.push(await probe(target, listeners));
  } finally {
    for (const listener of listeners) listener.close();
  }
  return problems;
}

async function probe(
  target: ListenTarget,
  listeners: Listener[],
): Promise<OperationalError | null> {
  try {
    if (target.kind === 'tcp') {
      // Whoever connects in this instant is turned away.
      const options = { target, connectionsMax: 1, onConnection: () => {} };
      listeners.push(await Listener.open(options));
    } else {
      await probeUnix(target.directory, target.port);
    }
    return null;
  } catch (error) {
    if (error instanceof OperationalError) return error;
    throw error;
  }
}

/** A file that nobody listens on is replaced when walcast starts; here it stays. */
async function probeUnix(directory: string, port: number): Promise<void> {
  const path = unixSocketPath(directory, port);
  requireShortPath(path);
  try {
    await access(directory, constants.W_OK | constants.X_OK);
  } catch (cause) {
    const code = systemErrorCode(cause) ?? 'EIO';
    const why = code === 'ENOENT' ? 'the directory does not exist' : `permission denied (${code})`;
    throw new OperationalError(code, `could not listen on ${path}: ${why}`, {
      hint: 'Create the directory, and let the user that runs walcast write there.',
      cause,
    });
  }
  const code = await probeSocket(path);
  if (code === 'ENOENT' || code === 'ECONNREFUSED') return;
  const what =
    code === null || code === 'EAGAIN'
      ? 'another process listens there'
      : `something is in the way (${code})`;
  throw new OperationalError('EADDRINUSE', `could not listen on ${path}: ${what}`, {
    hint: 'Stop or remove it, or choose another port or directory in the configuration key "listen".',
  });
}
