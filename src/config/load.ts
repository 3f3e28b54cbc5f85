// From flags, environment and file to one checked configuration: precedence, units, and every mistake at once.
import { dirname, resolve } from 'node:path';
import type { Conninfo } from '../pg/conninfo.ts';
import { LOG_FORMATS, LOG_LEVELS } from '../base/log.ts';
import { invariant } from '../base/errors.ts';
import { parseListenAddress, parseTcpAddress } from './address.ts';
import { FORWARD_MODES, VERIFY_MODES } from './config.ts';
import type {
  Config,
  HbaConfig,
  ListenAddress,
  Origin,
  TcpAddress,
  UpstreamConfig,
} from './config.ts';
import type { Layer, RawValue } from './layer.ts';
import { CONFIG_ERRORS_MAX, CONFIG_FILE_BYTES_MAX } from './limits.ts';
import { readEnvironmentLayer, readFlagLayer } from './named-layers.ts';
import type { FlagValue } from './named-layers.ts';
import { checkConninfo, checkHba } from './parsers.ts';
import { configError, namedPlace } from './problem.ts';
import type { ConfigError, Place } from './problem.ts';
import { readTextFile } from './read-file.ts';
import { SETTINGS, environmentName, settingOf } from './settings.ts';
import type { Setting } from './settings.ts';
import { fromBaseUnit, parseNumberWithUnit } from './units.ts';
import { readYamlLayer } from './yaml-layer.ts';

/** Where to look, highest precedence first. */
export interface ConfigSources {
  readonly flags: readonly FlagValue[];
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Name of the YAML file; null for none. */
  readonly file: string | null;
  /** What relative names given by flags and environment are relative to. */
  readonly workingDirectory: string;
}

/** A configuration, or everything that is wrong with it, in the order of the file. */
export type LoadedConfig =
  | { readonly config: Config }
  | { readonly errors: readonly ConfigError[] };

/** Reads and checks everything. Touches nothing but the files it is told to read. Never throws for a mistake of the user. */
export function loadConfig(sources: ConfigSources): LoadedConfig {
  const file = readFileLayer(sources.file);
  const layers: readonly (readonly [Origin, Layer])[] = [
    ['flag', readFlagLayer(sources.flags)],
    ['environment', readEnvironmentLayer(sources.env)],
    ['file', file],
  ];
  const resolver = new Resolver(layers, sources);
  const config = resolver.config();
  const errors = [...layers.flatMap(([, layer]) => layer.errors), ...resolver.errors];
  if (errors.length === 0 && config !== null) return { config };
  return { errors: errors.toSorted(byPlace).slice(0, CONFIG_ERRORS_MAX) };
}

function readFileLayer(file: string | null): Layer {
  if (file === null) return { values: new Map(), errors: [], isReadable: true };
  const content = readTextFile(file, CONFIG_FILE_BYTES_MAX);
  if ('text' in content) return readYamlLayer(content.text, file);
  return {
    values: new Map(),
    errors: [configError(namedPlace(file), `the configuration file ${content.problem}`)],
    isReadable: false,
  };
}

function byPlace(a: ConfigError, b: ConfigError): number {
  return (a.place.line ?? 0) - (b.place.line ?? 0) || (a.place.column ?? 0) - (b.place.column ?? 0);
}

interface Chosen extends RawValue {
  readonly origin: Origin;
}

class Resolver {
  readonly errors: ConfigError[] = [];
  readonly #warnings: string[] = [];
  readonly #chosen = new Map<string, Chosen>();
  readonly #sources: ConfigSources;
  readonly #layers: readonly (readonly [Origin, Layer])[];

  constructor(layers: readonly (readonly [Origin, Layer])[], sources: ConfigSources) {
    this.#sources = sources;
    this.#layers = layers;
    for (const { path, defaultText } of SETTINGS) {
      const found = layers.find(([, layer]) => layer.values.has(path));
      const value = found?.[1].values.get(path);
      if (found !== undefined && value !== undefined) {
        this.#chosen.set(path, { ...value, origin: found[0] });
      } else if (defaultText !== null) {
        const place = namedPlace('default');
        this.#chosen.set(path, { text: defaultText, place, blockLine: null, origin: 'default' });
      }
    }
    this.#dropOverruled('upstream.conninfo', 'upstream.conninfo_file');
    this.#dropOverruled('auth.hba', 'auth.hba_file');
  }

  /** Null when there is no usable value for something that has no default; `errors` then says why. */
  config(): Config | null {
    const upstream = this.#upstream();
    const config = {
      listen: this.#listen(),
      hba: this.#hba(),
      storage: {
        directory: this.#path('storage.directory') ?? '',
        walKeepSizeBytes: this.#number('storage.wal_keep_size'),
        maxWalSenders: this.#number('storage.max_wal_senders'),
        maxReplicationSlots: this.#number('storage.max_replication_slots'),
        verify: this.#choice('storage.verify', VERIFY_MODES),
        forward: this.#choice('storage.forward', FORWARD_MODES),
      },
      walSenderTimeoutMs: this.#number('wal_sender_timeout'),
      drainTimeoutMs: this.#number('drain_timeout'),
      http: { listen: this.#httpListen() },
      log: {
        level: this.#choice('log.level', LOG_LEVELS),
        format: this.#choice('log.format', LOG_FORMATS),
      },
    };
    if (config.storage.verify === 'off') {
      this.#warnings.push(
        'storage.verify is off: damaged WAL would be kept and sent to every standby',
      );
    }
    if (upstream === null) return null;
    const origins = new Map([...this.#chosen].map(([path, { origin }]) => [path, origin]));
    return { upstream, ...config, origins, warnings: this.#warnings };
  }

  /** Of two ways to say the same the one of higher precedence counts; both in one place is a mistake. */
  #dropOverruled(inline: string, byFile: string): void {
    const [a, b] = [this.#chosen.get(inline), this.#chosen.get(byFile)];
    if (a === undefined || b === undefined) return;
    if (a.origin === b.origin) {
      this.#report(b.place, `\`${inline}\` and \`${byFile}\` are both given`, 'Keep one of them.');
    }
    const order: readonly Origin[] = ['flag', 'environment', 'file', 'default'];
    this.#chosen.delete(order.indexOf(a.origin) <= order.indexOf(b.origin) ? byFile : inline);
  }

  #upstream(): UpstreamConfig | null {
    const conninfo = this.#conninfo();
    const parts = {
      slot: this.#slotName(),
      walReceiverTimeoutMs: this.#number('upstream.wal_receiver_timeout'),
      walReceiverStatusIntervalMs: this.#number('upstream.wal_receiver_status_interval'),
    };
    const applicationName = this.#applicationName(conninfo?.server.applicationName ?? null);
    return conninfo === null ? null : { ...conninfo, applicationName, ...parts };
  }

  #conninfo(): { conninfo: string; server: Conninfo } | null {
    const inline = this.#chosen.get('upstream.conninfo');
    const byFile = this.#chosen.get('upstream.conninfo_file');
    const given = inline ?? byFile;
    if (given === undefined) {
      if (this.#isComplainedAbout('upstream')) return null;
      this.#report(
        namedPlace(this.#sources.file ?? '--upstream'),
        '`upstream.conninfo` is required: the server that WAL comes from',
        `Give it in the file (-c FILE), as ${environmentName('upstream.conninfo')}, or as --upstream 'host=… user=…'.`,
      );
      return null;
    }
    const text = inline === undefined ? this.#secretFile('upstream.conninfo_file') : textOf(inline);
    if (text === null) return null;
    const check = checkConninfo(text);
    if ('problem' in check) {
      const path = inline === undefined ? 'upstream.conninfo_file' : 'upstream.conninfo';
      this.#report(given.place, `\`${path}\` ${check.problem}`);
      return null;
    }
    return { conninfo: text, server: check.server };
  }

  /** True when a layer already says why a key of the section, or everything, is missing. */
  #isComplainedAbout(section: string): boolean {
    return this.#layers.some(
      ([, { errors, isReadable }]) =>
        !isReadable ||
        errors.some(({ message, hint }) => `${message} ${hint ?? ''}`.includes(`\`${section}`)),
    );
  }

  /** Content of a file that holds a secret, without its last line end. */
  #secretFile(path: string): string | null {
    const name = this.#path(path);
    const place = this.#chosen.get(path)?.place;
    if (name === null || place === undefined) return null;
    const content = readTextFile(name, CONFIG_FILE_BYTES_MAX);
    if ('problem' in content) {
      this.#report(place, `\`${path}\`: "${name}" ${content.problem}`);
      return null;
    }
    const secret = content.text.replace(/\r?\n$/, '');
    if (secret.trim() === '') {
      this.#report(place, `\`${path}\`: "${name}" is empty`);
      return null;
    }
    if (content.isReadableByOthers) {
      this.#warnings.push(
        `${path}: "${name}" can be read by every user of this machine; chmod 600 it`,
      );
    }
    return secret;
  }

  #slotName(): string | null {
    const name = this.#text('upstream.slot');
    if (name === '') return null;
    if (!/^[a-z0-9_]{1,63}$/.test(name)) {
      this.#reportValue(
        'upstream.slot',
        `replication slot name "${name.slice(0, 100)}" is not valid`,
        'It may only contain lower case letters, numbers, and the underscore character, 63 at most.',
      );
    }
    return name;
  }

  #applicationName(inConninfo: string | null): string {
    const chosen = this.#chosen.get('upstream.application_name');
    const isSet = chosen !== undefined && chosen.origin !== 'default';
    const isInConninfo = !isSet && inConninfo !== null && inConninfo !== '';
    const name = isInConninfo ? inConninfo : this.#text('upstream.application_name');
    if (!/^[\x20-\x7e]{1,63}$/.test(name)) {
      this.#reportValue(
        'upstream.application_name',
        '`upstream.application_name` must be 1 to 63 printable ASCII characters',
      );
    }
    return name;
  }

  #listen(): readonly ListenAddress[] {
    const { text, place } = this.#mustChoose('listen');
    const addresses: ListenAddress[] = [];
    const seen = new Set<string>();
    for (const item of typeof text === 'string' ? [text] : text) {
      const parsed = parseListenAddress(item);
      if ('problem' in parsed) this.#report(place, `\`listen\`: ${parsed.problem}`);
      else addresses.push(parsed.address);
      if (seen.has(item) && !item.endsWith(':0'))
        this.#report(place, `\`listen\`: "${item}" is given twice`);
      seen.add(item);
    }
    return addresses;
  }

  #httpListen(): TcpAddress | null {
    const text = this.#text('http.listen');
    if (text === '') return null;
    const parsed = parseTcpAddress(text);
    if ('address' in parsed) return parsed.address;
    this.#reportValue(
      'http.listen',
      `\`http.listen\`: ${parsed.problem}`,
      'Use "" for no HTTP port.',
    );
    return null;
  }

  #hba(): HbaConfig | null {
    const given = this.#hbaText();
    if (given === null) return null;
    const check = checkHba(given.text, given.source);
    if ('errors' in check) {
      for (const { line, message, text } of check.errors) {
        this.#report(this.#hbaPlace(given.source, line), `${message}: ${text.slice(0, 200)}`);
      }
      return null;
    }
    this.#warnings.push(...check.warnings);
    return check.rules.rules.length === 0 ? null : { ...given, rules: check.rules };
  }

  #hbaText(): { source: string; text: string } | null {
    const inline = this.#chosen.get('auth.hba');
    if (inline !== undefined) return { source: 'auth.hba', text: textOf(inline) };
    const file = this.#chosen.get('auth.hba_file');
    const name = this.#path('auth.hba_file');
    if (file === undefined || name === null) return null;
    const content = readTextFile(name, CONFIG_FILE_BYTES_MAX);
    if ('text' in content) return { source: name, text: content.text };
    this.#report(file.place, `\`auth.hba_file\`: "${name}" ${content.problem}`);
    return null;
  }

  #hbaPlace(source: string, line: number): Place {
    const inline = this.#chosen.get('auth.hba');
    if (inline === undefined) return { source, line, column: null };
    if (inline.blockLine === null) return inline.place;
    return { source: inline.place.source, line: inline.blockLine + line - 1, column: null };
  }

  #number(path: string): number {
    const setting = this.#setting(path);
    const { place, text } = this.#mustChoose(path);
    const written = typeof text === 'string' ? text : '';
    const parsed = parseNumberWithUnit(written, setting.unit);
    if ('problem' in parsed) {
      this.#report(
        place,
        `invalid value for \`${path}\`: "${written.slice(0, 100)}" ${parsed.problem}`,
        parsed.hint,
      );
      return 0;
    }
    if (parsed.value < setting.minimum || parsed.value > setting.maximum) {
      const [value, least, most] = [parsed.value, setting.minimum, setting.maximum].map((number) =>
        setting.unit === null ? String(number) : `${number} ${setting.unit}`,
      );
      this.#report(
        place,
        `${value} is outside the valid range for \`${path}\` (${least} .. ${most})`,
      );
      return 0;
    }
    return setting.unit === null ? parsed.value : fromBaseUnit(parsed.value, setting.unit);
  }

  #choice<Word extends string>(path: string, words: readonly [Word, ...Word[]]): Word {
    const text = this.#text(path);
    const word = words.find((candidate) => candidate === text);
    if (word !== undefined) return word;
    this.#reportValue(
      path,
      `\`${path}\` must be one of ${words.join(', ')}, not "${text.slice(0, 100)}"`,
    );
    return words[0];
  }

  /** An absolute path; names in the file are relative to the file, others to the working directory. */
  #path(path: string): string | null {
    const chosen = this.#chosen.get(path);
    if (chosen === undefined) return null;
    const name = textOf(chosen);
    if (name === '' || name.includes('\0')) {
      this.#report(chosen.place, `\`${path}\` must be the name of a file or directory`);
      return null;
    }
    const { file, workingDirectory } = this.#sources;
    const isFromFile = chosen.origin === 'file' && file !== null;
    return resolve(
      workingDirectory,
      isFromFile ? dirname(resolve(workingDirectory, file)) : '',
      name,
    );
  }

  #text(path: string): string {
    return textOf(this.#mustChoose(path));
  }

  #mustChoose(path: string): Chosen {
    const chosen = this.#chosen.get(path);
    invariant(chosen !== undefined, `setting ${path} has neither value nor default`);
    return chosen;
  }

  #setting(path: string): Setting {
    const setting = settingOf(path);
    invariant(setting !== null, `unknown setting ${path}`);
    return setting;
  }

  #reportValue(path: string, message: string, hint?: string): void {
    this.#report(this.#mustChoose(path).place, message, hint);
  }

  #report(place: Place, message: string, hint?: string): void {
    this.errors.push(configError(place, message, hint));
  }
}

function textOf(value: RawValue): string {
  return typeof value.text === 'string' ? value.text : value.text.join(',');
}
