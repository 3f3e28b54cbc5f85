// Where are the upstream's hosts learnt, and which come first? What the keys of discovery say together, checked.
import type { Conninfo } from '../pg/conninfo.ts';
import { UPSTREAM_PREFERENCES } from './config.ts';
import type { UpstreamDiscoveryConfig, UpstreamPreference } from './config.ts';
import { DISCOVERY_URL_CHARACTERS_MAX, DISCOVERY_URLS_MAX } from './limits.ts';
import { ZONE_NAME } from './settings.ts';
import { textOf, wordsOf } from './values.ts';
import type { ConfigValues } from './values.ts';

const URLS = 'upstream.discovery.patroni';
const PREFER = 'upstream.prefer';
const ZONE = 'upstream.zone';

/** Null: no discovery. */
export interface ResolvedDiscovery {
  readonly discovery: UpstreamDiscoveryConfig | null;
  readonly warnings: readonly string[];
}

/** Reads the keys; mistakes go to `values`. `server` is null where the connection string is missing or wrong. */
export function resolveDiscovery(values: ConfigValues, server: Conninfo | null): ResolvedDiscovery {
  const urls = readUrls(values);
  const kind = values.choice(PREFER, UPSTREAM_PREFERENCES);
  const zone = readZone(values);
  const unusedZone =
    zone !== null && kind !== 'zone' ? [`${ZONE} counts only with ${PREFER}: zone`] : [];
  if (urls.length === 0) {
    refuseWithoutDiscovery(values, kind);
    return { discovery: null, warnings: unusedZone };
  }
  requireFirstHosts(values, server);
  if (kind === 'zone' && zone === null) {
    const { place } = values.mustChoose(PREFER);
    values.report(place, `\`${PREFER}: zone\` needs \`${ZONE}\`: our own zone`);
  }
  const preference = kind === 'zone' ? { kind, zone: zone ?? '' } : { kind };
  const warnings = [...unusedZone, ...(server === null ? [] : contradictions(kind, server))];
  return { discovery: { urls, preference }, warnings };
}

function readUrls(values: ConfigValues): readonly string[] {
  const { place, text, itemPlaces } = values.mustChoose(URLS);
  const words = wordsOf(text);
  if (words.length > DISCOVERY_URLS_MAX) {
    values.report(place, `\`${URLS}\` takes at most ${DISCOVERY_URLS_MAX} URLs`);
    return [];
  }
  const urls: string[] = [];
  for (const [index, word] of words.entries()) {
    const read = readUrl(word);
    const url = 'url' in read ? read.url : null;
    const problem = 'problem' in read ? read.problem : 'is given twice';
    const isTwice = url !== null && urls.includes(url);
    if (url === null || isTwice) {
      values.report(itemPlaces?.[index] ?? place, `\`${URLS}\`: ${shown(word)} ${problem}`);
    }
    if (url !== null) urls.push(url);
  }
  return urls;
}

/** Without a slash at its end, and without the path that is added to it. */
function readUrl(word: string): { readonly url: string } | { readonly problem: string } {
  if (word.length > DISCOVERY_URL_CHARACTERS_MAX) {
    return { problem: `has more than ${DISCOVERY_URL_CHARACTERS_MAX} characters` };
  }
  const url = parseUrl(word);
  if (url === null || !/^https?:\/\/[^/]/i.test(word)) {
    return { problem: 'is no URL: write http://HOST:PORT or https://HOST:PORT' };
  }
  if (url.username !== '' || url.password !== '') {
    return { problem: 'holds a user or a password: GET /cluster needs none, leave it out' };
  }
  if (/[?#]/.test(word)) return { problem: 'has a query or a fragment: leave it out' };
  const path = url.pathname.replace(/(?:\/cluster)?\/*$/, '');
  return { url: `${url.origin}${path}` };
}

function parseUrl(text: string): URL | null {
  try {
    return new URL(text);
  } catch {
    return null;
  }
}

/** A mistaken value for messages, without what may be a password. */
function shown(word: string): string {
  const hidden = word.replace(/^([A-Za-z][A-Za-z0-9+.-]*:)?(\/\/)?[^/]*@/, '$1$2********@');
  return `"${hidden.slice(0, 100)}"`;
}

function readZone(values: ConfigValues): string | null {
  const given = values.get(ZONE);
  if (given === null) return null;
  const zone = textOf(given);
  if (zone === '') return null;
  if (new RegExp(ZONE_NAME).test(zone)) return zone;
  values.report(
    given.place,
    `\`${ZONE}\` must be 1 to 63 printable ASCII characters without blanks`,
  );
  return null;
}

/** Of a list of hosts nobody says which is which before they are asked. */
function refuseWithoutDiscovery(values: ConfigValues, kind: UpstreamPreference): void {
  if (kind === 'primary' || values.isComplainedAbout(URLS)) return;
  values.report(
    values.mustChoose(PREFER).place,
    `\`${PREFER}: ${kind}\` needs \`upstream.discovery\``,
    'For the hosts of the connection string their order counts; for a standby first, write target_session_attrs=prefer-standby into it.',
  );
}

/** Without a host this machine is meant: a server that nobody thought of might begin an empty store. */
function requireFirstHosts(values: ConfigValues, server: Conninfo | null): void {
  if (server === null) return;
  const isNamed = ['host', 'hostaddr', 'service'].some(
    (name) => (server.given.get(name) ?? '') !== '',
  );
  if (isNamed) return;
  const { place } = values.get('upstream.conninfo') ?? values.mustChoose('upstream.conninfo_file');
  values.report(
    place,
    'with `upstream.discovery` the connection string has to name a host all the same',
    'Write one or more of the servers (host=…): they count until Patroni has answered.',
  );
}

/** What is allowed, and can hardly be meant. */
function contradictions(kind: UpstreamPreference, server: Conninfo): string[] {
  const { targetSessionAttrs, loadBalanceHosts } = server;
  const takesNoStandby = targetSessionAttrs === 'read-write' || targetSessionAttrs === 'primary';
  const takesNoPrimary = targetSessionAttrs === 'read-only' || targetSessionAttrs === 'standby';
  const warnings: string[] = [];
  if ((kind === 'standby' && takesNoStandby) || (kind === 'primary' && takesNoPrimary)) {
    warnings.push(
      `${PREFER} is ${kind}, but target_session_attrs=${targetSessionAttrs} in the connection string takes none`,
    );
  }
  if (loadBalanceHosts === 'random') {
    warnings.push(
      `load_balance_hosts=random does not count with discovery: ${PREFER} says who comes first`,
    );
  }
  return warnings;
}
