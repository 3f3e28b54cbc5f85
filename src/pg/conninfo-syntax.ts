// Which options does a connection string name? The keyword form and the URI form of libpq, with its own complaints.
// (src/interfaces/libpq/fe-connect.c: conninfo_parse, conninfo_uri_parse_options)

/** What libpq would say about a connection string it cannot use. */
export interface ConninfoError {
  readonly error: string;
}

/** Options by keyword, the last value winning, or why there are none. */
export type ConninfoOptions = ReadonlyMap<string, string> | ConninfoError;

/** Keywords of libpq 18; any other is an error. (PQconninfoOptions) */
const KEYWORDS: ReadonlySet<string> = new Set(
  `service servicefile user password passfile channel_binding connect_timeout dbname host hostaddr port
  client_encoding options application_name fallback_application_name keepalives keepalives_idle keepalives_interval
  keepalives_count tcp_user_timeout sslmode sslnegotiation sslcompression sslcert sslkey sslkeylogfile sslcertmode
  sslpassword sslrootcert sslcrl sslcrldir sslsni requirepeer require_auth min_protocol_version max_protocol_version
  ssl_min_protocol_version ssl_max_protocol_version gssencmode krbsrvname gsslib gssdelegation replication
  target_session_attrs load_balance_hosts scram_client_key scram_server_key oauth_issuer oauth_client_id
  oauth_client_secret oauth_scope`.split(/\s+/),
);

/** Options whose value is never shown. */
const SECRETS: ReadonlySet<string> = new Set([
  'password',
  'sslpassword',
  'scram_client_key',
  'scram_server_key',
  'oauth_client_secret',
]);

const MASK = '***';
const URI_PREFIX = /^postgres(?:ql)?:\/\//;
const SPACE = /[ \t\n\v\f\r]/;

/** Carries libpq's text out of the nested readers; never leaves this file. */
class SyntaxFailure extends Error {}

/** Reads either form. */
export function parseConninfoOptions(text: string): ConninfoOptions {
  const options = new Map<string, string>();
  try {
    if (URI_PREFIX.test(text)) {
      parseUri(text, options);
      return options;
    }
    for (const { name, value } of keywordPairs(text)) {
      if (!KEYWORDS.has(name)) throw new SyntaxFailure(`invalid connection option "${name}"`);
      options.set(name, value);
    }
    return options;
  } catch (error) {
    if (!(error instanceof SyntaxFailure)) throw error;
    return { error: error.message };
  }
}

/** `text` for people and logs: secrets replaced by `***`. What cannot be read is left out rather than shown. */
export function maskConninfo(text: string): string {
  return URI_PREFIX.test(text) ? maskUri(text) : maskKeywordForm(text);
}

interface KeywordPair {
  readonly name: string;
  readonly value: string;
  /** Where the value, with its quotes, lies in the text. */
  readonly start: number;
  readonly end: number;
}

function* keywordPairs(text: string): Generator<KeywordPair> {
  let offset = skipSpace(text, 0);
  while (offset < text.length) {
    const nameStart = offset;
    while (offset < text.length && text.charAt(offset) !== '=' && !isSpace(text, offset)) {
      offset += 1;
    }
    const name = text.slice(nameStart, offset);
    offset = skipSpace(text, offset);
    if (text.charAt(offset) !== '=') {
      throw new SyntaxFailure(`missing "=" after "${name}" in connection info string`);
    }
    const start = skipSpace(text, offset + 1);
    const { value, end } =
      text.charAt(start) === "'" ? quotedValue(text, start + 1) : plainValue(text, start);
    yield { name, value, start, end };
    offset = skipSpace(text, end);
  }
}

/** Up to white space; a backslash takes the next character as it is. */
function plainValue(text: string, start: number): { value: string; end: number } {
  let value = '';
  let offset = start;
  while (offset < text.length && !isSpace(text, offset)) {
    if (text.charAt(offset) === '\\') offset += 1;
    value += text.charAt(offset);
    offset += 1;
  }
  return { value, end: Math.min(offset, text.length) };
}

/** From behind one quote to the next; a backslash takes the next character as it is. */
function quotedValue(text: string, start: number): { value: string; end: number } {
  let value = '';
  for (let offset = start; offset < text.length; offset += 1) {
    const char = text.charAt(offset);
    if (char === "'") return { value, end: offset + 1 };
    if (char === '\\') offset += 1;
    value += text.charAt(offset);
  }
  throw new SyntaxFailure('unterminated quoted string in connection info string');
}

function isSpace(text: string, offset: number): boolean {
  return SPACE.test(text.charAt(offset));
}

function skipSpace(text: string, start: number): number {
  let offset = start;
  while (offset < text.length && isSpace(text, offset)) offset += 1;
  return offset;
}

/** `postgresql://[user[:password]@][host[:port][,…]][/dbname][?name=value[&…]]` */
function parseUri(uri: string, options: Map<string, string>): void {
  let rest = uri.replace(URI_PREFIX, '');
  const credentials = /^([^@/]*)@/.exec(rest);
  if (credentials !== null) {
    const [whole, text = ''] = credentials;
    const colon = text.indexOf(':');
    storeDecoded(options, 'user', colon < 0 ? text : text.slice(0, colon));
    if (colon >= 0) storeDecoded(options, 'password', text.slice(colon + 1));
    rest = rest.slice(whole.length);
  }
  rest = parseNetLocations(uri, rest, options);
  // The terminator of the last host is taken for "/", whatever it is, except for "?".
  if (rest !== '' && !rest.startsWith('?')) {
    const question = rest.indexOf('?');
    const end = question < 0 ? rest.length : question;
    storeDecoded(options, 'dbname', rest.slice(1, end));
    rest = rest.slice(end);
  }
  if (rest !== '') parseQuery(rest.slice(1), options);
}

/** Reads `host[:port],…` and returns what follows. */
function parseNetLocations(uri: string, text: string, options: Map<string, string>): string {
  const hosts: string[] = [];
  const ports: string[] = [];
  let rest = text;
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
  if (end < 0) {
    throw new SyntaxFailure(
      `end of string reached when looking for matching "]" in IPv6 host address in URI: "${maskConninfo(uri)}"`,
    );
  }
  if (end === 1) {
    throw new SyntaxFailure(`IPv6 host address may not be empty in URI: "${maskConninfo(uri)}"`);
  }
  const rest = text.slice(end + 1);
  if (rest !== '' && !/^[:/?,]/.test(rest)) {
    const position = uri.length - rest.length + 1;
    throw new SyntaxFailure(
      `unexpected character "${rest.charAt(0)}" at position ${position} in URI ` +
        `(expected ":" or "/"): "${maskConninfo(uri)}"`,
    );
  }
  return { name: text.slice(1, end), rest };
}

function parseQuery(query: string, options: Map<string, string>): void {
  if (query === '') return;
  // A trailing "&" ends the list.
  const parameters = query.endsWith('&') ? query.slice(0, -1) : query;
  for (const parameter of parameters.split('&')) {
    const [rawName = '', rawValue, ...more] = parameter.split('=');
    if (more.length > 0) {
      throw new SyntaxFailure(`extra key/value separator "=" in URI query parameter: "${rawName}"`);
    }
    if (rawValue === undefined) {
      throw new SyntaxFailure(
        `missing key/value separator "=" in URI query parameter: "${rawName}"`,
      );
    }
    const name = decodePercent(rawName);
    storeQueryParameter(options, name, decodePercent(rawValue, SECRETS.has(name)));
  }
}

function storeQueryParameter(options: Map<string, string>, name: string, value: string): void {
  // JDBC's spelling.
  if (name === 'ssl' && value === 'true') options.set('sslmode', 'require');
  else if (KEYWORDS.has(name)) options.set(name, value);
  else throw new SyntaxFailure(`invalid URI query parameter: "${name}"`);
}

function storeDecoded(options: Map<string, string>, name: string, raw: string): void {
  if (raw !== '') options.set(name, decodePercent(raw, SECRETS.has(name)));
}

function decodePercent(raw: string, isSecret = false): string {
  if (!raw.includes('%')) return raw;
  const shown = isSecret ? MASK : raw;
  const parts = raw.split('%');
  const bytes: Buffer[] = [Buffer.from(parts[0] ?? '')];
  for (const part of parts.slice(1)) {
    const hex = /^[0-9A-Fa-f]{2}/.exec(part)?.[0];
    if (hex === undefined) {
      throw new SyntaxFailure(`invalid percent-encoded token: "${shown}"`);
    }
    if (hex === '00') {
      throw new SyntaxFailure(`forbidden value %00 in percent-encoded value: "${shown}"`);
    }
    bytes.push(Buffer.from(hex, 'hex'), Buffer.from(part.slice(2)));
  }
  return Buffer.concat(bytes).toString();
}

function maskKeywordForm(text: string): string {
  let masked = '';
  let offset = 0;
  try {
    for (const { name, start, end } of keywordPairs(text)) {
      masked += SECRETS.has(name) ? text.slice(offset, start) + MASK : text.slice(offset, end);
      offset = end;
    }
    return masked + text.slice(offset);
  } catch (error) {
    if (!(error instanceof SyntaxFailure)) throw error;
    return `${masked} ${MASK}`.trimStart();
  }
}

/** Masks rather too much than too little: a password may hold `@` and `/` unescaped by mistake. */
function maskUri(uri: string): string {
  const prefix = URI_PREFIX.exec(uri)?.[0] ?? '';
  const question = uri.indexOf('?');
  const authority = question < 0 ? uri.slice(prefix.length) : uri.slice(prefix.length, question);
  const query = question < 0 ? '' : uri.slice(question);
  const at = authority.lastIndexOf('@');
  const colon = authority.indexOf(':');
  const hasPassword = colon >= 0 && colon < at;
  const shown = hasPassword
    ? authority.slice(0, colon + 1) + MASK + authority.slice(at)
    : authority;
  return prefix + shown + maskQuery(query);
}

function maskQuery(query: string): string {
  return query.replace(/([?&])([^=&]*)=([^&]*)/g, (pair, separator: string, name: string) => {
    let decoded = name;
    try {
      decoded = decodePercent(name);
    } catch {
      return `${separator}${MASK}`;
    }
    return SECRETS.has(decoded) ? `${separator}${name}=${MASK}` : pair;
  });
}
