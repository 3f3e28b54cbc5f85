// Which commands of the console change something?

/** Them, as metrics name them; the console's words are the same in capitals, with blanks. */
export const ADMIN_COMMANDS = [
  'reload',
  'pause',
  'resume',
  'reconnect',
  'kill',
  'drain',
  'shutdown',
  'create_slot',
  'drop_slot',
  'log_level',
] as const;

/** One of them. */
export type AdminCommand = (typeof ADMIN_COMMANDS)[number];

/** How often each was given, whatever came of it. */
export type AdminCommandCounts = ReadonlyMap<AdminCommand, number>;

/** Every command once, never given. */
export const NO_ADMIN_COMMANDS: AdminCommandCounts = new Map(
  ADMIN_COMMANDS.map((command) => [command, 0]),
);
