// What can be fuzzed? A part of the program with somebody who talks to it, and what has to hold of it afterwards.
import type { FuzzSession, StepKind } from './session.ts';

/** The kinds of failures that a run tells apart. */
export type FailureKind = 'crash' | 'hang' | 'slow' | 'leak' | 'wrong';

/** What has to hold did not. */
export class OracleFailure extends Error {
  readonly kind: FailureKind;

  constructor(kind: FailureKind, message: string) {
    super(message);
    this.kind = kind;
  }
}

/** Throws {@link OracleFailure} of kind `wrong` when `condition` does not hold. */
export function requireThat(condition: boolean, message: string): asserts condition {
  if (!condition) throw new OracleFailure('wrong', message);
}

/** A planted bug: what it does when the input it waits for comes. */
export type Canary = 'crash' | 'hang' | 'leak' | 'bytes';

/** What a target is opened with. */
export interface TargetContext {
  readonly canary: Canary | null;
}

/** A part of the program that runs. */
export interface TargetRun {
  /** Runs one input to its end; returns how many messages the program took. Throws what it should not have thrown. */
  run(session: FuzzSession): number | Promise<number>;
  /** Looks at what must hold whatever was run: called now and then, and at the end. */
  check(): void | Promise<void>;
  /** Ends everything, and looks at what is left of it. */
  close(): void | Promise<void>;
}

/** Something to be fuzzed. */
export interface FuzzTarget {
  readonly name: string;
  /** For people: what is fed to what. */
  readonly about: string;
  /** Its share of a run's time, beside the others'. */
  readonly weight: number;
  /** Inputs to begin with; `recorded` are those of the corpus directory that are meant for it. */
  seeds(recorded: readonly FuzzSession[]): readonly FuzzSession[] | Promise<readonly FuzzSession[]>;
  /** Words that its inputs are made of. */
  readonly words: readonly (string | Uint8Array)[];
  /** What may happen besides what is said. */
  readonly events: readonly StepKind[];
  open(context: TargetContext): TargetRun | Promise<TargetRun>;
}
