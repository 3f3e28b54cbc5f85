// Which parts of walcast does the log tell apart? Each line names one of them, and each can have a level of its own.

/** In the order of their names. What each says: docs/logging.md. */
export const LOG_COMPONENTS = [
  'auth',
  'config',
  'console',
  'discovery',
  'feedback',
  'http',
  'read-through',
  'relay',
  'retention',
  'slot',
  'sync',
  'tls',
  'tunnel',
  'wal',
  'walreceiver',
  'walsender',
] as const;
export type LogComponent = (typeof LOG_COMPONENTS)[number];

/** What speaks where no part of it does: the process, its start and its end. */
export const PROCESS_COMPONENT: LogComponent = 'relay';
