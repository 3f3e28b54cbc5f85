// walcast demo: not built yet.
import type { Command } from './command.ts';

/** The command. */
export const demoCommand: Command = {
  name: 'demo',
  summary: 'Show walcast at work: a real primary and standbys on this machine.',
  options: [],
  help: 'Not built yet.',
  async run(context): Promise<number> {
    context.printError('walcast demo: not built yet\n');
    return 1;
  },
};
