// walcast completion: a script for the shell, made from the table of commands, so that it can never know less than help.
import { EXIT } from './command.ts';
import type { Command } from './command.ts';
import { bashCompletion } from './completion-bash.ts';
import { fishCompletion } from './completion-fish.ts';
import { completionTable } from './completion-table.ts';
import type { CompletionTable } from './completion-table.ts';
import { zshCompletion } from './completion-zsh.ts';

const SHELLS: ReadonlyMap<string, (table: CompletionTable) => string> = new Map([
  ['bash', bashCompletion],
  ['zsh', zshCompletion],
  ['fish', fishCompletion],
]);

/** The command, over the table it completes (which holds itself, too). */
export function completionCommand(commands: () => readonly Command[]): Command {
  return {
    name: 'completion',
    summary: 'Print a completion script for bash, zsh or fish.',
    operands: 'bash|zsh|fish',
    options: [],
    help: `
The script completes commands, options, the values of options that have a choice, and files and directories.

Examples:
  walcast completion bash > /etc/bash_completion.d/walcast
  walcast completion zsh > /usr/local/share/zsh/site-functions/_walcast
  walcast completion fish > ~/.config/fish/completions/walcast.fish
`,
    async run(context): Promise<number> {
      const [shell = '', ...more] = context.input.positionals;
      const script = SHELLS.get(shell);
      if (script === undefined || more.length > 0) {
        context.printError('walcast completion: give one of bash, zsh, fish\n');
        return EXIT.usage;
      }
      context.print(script(completionTable(commands())));
      return EXIT.ok;
    },
  };
}
