// When does a probe change what is known about a container? The counting is pure; the asking is HTTP as the kubelet asks.
// (kubernetes pkg/kubelet/prober/worker.go:doProbe, pkg/probe/http/http.go)
import { request } from 'node:http';
import { request as requestTls } from 'node:https';
import type { IContainer } from 'kubernetes-models/v1/Container';
import type { IProbe } from 'kubernetes-models/v1/Probe';
import { systemClock } from '../../src/base/clock.ts';
import type { Clock, Timer } from '../../src/base/clock.ts';

/** Which of a container's probes. */
export type ProbeKind = 'startup' | 'liveness' | 'readiness';

/** One answer. */
export interface ProbeAnswer {
  readonly isSuccess: boolean;
  /** What was answered, for people. */
  readonly text: string;
}

const ANSWER_CHARS_MAX = 10 << 10;

/** The results of one probe of one container. */
export class ProbeTally {
  readonly #successes: number;
  readonly #failures: number;
  #last: boolean | null = null;
  #run = 0;

  constructor({ successThreshold, failureThreshold }: IProbe) {
    this.#successes = successThreshold ?? 1;
    this.#failures = failureThreshold ?? 3;
  }

  /** Counts an answer. The result when there are enough of a kind in a row, else null: as before. */
  take(isSuccess: boolean): boolean | null {
    this.#run = this.#last === isSuccess ? this.#run + 1 : 1;
    this.#last = isSuccess;
    return this.#run >= (isSuccess ? this.#successes : this.#failures) ? isSuccess : null;
  }
}

/** What a container's probes tell, as it happens. */
export interface ProbeEvents {
  readonly onStarted: () => void;
  readonly onReady: (isReady: boolean, answer: string) => void;
  /** Liveness or startup failed for good: the container is to be restarted. */
  readonly onDead: (kind: ProbeKind, answer: string) => void;
}

/** Asks once. */
export type Ask = (probe: IProbe) => Promise<ProbeAnswer>;

/** The probes of one running container. */
export class ContainerProbes {
  readonly #container: IContainer;
  readonly #ask: Ask;
  readonly #events: ProbeEvents;
  readonly #clock: Clock;
  readonly #timers = new Set<Timer>();
  #isOver = false;
  /** Only readiness goes on while a pod ends. */
  #isEnding = false;

  constructor(
    container: IContainer,
    options: { readonly ask: Ask; readonly events: ProbeEvents; readonly clock?: Clock },
  ) {
    this.#container = container;
    this.#ask = options.ask;
    this.#events = options.events;
    this.#clock = options.clock ?? systemClock;
  }

  /** Begins with the startup probe; the others wait for its first success. */
  start(): void {
    const { startupProbe } = this.#container;
    if (startupProbe === undefined) this.#started();
    else
      this.#repeat('startup', startupProbe, (isSuccess, text) => {
        if (isSuccess) this.#started();
        else this.#events.onDead('startup', text);
        return true;
      });
  }

  /** The pod ends: nothing restarts it any more. */
  ending(): void {
    this.#isEnding = true;
  }

  stop(): void {
    this.#isOver = true;
    for (const timer of this.#timers) timer.cancel();
  }

  #started(): void {
    this.#events.onStarted();
    const { livenessProbe, readinessProbe } = this.#container;
    if (readinessProbe === undefined) this.#events.onReady(true, 'no readiness probe');
    else
      this.#repeat('readiness', readinessProbe, (isSuccess, text) => {
        this.#events.onReady(isSuccess, text);
        return false;
      });
    if (livenessProbe === undefined) return;
    this.#repeat('liveness', livenessProbe, (isSuccess, text) => {
      if (!isSuccess) this.#events.onDead('liveness', text);
      return !isSuccess;
    });
  }

  /** Asks once a period until `result` says that it was the last time. */
  #repeat(
    kind: ProbeKind,
    probe: IProbe,
    result: (isSuccess: boolean, text: string) => boolean,
  ): void {
    const tally = new ProbeTally(probe);
    const round = async (): Promise<void> => {
      if (this.#isOver || (this.#isEnding && kind !== 'readiness')) return;
      const { isSuccess, text } = await this.#ask(probe);
      if (this.#isOver || (this.#isEnding && kind !== 'readiness')) return;
      const known = tally.take(isSuccess);
      if (known !== null && result(known, text)) return;
      this.#after((probe.periodSeconds ?? 10) * 1000, () => void round());
    };
    this.#after((probe.initialDelaySeconds ?? 0) * 1000, () => void round());
  }

  #after(ms: number, action: () => void): void {
    const timer = this.#clock.setTimer(ms, () => {
      this.#timers.delete(timer);
      action();
    });
    this.#timers.add(timer);
  }
}

/** Asks `container` at `host` as the kubelet does; never rejects. Throws for a probe that is not httpGet. */
export function askHttp(host: string, container: IContainer, probe: IProbe): Promise<ProbeAnswer> {
  const { httpGet } = probe;
  if (httpGet === undefined) throw new Error('the stand-in has httpGet probes only');
  const port = portOf(container, httpGet.port);
  const isTls = httpGet.scheme === 'HTTPS';
  return new Promise((resolve) => {
    const give = (isSuccess: boolean, text: string): void => resolve({ isSuccess, text });
    const options = {
      host: httpGet.host ?? host,
      port,
      path: httpGet.path ?? '/',
      headers: { 'user-agent': 'kube-probe/1.32', accept: '*/*', connection: 'close' },
      agent: false,
      signal: AbortSignal.timeout((probe.timeoutSeconds ?? 1) * 1000),
      // The kubelet does not check certificates.
      ...(isTls ? { rejectUnauthorized: false } : {}),
    };
    const asked = (isTls ? requestTls : request)(options, (response) => {
      const status = response.statusCode ?? 0;
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => {
        if (text.length < ANSWER_CHARS_MAX) text += chunk;
      });
      response.on('end', () => give(status >= 200 && status < 400, `${status} ${text}`));
      response.on('error', (error) => give(false, String(error)));
    });
    asked.on('error', (error) => give(false, String(error)));
    asked.end();
  });
}

/** A port by its number or its name in `container`. */
export function portOf(container: IContainer, port: number | string): number {
  if (typeof port === 'number') return port;
  const named = container.ports?.find(({ name }) => name === port)?.containerPort;
  if (named === undefined) throw new Error(`container ${container.name} has no port ${port}`);
  return named;
}
