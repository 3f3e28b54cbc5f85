// An HTTP port as the tests open it: made-up status, actions that are written down, metrics of any content.
import { connect } from 'node:net';
import { systemClock } from '../../src/base/clock.ts';
import type { ComponentLevel } from '../../src/base/log-levels.ts';
import { silentLog } from '../../src/base/log.ts';
import type { ProblemJson } from '../../src/http/api-types.ts';
import { PROBLEMS } from '../../src/http/problems.ts';
import type { ProblemCode } from '../../src/http/problems.ts';
import { openHttp } from '../../src/http/server.ts';
import type { HttpOptions, HttpServer, HttpSources } from '../../src/http/server.ts';
import type { AnsweredRequest, Exposition, Metrics } from '../../src/metrics/registry.ts';
import type {
  ActionRefusal,
  ConfigEntry,
  RelayActions,
  ReloadReport,
  WalFile,
  WalFileRefusal,
} from '../../src/status/actions.ts';
import type { DeadWalStatus } from '../../src/status/status.ts';
import { sampleStatus } from './relay-status.ts';

/** Metrics that write down what they are told. */
export class RecordingMetrics implements Metrics {
  readonly requests: AnsweredRequest[] = [];

  async render(): Promise<Exposition> {
    return { contentType: 'text/plain; version=0.0.4; charset=utf-8', body: 'walcast_ready 1\n' };
  }

  observeRequest(request: AnsweredRequest): void {
    this.requests.push(request);
  }
}

/** Actions that are written down and answered as they are set to. */
export class RecordingActions implements RelayActions {
  readonly done: string[] = [];
  refusal: ActionRefusal | null = null;
  dead: DeadWalStatus = { files: 0, bytes: 0, acknowledged: null };
  report: ReloadReport = { problems: [], changed: [], pendingRestart: [] };
  entries: readonly ConfigEntry[] = [sampleEntry()];
  file: (name: string) => WalFile | WalFileRefusal = () => ({ kind: 'absent' });

  async reload(): Promise<ReloadReport> {
    this.done.push('reload');
    return this.report;
  }

  drain(): void {
    this.done.push('drain');
  }

  shutdown(): void {
    this.done.push('shutdown');
  }

  reconnect(): ActionRefusal | null {
    this.done.push('reconnect');
    return this.refusal;
  }

  pause(): void {
    this.done.push('pause');
  }

  resume(): void {
    this.done.push('resume');
  }

  async createSlot(name: string, options: { reserveWal: boolean }): Promise<ActionRefusal | null> {
    this.done.push(`create ${name} ${options.reserveWal}`);
    return this.refusal;
  }

  async dropSlot(name: string): Promise<ActionRefusal | null> {
    this.done.push(`drop ${name}`);
    return this.refusal;
  }

  disconnectStandby(pid: number): boolean {
    this.done.push(`disconnect ${pid}`);
    return pid === 42;
  }

  async releaseDeadWal(): Promise<DeadWalStatus | ActionRefusal> {
    this.done.push('release dead WAL');
    return this.refusal ?? this.dead;
  }

  logLevels(): readonly ComponentLevel[] {
    return [
      { component: 'default', level: 'info', origin: 'default' },
      { component: 'walsender', level: 'debug', origin: 'runtime' },
    ];
  }

  setLogLevel(component: string, level: string | null): ActionRefusal | null {
    this.done.push(`log level ${component} ${level ?? 'as configured'}`);
    if (component !== 'nobody') return null;
    const message = '"nobody" is no component of the log';
    return { sqlstate: '42704', message, hint: 'Components are default, walsender.' };
  }

  configuration(): readonly ConfigEntry[] {
    return this.entries;
  }

  async openWalFile(name: string): Promise<WalFile | WalFileRefusal> {
    return this.file(name);
  }
}

/** One key, as an origin would give it. */
export function sampleEntry(overrides: Partial<ConfigEntry> = {}): ConfigEntry {
  return {
    key: 'storage.wal_keep_size',
    value: '4GB',
    defaultValue: '1GB',
    origin: 'file',
    place: 'walcast.yaml:4:3',
    isReloadable: true,
    isPendingRestart: false,
    ...overrides,
  };
}

/** A file that is made up; `onClose` is told each time it is closed. */
export function sampleFile(
  name: string,
  pieces: readonly Uint8Array[],
  onClose: () => void = () => {},
): WalFile {
  return {
    name,
    size: pieces.reduce((sum, piece) => sum + piece.length, 0),
    version: `7301234567890123456-${name}`,
    chunks: (async function* () {
      yield* pieces;
    })(),
    close: onClose,
  };
}

/** A problem of that kind as it is answered; `facts` are its other fields. */
export function problemOf(code: ProblemCode, facts: Partial<ProblemJson>): ProblemJson {
  const { status, title } = PROBLEMS[code];
  return { type: `urn:walcast:problem:${code}`, title, status, detail: '', hint: '', ...facts };
}

/** Opens a port on loopback; what is not given is made up. */
export function openTestPort(
  options: Partial<HttpOptions> & Partial<HttpSources> = {},
): Promise<HttpServer> {
  const { source, metrics, actions, ...rest } = options;
  return openHttp(
    {
      listen: { kind: 'tcp', host: '127.0.0.1', port: 0 },
      log: silentLog,
      clock: systemClock,
      token: () => null,
      walToken: () => null,
      tls: null,
      ...rest,
    },
    {
      source: source ?? { status: () => sampleStatus() },
      metrics: metrics ?? new RecordingMetrics(),
      actions: actions ?? new RecordingActions(),
    },
  );
}

/** Sends bytes as they are and resolves to everything that came back when the connection ends. */
export function exchange(port: number, request: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => socket.write(request));
    let answer = '';
    socket.setEncoding('latin1');
    socket.on('data', (text: string) => (answer += text));
    // A reset after the answer is one of the ways to refuse; a missing answer fails the test.
    socket.on('error', () => {});
    socket.on('close', () => resolve(answer));
  });
}
