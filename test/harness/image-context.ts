// Which files of a clone does a build get to see? The rules of .dockerignore: the last pattern that fits decides, `!` takes back.
// (moby/patternmatcher; docs.docker.com/build/concepts/context)
import { cp, readFile, stat } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { systemErrorCode } from '../../src/base/errors.ts';

interface Pattern {
  readonly glob: string;
  readonly takesBack: boolean;
}

/** The files of a directory that a build may copy. */
export class BuildContext {
  readonly #directory: string;
  readonly #patterns: readonly Pattern[];

  /** Use {@link openContext}. */
  constructor(directory: string, ignore: string) {
    this.#directory = directory;
    this.#patterns = ignore
      .split('\n')
      .map((line) => line.trim())
      .filter((line) => line !== '' && !line.startsWith('#'))
      .map((line) => {
        const takesBack = line.startsWith('!');
        const glob = (takesBack ? line.slice(1) : line).replace(/^\/+/, '').replace(/\/+$/, '');
        return { glob, takesBack };
      });
  }

  /** Whether a build sees the file or directory at `path`, relative to the directory. */
  sees(path: string): boolean {
    let isSeen = true;
    for (const { glob, takesBack } of this.#patterns) {
      if (fits(path, glob)) isSeen = takesBack;
    }
    return isSeen;
  }

  /** Copies a file, or what is in a directory, to `target`. Rejects for what a build does not see. Returns which of both it was. */
  async copy(path: string, target: string): Promise<'file' | 'directory'> {
    const from = join(this.#directory, path);
    const clean = relative(this.#directory, from);
    if (clean.startsWith('..') || !this.sees(clean))
      throw new Error(`${path}: .dockerignore hides it, or it is outside`);
    const isDirectory = (await stat(from)).isDirectory();
    await cp(from, target, {
      recursive: true,
      verbatimSymlinks: true,
      filter: async (file) =>
        this.sees(relative(this.#directory, file)) || (await stat(file)).isDirectory(),
    });
    return isDirectory ? 'directory' : 'file';
  }
}

/** Reads the rules of `directory`. */
export async function openContext(directory: string): Promise<BuildContext> {
  try {
    return new BuildContext(directory, await readFile(join(directory, '.dockerignore'), 'utf8'));
  } catch (error) {
    if (systemErrorCode(error) !== 'ENOENT') throw error;
    return new BuildContext(directory, '');
  }
}

/** A pattern fits what it names and everything below; `*` fits names that begin with a dot, too. */
function fits(path: string, glob: string): boolean {
  return new RegExp(`^${expression(glob)}(/|$)`).test(path);
}

function expression(glob: string): string {
  return glob.replaceAll(/\*\*\/|\*\*|\*|\?|[^A-Za-z0-9_/]/g, (part) => {
    if (part === '**/') return '(?:[^/]+/)*';
    if (part === '**') return '.*';
    if (part === '*') return '[^/]*';
    if (part === '?') return '[^/]';
    if ('[]\\'.includes(part)) throw new Error(`${glob}: only * and ? are known`);
    return `\\${part}`;
  });
}
