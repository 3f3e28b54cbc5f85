// What does a connection URI say? `postgresql://[user[:password]@][host[:port][,…]][/dbname][?name=value[&…]]`
// (src/interfaces/libpq/fe-connect.c: conninfo_uri_parse_options, conninfo_uri_parse_params, conninfo_uri_decode)
import {
  CONNINFO_OPTIONS,
  ConninfoSyntaxFailure,
  MASK,
  SECRET_OPTIONS,
  storeOption,
} from './conninfo-options.ts';

const URI_PREFIX = /^postgres(?:ql)?:\/\//;

/** True for what is read as a URI; anything else has the keyword form. */
export function isConninfoUri(text: string): boolean {
  return URI_PREFIX.test(text);
}

/** Adds what `uri` says to `options`. Throws {@link ConninfoSyntaxFailure}. */
export function parseConninfoUri(uri: string, options: Map<string, string>): void {
  const { prefix, credentials } = splitUri(uri);
  if (credentials !== null) {
    const colon = credentials.indexOf(':');
    storeDecoded(options, 'user', colon < 0 ? credentials : credentials.slice(0, colon));
    if (colon >= 0) storeDecoded(options, 'password', credentials.slice(colon + 1));
  }
  const consumed = prefix.length + (credentials === null ? 0 : credentials.length + 1);
  let tail = parseNetLocations(uri, consumed, options);
  if (tail.startsWith('/')) {
    const question = tail.indexOf('?');
    const end = question < 0 ? tail.length : question;
    storeDecoded(options, 'dbname', tail.slice(1, end));
    tail = tail.slice(end);
  }
  if (tail !== '') parseQuery(tail.slice(1), options);
}

/**
 * A URI without its secrets. Of one that was not accepted, rather too much is left out than too little: its password may
 * hold `@`, `/` and `?` that should have been percent-encoded.
 */
export function maskConninfoUri(uri: string, isAccepted: boolean): string {
  const { prefix, credentials, rest } = splitUri(uri);
  const hostsStart = credentials === null ? 0 : credentials.length + 1;
  const text = credentials === null ? rest : `${credentials}@${rest}`;
  const question = text.indexOf('?', hostsStart);
  const authorityEnd = isAccepted && question >= 0 ? question : text.length;
  const at = text.lastIndexOf('@', authorityEnd - 1);
  const colon = text.indexOf(':');
  if (colon < 0 || colon > at) return prefix + maskFromQuery(text, question);
  const shown = `${text.slice(0, colon + 1)}${MASK}`;
  return prefix + shown + maskFromQuery(text.slice(at), text.slice(at).indexOf('?'));
}

/** Cuts a URI as libpq does: what stands before the first `@` names the user, unless a `/` comes before it. */
function splitUri(uri: string): { prefix: string; credentials: string | null; rest: string } {
  const prefix = URI_PREFIX.exec(uri)?.[0] ?? '';
  const text = uri.slice(prefix.length);
  const credentials = /^([^@/]*)@/.exec(text)?.[1];
  return credentials === undefined
    ? { prefix, credentials: null, rest: text }
    : { prefix, credentials, rest: text.slice(credentials.length + 1) };
}

/** Reads `host[:port],…` from `start` on and returns what follows. */
function parseNetLocations(uri: string, start: number, options: Map<string, string>): string {
  const hosts: string[] = [];
  const ports: string[] = [];
  let rest = uri.slice(start);
  for (;;) {
    const host = rest.startsWith('[') ? bracketedHost(uri, rest) : plainHost(rest);
    hosts.push(host.name);
    rest = host.rest;
    const port = /^:([^/?,]*)/.exec(rest);
    ports.push(port?.[1] ?? '');
    rest = rest.slice(port?.[0].length ?? 0);
    if (!rest.startsWith(',')) break;
    rest = rest.slice(1);
  }
  storeDecoded(options, 'host', hosts.join(','));
  storeDecoded(options, 'port', ports.join(','));
  return rest;
}

function plainHost(text: string): { name: string; rest: string } {
  const name = /^[^:/?,]*/.exec(text)?.[0] ?? '';
  return { name, rest: text.slice(name.length) };
}

function bracketedHost(uri: string, text: string): { name: string; rest: string } {
  const end = text.indexOf(']');
  const inUri = `in URI: "${maskConninfoUri(uri, false)}"`;
  if (end < 0) {
    throw new ConninfoSyntaxFailure(
      `end of string reached when looking for matching "]" in IPv6 host address ${inUri}`,
    );
  }
  if (end === 1) {
    throw new ConninfoSyntaxFailure(`IPv6 host address may not be empty ${inUri}`);
  }
  const rest = text.slice(end + 1);
  if (rest !== '' && !/^[:/?,]/.test(rest)) {
    const position = Buffer.byteLength(uri.slice(0, uri.length - rest.length)) + 1;
    throw new ConninfoSyntaxFailure(
      `unexpected character "${rest.charAt(0)}" at position ${position} in URI ` +
        `(expected ":" or "/"): "${maskConninfoUri(uri, false)}"`,
    );
  }
  return { name: text.slice(1, end), rest };
}

function parseQuery(query: string, options: Map<string, string>): void {
  if (query === '') return;
  // A trailing "&" ends the list.
  const parameters = query.endsWith('&') ? query.slice(0, -1) : query;
  let previous = '';
  for (const parameter of parameters.split('&')) {
    const [rawName = '', rawValue, ...more] = parameter.split('=');
    // An "&" in a password ends it here.
    const isSecret = parameter.includes('@') || SECRET_OPTIONS.has(previous);
    const shown = isSecret ? MASK : rawName;
    if (more.length > 0) {
      throw new ConninfoSyntaxFailure(
        `extra key/value separator "=" in URI query parameter: "${shown}"`,
      );
    }
    if (rawValue === undefined) {
      throw new ConninfoSyntaxFailure(
        `missing key/value separator "=" in URI query parameter: "${shown}"`,
      );
    }
    const name = decodePercent(rawName, isSecret);
    const value = decodePercent(rawValue, isSecret || SECRET_OPTIONS.has(name));
    // JDBC's spelling.
    if (name === 'ssl' && value === 'true') options.set('sslmode', 'require');
    else if (!storeOption(options, name, value)) {
      throw new ConninfoSyntaxFailure(
        `invalid URI query parameter: "${shown === MASK ? MASK : name}"`,
      );
    }
    previous = name;
  }
}

function storeDecoded(options: Map<string, string>, name: string, raw: string): void {
  if (raw !== '') options.set(name, decodePercent(raw, SECRET_OPTIONS.has(name)));
}

/** An `@` that is left over stood in a password: what is around it may be the rest of that. */
function shownRaw(raw: string): string {
  return raw.includes('@') ? MASK : raw;
}

/** Blanks around the text are dropped, those within must be percent-encoded. */
function decodePercent(raw: string, isSecret = false): string {
  const shown = isSecret ? MASK : shownRaw(raw);
  const text = raw.replace(/^ +/, '');
  const end = text.indexOf(' ');
  const parts = (end < 0 ? text : text.slice(0, end)).split('%');
  const bytes: Buffer[] = [Buffer.from(parts[0] ?? '')];
  for (const part of parts.slice(1)) {
    const hex = /^[0-9A-Fa-f]{2}/.exec(part)?.[0];
    if (hex === undefined) {
      throw new ConninfoSyntaxFailure(`invalid percent-encoded token: "${shown}"`);
    }
    if (hex === '00') {
      throw new ConninfoSyntaxFailure(`forbidden value %00 in percent-encoded value: "${shown}"`);
    }
    bytes.push(Buffer.from(hex, 'hex'), Buffer.from(part.slice(2)));
  }
  if (end >= 0 && !/^ *$/.test(text.slice(end))) {
    throw new ConninfoSyntaxFailure(
      `unexpected spaces found in "${shown}", use percent-encoded spaces (%20) instead`,
    );
  }
  return Buffer.concat(bytes).toString();
}

/** `text` with the secrets of its query hidden, and with them every parameter that is none of libpq's. */
function maskFromQuery(text: string, question: number): string {
  if (question < 0) return text;
  const parameters = text.slice(question + 1).split('&');
  return `${text.slice(0, question + 1)}${parameters.map(maskParameter).join('&')}`;
}

function maskParameter(parameter: string): string {
  const equals = parameter.indexOf('=');
  if (equals < 0) return parameter === '' ? '' : MASK;
  const rawName = parameter.slice(0, equals);
  const name = tryDecode(rawName);
  if (name !== null && SECRET_OPTIONS.has(name)) return `${rawName}=${MASK}`;
  const isPlain = name !== null && (CONNINFO_OPTIONS.has(name) || /^(require)?ssl$/.test(name));
  return isPlain && !parameter.includes('=', equals + 1) ? parameter : MASK;
}

function tryDecode(raw: string): string | null {
  try {
    return decodePercent(raw);
  } catch (error) {
    if (!(error instanceof ConninfoSyntaxFailure)) throw error;
    return null;
  }
}
