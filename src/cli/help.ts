// walcast help: the list of commands, or one command's page.
import { suggest } from '../config/suggest.ts';
import { EXIT } from './command.ts';
import type { Command } from './command.ts';
import { commandHelp, overviewHelp } from './help-text.ts';

/** The command, over the table it explains (which holds itself, too). */
export function helpCommand(commands: () => readonly Command[]): Command {
  return {
    name: 'help',
    summary: 'Show the list of commands, or one command with its options and examples.',
    operands: '[COMMAND]',
    options: [],
    help: 'Examples:\n  walcast help\n  walcast help run',
    async run(context): Promise<number> {
      const [name] = context.input.positionals;
      const command = commands().find((entry) => entry.name === name);
      if (name === undefined) context.print(overviewHelp(commands()));
      else if (command !== undefined) context.print(commandHelp(command));
      else context.printError(`${unknownCommand(name, commands())}\n`);
      return name === undefined || command !== undefined ? EXIT.ok : EXIT.usage;
    },
  };
}

/** The sentence for a command that does not exist. */
export function unknownCommand(name: string, commands: readonly Command[]): string {
  const meant = suggest(
    name,
    commands.map((command) => command.name),
  );
  const advice = meant === null ? '.' : `; did you mean "${meant}"?`;
  return `walcast: unknown command "${name.slice(0, 100)}"${advice} "walcast --help" lists the commands.`;
}
