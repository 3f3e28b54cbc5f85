// The table of commands.
import { startRelay } from '../relay/relay.ts';
import { checkCommand } from './check.ts';
import type { Command } from './command.ts';
import { completionCommand } from './completion.ts';
import { configCommand } from './config.ts';
import { demoCommand } from './demo.ts';
import { drainCommand } from './drain.ts';
import { healthCommand } from './health.ts';
import { helpCommand } from './help.ts';
import { initCommand } from './init.ts';
import { runCommand } from './run.ts';
import { scramCommand } from './scram.ts';
import { slotsCommand } from './slots.ts';
import { statusCommand } from './status.ts';
import { storeCommand } from './store.ts';
import { versionCommand } from './version.ts';
import { walCommand } from './wal.ts';

/** In the order of the help. */
export const COMMANDS: readonly Command[] = [
  runCommand(startRelay),
  demoCommand,
  initCommand,
  checkCommand,
  configCommand,
  scramCommand,
  statusCommand,
  healthCommand,
  slotsCommand,
  walCommand,
  storeCommand,
  drainCommand,
  completionCommand(() => COMMANDS),
  helpCommand(() => COMMANDS),
  versionCommand,
];
