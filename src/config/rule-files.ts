// Which files do access rules and maps of names bring with them? Found beside the file that names them, remembered, so that
// a reload sees what changed in any of them.
import { readdirSync } from 'node:fs';
import { dirname, isAbsolute, resolve } from 'node:path';
import { errorText, systemErrorCode } from '../base/errors.ts';
import type { RuleFiles } from '../pg/hba-includes.ts';
import type { ConfigValues, DirectoryListing } from './values.ts';

/** Files for the rules of one key. */
export class KeyedRuleFiles implements RuleFiles {
  readonly #values: ConfigValues;
  readonly #directory: string;
  readonly #read = new Map<string, string>();

  /** What a text that is no file names is relative to `directory`, absolute. */
  constructor(values: ConfigValues, directory: string) {
    this.#values = values;
    this.#directory = directory;
  }

  /** Absolute names of what was read so far. */
  get names(): readonly string[] {
    return [...this.#read.keys()];
  }

  /** The same with what was in them, as one text. */
  get content(): string {
    return JSON.stringify([...this.#read]);
  }

  /** Counts a file that was read by somebody else. */
  add(path: string, text: string): void {
    this.#read.set(path, text);
  }

  resolve(source: string, name: string): string {
    return resolve(isAbsolute(source) ? dirname(source) : this.#directory, name);
  }

  read(path: string): ReturnType<RuleFiles['read']> {
    const content = this.#values.readFile(path);
    if ('text' in content) {
      this.#read.set(path, content.text);
      return { text: content.text };
    }
    const { isMissing = false, problem } = content;
    if (isMissing) this.#read.set(path, '');
    const reason = isMissing ? NO_SUCH_FILE : problem.replace(/^cannot be read: /, '');
    return { problem: reason, isMissing };
  }

  list(path: string): DirectoryListing {
    return this.#values.listDirectory(path, () => listingOf(path));
  }
}

function listingOf(path: string): DirectoryListing {
  try {
    const entries = readdirSync(path, { withFileTypes: true });
    const names = entries.filter((entry) => !entry.isDirectory()).map(({ name }) => name);
    return { names };
  } catch (error) {
    const code = systemErrorCode(error);
    return { problem: code === 'ENOENT' ? NO_SUCH_FILE : (code ?? errorText(error)) };
  }
}

const NO_SUCH_FILE = 'No such file or directory';
