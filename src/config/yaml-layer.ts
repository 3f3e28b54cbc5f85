// What a configuration file says: YAML with the position of every key and value, every mistake of form at once.
import { LineCounter, isAlias, isMap, isScalar, isSeq, parseDocument } from 'yaml';
import type { Document, Node, Pair, YAMLMap } from 'yaml';
import { Value } from 'typebox/value';
import { formatUserListLine } from '../pg/user-list.ts';
import {
  CONFIGURED_SLOTS_MAX,
  CONFIG_ERRORS_MAX,
  CONFIG_YAML_ALIASES_MAX,
  DISCOVERY_URLS_MAX,
  LISTEN_ADDRESSES_MAX,
} from './limits.ts';
import type { Layer, RawTls, RawValue } from './layer.ts';
import { configError } from './problem.ts';
import type { ConfigError, Place } from './problem.ts';
import {
  isWordListKind,
  SETTINGS,
  UNSUPPORTED_KEYS,
  neutralValues,
  settingOf,
} from './settings.ts';
import type { Setting, SettingKind } from './settings.ts';
import { suggest } from './suggest.ts';

/** Reads the text of a file called `source` in messages. Nothing below an unknown key is looked at. */
export function readYamlLayer(text: string, source: string): Layer {
  return new YamlReader(text, source).read();
}

/** As {@link readYamlLayer}, for whoever reads again and again: a text that is the same as before is not taken apart anew. */
export function rememberingYamlReader(): typeof readYamlLayer {
  let last: { readonly text: string; readonly source: string; readonly layer: Layer } | null = null;
  return (text, source) => {
    if (last?.text !== text || last.source !== source) {
      last = { text, source, layer: readYamlLayer(text, source) };
    }
    return last.layer;
  };
}

const LISTEN_TLS_KEYS: readonly string[] = ['cert', 'key', 'ca', 'crl', 'client_cert'];

/** What may stand in an item of `listen`. */
const LISTEN_KEYS: ReadonlyMap<string, readonly string[]> = new Map([
  ['listen[].', ['address', 'tls']],
  ['listen[].tls.', LISTEN_TLS_KEYS],
]);

class YamlReader {
  readonly #source: string;
  readonly #lines = new LineCounter();
  readonly #document: Document.Parsed;
  readonly #values = new Map<string, RawValue>();
  readonly #errors: ConfigError[] = [];
  #aliases = 0;
  #isAbandoned = false;
  readonly #fileLines: readonly string[];

  constructor(text: string, source: string) {
    this.#source = source;
    this.#fileLines = text.split(/\r?\n/);
    this.#document = parseDocument(text, {
      lineCounter: this.#lines,
      prettyErrors: false,
      // Found by ourselves: the parser compares every key with every other.
      uniqueKeys: false,
    });
  }

  read(): Layer {
    for (const { pos, code, message } of [...this.#document.errors, ...this.#document.warnings]) {
      if (code === 'RESOURCE_EXHAUSTION') return this.#nestedTooDeeply();
      const isSecond = code === 'MULTIPLE_DOCS';
      const text = isSecond ? 'the file must hold one document only' : withoutQuotations(message);
      this.#report(pos[0], text, code === 'BAD_ALIAS' ? STAR_HINT : null);
    }
    const root = this.#document.contents;
    if (this.#errors.length > 0) return this.#unreadable();
    if (root === null || (isScalar(root) && root.value === null)) {
      this.#report(0, 'the file holds no settings', 'It needs at least upstream.conninfo.');
      return this.#unreadable();
    }
    if (!isMap(root)) {
      this.#report(root.range[0], 'the file must be a map of keys and values');
      return this.#unreadable();
    }
    this.#readSection(root, '');
    return { values: this.#values, errors: this.#errors, isReadable: true };
  }

  /** The parser ran out of stack; where, is chance, and whatever else it says comes from that. */
  #nestedTooDeeply(): Layer {
    this.#errors.length = 0;
    this.#report(0, 'the file is nested too deeply');
    return this.#unreadable();
  }

  #unreadable(): Layer {
    return { values: new Map(), errors: this.#errors, isReadable: false };
  }

  #readSection(map: YAMLMap, prefix: string): void {
    const seen = new Set<string>();
    for (const pair of map.items) {
      const name = this.#keyOf(pair);
      if (name === null) this.#report(startOf(pair.key), 'a key must be text');
      else if (seen.has(name)) this.#report(startOf(pair.key), 'this key was already given above');
      else this.#readPair(pair, prefix, name);
      if (name !== null) seen.add(name);
      if (this.#isAbandoned) return;
    }
  }

  #keyOf(pair: Pair): string | null {
    const key = this.#resolve(pair.key);
    return isScalar(key) && typeof key.value === 'string' ? key.value : null;
  }

  #readPair(pair: Pair, prefix: string, name: string): void {
    const position = startOf(pair.key);
    const path = prefix + name;
    const value = this.#resolve(pair.value);
    const setting = settingOf(path);
    if (setting !== null) this.#readValue(setting, value, startOf(pair.value) || position);
    else if (UNSUPPORTED_KEYS.includes(path)) this.#readPlanned(path, value, position);
    else if (isSection(path)) this.#readNested(path, value, position);
    else this.#reportUnknown(position, prefix, name);
  }

  #readPlanned(path: string, value: Node | null, position: number): void {
    const isNeutral = isScalar(value) && neutralValues(path).some((word) => word === value.value);
    if (!isNeutral) this.#reportUnsupported(position, path);
  }

  #readNested(path: string, value: Node | null, position: number): void {
    if (isMap(value)) this.#readSection(value, `${path}.`);
    else if (isScalar(value) && value.value === null) return;
    else if (value !== null) this.#report(position, `\`${path}\` must be a map of keys and values`);
  }

  /** `position` is where the value is written: at an alias, not at what it stands for. */
  #readValue(setting: Setting, value: Node | null, position: number): void {
    if (value === null || (isScalar(value) && value.value === null)) {
      this.#report(position, `\`${setting.path}\` has no value`, 'Write "" for none.');
    } else if (setting.kind === 'addresses') {
      this.#readAddresses(setting, value, position);
    } else if (setting.kind === 'users') {
      this.#readUsers(setting, value, position);
    } else if (setting.kind === 'levels') {
      this.#readLevels(setting, value, position);
    } else if (isWordListKind(setting.kind)) {
      this.#readWords(setting, value, position);
    } else {
      this.#readScalar(setting, value, position);
    }
  }

  #readScalar(setting: Setting, value: Node, position: number): void {
    // A word that is none of the choices is answered later, with the one that was probably meant.
    const isWord = isScalar(value) && setting.kind === 'choice' && typeof value.value === 'string';
    if (!isScalar(value) || (!isWord && !Value.Check(setting.schema, value.value))) {
      this.#report(position, wrongType(setting));
      return;
    }
    // Of a folded block no line can be told: several of the file make one of the text.
    const isBlock = value.type === 'BLOCK_LITERAL';
    const text =
      typeof value.value === 'string' ? value.value : (value.source ?? String(value.value));
    const place = this.#placeAt(position);
    this.#values.set(setting.path, {
      text,
      place,
      block: isBlock && place.line !== null ? this.#blockAt(place.line + 1, text) : null,
    });
  }

  /** Where a block of text begins whose first line is `line` of the file. */
  #blockAt(line: number, text: string): { line: number; column: number } {
    const lines = text.split('\n');
    const filled = Math.max(
      0,
      lines.findIndex((content) => content.trim() !== ''),
    );
    const written = this.#fileLines[line - 1 + filled] ?? '';
    const indent = written.length - (lines[filled] ?? '').length;
    return { line, column: Math.max(0, indent) + 1 };
  }

  #readAddresses(setting: Setting, value: Node, position: number): void {
    if (!isSeq(value)) {
      this.#report(position, wrongType(setting));
      return;
    }
    if (value.items.length > LISTEN_ADDRESSES_MAX) {
      this.#report(position, `\`${setting.path}\` takes at most ${LISTEN_ADDRESSES_MAX} addresses`);
      return;
    }
    const before = this.#errors.length;
    const text: string[] = [];
    const itemPlaces: Place[] = [];
    const itemTls: (RawTls | null)[] = [];
    for (const item of value.items) {
      const node = this.#resolve(item);
      const read = this.#readAddress(node, position);
      if (read === null) continue;
      text.push(read.address);
      itemTls.push(read.tls);
      itemPlaces.push(this.#placeAt(node === null ? position : startOf(node)));
    }
    const isList = Value.Check(
      setting.schema,
      text.map((address) => ({ address })),
    );
    // Beside a mistake in one item the others are looked at all the same.
    if (isList && !this.#isAbandoned) {
      const place = this.#placeAt(position);
      this.#values.set(setting.path, { text, place, itemPlaces, itemTls, block: null });
    } else if (this.#errors.length === before) {
      this.#report(position, wrongType(setting));
    }
  }

  #readWords(setting: Setting, value: Node, position: number): void {
    const items = isSeq(value) ? value.items.map((item) => this.#resolve(item)) : [];
    const text = items.map((item) => (isScalar(item) ? item.value : null));
    // A list that is too long, no list at all, or one of something else than words.
    if (!isSeq(value) || !Value.Check(setting.schema, text)) {
      this.#report(position, wrongType(setting));
      return;
    }
    const itemPlaces = items.map((item) => this.#placeAt(startOf(item) || position));
    const place = this.#placeAt(position);
    this.#values.set(setting.path, { text: text.map(String), place, itemPlaces, block: null });
  }

  /** Names of users and their secrets become lines of a user list. */
  #readUsers(setting: Setting, value: Node, position: number): void {
    if (!isMap(value)) {
      this.#report(position, wrongType(setting));
      return;
    }
    const before = this.#errors.length;
    const text: string[] = [];
    const itemPlaces: Place[] = [];
    const seen = new Set<string>();
    for (const pair of value.items) {
      const name = this.#keyOf(pair);
      const secret = this.#resolve(pair.value);
      const at = startOf(pair.key) || position;
      const isText = isScalar(secret) && typeof secret.value === 'string';
      if (name === null || !isText || /[\r\n]/.test(`${name}${String(secret.value)}`)) {
        this.#report(at, `an item of \`${setting.path}\` is written NAME: SECRET, both text`);
      } else if (seen.has(name)) {
        this.#report(at, 'this key was already given above');
      } else {
        seen.add(name);
        text.push(formatUserListLine(name, String(secret.value)));
        itemPlaces.push(this.#placeAt(at));
      }
      if (this.#isAbandoned) return;
    }
    if (this.#errors.length > before) return;
    const place = this.#placeAt(position);
    this.#values.set(setting.path, { text, place, itemPlaces, block: null });
  }

  /** Components and their levels become words such as `wal=debug`. Which there are is looked at later. */
  #readLevels(setting: Setting, value: Node, position: number): void {
    if (!isMap(value)) {
      this.#report(position, wrongType(setting));
      return;
    }
    const text: string[] = [];
    const itemPlaces: Place[] = [];
    for (const pair of value.items) {
      const name = this.#keyOf(pair);
      const level = this.#resolve(pair.value);
      const at = startOf(pair.key) || position;
      if (this.#isAbandoned) return;
      if (name === null || name.includes('=') || !isScalar(level)) {
        this.#report(at, `an item of \`${setting.path}\` is written COMPONENT: LEVEL`);
        return;
      }
      text.push(`${name}=${String(level.value)}`);
      itemPlaces.push(this.#placeAt(at));
    }
    const place = this.#placeAt(position);
    this.#values.set(setting.path, { text, place, itemPlaces, block: null });
  }

  #readAddress(
    item: Node | null,
    listPosition: number,
  ): { address: string; tls: RawTls | null } | null {
    const position = item === null ? listPosition : startOf(item);
    if (!isMap(item)) {
      this.#report(position, 'an item of `listen` is written { address: HOST:PORT }');
      return null;
    }
    const before = this.#errors.length;
    let address: string | null = null;
    let tls: RawTls | null = null;
    for (const pair of item.items) {
      const key = this.#resolve(pair.key);
      const name = isScalar(key) ? String(key.value) : '';
      const value = this.#resolve(pair.value);
      if (name === 'tls') {
        tls = this.#readTls(value, startOf(pair.key));
      } else if (name !== 'address') {
        this.#reportUnknown(startOf(pair.key), 'listen[].', name);
      } else if (isScalar(value) && typeof value.value === 'string') {
        address = value.value;
      } else {
        this.#report(startOf(pair.key), '`address` must be text such as 127.0.0.1:5432');
      }
    }
    const isSilent = this.#errors.length === before;
    if (address === null && isSilent)
      this.#report(position, 'this item of `listen` has no `address`');
    return address === null ? null : { address, tls };
  }

  #readTls(value: Node | null, position: number): RawTls | null {
    if (!isMap(value)) {
      this.#report(position, '`tls` is written { cert: FILE, key: FILE }');
      return null;
    }
    const words = new Map<string, { text: string; place: Place }>();
    for (const pair of value.items) {
      const key = this.#resolve(pair.key);
      const name = isScalar(key) ? String(key.value) : '';
      const word = this.#resolve(pair.value);
      const at = startOf(pair.key) || position;
      if (!LISTEN_TLS_KEYS.includes(name)) {
        this.#reportUnknown(at, 'listen[].tls.', name);
      } else if (words.has(name)) {
        this.#report(at, 'this key was already given above');
      } else if (isScalar(word) && typeof word.value === 'string') {
        words.set(name, { text: word.value, place: this.#placeAt(startOf(pair.value) || at) });
      } else {
        this.#report(at, `\`listen[].tls.${name}\` must be text`);
      }
    }
    return words;
  }

  /** The node itself, or what an alias stands for. Aliases are counted: only an expansion bomb has many. */
  #resolve(node: unknown): Node | null {
    if (isAlias(node)) {
      if (this.#aliases === CONFIG_YAML_ALIASES_MAX) {
        this.#report(startOf(node), `more than ${CONFIG_YAML_ALIASES_MAX} aliases`);
        this.#isAbandoned = true;
      }
      this.#aliases++;
      if (this.#isAbandoned) return null;
      const target = node.resolve(this.#document);
      if (target === undefined)
        // Its name is not repeated: it may be a password.
        this.#report(startOf(node), 'an alias stands for nothing', STAR_HINT);
      return target ?? null;
    }
    return isScalar(node) || isMap(node) || isSeq(node) ? node : null;
  }

  #reportUnsupported(position: number, path: string): void {
    this.#report(position, unsupportedMessage(path));
  }

  #reportUnknown(position: number, prefix: string, name: string): void {
    this.#report(position, ...unknownKey(prefix, name));
  }

  #report(position: number, message: string, hint?: string | null): void {
    if (this.#isAbandoned) return;
    this.#errors.push(configError(this.#placeAt(position), message, hint));
    if (this.#errors.length >= CONFIG_ERRORS_MAX) this.#isAbandoned = true;
  }

  #placeAt(position: number): Place {
    const { line, col } = this.#lines.linePos(position);
    return { source: this.#source, line: Math.max(1, line), column: Math.max(1, col) };
  }
}

const STAR_HINT = 'Put a value that begins with * in quotes.';

/** What the parser says, without the words of the file that it quotes: they may be part of a password. */
function withoutQuotations(message: string): string {
  return message
    .replace(/(?<=\S): .*$/s, '')
    .replace(/^(Invalid escape sequence|Unknown directive|Unsupported YAML version) .*$/s, '$1')
    .replace(/, so .* is invalid\.$/s, '')
    .replace(/^(The ).* (tag has no suffix)$/s, '$1$2')
    .replace(/^\S+ (?=used for )/s, '');
}

/** The words for a key of the contract that is not built yet. */
export function unsupportedMessage(path: string): string {
  return `\`${path}\` is not supported by this version yet`;
}

/** Message and hint for a key that does not exist: a neighbour that looks like it, or the same name elsewhere. */
export function unknownKey(prefix: string, name: string): [string, string | null] {
  const siblings = LISTEN_KEYS.get(prefix) ?? namesBelow(prefix);
  const known = [...SETTINGS.map(({ path }) => path), ...UNSUPPORTED_KEYS];
  const near = suggest(name, siblings);
  const elsewhere = known.find((path) => path.split('.').at(-1) === name);
  const meant = near === null ? (elsewhere ?? suggest(prefix + name, known)) : prefix + near;
  return [
    `unknown key \`${prefix}${name.slice(0, 100)}\``,
    meant === null || meant === undefined ? null : `Did you mean \`${meant}\`?`,
  ];
}

function namesBelow(prefix: string): string[] {
  const below = [...SETTINGS.map(({ path }) => path), ...UNSUPPORTED_KEYS]
    .filter((path) => path.startsWith(prefix))
    .map((path) => path.slice(prefix.length).split('.')[0] ?? '');
  return [...new Set(below)];
}

function isSection(path: string): boolean {
  return SETTINGS.some((setting) => setting.path.startsWith(`${path}.`));
}

function wrongType(setting: Setting): string {
  const wanted: Readonly<Record<SettingKind, string>> = {
    text: 'text; put a number or a word such as true in quotes',
    path: 'the name of a file or directory',
    rules: `a block of lines in the syntax of ${setting.path === 'auth.ident' ? 'pg_ident' : 'pg_hba'}.conf, after \`|\``,
    levels: 'a map of components to levels such as { walsender: debug }',
    users: 'a map of names to secrets such as { replicator: "SCRAM-SHA-256$…" }',
    size: 'a size such as 16MB',
    duration: 'a time such as 10s',
    integer: 'a whole number',
    choice: `one of ${setting.choices.join(', ')}`,
    address: 'an address such as 127.0.0.1:9188',
    addresses: 'a list such as [ { address: 127.0.0.1:5432 } ]',
    names: `a list such as [ ${setting.path === 'slots' ? 'standby_a, standby_b' : 'ops'} ], of at most ${CONFIGURED_SLOTS_MAX}`,
    urls: `a list such as [ "http://pg-a:8008" ], of at most ${DISCOVERY_URLS_MAX}`,
  };
  return `\`${setting.path}\` must be ${wanted[setting.kind]}`;
}

function startOf(node: unknown): number {
  return isScalar(node) || isMap(node) || isSeq(node) || isAlias(node) ? (node.range?.[0] ?? 0) : 0;
}
