// walcast wal: looks at WAL files, and fetches them.
import type { Command } from './command.ts';
import { commandGroup } from './group.ts';
import { walGetCommand } from './wal-get.ts';
import { walLsCommand } from './wal-ls.ts';
import { walVerifyCommand } from './wal-verify.ts';

/** The command. */
export const walCommand: Command = commandGroup({
  name: 'wal',
  summary: 'List and verify WAL files, or fetch one for restore_command.',
  help: `
Examples:
  walcast wal ls /var/lib/walcast
  walcast wal verify /mnt/archive
  walcast wal get 000000010000000000000003 pg_wal/RECOVERYXLOG --token-file /etc/walcast/wal-token
`,
  subcommands: [walLsCommand, walVerifyCommand, walGetCommand],
});
