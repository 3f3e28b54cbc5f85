// From argv to an exit code: the only place for signal handlers and process.exit.
import { createInterface } from 'node:readline';
import { Writable } from 'node:stream';
import type { Log } from './base/log.ts';
import { COMMAND_SIGNALS, EXIT, RUN_SIGNALS, SIGNAL_EXIT_CODES } from './cli/command.ts';
import type { CommandSignal, HandledSignal } from './cli/command.ts';
import type { Dialogue } from './cli/dialogue.ts';

/** A system call that takes longer than this while the process ends is taken for one that hangs. */
const HANGING_CALL_MS = 1_000;

/** How long the end of the process waits for whoever reads its log. */
const LOG_FLUSH_MS_MAX = 500;

/** Longest time that closing takes after somebody asked for the end at once. */
const CLOSE_MS_MAX = 5_000;

// First of all: as process 1 of a container a signal without a handler would be ignored, not obeyed. A hangup that comes
// before the relay is there to be told is a reload all the same.
let signalListener: ((signal: HandledSignal) => void) | null = null;
let isHangupPending = false;
let hasBeenAskedToEnd = false;
let isLeaving = false;
let hasCrashed = false;
let log: Log | null = null;
/** What a running command does first of all at a crash. */
let haltCommand: () => void = () => {};
// Node would open a debugger's port at it; where nothing else is done, this is all that is.
process.on('SIGUSR1', () => {});
if (isRun()) {
  for (const signal of RUN_SIGNALS) process.on(signal, () => hearRunSignal(signal));
} else {
  for (const signal of COMMAND_SIGNALS) process.on(signal, () => hearCommandSignal(signal));
}

// Everything else is loaded behind the handlers: that takes most of the time of a start.
const { systemClock } = await import('./base/clock.ts');
const { errorText } = await import('./base/errors.ts');
const { settleKernelWork } = await import('./base/kernel-work.ts');
const { openLog } = await import('./base/log.ts');
const { flushStandardError } = await import('./base/standard-error.ts');
const { COMMANDS } = await import('./cli/commands.ts');
const { openDialogue } = await import('./cli/dialogue.ts');
const { dispatch } = await import('./cli/dispatch.ts');

// Files are made with modes of their own, which a umask of the system must not take from the group that may read. (pg_mode_mask)
if (['run', 'store'].includes(process.argv[2] ?? '')) process.umask(0o027);

process.on('uncaughtException', crash);
process.on('unhandledRejection', crash);
process.on('exit', () => flushStandardError(LOG_FLUSH_MS_MAX));
for (const stream of [process.stdout, process.stderr]) {
  // Whoever read our output is gone (`walcast status | head`).
  stream.on('error', () => process.exit(EXIT.failure));
}

const exitCode = await dispatch(process.argv.slice(2), COMMANDS, {
  env: process.env,
  workingDirectory: process.cwd(),
  clock: systemClock,
  print: (text) => process.stdout.write(text),
  printError: (text) => process.stderr.write(text),
  isTerminal: process.stdout.isTTY,
  isErrorTerminal: process.stderr.isTTY,
  screenSize,
  ...(process.stdin.isTTY ? { onKey: listenToKeys } : {}),
  ...(process.stdin.isTTY && process.stderr.isTTY ? { openDialogue: askInTurn } : {}),
  ask: askTerminal,
  askSecret: askTerminalSecret,
  readInput: readStandardInput,
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
  onCrash(halt) {
    haltCommand = halt;
    return () => {
      haltCommand = () => {};
    };
  },
});
await leave(exitCode);

/** Whatever it was to end with, a crash on the way is what it ends with. */
async function leave(code: number): Promise<never> {
  isLeaving = true;
  if (!(await settleKernelWork(systemClock, HANGING_CALL_MS))) endByForce();
  process.exit(hasCrashed ? EXIT.failure : code);
}

function isRun(): boolean {
  return process.argv[2] === 'run';
}

function hearCommandSignal(signal: CommandSignal): void {
  if (isLeaving) return;
  if (signalListener === null) process.exit(SIGNAL_EXIT_CODES[signal]);
  signalListener(signal);
}

function hearRunSignal(signal: HandledSignal): void {
  // It ends already, within a second or two, and with the code that is fixed by now.
  if (isLeaving) return;
  if (signal === 'SIGQUIT') endImmediately();
  else if (signalListener !== null) hearSignal(signal, signalListener);
  else if (signal === 'SIGHUP') isHangupPending = true;
  // Nothing has begun that could be ended in another way, and there is no state to write down.
  else if (signal === 'SIGTERM' || signal === 'SIGINT') process.exit(EXIT.ok);
}

/** As a crash, but asked for: nothing is said to anybody, and the next start recovers. (postmaster.c: immediate shutdown) */
function endImmediately(): void {
  if (log === null) process.exit(EXIT.ok);
  log.warn('received SIGQUIT; walcast ends as in a crash, the next start recovers');
  systemClock.setTimer(2 * HANGING_CALL_MS, endByForce);
  haltCommand();
  void leave(EXIT.ok);
}

/** Whoever asks for the end at once gets it, even when closing in order hangs. */
function hearSignal(signal: HandledSignal, listener: (signal: HandledSignal) => void): void {
  const isUrgent = signal === 'SIGINT' || (signal === 'SIGTERM' && hasBeenAskedToEnd);
  if (signal === 'SIGTERM') hasBeenAskedToEnd = true;
  if (isUrgent) systemClock.setTimer(CLOSE_MS_MAX, endByForce);
  listener(signal);
}

/** A call to the disk hangs in the kernel, and process.exit would wait for it. Nothing is promised any more. */
function endByForce(): never {
  log?.error('a call to the disk does not come back; walcast kills itself');
  flushStandardError(LOG_FLUSH_MS_MAX);
  process.kill(process.pid, 'SIGKILL');
  // The first process of a container cannot be killed by itself.
  process.abort();
}

function screenSize(): { readonly columns: number; readonly rows: number } | null {
  const { isTTY, columns, rows } = process.stdout;
  // Some terminals say 0 until they know.
  return isTTY && columns > 0 && rows > 0 ? { columns, rows } : null;
}

function listenToKeys(listener: (key: string) => void): () => void {
  const { stdin } = process;
  const hear = (bytes: Buffer): void => {
    for (const key of bytes.toString('latin1')) listener(key);
  };
  stdin.setRawMode(true);
  stdin.on('data', hear);
  return () => {
    stdin.off('data', hear);
    stdin.setRawMode(false);
    stdin.pause();
  };
}

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

/** The same; what is typed goes nowhere but into the answer. */
async function askTerminalSecret(question: string): Promise<string | null> {
  if (!process.stdin.isTTY) return null;
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() });
  const terminal = createInterface({ input: process.stdin, output: nowhere, terminal: true });
  process.stderr.write(question);
  try {
    return await new Promise((resolve) => {
      terminal.once('close', () => resolve(''));
      terminal.question('', resolve);
    });
  } finally {
    terminal.close();
    process.stderr.write('\n');
  }
}

function askInTurn(): Dialogue {
  return openDialogue({
    input: process.stdin,
    output: process.stderr,
    onInterrupt: () => process.kill(process.pid, 'SIGINT'),
  });
}

async function readStandardInput(bytesMax: number): Promise<string> {
  const chunks: Buffer[] = [];
  let total = 0;
  for await (const chunk of process.stdin) {
    const bytes = Buffer.from(chunk);
    chunks.push(bytes);
    total += bytes.length;
    if (total >= bytesMax) break;
  }
  return Buffer.concat(chunks).subarray(0, bytesMax).toString();
}

/** A bug of ours: say what it was and end. Nothing is acknowledged, sent or closed in order on the way out. */
function crash(error: unknown): void {
  // What one bug broke may throw again before the end.
  if (hasCrashed) return;
  hasCrashed = true;
  const stack = error instanceof Error ? error.stack : undefined;
  const crashLog = log ?? openLog({ level: 'error', format: 'text', component: 'relay' });
  crashLog.error(`walcast crashed: ${errorText(error)}`, { stack });
  // Whatever becomes of leaving in order.
  systemClock.setTimer(2 * HANGING_CALL_MS, endByForce);
  try {
    haltCommand();
  } catch {
    process.exit(EXIT.failure);
  }
  void leave(EXIT.failure);
}
