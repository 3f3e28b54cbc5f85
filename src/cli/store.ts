// walcast store: ways out of a gap or a divergence, and an end for what a timeline left behind.
import { resolve } from 'node:path';
import { formatLsn, INVALID_LSN } from '../pg/lsn.ts';
import { NO_XMINS } from '../pg/xmins.ts';
import { SlotFiles } from '../slot/slot-files.ts';
import { importWal } from '../wal/import.ts';
import type { ImportReport } from '../wal/import.ts';
import { resetStore, storeContent } from '../wal/reset.ts';
import type { StoreContent } from '../wal/reset.ts';
import { EXIT, isSet } from './command.ts';
import type { Command, CommandContext } from './command.ts';
import { confirm, YES_OPTION } from './confirm.ts';
import { commandGroup } from './group.ts';
import { STORE_OPTIONS, storeDirectory, withStoreLock } from './offline-store.ts';
import { printable } from './plain-text.ts';
import { JSON_OPTION } from './remote.ts';
import { releaseCommand } from './store-release.ts';
import { sizeText } from '../base/human-text.ts';
import { withProgress } from './work.ts';

const importCommand: Command = {
  name: 'store import',
  summary: 'Bring WAL that the store lacks from an archive, a pg_wal or another store.',
  operands: 'DIR',
  options: [...STORE_OPTIONS, JSON_OPTION],
  help: `
walcast must not run meanwhile. DIR holds segments of the same cluster and timeline. What is older than the store's first
byte is taken as far as it leads up to it without a hole, what is newer than its end as far as it is good. Every record's
CRC is checked, and both sides must have the same bytes where they meet; else nothing is changed. DIR is only read.

It may be interrupted at any moment and done again. At the next start, walcast keeps what storage.wal_keep_size and slots
keep: raise wal_keep_size first, where older WAL shall stay.

Exit codes: 0 all that fits is in the store (which may be nothing); 1 it does not fit, or was interrupted; 2 usage; 78 bad
configuration.

Examples:
  walcast store import /mnt/archive --data /var/lib/walcast
  walcast store import /mnt/other-relay -c walcast.yaml --json
`,
  async run(context): Promise<number> {
    const [source, more] = context.input.positionals;
    if (source === undefined || source === '' || more !== undefined) {
      context.printError('walcast store import: give one directory to import from\n');
      return EXIT.usage;
    }
    const directory = storeDirectory(context, 'store import');
    if (typeof directory === 'number') return directory;
    const report = await withStoreLock(directory, () =>
      withProgress(context, 'store import', (line, signal) =>
        importWal({
          dataDirectory: directory,
          source: resolve(context.workingDirectory, source),
          clock: context.clock,
          onProgress: (progress) => line.update(progress),
          signal,
        }),
      ),
    );
    if (typeof report === 'number') return report;
    const isJson = isSet(context.input, 'json');
    context.print(isJson ? `${JSON.stringify(importJson(report))}\n` : importText(report));
    return EXIT.ok;
  },
};

const resetCommand: Command = {
  name: 'store reset',
  summary: 'Remove all stored WAL, so that the next start begins anew with the upstream.',
  options: [...STORE_OPTIONS, YES_OPTION],
  help: `
walcast must not run meanwhile. Segments, history files and the control file go. Slots stay, by name; the WAL they were
waiting for is gone, so each begins again where its standby asks for WAL next. A standby that needs WAL from before has to
get it from the upstream or an archive, or be seeded again.

The slot on the upstream is not touched: the new store begins at its restart_lsn. WAL behind a switch point stays in "dead" until
it is let go of with "walcast store release".

Exit codes: 0 done, or nothing was there; 1 failed, or the answer was no; 2 usage; 78 bad configuration.

Examples:
  walcast store reset --data /var/lib/walcast
  walcast store reset -c walcast.yaml --yes
`,
  async run(context): Promise<number> {
    const [extra] = context.input.positionals;
    if (extra !== undefined) {
      context.printError(`walcast store reset: "${extra}" is not expected here\n`);
      return EXIT.usage;
    }
    const directory = storeDirectory(context, 'store reset');
    if (typeof directory === 'number') return directory;
    return await withStoreLock(directory, () => reset(context, directory));
  },
};

/** The command. */
export const storeCommand: Command = commandGroup({
  name: 'store',
  summary: 'Bring missing WAL into a store, let go of dead WAL, or begin the store anew.',
  help: `
Examples:
  walcast store import /mnt/archive --data /var/lib/walcast
  walcast store release --url http://relay-a:9188 --token-file /etc/walcast/token
  walcast store reset --data /var/lib/walcast
`,
  subcommands: [importCommand, releaseCommand, resetCommand],
});

async function reset(context: CommandContext, directory: string): Promise<number> {
  const content = await storeContent(directory);
  const slots = new SlotFiles(directory);
  const kept = await slots.load();
  if (content.control === null && content.files.length === 0) {
    context.print(`${printable(directory)}: there is no WAL\n`);
    return EXIT.ok;
  }
  const what = contentText(directory, content, kept.length);
  const refused = await confirm(context, 'store reset', `${what}Remove all of it?`);
  if (refused !== null) return refused;
  // Positions first: with a new store, those of the old one would be lies.
  for (const { name } of kept)
    await slots.save({ name, restartLsn: INVALID_LSN, invalidation: null, ...NO_XMINS });
  await resetStore(directory);
  context.print(`${printable(directory)}: ${content.files.length} files were removed\n`);
  return EXIT.ok;
}

function contentText(
  directory: string,
  { control, files, dead }: StoreContent,
  slots: number,
): string {
  const what =
    control === null
      ? 'WAL without a control file that can be read'
      : `WAL of system ${control.systemIdentifier}, timeline ${control.timeline}, up to ${formatLsn(control.durableMark.lsn)} at least`;
  const deadText =
    dead.files === 0
      ? ''
      : `Dead WAL stays in dead/ (${dead.files} files, ${sizeText(dead.bytes)}); "walcast store release" lets go of it.\n`;
  return `${printable(directory)}: ${what}, ${files.length} files; ${slots} slots stay by name.\n${deadText}`;
}

function importText(report: ImportReport): string {
  const { before, after } = report;
  const isNothing = report.olderSegments === 0 && report.newerBytes === 0;
  const lines = [
    ...report.notes.map((note) => `note: ${note}`),
    isNothing
      ? 'nothing was missing that is there'
      : `${report.olderSegments} older segments and ${sizeText(report.newerBytes)} of newer WAL were imported`,
    `the store has ${formatLsn(after.oldestLsn)} to ${formatLsn(after.endLsn)} now` +
      (isNothing ? '' : `, it had ${formatLsn(before.oldestLsn)} to ${formatLsn(before.endLsn)}`),
  ];
  return `${lines.map(printable).join('\n')}\n`;
}

function importJson(report: ImportReport): object {
  const { before, after } = report;
  return {
    older_segments: report.olderSegments,
    newer_bytes: report.newerBytes,
    oldest_lsn: formatLsn(after.oldestLsn),
    end_lsn: formatLsn(after.endLsn),
    oldest_lsn_before: formatLsn(before.oldestLsn),
    end_lsn_before: formatLsn(before.endLsn),
    notes: report.notes,
  };
}
