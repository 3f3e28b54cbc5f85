// What a standby's log must not contain once it has been fed by walcast.

/**
 * Lines of a server that cannot go on, or that met WAL it does not believe. A connection attempt during its start is
 * refused with a FATAL of its own, which says nothing about the WAL; `data_checksums` is a setting.
 */
export const SERVER_ALARM: RegExp =
  /FATAL: {2}(?!the database system is )|PANIC|(?<!data_)checksum|invalid magic/;
