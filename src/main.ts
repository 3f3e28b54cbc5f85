// From argv to an exit code: the only place for signal handlers and process.exit.
import { createInterface } from 'node:readline';
import type { Log } from './base/log.ts';
import { EXIT, HANDLED_SIGNALS, SIGNAL_EXIT_CODES } from './cli/command.ts';
import type { HandledSignal } from './cli/command.ts';

// First of all: as process 1 of a container a signal without a handler would be ignored, not obeyed. A hangup that comes
// before the relay is there to be told is a reload all the same.
let signalListener: ((signal: HandledSignal) => void) | null = null;
let isHangupPending = false;
for (const signal of HANDLED_SIGNALS) {
  process.on(signal, () => {
    if (signalListener !== null) signalListener(signal);
    else if (signal === 'SIGHUP' && process.argv[2] === 'run') isHangupPending = true;
    else process.exit(SIGNAL_EXIT_CODES[signal]);
  });
}

// Everything else is loaded behind the handlers: that takes most of the time of a start.
const { systemClock } = await import('./base/clock.ts');
const { errorText } = await import('./base/errors.ts');
const { openLog } = await import('./base/log.ts');
const { COMMANDS } = await import('./cli/commands.ts');
const { dispatch } = await import('./cli/dispatch.ts');

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
      if (isHangupPending) listener('SIGHUP');
      isHangupPending = false;
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
