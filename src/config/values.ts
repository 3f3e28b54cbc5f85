// The value of each key: the one of highest precedence, read in its kind and unit, with every mistake collected.
import { resolve } from 'node:path';
import { invariant } from '../base/errors.ts';
import type { RuleFiles } from '../pg/hba-includes.ts';
import { ORIGINS } from './config.ts';
import type { Origin } from './config.ts';
import { filePlaceSync } from './file-place.ts';
import type { FilePlace } from './file-place.ts';
import type { Layer, RawValue } from './layer.ts';
import { CONFIG_FILE_BYTES_MAX } from './limits.ts';
import { configError, namedPlace } from './problem.ts';
import type { ConfigError, Place } from './problem.ts';
import { readTextFile } from './read-file.ts';
import type { FileText } from './read-file.ts';
import { SETTINGS, settingOf } from './settings.ts';
import { suggest } from './suggest.ts';
import { fromBaseUnit, parseNumberWithUnit } from './units.ts';

/** A value and which layer it is from. */
export interface ChosenValue extends RawValue {
  readonly origin: Origin;
}

/** Layers with their origin, highest precedence first. */
export type OrderedLayers = readonly (readonly [Origin, Layer])[];

/** What is found beside the values while they are put together. */
export interface FoundText {
  /** Content of the files that keys name, by key. */
  readonly contents: Map<string, string>;
  /** Absolute names of those files, by key. */
  readonly namedFiles: Map<string, readonly string[]>;
  readonly warnings: string[];
}

/** How files that keys name are found and read. */
export interface FileAccess {
  /** What names in the configuration file are relative to, and names given elsewhere. Both absolute. */
  readonly file: string;
  readonly other: string;
  readonly isPlainOnly: boolean;
  /** What is not read again; files with secrets are read in any case. */
  readonly known?: KnownFiles;
}

/** What was found on the disk, by absolute name. */
export interface KnownFiles {
  readonly texts: ReadonlyMap<string, FileText>;
  readonly listings: ReadonlyMap<string, DirectoryListing>;
}

/** What is in a directory, or why nobody knows. */
export type DirectoryListing = ReturnType<RuleFiles['list']>;

/** The values of all keys. Reading one that is wrong gives a stand-in and adds to `errors`. */
export class ConfigValues implements KnownFiles {
  readonly errors: ConfigError[] = [];
  /** Where each name that was read, or a directory that was listed, led just before. */
  readonly places: Map<string, FilePlace> = new Map<string, FilePlace>();
  /** What each file held that was read. */
  readonly texts: Map<string, FileText> = new Map<string, FileText>();
  /** What each directory held that was listed. */
  readonly listings: Map<string, DirectoryListing> = new Map<string, DirectoryListing>();
  readonly #chosen = new Map<string, ChosenValue>();
  readonly #layers: OrderedLayers;
  readonly #access: FileAccess;

  constructor(layers: OrderedLayers, access: FileAccess) {
    this.#layers = layers;
    this.#access = access;
    for (const { path, defaultText } of SETTINGS) {
      const found = layers.find(([, layer]) => layer.values.has(path));
      const value = found?.[1].values.get(path);
      if (found !== undefined && value !== undefined) {
        this.#chosen.set(path, { ...value, origin: found[0] });
      } else if (defaultText !== null) {
        const place = namedPlace('default');
        this.#chosen.set(path, { text: defaultText, place, block: null, origin: 'default' });
      }
    }
  }

  /** Of two ways to say the same the one of higher precedence counts; both in one place is a mistake. */
  dropOverruled(inline: string, byFile: string): void {
    const [a, b] = [this.#chosen.get(inline), this.#chosen.get(byFile)];
    if (a === undefined || b === undefined) return;
    if (a.origin === b.origin) {
      this.report(b.place, `\`${inline}\` and \`${byFile}\` are both given`, 'Keep one of them.');
    }
    const isInlineFirst = ORIGINS.indexOf(a.origin) <= ORIGINS.indexOf(b.origin);
    this.#chosen.delete(isInlineFirst ? byFile : inline);
  }

  /** Null when the key has neither value nor default. */
  get(path: string): ChosenValue | null {
    return this.#chosen.get(path) ?? null;
  }

  /** True when a layer already says why a key of the section, or everything, is missing. */
  isComplainedAbout(section: string): boolean {
    return this.#layers.some(
      ([, { errors, isReadable }]) =>
        !isReadable ||
        errors.some(({ message, hint }) => `${message} ${hint ?? ''}`.includes(`\`${section}`)),
    );
  }

  /** A number in bytes, milliseconds, or as it is where the key has no unit; 0 after a report. */
  number(path: string): number {
    const setting = settingOf(path);
    invariant(setting !== null, `unknown setting ${path}`);
    const { place, text } = this.mustChoose(path);
    const written = typeof text === 'string' ? text : '';
    const parsed = parseNumberWithUnit(written, setting.unit);
    if ('problem' in parsed) {
      this.report(
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
      this.report(
        place,
        `${value} is outside the valid range for \`${path}\` (${least} .. ${most})`,
      );
      return 0;
    }
    return setting.unit === null ? parsed.value : fromBaseUnit(parsed.value, setting.unit);
  }

  /** One of `words`; the first after a report. */
  choice<Word extends string>(path: string, words: readonly [Word, ...Word[]]): Word {
    const text = this.text(path);
    const word = words.find((candidate) => candidate === text);
    if (word !== undefined) return word;
    const meant = suggest(text, words);
    this.report(
      this.mustChoose(path).place,
      `\`${path}\` must be one of ${words.join(', ')}, not "${text.slice(0, 100)}"`,
      meant === null ? undefined : `Did you mean "${meant}"?`,
    );
    return words[0];
  }

  /** An absolute path; names in the file are relative to the file, others to the working directory. */
  path(path: string): string | null {
    const chosen = this.#chosen.get(path);
    if (chosen === undefined) return null;
    const { origin, place } = chosen;
    return this.#absolute({ text: textOf(chosen), place, origin }, path);
  }

  /** The same for a name inside a list of the file; `key` is what a report calls it. */
  resolveName({ text, place }: { text: string; place: Place }, key: string): string | null {
    return this.#absolute({ text, place, origin: 'file' }, key);
  }

  #absolute(
    { text, place, origin }: { text: string; place: Place; origin: Origin },
    key: string,
  ): string | null {
    if (text === '' || text.includes('\0')) {
      this.report(place, `\`${key}\` must be the name of a file or directory`);
      return null;
    }
    return resolve(this.directoryOf(origin), text);
  }

  /** What names given in a source are relative to. Absolute. */
  directoryOf(origin: Origin): string {
    return origin === 'file' ? this.#access.file : this.#access.other;
  }

  /** The text as written. The key must have a default. */
  text(path: string): string {
    return textOf(this.mustChoose(path));
  }

  /** The value of a key that has a default. Throws InvariantError for any other. */
  mustChoose(path: string): ChosenValue {
    const chosen = this.#chosen.get(path);
    invariant(chosen !== undefined, `setting ${path} has neither value nor default`);
    return chosen;
  }

  /** Notes where an absolute name leads before it is followed: what is swapped while it is read counts as swapped afterwards. */
  notePlace(path: string): void {
    this.places.set(path, filePlaceSync(path));
  }

  /** Content of the file at an absolute path. */
  readFile(path: string): FileText {
    const text = this.#access.known?.texts.get(path) ?? this.#readAnew(path);
    this.texts.set(path, text);
    return text;
  }

  /** What is in the directory at an absolute path; `list` looks. */
  listDirectory(path: string, list: () => DirectoryListing): DirectoryListing {
    const known = this.#access.known?.listings.get(path);
    if (known === undefined) this.notePlace(path);
    const listing = known ?? list();
    this.listings.set(path, listing);
    return listing;
  }

  #readAnew(path: string): FileText {
    this.notePlace(path);
    return readTextFile(path, CONFIG_FILE_BYTES_MAX, this.#access.isPlainOnly);
  }

  /**
   * Content of a file that holds a secret, without its last line end. Kept in `contents`. A file that others may read is
   * refused. Null after a report.
   */
  secretFile(
    path: string,
    found: Pick<FoundText, 'contents' | 'namedFiles'>,
  ): { text: string; name: string } | null {
    const name = this.path(path);
    const place = this.get(path)?.place;
    if (name === null || place === undefined) return null;
    const content = this.#readAnew(name);
    if ('problem' in content) {
      this.report(place, `\`${path}\`: "${name}" ${content.problem}`);
      return null;
    }
    if (content.secretProblem !== null) {
      const hint = `chmod 0600 "${name}"; for a secret that Kubernetes mounts, set defaultMode: 0400 or an fsGroup.`;
      this.report(place, `\`${path}\`: "${name}" ${content.secretProblem}`, hint);
      return null;
    }
    const text = content.text.replace(/\r?\n$/, '');
    if (text.trim() === '') {
      this.report(place, `\`${path}\`: "${name}" is empty`);
      return null;
    }
    found.contents.set(path, text);
    found.namedFiles.set(path, [name]);
    return { text, name };
  }

  /** Collects a mistake. */
  report(place: Place, message: string, hint?: string): void {
    this.errors.push(configError(place, message, hint));
  }
}

/** The items of a list of words. */
export function wordsOf(text: RawValue['text']): readonly string[] {
  return typeof text === 'string' ? text.split(',').filter((word) => word !== '') : text;
}

/** The text of a value; a list is joined by commas. */
export function textOf(value: RawValue): string {
  return typeof value.text === 'string' ? value.text : value.text.join(',');
}
