// The table of commands.
import { startRelay } from '../relay/relay.ts';
import { checkCommand } from './check.ts';
import type { Command } from './command.ts';
import { demoCommand } from './demo.ts';
import { helpCommand } from './help.ts';
import { runCommand } from './run.ts';
import { statusCommand } from './status.ts';
import { versionCommand } from './version.ts';

/** In the order of the help. */
export const COMMANDS: readonly Command[] = [
  runCommand(startRelay),
  demoCommand,
  checkCommand,
  statusCommand,
  helpCommand(() => COMMANDS),
  versionCommand,
];
