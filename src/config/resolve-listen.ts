// Where do standbys connect, and with which TLS? What each item of `listen` says, checked.
import { parseListenAddress } from './address.ts';
import { CLIENT_CERT_MODES } from './config.ts';
import type { ClientCertMode, HttpTls, ListenAddress, ListenTls } from './config.ts';
import type { Place } from './problem.ts';
import type { RawTls } from './layer.ts';
import { suggest } from './suggest.ts';
import type { ConfigValues } from './values.ts';

/** Reads `listen`; mistakes go to `values`. */
export function resolveListen(values: ConfigValues): readonly ListenAddress[] {
  const { text, place: listPlace, itemPlaces, itemTls } = values.mustChoose('listen');
  const addresses: ListenAddress[] = [];
  const seen = new Set<string>();
  for (const [index, item] of (typeof text === 'string' ? [text] : text).entries()) {
    const place = itemPlaces?.[index] ?? listPlace;
    const tls = readTls(values, itemTls?.[index] ?? null, place);
    const parsed = parseListenAddress(item);
    if ('problem' in parsed) values.report(place, `\`listen\`: ${parsed.problem}`);
    else if (parsed.address.kind === 'tcp') addresses.push({ ...parsed.address, tls });
    else addresses.push(parsed.address);
    if (tls !== null && 'address' in parsed && parsed.address.kind === 'unix') {
      values.report(place, `\`listen\`: "${item}" is a Unix-domain socket: it has no TLS`);
    }
    if (seen.has(item) && !item.endsWith(':0'))
      values.report(place, `\`listen\`: "${item}" is given twice`);
    seen.add(item);
  }
  return addresses;
}

/** The pair of `http.tls`; null when it is not given. Mistakes go to `values`. */
export function resolveHttpTls(values: ConfigValues): HttpTls | null {
  const [cert, key, ca] = ['cert', 'key', 'ca'].map((name) => values.path(`http.tls.${name}`));
  const given = ['cert', 'key', 'ca'].map((name) => values.get(`http.tls.${name}`));
  const first = given.find((value) => value !== null) ?? null;
  if (first === null) return null;
  if (given[0] !== null && given[1] !== null) {
    // A name that is none was reported.
    return { cert: cert ?? '', key: key ?? '', ca: ca ?? null };
  }
  values.report(first.place, '`http.tls` needs both `cert` and `key`');
  return null;
}

function readTls(values: ConfigValues, raw: RawTls | null, itemPlace: Place): ListenTls | null {
  if (raw === null) return null;
  const file = (name: string): string | null => {
    const entry = raw.get(name);
    return entry === undefined ? null : values.resolveName(entry, `listen[].tls.${name}`);
  };
  const place = [...raw.values()][0]?.place ?? itemPlace;
  const [cert, key, ca, crl] = [file('cert'), file('key'), file('ca'), file('crl')];
  const clientCert = readMode(values, raw);
  if (!raw.has('cert') || !raw.has('key')) {
    values.report(place, '`listen[].tls` needs both `cert` and `key`');
    return null;
  }
  if (!raw.has('ca') && clientCert !== 'none') {
    const mode = raw.get('client_cert')?.place ?? place;
    values.report(
      mode,
      `\`client_cert: ${clientCert}\` needs \`ca\`: the authorities that sign client certificates`,
    );
  }
  if (!raw.has('ca') && raw.has('crl')) {
    values.report(raw.get('crl')?.place ?? place, '`crl` needs `ca`');
  }
  return { cert: cert ?? '', key: key ?? '', ca, crl, clientCert };
}

/** As PostgreSQL, who is given authorities asks for certificates and takes clients that have none. */
function readMode(values: ConfigValues, raw: RawTls): ClientCertMode {
  const entry = raw.get('client_cert');
  if (entry === undefined) return raw.has('ca') ? 'optional' : 'none';
  const mode = CLIENT_CERT_MODES.find((word) => word === entry.text);
  if (mode !== undefined) return mode;
  const meant = suggest(entry.text, CLIENT_CERT_MODES);
  values.report(
    entry.place,
    `\`client_cert\` must be one of ${CLIENT_CERT_MODES.join(', ')}, not "${entry.text.slice(0, 100)}"`,
    meant === null ? undefined : `Did you mean "${meant}"?`,
  );
  return 'none';
}
