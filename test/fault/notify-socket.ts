// The service manager of a test: a real NOTIFY_SOCKET, and what the unit file says.
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { pollUntil } from '../../src/demo/postgres-process.ts';

const LISTENER = fileURLToPath(new URL('../harness/notify-socket.py', import.meta.url));
const UNIT = new URL('../../deploy/systemd/walcast.service', import.meta.url);

/** One message, as it came. */
export interface Notification {
  readonly words: readonly string[];
  /** When, microseconds of CLOCK_MONOTONIC. */
  readonly usec: number;
  /** Who sent it, as the kernel says. */
  readonly pid: number;
}

/** A socket that messages are read from at once. */
export class NotifySocket implements Disposable {
  readonly path: string;
  readonly #process: ChildProcess;
  readonly #messages: Notification[] = [];

  private constructor(path: string, process: ChildProcess) {
    this.path = path;
    this.#process = process;
    if (process.stdout === null) return;
    createInterface({ input: process.stdout }).on('line', (line) => {
      const message = JSON.parse(line) as Notification;
      if (!message.words.includes('BARRIER=1')) this.#messages.push(message);
    });
  }

  /** Resolves once messages can be sent there. */
  static async open(path: string): Promise<NotifySocket> {
    const child = spawn('python3', [LISTENER, path], { stdio: ['ignore', 'pipe', 'inherit'] });
    const socket = new NotifySocket(path, child);
    try {
      await socket.message('BOUND=1');
      return socket;
    } catch (error) {
      socket[Symbol.dispose]();
      throw error;
    }
  }

  /** All of them, in order. */
  get messages(): readonly Notification[] {
    return this.#messages;
  }

  /** The first one from `from` on that holds a word that begins so. */
  async message(word: string, from = 0): Promise<Notification> {
    const look = async (): Promise<Notification | null> => {
      const late = this.#messages.slice(from);
      return late.find(({ words }) => words.some((each) => each.startsWith(word))) ?? null;
    };
    return await pollUntil(`a message with ${word}`, look, { timeoutMs: 30_000 });
  }

  [Symbol.dispose](): void {
    this.#process.kill('SIGKILL');
  }
}

/** The last value of a key of the unit, with its words. */
export function unitWords(key: string): readonly string[] {
  const lines = readFileSync(UNIT, 'utf8').split('\n');
  const value = lines.findLast((line) => line.startsWith(`${key}=`));
  if (value === undefined) throw new Error(`walcast.service has no ${key}=`);
  return value.slice(key.length + 1).split(' ');
}
