// What a command of the command line is, and what it is handed when it runs.
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { Dialogue } from './dialogue.ts';

/** One `--name`. A flag without a placeholder takes no value. */
export interface CommandOption {
  /** Without dashes. */
  readonly name: string;
  /** One letter, without the dash. */
  readonly short?: string;
  /**
   * What stands for the value in help; absent for a switch. Shells complete files for `FILE`, directories for `DIR`, and
   * the words of `a|b|c`.
   */
  readonly placeholder?: string;
  /** What the value can be, where that is one of a few words. */
  readonly values?: readonly string[];
  /** May be given more than once. */
  readonly isRepeatable?: boolean;
  readonly description: string;
}

/** What was typed after the command's name. */
export interface CommandInput {
  /** Values of each option given, in order; a switch that was given has one empty text. */
  readonly options: ReadonlyMap<string, readonly string[]>;
  readonly positionals: readonly string[];
}

/** Signals that ask something of every command. */
export const COMMAND_SIGNALS = ['SIGHUP', 'SIGINT', 'SIGTERM'] as const;
export type CommandSignal = (typeof COMMAND_SIGNALS)[number];

/** Signals that ask something of `walcast run`. */
export const RUN_SIGNALS = [
  'SIGHUP',
  'SIGINT',
  'SIGTERM',
  'SIGQUIT',
  'SIGUSR1',
  'SIGUSR2',
] as const;
export type HandledSignal = (typeof RUN_SIGNALS)[number];

/** The world of a running command. */
export interface CommandContext {
  readonly input: CommandInput;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly workingDirectory: string;
  readonly clock: Clock;
  /** Standard output: what was asked for. */
  print(text: string): void;
  /** Standard error: messages. */
  printError(text: string): void;
  /** True when standard output is a terminal. */
  readonly isTerminal: boolean;
  /** True when standard error is one: progress may rewrite its line there. */
  readonly isErrorTerminal?: boolean;
  /** Characters of a line and lines that the terminal of standard output shows at this moment; absent or null: not known. */
  screenSize?(): { readonly columns: number; readonly rows: number } | null;
  /**
   * Until the returned function is called, each key that is pressed goes to `listener` (what a terminal sends for it) and is
   * not shown; Control-C as well. Absent where standard input is no terminal.
   */
  onKey?(listener: (key: string) => void): () => void;
  /** Asks the person at the terminal and resolves to the line typed; null when nobody can be asked. */
  ask?(question: string): Promise<string | null>;
  /** The same, without what is typed being shown. */
  askSecret?(question: string): Promise<string | null>;
  /** Several questions in a row; whoever opens it closes it. Absent where there is no terminal to ask at. */
  readonly openDialogue?: () => Dialogue;
  /** What comes from standard input up to its end, or as many bytes as are wanted. */
  readInput?(bytesMax: number): Promise<string>;
  /**
   * Until the returned function is called, signals go to `listener` and no longer end the process: of `walcast run` all of
   * {@link RUN_SIGNALS} but SIGQUIT, of others {@link COMMAND_SIGNALS}.
   */
  onSignal(listener: (signal: HandledSignal) => void): () => void;
  /** From now on a crash is reported through `log`. */
  useLog(log: Log): void;
  /** Until the returned function is called, `halt` runs first of all at a crash: from then on nothing is promised any more. */
  onCrash?(halt: () => void): () => void;
}

/** One command, one file. */
export interface Command {
  /** One word; `GROUP WORD` for a command inside a group. */
  readonly name: string;
  /** One line for the list of commands. */
  readonly summary: string;
  /**
   * What stands behind the options in the usage line (`[COMMAND]`); absent when it takes no further words. Completed like
   * {@link CommandOption.placeholder}, and `COMMAND` as the names of the commands.
   */
  readonly operands?: string;
  /** Makes this a group: the next word chooses among these, and `run` is for when there is none. */
  readonly subcommands?: readonly Command[];
  readonly options: readonly CommandOption[];
  /** Text below the options: what it does in more words, and examples. */
  readonly help: string;
  /** Resolves to the exit code: 0 ok, 1 failure, 2 usage, 78 bad configuration. Rejections end in 1 with their message. */
  run(context: CommandContext): Promise<number>;
}

/** Exit codes. */
export const EXIT = { ok: 0, failure: 1, usage: 2, configuration: 78 } as const;

/** What the shell, and a server of its restore_command, expects of a process that a signal ended: 128 and its number. */
export const SIGNAL_EXIT_CODES: Readonly<Record<CommandSignal, number>> = {
  SIGHUP: 129,
  SIGINT: 130,
  SIGTERM: 143,
};

/** The last value of `name`, or null when it was not given. */
export function optionValue(input: CommandInput, name: string): string | null {
  return input.options.get(name)?.at(-1) ?? null;
}

/** True when the switch `name` was given. */
export function isSet(input: CommandInput, name: string): boolean {
  return input.options.has(name);
}
