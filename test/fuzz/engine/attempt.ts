// Does an input still fail, and what is the least of it that does? Each attempt has a fresh copy of the program's part.
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { FuzzSession, Step } from './session.ts';
import { OracleFailure } from './target.ts';
import type { FailureKind, FuzzTarget, TargetContext, TargetRun } from './target.ts';

/** What went wrong. */
export interface Failure {
  readonly kind: FailureKind;
  readonly message: string;
}

/** Exceptions that nobody caught, while something ran. */
export class Uncaught {
  #error: unknown = null;
  #isSet = false;

  constructor() {
    const note = (error: unknown): void => {
      if (!this.#isSet) this.#error = error;
      this.#isSet = true;
    };
    process.on('uncaughtException', note);
    process.on('unhandledRejection', note);
  }

  /** Throws what came since the last call. */
  check(): void {
    if (!this.#isSet) return;
    this.#isSet = false;
    throw this.#error;
  }
}

/** Anything thrown, as a failure. */
export function failureOf(error: unknown): Failure {
  if (error instanceof OracleFailure) return { kind: error.kind, message: error.message };
  return {
    kind: 'crash',
    message: error instanceof Error ? (error.stack ?? error.message) : String(error),
  };
}

/** Bytes that are alive: heap and buffers. */
export function aliveBytes(): number {
  const collect = globalThis.gc;
  if (collect === undefined) throw new Error('the fuzzer needs --expose-gc');
  collect();
  collect();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

/** An input that takes longer is run again. */
export const SLOW_MS = 400;
const SLOW_TRIES = 5;
/** What one run of an input may leave behind, where it is run {@link LEAK_RUNS} times. */
export const LEAK_BYTES = 8_000;
const LEAK_RUNS = 300;

/** Runs inputs apart from the campaign that found them. */
export class Attempts {
  readonly #target: FuzzTarget;
  readonly #context: TargetContext;
  readonly #uncaught: Uncaught;

  constructor(target: FuzzTarget, context: TargetContext, uncaught: Uncaught) {
    this.#target = target;
    this.#context = context;
    this.#uncaught = uncaught;
  }

  /** Runs the inputs one after the other; null when nothing is wrong with them. */
  async fails(sessions: readonly FuzzSession[]): Promise<Failure | null> {
    let run: TargetRun | null = null;
    try {
      run = await this.#target.open(this.#context);
      for (const session of sessions) await this.#runOne(run, session);
      await run.check();
      await run.close();
      await nextTurn();
      this.#uncaught.check();
      return null;
    } catch (error) {
      await this.#closeQuietly(run);
      return failureOf(error);
    }
  }

  /** Bytes that one run of the input leaves behind, measured over many. */
  async leakOf(session: FuzzSession): Promise<number> {
    const run = await this.#target.open(this.#context);
    try {
      for (let index = 0; index < 50; index += 1) await run.run(session);
      const before = aliveBytes();
      for (let index = 0; index < LEAK_RUNS; index += 1) await run.run(session);
      return (aliveBytes() - before) / LEAK_RUNS;
    } catch {
      return 0;
    } finally {
      await this.#closeQuietly(run);
    }
  }

  /** The one of `sessions` that leaves most behind, if that is anything. */
  async leaking(sessions: readonly FuzzSession[]): Promise<FuzzSession | null> {
    const until = performance.now() + 3_000;
    for (const session of sessions) {
      if (performance.now() > until) return null;
      if ((await this.leakOf(session)) > LEAK_BYTES) return session;
    }
    return null;
  }

  /** The least of `sessions` that still fails in the same way; what is given back is what was given where it does not fail again. */
  async minimise(
    sessions: readonly FuzzSession[],
    kind: FailureKind,
  ): Promise<readonly FuzzSession[]> {
    const until = performance.now() + (kind === 'leak' ? 2_000 : 8_000);
    const isSame = async (candidate: readonly FuzzSession[]): Promise<boolean> => {
      if (performance.now() > until) return false;
      if (kind !== 'leak') return (await this.fails(candidate))?.kind === kind;
      const [session] = candidate;
      return session !== undefined && (await this.leakOf(session)) > LEAK_BYTES;
    };
    const last = sessions.slice(-1);
    let best = (await isSame(last)) ? last : sessions;
    if (best.length > 1) {
      if (!(await isSame(best))) return best;
      best = await shorten(best, isSame);
    }
    const before = best.slice(0, -1);
    let [session] = best.slice(-1);
    if (session === undefined) return best;
    const fails = (candidate: FuzzSession): Promise<boolean> => isSame([...before, candidate]);
    const whole = { ...session, chunk: 0 };
    if (await fails(whole)) session = whole;
    const { chunk, variant } = session;
    const failsWith = (steps: readonly Step[]): Promise<boolean> =>
      fails({ chunk, variant, steps });
    const steps = await shorten(session.steps, failsWith);
    return [...before, { chunk, variant, steps: await shortenEach(steps, failsWith) }];
  }

  async #runOne(run: TargetRun, session: FuzzSession): Promise<void> {
    let leastMs = Number.POSITIVE_INFINITY;
    for (let index = 0; index < SLOW_TRIES && leastMs > SLOW_MS; index += 1) {
      // Of a busy machine the clock says little.
      const before = process.cpuUsage();
      await run.run(session);
      const { user, system } = process.cpuUsage(before);
      leastMs = Math.min(leastMs, (user + system) / 1000);
      this.#uncaught.check();
    }
    if (leastMs > SLOW_MS)
      throw new OracleFailure('slow', `one input takes ${Math.round(leastMs)} ms`);
  }

  async #closeQuietly(run: TargetRun | null): Promise<void> {
    try {
      await run?.close();
      await nextTurn();
      this.#uncaught.check();
    } catch {
      // Something failed before; what comes of it now says nothing new.
    }
  }
}

/** Leaves out what is not needed: halves first, single ones last. */
async function shorten<T>(
  list: readonly T[],
  isEnough: (list: readonly T[]) => Promise<boolean>,
): Promise<readonly T[]> {
  let best = list;
  for (
    let size = Math.ceil(best.length / 2);
    size >= 1;
    size = size === 1 ? 0 : Math.ceil(size / 2)
  ) {
    for (let at = 0; at < best.length;) {
      const candidate = best.toSpliced(at, size);
      if (candidate.length < best.length && (await isEnough(candidate))) best = candidate;
      else at += size;
    }
  }
  return best;
}

async function shortenEach(
  steps: readonly Step[],
  isEnough: (steps: readonly Step[]) => Promise<boolean>,
): Promise<readonly Step[]> {
  let best = steps;
  for (const [index, { kind, bytes }] of steps.entries()) {
    if (bytes.length < 2) continue;
    const shortened = await shorten([...bytes], (candidate) =>
      isEnough(best.with(index, { kind, bytes: Uint8Array.from(candidate) })),
    );
    best = best.with(index, { kind, bytes: Uint8Array.from(shortened) });
  }
  return best;
}
