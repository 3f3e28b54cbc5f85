// Could this address be listened on? Tries it and lets go at once; nobody is accepted, and no socket file is touched.
import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { connect } from 'node:net';
import { OperationalError, systemErrorCode } from '../base/errors.ts';
import { unixSocketPath } from './dial.ts';
import { Listener } from './listener.ts';
import type { ListenTarget } from './listener.ts';

/** Null when the address is free; else why a listener there would be refused. */
export async function probeListen(target: ListenTarget): Promise<OperationalError | null> {
  try {
    if (target.kind === 'tcp') await probeTcp(target);
    else await probeUnix(target.directory, target.port);
    return null;
  } catch (error) {
    if (error instanceof OperationalError) return error;
    throw error;
  }
}

async function probeTcp(target: ListenTarget): Promise<void> {
  // Whoever connects in this instant is turned away.
  const listener = await Listener.open({ target, connectionsMax: 1, onConnection: () => {} });
  listener.close();
}

/** A file that nobody listens on is replaced when walcast starts; here it stays. */
async function probeUnix(directory: string, port: number): Promise<void> {
  const path = unixSocketPath(directory, port);
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
  if (await isAnswered(path)) {
    throw new OperationalError(
      'EADDRINUSE',
      `could not listen on ${path}: address already in use`,
      {
        hint: 'Another process listens there. Stop it, or choose another port or directory in the configuration key "listen".',
      },
    );
  }
}

function isAnswered(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    socket.once('error', () => resolve(false));
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
  });
}
