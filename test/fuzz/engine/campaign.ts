// How long is a target fuzzed, with what, and what is looked at meanwhile? The first part of a run counts code that is
// reached and keeps inputs that reach new code; the rest, the larger one, is volume.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { aliveBytes, Attempts, failureOf, SLOW_MS, Uncaught } from './attempt.ts';
import type { Failure } from './attempt.ts';
import { Coverage } from './coverage.ts';
import { mutate } from './mutate.ts';
import type { Material } from './mutate.ts';
import { FuzzRandom } from './random.ts';
import { formatInput, sizeOf } from './session.ts';
import type { FuzzSession } from './session.ts';
import { OracleFailure } from './target.ts';
import type { Canary, FuzzTarget, TargetRun } from './target.ts';
import { Watchdog } from './watchdog.ts';

/** What a campaign is told. */
export interface CampaignOptions {
  readonly target: FuzzTarget;
  readonly recorded: readonly FuzzSession[];
  readonly seed: number;
  readonly seconds: number;
  /** At most so many inputs; 0: no bound. */
  readonly inputs: number;
  readonly hangMs: number;
  readonly canary: Canary | null;
  /** Where failures go. */
  readonly directory: string;
  /** Beginning of the addresses of the program's scripts. */
  readonly scripts: string;
}

/** Figures of a campaign. */
export interface CampaignReport {
  readonly target: string;
  readonly inputs: number;
  readonly messages: number;
  readonly seconds: number;
  /** Blocks of code reached by the first inputs, and by all of the part that was counted. */
  readonly blocksAtFirst: number;
  readonly blocks: number;
  /** Inputs in the corpus at the end. */
  readonly corpus: number;
  /** Bytes alive after a third of the run, and at its end, without the corpus. */
  readonly aliveBefore: number;
  readonly aliveAfter: number;
  readonly slowestMs: number;
  /** Seconds of processor time: of a busy machine the clock says little. */
  readonly cpuSeconds: number;
  readonly failure: (Failure & { readonly file: string }) | null;
}

/** Of a run: how much of it is counted, and from where on memory may not grow. */
const EXPLORED = 0.2;
const WARM = 0.35;
const LOOKS = 8;
const ALIVE_GROWTH_MAX = 8 << 20;
const CORPUS_MAX = 3_000;
const RECENT = 100;
const BATCH = 128;
const BATCH_MS = 300;
/** Errors are made by the million, and nobody reads where most of them came from. */
const STACK_LINES = 12;
const SUSPECTS_MAX = 20;
/** How long inputs are looked for that reached something new, a batch. */
const SEARCH_MS = 1_500;

/** One target, from its first input to its last. */
export class Campaign {
  readonly #options: CampaignOptions;
  readonly #random: FuzzRandom;
  readonly #uncaught: Uncaught;
  readonly #coverage: Coverage;
  readonly #watchdog: Watchdog;
  readonly #corpus: FuzzSession[] = [];
  readonly #recent: FuzzSession[] = [];
  readonly #slow: FuzzSession[] = [];
  #corpusBytes = 0;
  #inputs = 0;
  /** Those that were made of others. */
  #changed = 0;
  #messages = 0;
  #slowestMs = 0;
  #blocksAtFirst = 0;
  #alive: number[] = [];

  constructor(options: CampaignOptions, uncaught: Uncaught) {
    this.#options = options;
    this.#uncaught = uncaught;
    this.#random = new FuzzRandom(options.seed);
    this.#coverage = new Coverage(options.scripts);
    const { target, hangMs } = options;
    this.#watchdog = new Watchdog({
      target: target.name,
      limitMs: hangMs,
      file: this.#fileOf('hang'),
    });
  }

  async run(): Promise<CampaignReport> {
    const startedAtMs = performance.now();
    const cpuBefore = process.cpuUsage();
    Error.stackTraceLimit = 0;
    const failure = await this.#fuzz(startedAtMs).then(
      () => null,
      (error: unknown) => failureOf(error),
    );
    Error.stackTraceLimit = STACK_LINES;
    this.#watchdog.rest();
    this.#coverage.stop();
    const seconds = (performance.now() - startedAtMs) / 1000;
    const { user, system } = process.cpuUsage(cpuBefore);
    const cpuSeconds = (user + system) / 1e6;
    const written = failure === null ? null : await this.#write(failure);
    await this.#watchdog.stop();
    const target = this.#options.target.name;
    const blocks = this.#coverage.size;
    const [aliveBefore = 0] = this.#alive;
    return {
      target,
      inputs: this.#inputs,
      messages: this.#messages,
      seconds,
      blocksAtFirst: this.#blocksAtFirst,
      blocks,
      corpus: this.#corpus.length,
      aliveBefore,
      aliveAfter: this.#alive.at(-1) ?? 0,
      slowestMs: Math.round(this.#slowestMs),
      cpuSeconds,
      failure: written,
    };
  }

  async #fuzz(startedAtMs: number): Promise<void> {
    const { target, seconds, inputs, canary } = this.#options;
    for (const seed of await target.seeds(this.#options.recorded)) this.#keep(seed);
    const run = await target.open({ canary });
    const share = (): number => {
      const time = (performance.now() - startedAtMs) / (seconds * 1000);
      return inputs === 0 ? time : Math.max(time, this.#changed / inputs);
    };
    await this.#runFirst(run);
    await this.#explore(run, () => share() < EXPLORED);
    await this.#volume(run, share);
    await run.check();
    await run.close();
    await nextTurn();
    this.#uncaught.check();
    this.#checkMemory(true);
    this.#watchdog.rest();
    for (const session of this.#slow) await this.#checkSlow(session);
  }

  async #checkSlow(session: FuzzSession): Promise<void> {
    const { target, canary } = this.#options;
    const failure = await new Attempts(target, { canary }, this.#uncaught).fails([session]);
    if (failure === null) return;
    this.#recent.push(session);
    throw new OracleFailure(failure.kind, failure.message);
  }

  /** The inputs to begin with, as they are: each of them has to pass. */
  async #runFirst(run: TargetRun): Promise<void> {
    this.#coverage.start();
    for (const session of this.#corpus) await this.#runOne(run, session);
    await run.check();
    this.#coverage.take(true);
    this.#blocksAtFirst = this.#coverage.size;
  }

  async #explore(run: TargetRun, goesOn: () => boolean): Promise<void> {
    const material = this.#material();
    while (goesOn()) {
      const batch: FuzzSession[] = [];
      const untilMs = performance.now() + BATCH_MS;
      while (batch.length < BATCH && performance.now() < untilMs) {
        const session = this.#mutate(material);
        batch.push(session);
        await this.#runOne(run, session);
      }
      await run.check();
      const fresh = new Set(this.#coverage.take(false));
      if (fresh.size > 0) await this.#search(run, batch, fresh);
    }
    this.#coverage.stop();
  }

  /** Which inputs of the batch reached the fresh blocks? Halves are run again, a few times at most. */
  async #search(run: TargetRun, batch: readonly FuzzSession[], fresh: Set<string>): Promise<void> {
    const waiting = [batch];
    const untilMs = performance.now() + SEARCH_MS;
    while (fresh.size > 0 && performance.now() < untilMs) {
      const part = waiting.pop();
      if (part === undefined) break;
      for (const session of part) await this.#runOne(run, session);
      const reached = this.#coverage.take(false).filter((block) => fresh.has(block));
      if (reached.length === 0) continue;
      const [only] = part;
      if (part.length === 1 && only !== undefined) {
        this.#keep(only);
        this.#coverage.note(reached);
        for (const block of reached) fresh.delete(block);
        continue;
      }
      const middle = Math.ceil(part.length / 2);
      waiting.push(part.slice(middle), part.slice(0, middle));
    }
    // What did not come again depends on what was before it, or on chance.
    this.#coverage.note(fresh);
  }

  async #volume(run: TargetRun, share: () => number): Promise<void> {
    const material = this.#material();
    let nextLook = WARM;
    while (share() < 1) {
      const untilMs = performance.now() + BATCH_MS;
      for (let index = 0; index < BATCH && performance.now() < untilMs; index += 1) {
        const outcome = this.#runOne(run, this.#mutate(material));
        if (outcome !== undefined) await outcome;
      }
      await nextTurn();
      this.#uncaught.check();
      await run.check();
      if (share() < nextLook) continue;
      nextLook += (1 - WARM) / LOOKS;
      this.#checkMemory(false);
    }
  }

  #mutate(material: Material): FuzzSession {
    this.#changed += 1;
    return mutate(this.#random, material);
  }

  #material(): Material {
    const { words, events } = this.#options.target;
    const bytes = words.map((word) => (typeof word === 'string' ? Buffer.from(word) : word));
    return { corpus: this.#corpus, words: bytes, events };
  }

  #keep(session: FuzzSession): void {
    if (this.#corpus.length >= CORPUS_MAX) return;
    this.#corpus.push(session);
    this.#corpusBytes += sizeOf(session) + 200 * session.steps.length;
  }

  /** A promise only where the target has one: most have none. */
  #runOne(run: TargetRun, session: FuzzSession): Promise<void> | undefined {
    this.#watchdog.begin(session);
    this.#recent.push(session);
    if (this.#recent.length > 2 * RECENT) this.#recent.splice(0, RECENT);
    this.#inputs += 1;
    const startedAtMs = performance.now();
    const outcome = run.run(session);
    if (typeof outcome === 'number') {
      this.#ran(outcome, startedAtMs);
      return undefined;
    }
    return outcome.then((count) => this.#ran(count, startedAtMs));
  }

  #ran(messages: number, startedAtMs: number): void {
    this.#messages += messages;
    const ms = performance.now() - startedAtMs;
    this.#watchdog.rest();
    this.#slowestMs = Math.max(this.#slowestMs, ms);
    this.#uncaught.check();
    // Whether it is the input or the machine shows when it is run again, at the end.
    const [session] = this.#recent.slice(-1);
    if (ms > SLOW_MS && session !== undefined && this.#slow.length < SUSPECTS_MAX)
      this.#slow.push(session);
  }

  #checkMemory(isLast: boolean): void {
    const bytes = aliveBytes() - this.#corpusBytes;
    this.#alive.push(bytes);
    const [first = bytes] = this.#alive;
    const grown = bytes - first;
    if (grown < ALIVE_GROWTH_MAX) return;
    const when = isLast ? 'at its end' : 'while it ran';
    throw new OracleFailure(
      'leak',
      `${Math.round(grown / 1024)} kB more were alive ${when} than after a third of the run`,
    );
  }

  #fileOf(kind: string): string {
    const { directory, target, seed } = this.#options;
    return join(directory, `${target.name}-${kind}-${seed}.json`);
  }

  async #write(failure: Failure): Promise<Failure & { file: string }> {
    const { target, canary, seed } = this.#options;
    const attempts = new Attempts(target, { canary }, this.#uncaught);
    let sessions: readonly FuzzSession[] = this.#recent;
    if (failure.kind === 'leak') {
      const leaking = await attempts.leaking([...this.#recent, ...this.#corpus].toReversed());
      sessions = leaking === null ? this.#recent : [leaking];
    }
    const least = await attempts.minimise(sessions, failure.kind);
    const again = failure.kind === 'leak' ? failure : ((await attempts.fails(least)) ?? failure);
    const file = this.#fileOf(failure.kind);
    writeFileSync(file, formatInput({ target: target.name, sessions: least }, { ...again, seed }));
    return { ...again, file };
  }
}
