// What differs between two configurations, what of it can be followed in a running process, and what waits for a restart? Pure.
import { isDeepStrictEqual } from 'node:util';
import type { Config } from '../config/config.ts';
import { SETTINGS } from '../config/settings.ts';
import { SECRET_FILE_KEYS } from './secret-files.ts';
import type { SecretFileKey } from './secret-files.ts';

/** What a reload would do. */
export interface ReloadPlan {
  /** What would be in effect: the new configuration, but for keys that only a restart can change. */
  readonly next: Config;
  readonly changed: readonly string[];
  readonly pendingRestart: readonly string[];
}

/** Compares by meaning: `60s` is `1min`, and a named file is what it contains. Pure. */
export function planReload(running: Config, loaded: Config): ReloadPlan {
  const differing = SETTINGS.filter(({ path }) => meaning(running, path) !== meaning(loaded, path));
  const pending = differing.filter(({ isReloadable }) => !isReloadable).map(({ path }) => path);
  const values = new Map(loaded.values);
  for (const path of pending) {
    const kept = running.values.get(path);
    if (kept !== undefined) values.set(path, kept);
  }
  const { directory, verify, forward } = running.storage;
  return {
    next: {
      ...loaded,
      listen: running.listen,
      http: { ...loaded.http, listen: running.http.listen, tls: running.http.tls },
      storage: { ...loaded.storage, directory, verify, forward },
      values,
    },
    changed: differing.filter(({ isReloadable }) => isReloadable).map(({ path }) => path),
    pendingRestart: pending,
  };
}

/**
 * Only what files with secrets hold, and only where the same file is named as before; everything else waits for a reload. Where
 * their names lead by now is in `next`, too, whether anything has changed or not. Pure.
 */
export function planSecrets(running: Config, loaded: Config): Omit<ReloadPlan, 'pendingRestart'> {
  const same = SECRET_FILE_KEYS.filter((key) =>
    isDeepStrictEqual(running.namedFiles.get(key), loaded.namedFiles.get(key)),
  );
  const places = new Map(running.places);
  for (const name of same.flatMap((key) => loaded.namedFiles.get(key) ?? [])) {
    const place = loaded.places.get(name);
    if (place !== undefined) places.set(name, place);
  }
  const changed = same.filter((key) => meaning(running, key) !== meaning(loaded, key));
  const values = new Map(running.values);
  let next: Config = { ...running, values, places };
  for (const key of changed) {
    for (const path of [key, ...BROUGHT[key]]) {
      const value = loaded.values.get(path);
      if (value !== undefined) values.set(path, value);
    }
    next = { ...next, ...secretOf(key, next, loaded) };
  }
  return { next, changed };
}

/** Keys whose value may stand in that file. */
const BROUGHT: Readonly<Record<SecretFileKey, readonly string[]>> = {
  'auth.users_file': [],
  'http.token_file': [],
  'http.wal_token_file': [],
  'upstream.conninfo_file': ['upstream.application_name'],
};

function secretOf(key: SecretFileKey, running: Config, loaded: Config): Partial<Config> {
  switch (key) {
    case 'auth.users_file': {
      const { users, usersWithoutSecret } = loaded.auth;
      return { auth: { ...running.auth, users, usersWithoutSecret } };
    }
    case 'http.token_file':
      return { http: { ...running.http, token: loaded.http.token } };
    case 'http.wal_token_file':
      return { http: { ...running.http, walToken: loaded.http.walToken } };
    case 'upstream.conninfo_file': {
      const { conninfo, server, applicationName } = loaded.upstream;
      return { upstream: { ...running.upstream, conninfo, server, applicationName } };
    }
  }
}

function meaning({ values }: Config, path: string): string {
  return values.get(path)?.meaning ?? '';
}
