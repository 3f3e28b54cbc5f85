// What does docs/kubernetes.md tell its reader to type? For tests that do it.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Its text. */
export const KUBERNETES_PAGE: string = readFileSync(
  join(import.meta.dirname, '../../docs/kubernetes.md'),
  'utf8',
);

/** The texts between the fences whose first line fits, in their order. */
export function pageBlocks(word: RegExp): readonly string[] {
  return [...KUBERNETES_PAGE.matchAll(/^```(.*)\n([\s\S]*?)^```$/gm)]
    .filter(([, found = '']) => word.test(found))
    .map(([, , text = '']) => text);
}

/** Files that are to be written, by path: text. */
export function pageFiles(): readonly (readonly [string, string])[] {
  return [...KUBERNETES_PAGE.matchAll(/^```(?:yaml )?file=(\S+)\n([\s\S]*?)^```$/gm)].map(
    ([, path = '', text = '']) => [path, text],
  );
}

/** What matches first, its first group; throws where the page does not say it any more. */
export function pageWords(pattern: RegExp): string {
  const words = pattern.exec(KUBERNETES_PAGE)?.[1];
  if (words === undefined) throw new Error(`docs/kubernetes.md has nothing like ${pattern.source}`);
  return words;
}

/** The statement that makes the role of the relays on the primary, with another password than the page has. */
export function relayRoleSql(password: string): string {
  const [sql = ''] = pageBlocks(/^sql$/);
  if (!sql.includes("'change-me'")) throw new Error('docs/kubernetes.md makes no role');
  return sql.replace("'change-me'", `'${password}'`);
}

/** The line for the relays in the primary's pg_hba.conf, for another network. */
export function relayHbaLine(network: string): string {
  return pageWords(/^(hostssl replication walcast .*)$/m).replace(/10\.\S+/, network);
}

/** The names that the certificate of the relays is for. */
export const CERTIFICATE_NAMES: readonly string[] = [
  ...pageWords(/certificate of `walcast-tls` is for the names ([^(]*)/).matchAll(/`([^`]+)`/g),
].map(([, name = '']) => name);

/** `host` of primary_conninfo: of both relays, and the one name for all. */
export const STANDBY_HOSTS: readonly string[] = [
  pageWords(/^primary_conninfo = 'host=(\S+)/m),
  pageWords(/`host=(\S+)` is one name/),
];

/** How long a standby tries to reach a host that is silent. */
export const USER_TIMEOUT_MS: number = Number(
  pageWords(/^primary_conninfo = .* tcp_user_timeout=(\d+)/m),
);

/** What commits are to wait for. */
export const SYNC_NAMES: string = pageWords(/`synchronous_standby_names = '(.*)'`/);

/** What is typed in a pod to look at it. */
export const STATUS_COMMAND: string = pageWords(
  /^kubectl exec -n walcast walcast-0 -- ((?:.*\\\n)*.*)$/m,
).replaceAll(/\\\n\s*/g, '');
