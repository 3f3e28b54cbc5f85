// How does a message get to the service manager? Over systemd's own systemd-notify: what it sends is a datagram of a Unix-domain
// socket, which Node cannot send. The one place that starts a process. (sd_notify(3), systemd-notify(1))
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import type { Clock } from './clock.ts';
import { errorText } from './errors.ts';

/** Sends `READY=1` and the like as one message. Resolves to why that was not possible, or null; never rejects. */
export type Notify = (assignments: readonly string[]) => Promise<string | null>;

/** Characters of what the command says about its failure that are passed on. */
const COMPLAINT_MAX = 200;

/** What a message is sent with. */
export interface NotifyOptions {
  /** As `NOTIFY_SOCKET` has it. */
  readonly socket: string;
  /** As `PATH` has it: where the command is looked for. */
  readonly path: string | undefined;
  readonly clock: Clock;
  /** After so long the command is killed. */
  readonly timeoutMs: number;
}

/** Messages to that socket. It waits for the message to have been read, so that its sender can still be told by then. */
export function notifyCommand({ socket, path, clock, timeoutMs }: NotifyOptions): Notify {
  const env = { NOTIFY_SOCKET: socket, ...(path === undefined ? {} : { PATH: path }) };
  return async (assignments) => {
    try {
      const child = spawn('systemd-notify', ['--', ...assignments], {
        env,
        stdio: ['ignore', 'ignore', 'pipe'],
      });
      return await endOf(child, clock, timeoutMs);
    } catch (error) {
      // Some refusals are events, and some are thrown: no memory for a child, a system call that is not allowed.
      return errorText(error);
    }
  };
}

function endOf(child: ChildProcess, clock: Clock, timeoutMs: number): Promise<string | null> {
  return new Promise((resolve) => {
    let complaint = '';
    let isLate = false;
    const timer = clock.setTimer(timeoutMs, () => {
      isLate = true;
      child.kill('SIGKILL');
    });
    const end = (problem: string | null): void => {
      timer.cancel();
      resolve(problem);
    };
    // Without a file for its pipe a child has none.
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      complaint = (complaint + text).slice(0, COMPLAINT_MAX);
    });
    child.on('error', (error) => end(error.message));
    child.on('close', (code, signal) => {
      if (code === 0) end(null);
      else if (isLate) end('systemd-notify did not end in time');
      else end(complaint.trim() || `systemd-notify ended with ${signal ?? `code ${code}`}`);
    });
  });
}
