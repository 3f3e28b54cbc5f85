// From argv to an exit code: the only place for signal handlers and process.exit.
import { createInterface } from 'node:readline';
import { systemClock } from './base/clock.ts';
import { errorText } from './base/errors.ts';
import { openLog } from './base/log.ts';
import type { Log } from './base/log.ts';
import { EXIT, HANDLED_SIGNALS } from './cli/command.ts';
import type { HandledSignal } from './cli/command.ts';
import { COMMANDS } from './cli/commands.ts';
import { dispatch } from './cli/dispatch.ts';

/** What the shell expects of a process that a signal ended: 128 and the signal's number. */
const SIGNAL_EXIT_CODES: Readonly<Record<HandledSignal, number>> = {
  SIGHUP: 129,
  SIGINT: 130,
  SIGTERM: 143,
};

// First of all: as process 1 of a container a signal without a handler would be ignored, not obeyed.
let signalListener: ((signal: HandledSignal) => void) | null = null;
for (const signal of HANDLED_SIGNALS) {
  process.on(signal, () => {
    if (signalListener === null) process.exit(SIGNAL_EXIT_CODES[signal]);
    signalListener(signal);
  });
}

let log: Log | null = null;
process.on('uncaughtException', crash);
process.on('unhandledRejection', crash);
for (const stream of [process.stdout, process.stderr]) {
  // Whoever read our output is gone (`walcast status | head`).
  stream.on('error', () => process.exit(EXIT.failure));
}

process.exit(
  await dispatch(process.argv.slice(2), COMMANDS, {
    env: process.env,
    workingDirectory: process.cwd(),
    clock: systemClock,
    print: (text) => process.stdout.write(text),
    printError: (text) => process.stderr.write(text),
    isTerminal: process.stdout.isTTY,
    isErrorTerminal: process.stderr.isTTY,
    ask: askTerminal,
    onSignal(listener) {
      signalListener = listener;
      return () => {
        signalListener = null;
      };
    },
    useLog(opened) {
      log = opened;
    },
  }),
);

/** Null without a terminal to ask at; nothing when it is closed, or interrupted, instead of an answer. */
async function askTerminal(question: string): Promise<string | null> {
  if (!process.stdin.isTTY) return null;
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return await new Promise((resolve) => {
      terminal.once('close', () => resolve(''));
      terminal.question(question, resolve);
    });
  } finally {
    terminal.close();
  }
}

/** A bug of ours: say what it was and end. Nothing is written, acknowledged or closed in order on the way out. */
function crash(error: unknown): never {
  const stack = error instanceof Error ? error.stack : undefined;
  const crashLog = log ?? openLog({ level: 'error', format: 'text' });
  crashLog.error(`walcast crashed: ${errorText(error)}`, { stack });
  process.exit(EXIT.failure);
}
