// Does a server's synchronous_standby_names mean us? Only which names are listed matters here, not how many are waited for.
// (syncrep_gram.y, syncrep_scanner.l)

/** How an application_name is listed: by its name, by `*`, or not at all. */
export type SyncMembership = 'named' | 'any' | 'none';

/**
 * What the server's synchronous_standby_names (as SHOW prints it) means for `applicationName`. Names count without
 * regard to case, and `*` means everybody, quoted or not. (syncrep.c:SyncRepGetStandbyPriority)
 */
export function syncMembership(setting: string, applicationName: string): SyncMembership {
  const names = listedNames(setting).map((name) => name.toLowerCase());
  if (names.includes(applicationName.toLowerCase())) return 'named';
  return names.includes('*') ? 'any' : 'none';
}

function listedNames(setting: string): string[] {
  const group = /^\s*(?:(?:first|any)\s*)?\d+\s*\(([\s\S]*)\)\s*$/i.exec(setting);
  const list = group?.[1] ?? setting;
  return [...list.matchAll(/"((?:[^"]|"")*)"|([^\s,"]+)/g)].map(([, quoted, bare]) =>
    quoted === undefined ? (bare ?? '') : quoted.replaceAll('""', '"'),
  );
}
