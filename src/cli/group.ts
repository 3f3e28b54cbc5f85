// A command that only leads to others: `walcast slots list`.
import { EXIT } from './command.ts';
import type { Command } from './command.ts';
import { commandHelp } from './help-text.ts';

/** What a group is made of. */
export interface CommandGroup {
  readonly name: string;
  readonly summary: string;
  readonly help: string;
  /** Their names begin with the group's. */
  readonly subcommands: readonly Command[];
}

/** The command that stands for a group. */
export function commandGroup(group: CommandGroup): Command {
  const command: Command = {
    ...group,
    options: [],
    async run(context): Promise<number> {
      context.printError(commandHelp(command));
      return EXIT.usage;
    },
  };
  return command;
}
