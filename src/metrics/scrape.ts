// One scrape, from the status to both formats: which steps does it take, and how much is done in each?
import {
  METRICS_FORGET_STANDBY_MS,
  METRICS_ROWS_PER_PIECE,
  METRICS_SLOTS_MAX,
  METRICS_STANDBYS_MAX,
} from '../config/limits.ts';
import type { BuildInfo } from '../config/build-info.ts';
import type { StatusSource } from '../status/status.ts';
import { CATALOGUE, METRIC_PREFIX } from './catalogue.ts';
import type { HttpDurations } from './http-durations.ts';
import { OPENMETRICS_END, openMetricsHead, textHead, toOpenMetrics } from './openmetrics.ts';
import type { FamilyHead } from './openmetrics.ts';
import { Pace } from './pace.ts';
import {
  addAuthenticationSamples,
  addCertificateSamples,
  addClientSamples,
  addProcessSamples,
  addStoreSamples,
  addUpstreamSamples,
} from './relay-samples.ts';
import { Samples } from './samples.ts';
import { SlotSampler } from './slot-samples.ts';
import { StandbySampler } from './standby-samples.ts';
import { addSyncSamples } from './sync-samples.ts';

const HEADS: readonly FamilyHead[] = CATALOGUE.map((family) => ({
  ...family,
  name: METRIC_PREFIX + family.name,
}));

/** What a scrape is made from. */
export interface ScrapeParts {
  readonly source: StatusSource;
  readonly build: BuildInfo;
  readonly http: HttpDurations;
  /** Monotonic, and milliseconds since the Unix epoch. */
  readonly nowMs: number;
  readonly wallMs: number;
}

/** Makes the samples of each scrape, and remembers between scrapes what they have to. */
export class Sampler {
  readonly #standbys = new StandbySampler({
    cap: METRICS_STANDBYS_MAX,
    forgetMs: METRICS_FORGET_STANDBY_MS,
  });
  readonly #slots = new SlotSampler({ cap: METRICS_SLOTS_MAX });

  /**
   * Fills in the samples in steps. The first one takes the status, once, so that everything is of one moment; each of the
   * others reads or writes no more than about {@link METRICS_ROWS_PER_PIECE} rows. One scrape at a time.
   */
  *steps(samples: Samples, parts: ScrapeParts): Generator<undefined, void> {
    const { nowMs, wallMs } = parts;
    const status = parts.source.status();
    yield;
    const pace = new Pace(METRICS_ROWS_PER_PIECE);
    addProcessSamples(samples, status, parts.build);
    addUpstreamSamples(samples, status);
    addStoreSamples(samples, status);
    addSyncSamples(samples, status);
    addCertificateSamples(samples, status);
    addAuthenticationSamples(samples, status);
    addClientSamples(samples, status);
    yield;
    yield* this.#standbys.write(samples, status, { nowMs, pace });
    yield* this.#slots.write(samples, status, { nowMs, wallMs, pace });
    yield* parts.http.write(samples, pace);
  }
}

/** A finished scrape; both formats have the same samples. */
export class Rendering {
  readonly #samples: Samples;
  /** What prom-client holds, in the text format. */
  readonly #process: string;
  #text: string | null = null;
  #openMetrics: string | null = null;

  constructor(samples: Samples, processText: string) {
    this.#samples = samples;
    this.#process = processText;
  }

  /** The text format, version 0.0.4. Rendered once. */
  text(): string {
    this.#text ??= this.#families(textHead) + this.#process;
    return this.#text;
  }

  /** OpenMetrics 1.0. Rendered once. */
  openMetrics(): string {
    this.#openMetrics ??=
      this.#families(openMetricsHead) + toOpenMetrics(this.#process) + OPENMETRICS_END;
    return this.#openMetrics;
  }

  /** Every family of the catalogue, its head also where it has no sample. */
  #families(headOf: (head: FamilyHead) => string): string {
    let text = '';
    for (const [index, { name }] of CATALOGUE.entries()) {
      const head = HEADS[index];
      if (head !== undefined) text += headOf(head) + this.#samples.linesOf(name);
    }
    return text;
  }
}
