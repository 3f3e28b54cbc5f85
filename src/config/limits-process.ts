// Every bound of the process itself: what it writes down when asked, and what it tells a service manager.

// --- cli: state in the log

/** Lines of one kind (standbys, slots, findings) that one dump of the state has. */
export const STATE_DUMP_LINES_MAX: number = 50;

/** What asks for a dump sooner after the last is counted, not answered. */
export const STATE_DUMP_INTERVAL_MS: number = 1_000;

// --- cli: service manager

/** How long one message to the service manager may take; systemd-notify itself waits 5 s for it to be read. */
export const NOTIFY_MS_MAX: number = 10_000;

/** How often it is looked whether the status line says something else. */
export const NOTIFY_STATUS_MS: number = 5_000;

/** While walcast starts or ends it says this often that it goes on, and asks for so much time. */
export const NOTIFY_EXTEND_EVERY_MS: number = 5_000;
export const NOTIFY_EXTEND_MS: number = 20_000;

/** Signs of life within the time after which the service manager takes walcast for hung. */
export const NOTIFY_WATCHDOG_PARTS: number = 3;

/** Characters of the status line; systemd shows no more on one line anyway. */
export const NOTIFY_STATUS_LENGTH_MAX: number = 240;
