// Into which steps does a pattern fall? Each step is small, and how many there are is bounded: a repetition of a repetition
// of a repetition is refused instead of being spelt out. (src/backend/regex/regcomp.c)
import { PatternError } from './name-pattern-syntax.ts';
import type { PatternNode } from './name-pattern-syntax.ts';

/** One step. `take` takes a character, `split` prefers `first`. */
export type Instruction =
  | { readonly kind: 'take'; readonly takes: (character: number) => boolean }
  | {
      readonly kind: 'assert';
      readonly holds: (before: number | null, after: number | null) => boolean;
    }
  | { readonly kind: 'split'; readonly first: number; readonly other: number }
  | { readonly kind: 'jump'; readonly to: number }
  | { readonly kind: 'group'; readonly isEnd: boolean }
  | { readonly kind: 'match' };

/** Steps of a pattern at most, and parts, those that are repeated as often as they are. */
export const PATTERN_STEPS_MAX = 2_000;

/** The steps of a pattern; the last one is `match`. Throws PatternError when there are too many. */
export function compilePattern(root: PatternNode): readonly Instruction[] {
  const compiler = new Compiler();
  compiler.add(root);
  compiler.program.push({ kind: 'match' });
  return compiler.program;
}

class Compiler {
  readonly program: Instruction[] = [];
  /** Counted apart from the steps: what is empty can be repeated often, too. */
  #added = 0;

  add(node: PatternNode): void {
    this.#added += 1;
    if (this.#added > PATTERN_STEPS_MAX)
      throw new PatternError('regular expression is too complex');
    const { program } = this;
    switch (node.kind) {
      case 'take':
        program.push({ kind: 'take', takes: node.takes });
        return;
      case 'assert':
        program.push({ kind: 'assert', holds: node.holds });
        return;
      case 'sequence':
        for (const part of node.parts) this.add(part);
        return;
      case 'group':
        if (node.isFirst) program.push({ kind: 'group', isEnd: false });
        this.add(node.inner);
        if (node.isFirst) program.push({ kind: 'group', isEnd: true });
        return;
      case 'either':
        this.#addEither(node.branches);
        return;
      case 'repeat':
        this.#addRepeat(node);
    }
  }

  #addEither(branches: readonly PatternNode[]): void {
    const { program } = this;
    const ends: number[] = [];
    for (const [index, branch] of branches.entries()) {
      const isLast = index === branches.length - 1;
      const split = program.length;
      if (!isLast) program.push({ kind: 'split', first: split + 1, other: -1 });
      this.add(branch);
      if (isLast) break;
      ends.push(program.length);
      program.push({ kind: 'jump', to: -1 });
      program[split] = { kind: 'split', first: split + 1, other: program.length };
    }
    for (const end of ends) program[end] = { kind: 'jump', to: program.length };
  }

  #addRepeat(node: Extract<PatternNode, { kind: 'repeat' }>): void {
    const { program } = this;
    for (let count = 0; count < node.least; count += 1) this.add(node.inner);
    if (node.most === null) {
      const split = program.length;
      program.push({ kind: 'jump', to: -1 });
      this.add(node.inner);
      program.push({ kind: 'jump', to: split });
      program[split] = splitTo(node.isGreedy, split + 1, program.length);
      return;
    }
    const splits: number[] = [];
    for (let count = node.least; count < node.most; count += 1) {
      splits.push(program.length);
      program.push({ kind: 'jump', to: -1 });
      this.add(node.inner);
    }
    for (const split of splits) {
      program[split] = splitTo(node.isGreedy, split + 1, program.length);
    }
  }
}

function splitTo(isGreedy: boolean, inside: number, behind: number): Instruction {
  return isGreedy
    ? { kind: 'split', first: inside, other: behind }
    : { kind: 'split', first: behind, other: inside };
}
