// What happens to a container between its pod's start and end? It is started, asked, started again when it ends or does not answer,
// and at last told to end, with the time that the pod gives it. (kubernetes pkg/kubelet/kuberuntime/kuberuntime_container.go)
import type { IContainer } from 'kubernetes-models/v1/Container';
import { systemClock } from '../../src/base/clock.ts';
import type { Timer } from '../../src/base/clock.ts';
import type { ProcessEnd } from '../../src/demo/walcast-process.ts';
import { ContainerProbes, askHttp } from './kubelet-probes.ts';
import type { ContainerProcess } from './kubelet-process.ts';

/** What a container needs from its pod. */
export interface ContainerHost {
  readonly address: string;
  readonly graceMs: number;
  /** Of the image. */
  readonly stopSignal: NodeJS.Signals;
  /** Starts a new process of the container. */
  readonly spawn: () => Promise<ContainerProcess>;
  /** Readiness changed, or something worth a line happened. */
  readonly onChange: (what: string) => void;
}

/** A restart beyond the first waits for so long, doubled each time. (kubelet.go: backOffPeriod, MaxContainerBackOff) */
const BACKOFF_MS = 10_000;
const BACKOFF_MS_MAX = 300_000;
/** What is left for a process after a hook that took all of the time. (minimumGracePeriodInSeconds) */
const GRACE_MS_MIN = 2_000;

/** One container of one pod. */
export class Container {
  readonly spec: IContainer;
  readonly #host: ContainerHost;
  #process: ContainerProcess | null = null;
  #probes: ContainerProbes | null = null;
  #backoff: Timer | null = null;
  /** Of the process of this moment. */
  #stopping: Promise<ProcessEnd> | null = null;
  #isReady = false;
  #isEnding = false;
  #restarts = 0;
  readonly #logs: (() => readonly string[])[] = [];

  constructor(spec: IContainer, host: ContainerHost) {
    this.spec = spec;
    this.#host = host;
  }

  get isReady(): boolean {
    return this.#isReady;
  }

  get restarts(): number {
    return this.#restarts;
  }

  /** The process; throws when it was never started. */
  get process(): ContainerProcess {
    if (this.#process === null) throw new Error(`${this.spec.name} was not started`);
    return this.#process;
  }

  /** What all its processes wrote, a line an entry. */
  get log(): readonly string[] {
    return this.#logs.flatMap((lines) => lines());
  }

  async start(): Promise<void> {
    const process = await this.#host.spawn();
    this.#process = process;
    this.#stopping = null;
    this.#logs.push(() => process.log);
    const probes = new ContainerProbes(this.spec, {
      ask: (probe) => askHttp(this.#host.address, this.spec, probe),
      events: {
        onStarted: () => this.#host.onChange(`${this.spec.name} started`),
        onReady: (isReady, answer) => this.#ready(isReady, answer),
        onDead: (kind, answer) => {
          this.#host.onChange(`${kind} probe failed: ${answer}; ${this.spec.name} is restarted`);
          void this.#stop(this.#host.graceMs);
        },
      },
    });
    this.#probes = probes;
    probes.start();
    void process.ended.then((end) => this.#ended(probes, end));
  }

  /** Ends it for good: hook, signal, and SIGKILL when the time is over. `graceMs` counts from now. */
  async terminate(graceMs: number): Promise<ProcessEnd> {
    this.#isEnding = true;
    this.#backoff?.cancel();
    this.#probes?.ending();
    return await this.#stop(graceMs);
  }

  /** kill -9. What follows is up to the pod: `isForGood` as with a node that is lost. */
  async kill(isForGood: boolean): Promise<void> {
    this.#isEnding ||= isForGood;
    if (isForGood) {
      this.#backoff?.cancel();
      this.#probes?.stop();
    }
    this.process.signal('SIGKILL');
    await this.process.ended;
  }

  /** The hook comes before the signal whatever the reason is, a liveness probe that failed included. (killContainer) */
  #stop(graceMs: number): Promise<ProcessEnd> {
    this.#stopping ??= this.#stopOnce(graceMs);
    return this.#stopping;
  }

  async #stopOnce(graceMs: number): Promise<ProcessEnd> {
    const untilMs = systemClock.nowMs() + graceMs;
    await this.#preStop(this.process, graceMs);
    return await this.#end(Math.max(GRACE_MS_MIN, untilMs - systemClock.nowMs()));
  }

  async #end(graceMs: number): Promise<ProcessEnd> {
    const { process } = this;
    if (process.end === null) this.#host.onChange(`${this.spec.name} is told to end`);
    process.signal(this.#host.stopSignal);
    const timer = systemClock.setTimer(graceMs, () => {
      this.#host.onChange(`${this.spec.name} did not end in time and is killed`);
      process.signal('SIGKILL');
    });
    try {
      return await process.ended;
    } finally {
      timer.cancel();
    }
  }

  async #preStop(process: ContainerProcess, graceMs: number): Promise<void> {
    const hook = this.spec.lifecycle?.preStop;
    if (hook === undefined) return;
    if (hook.sleep === undefined) throw new Error('the stand-in has the sleep hook only');
    const sleepMs = Math.min(hook.sleep.seconds * 1000, graceMs);
    await new Promise<void>((resolve) => {
      const timer = systemClock.setTimer(sleepMs, resolve);
      // Who has ended is not waited for.
      void process.ended.then(() => {
        timer.cancel();
        resolve();
      });
    });
  }

  #ready(isReady: boolean, answer: string): void {
    if (isReady === this.#isReady) return;
    this.#isReady = isReady;
    this.#host.onChange(`${this.spec.name} is ${isReady ? 'ready' : 'not ready'}: ${answer}`);
  }

  #ended(probes: ContainerProbes, { exitCode, signal }: ProcessEnd): void {
    probes.stop();
    this.#isReady = false;
    this.#host.onChange(`${this.spec.name} ended (exit code ${exitCode}, signal ${signal})`);
    if (this.#isEnding) return;
    const waitMs =
      this.#restarts === 0 ? 0 : Math.min(BACKOFF_MS_MAX, BACKOFF_MS * 2 ** (this.#restarts - 1));
    this.#restarts += 1;
    this.#backoff = systemClock.setTimer(waitMs, () => {
      if (!this.#isEnding)
        void this.start().catch((error: unknown) => this.#host.onChange(String(error)));
    });
  }
}
