// Which lines does a file of rules or maps come to, with the files that it names?
// (hba.c:tokenize_auth_file, tokenize_expand_file; conffiles.c:GetConfFilesInDir)
import { logicalLines, splitFields } from './hba-tokens.ts';
import type { HbaLine, HbaToken } from './hba-tokens.ts';

/** How files are found and read that rules name. Nothing throws. */
export interface RuleFiles {
  /** Absolute name of what `source` (a file, or the name the text has in messages) calls `name`. */
  resolve(source: string, name: string): string;
  /** Content of a file; `isMissing` when there is none of that name, `problem` in the words of strerror. */
  read(path: string): { readonly text: string } | (IncludeError & { readonly isMissing: boolean });
  /** Names in a directory that are no directories themselves. */
  list(path: string): { readonly names: readonly string[] } | IncludeError;
}

/** Why a file cannot be put in place. */
export interface IncludeError {
  readonly problem: string;
}

/** Files within files. (CONF_FILE_MAX_DEPTH) */
const DEPTH_MAX = 10;

/** Files and characters that one file of rules may come to, however often they are named. */
const FILES_MAX = 100;
const CHARACTERS_MAX = 4 * 1024 * 1024;

/** Every line that says something, in the order in which the files are named. Without `files` naming one is a problem. */
export function tokenizeHba(text: string, source = '', files: RuleFiles | null = null): HbaLine[] {
  return new Tokenizer(files).lines(text, source, 0);
}

class Tokenizer {
  readonly #files: RuleFiles | null;
  #filesRead = 0;
  #charactersRead = 0;

  constructor(files: RuleFiles | null) {
    this.#files = files;
  }

  lines(text: string, source: string, depth: number): HbaLine[] {
    const lines: HbaLine[] = [];
    for (const { number, text: written } of logicalLines(text)) {
      const split = splitFields(written, (name) => this.#wordsOf(name, source, depth));
      const place = { source, number, text: written.trim() };
      if ('problem' in split) {
        lines.push({ ...place, fields: [], problem: split.problem });
        continue;
      }
      const included = this.#include(split.fields, source, depth);
      if (included !== null && 'problem' in included) {
        lines.push({ ...place, fields: split.fields, problem: included.problem });
      } else if (included !== null) {
        for (const line of included.lines) lines.push(line);
      } else if (split.fields.length > 0) {
        lines.push({ ...place, fields: split.fields, problem: null });
      }
    }
    return lines;
  }

  /** Null when the line is no directive. */
  #include(
    fields: HbaLine['fields'],
    source: string,
    depth: number,
  ): { readonly lines: HbaLine[] } | IncludeError | null {
    const [first, second] = fields.map((field) => field[0]?.text ?? '');
    if (fields.length !== 2 || second === undefined) return null;
    switch (first) {
      case 'include':
        return this.#file(second, source, { depth: depth + 1, canBeMissing: false });
      case 'include_if_exists':
        return this.#file(second, source, { depth: depth + 1, canBeMissing: true });
      case 'include_dir':
        return this.#directory(second, source, depth + 1);
      default:
        return null;
    }
  }

  #file(
    name: string,
    source: string,
    { depth, canBeMissing }: { depth: number; canBeMissing: boolean },
  ): { readonly lines: HbaLine[] } | IncludeError {
    const opened = this.#open(name, source, depth);
    if ('text' in opened) return { lines: this.lines(opened.text, opened.path, depth) };
    return canBeMissing && opened.isMissing ? { lines: [] } : { problem: opened.problem };
  }

  #directory(
    name: string,
    source: string,
    depth: number,
  ): { readonly lines: HbaLine[] } | IncludeError {
    if (this.#files === null) return { problem: NO_FILES };
    if (name.trim() === '') return { problem: `empty configuration directory name: "${name}"` };
    const path = this.#files.resolve(source, name);
    const listed = this.#files.list(path);
    if ('problem' in listed) {
      return { problem: `could not open directory "${path}": ${listed.problem}` };
    }
    const names = listed.names.filter((file) => !file.startsWith('.') && /.\.conf$/.test(file));
    const lines: HbaLine[] = [];
    for (const file of names.toSorted(byBytes)) {
      const read = this.#file(`${path}/${file}`, source, { depth, canBeMissing: false });
      if ('problem' in read) return read;
      for (const line of read.lines) lines.push(line);
    }
    return { lines };
  }

  /** All words of a file, one after the other, whatever line they are in. */
  #wordsOf(name: string, source: string, depth: number): readonly HbaToken[] | IncludeError {
    const opened = this.#open(name, source, depth + 1);
    if (!('text' in opened)) return { problem: opened.problem };
    const words: HbaToken[] = [];
    for (const line of this.lines(opened.text, opened.path, depth + 1)) {
      if (line.problem !== null) return { problem: line.problem };
      for (const word of line.fields.flat()) words.push(word);
    }
    return words;
  }

  #open(
    name: string,
    source: string,
    depth: number,
  ): { text: string; path: string } | (IncludeError & { isMissing: boolean }) {
    if (this.#files === null) return { problem: NO_FILES, isMissing: false };
    const path = this.#files.resolve(source, name);
    const refuse = (why: string, isMissing = false): IncludeError & { isMissing: boolean } => ({
      problem: `could not open file "${path}": ${why}`,
      isMissing,
    });
    if (depth > DEPTH_MAX) return refuse('maximum nesting depth exceeded');
    this.#filesRead += 1;
    if (this.#filesRead > FILES_MAX) return refuse(`more than ${FILES_MAX} files`);
    const read = this.#files.read(path);
    if (!('text' in read)) return refuse(read.problem, read.isMissing);
    this.#charactersRead += read.text.length;
    if (this.#charactersRead > CHARACTERS_MAX) {
      return refuse(`more than ${CHARACTERS_MAX} characters in all files`);
    }
    return { text: read.text, path };
  }
}

const NO_FILES = 'other files cannot be named here';

/** (pg_qsort_strcmp) */
function byBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}
