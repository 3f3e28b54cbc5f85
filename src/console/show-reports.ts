// What does SHOW answer of walcast itself?
import { ADMIN_COMMANDS } from '../status/status.ts';
import { SHOW_CONFIG, SHOW_HBA } from './show-config.ts';
import { SHOW_FINDINGS, SHOW_LOG, SHOW_STATE, SHOW_VERSION } from './show-state.ts';
import { SHOW_LISTS, SHOW_MEM, SHOW_STATS } from './show-stats.ts';
import { SHOW_SLOTS, SHOW_STORE, SHOW_TIMELINES } from './show-storage.ts';
import { SHOW_STANDBYS } from './show-standbys.ts';
import { SHOW_SYNC } from './show-sync.ts';
import { SHOW_UPSTREAM } from './show-upstream.ts';
import { bool, text } from './view-columns.ts';
import { viewOf } from './view.ts';
import type { View } from './view.ts';

/** Something that SHOW answers. */
interface Report {
  readonly name: string;
  /** Names under which users of PgBouncer look for it. */
  readonly aliases: readonly string[];
  readonly about: string;
  readonly view: View;
}

/** A command, and what it does. */
interface HelpRow {
  readonly command: string;
  readonly about: string;
  readonly isAdmin: boolean;
}

const SHOW_HELP: View = viewOf<HelpRow>(helpRows, [
  text('command', ({ command }) => command),
  text('description', ({ about }) => about),
  bool('admin_only', ({ isAdmin }) => isAdmin),
]);

const LIST: readonly Report[] = [
  report('help', 'what the console understands', SHOW_HELP),
  report('state', 'state of walcast in one row', SHOW_STATE),
  report('findings', 'what is wrong, the worst first, and what to do about it', SHOW_FINDINGS),
  report('standbys', 'standbys: positions, lag, sync state', SHOW_STANDBYS, 'clients'),
  report('upstream', 'the session to the upstream', SHOW_UPSTREAM, 'upstreams', 'servers'),
  report('slots', 'replication slots and the WAL they keep', SHOW_SLOTS),
  report('sync', 'the synchronous policy, and whether it is satisfied', SHOW_SYNC),
  report('store', 'the WAL on our own disk', SHOW_STORE),
  report('timelines', 'the stored history', SHOW_TIMELINES),
  report('stats', 'counters since the start', SHOW_STATS),
  report('lists', 'how many there are of everything', SHOW_LISTS),
  report('mem', 'memory', SHOW_MEM),
  report('config', 'the configuration in effect, secrets masked', SHOW_CONFIG),
  report('hba', 'the access rules in effect', SHOW_HBA),
  report('log', 'levels of the log, by component', SHOW_LOG),
  report('version', 'version of walcast and of the server behind it', SHOW_VERSION),
];

/** By the words of SHOW, in lower case; aliases are words, too. */
export const REPORTS: ReadonlyMap<string, View> = new Map(
  LIST.flatMap(({ name, aliases, view }) => [name, ...aliases].map((word) => [word, view])),
);

const OTHER_HELP: readonly (readonly [command: string, about: string])[] = [
  ['SHOW ALL', 'settings of this session, of walcast and of the upstream'],
  ['SHOW setting', 'one of them'],
  ['SELECT ... FROM pg_stat_replication', 'standbys, as PostgreSQL shows its own'],
  ['SELECT ... FROM pg_replication_slots', 'slots, with the columns of PostgreSQL 15'],
  ['SELECT ... FROM pg_stat_wal_receiver', 'the stream from the upstream, likewise'],
];

/** What follows the words of a changing command, and what it does. */
const ADMIN_HELP: Readonly<Record<(typeof ADMIN_COMMANDS)[number], readonly [string, string]>> = {
  reload: ['', 'read the configuration again'],
  pause: [' [upstream]', 'start no new replication; what runs goes on'],
  resume: [' [upstream]', 'end a pause'],
  reconnect: [' [upstream]', 'connect to the upstream anew'],
  kill: [' pid', 'end the session of a standby'],
  drain: ['', 'send everything that is flushed, then end, as SIGTERM does'],
  shutdown: [' [WAIT_FOR_CLIENTS]', 'end at once, or as DRAIN does'],
  create_slot: [' name [RESERVE_WAL]', 'create a physical replication slot'],
  drop_slot: [' name', 'drop a replication slot that nobody uses'],
  log_level: [
    ' component level',
    'level of a component of the log until the next restart; level RESET: as configured',
  ],
};

function report(name: string, about: string, view: View, ...aliases: readonly string[]): Report {
  return { name, aliases, about, view };
}

function helpRows(): HelpRow[] {
  return [
    ...LIST.map(({ name, aliases, about }) => {
      const command = [name, ...aliases].map((word) => word.toUpperCase()).join('|');
      return { command: `SHOW ${command}`, about, isAdmin: false };
    }),
    ...OTHER_HELP.map(([command, about]) => ({ command, about, isAdmin: false })),
    ...ADMIN_COMMANDS.map((name) => {
      const [rest, about] = ADMIN_HELP[name];
      return { command: name.toUpperCase().replace('_', ' ') + rest, about, isAdmin: true };
    }),
  ];
}
