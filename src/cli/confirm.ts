// May a command do what cannot be undone? It asks once, and only the whole word counts.
import { EXIT, isSet } from './command.ts';
import type { CommandContext, CommandOption } from './command.ts';

/** `--yes`. */
export const YES_OPTION: CommandOption = {
  name: 'yes',
  short: 'y',
  description: 'Do not ask. Without a terminal this is needed.',
};

/** Null when the answer is yes, or was given with `--yes`; else the exit code, after saying what became of it. */
export async function confirm(
  context: CommandContext,
  command: string,
  question: string,
): Promise<number | null> {
  if (isSet(context.input, YES_OPTION.name)) return null;
  const answer = await context.ask?.(`${question} Type "yes": `);
  if (answer === undefined || answer === null) {
    context.printError(`walcast ${command}: there is nobody to ask here; --yes goes on without\n`);
    return EXIT.usage;
  }
  if (answer.trim() === 'yes') return null;
  context.printError(`walcast ${command}: nothing was changed\n`);
  return EXIT.failure;
}
