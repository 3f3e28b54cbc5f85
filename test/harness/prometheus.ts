// A real Prometheus that scrapes walcast, on loopback, with its data in the workspace and gone with it.
import { spawn } from 'node:child_process';
import { createServer } from 'node:http';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import { runCommand, serverEnvironment } from '../../src/demo/postgres-user.ts';
import type { CommandResult } from '../../src/demo/postgres-user.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { findProgram } from '../support/requirements.ts';
import { freePort } from './free-port.ts';

/** What to start. */
export interface PrometheusOptions {
  /** Addresses (`127.0.0.1:9188`) by the name of their job. */
  readonly jobs: Readonly<Record<string, string>>;
  /** Texts of rule files. */
  readonly rules?: readonly string[];
}

/** One series of an instant query. */
export interface PromSeries {
  readonly metric: Readonly<Record<string, string>>;
  readonly value: number;
}

/** What it knows of a family of one target. */
export interface PromMetadata {
  readonly metric: string;
  readonly type: string;
  readonly help: string;
  readonly unit: string;
}

/** One rule as it was evaluated last. */
export interface PromRule {
  readonly name: string;
  /** Its expression, as Prometheus writes it. */
  readonly query: string;
  /** `ok`, or why it could not be evaluated is in `lastError`. */
  readonly health: string;
  readonly lastError?: string;
  /** Of an alert: `inactive`, `pending` or `firing`. */
  readonly state?: string;
}

/** How often it scrapes and evaluates. */
export const SCRAPE_INTERVAL_MS: number = 500;

const START_TIMEOUT_MS = 60_000;

/** Counters of its own that tell of samples it could not take. */
const REFUSALS = [
  'prometheus_target_scrapes_sample_duplicate_timestamp_total',
  'prometheus_target_scrapes_sample_out_of_bounds_total',
  'prometheus_target_scrapes_sample_out_of_order_total',
  'prometheus_target_scrapes_exceeded_sample_limit_total',
  'prometheus_target_scrapes_exceeded_body_size_limit_total',
] as const;

/** A running Prometheus. */
export class Prometheus {
  readonly #url: string;
  readonly #output: () => string;

  constructor(url: string, output: () => string) {
    this.#url = url;
    this.#output = output;
  }

  /** The series of an instant query, now or at `atMs` (Unix milliseconds). Rejects with its words where the expression is wrong. */
  async query(expression: string, atMs: number | null = null): Promise<PromSeries[]> {
    const time = atMs === null ? {} : { time: String(atMs / 1_000) };
    const data = (await this.#get('query', { query: expression, ...time })) as {
      resultType: string;
      result: unknown;
    };
    if (data.resultType === 'scalar') {
      const [, value] = data.result as [number, string];
      return [{ metric: {}, value: Number(value) }];
    }
    const result = data.result as { metric: Record<string, string>; value: [number, string] }[];
    return result.map(({ metric, value: [, text] }) => ({ metric, value: valueOf(text) }));
  }

  /** What it knows of the families of one job. */
  async metadata(job: string): Promise<PromMetadata[]> {
    const target = JSON.stringify(job);
    return (await this.#get('targets/metadata', {
      match_target: `{job=${target}}`,
    })) as PromMetadata[];
  }

  /** All rules. */
  async rules(): Promise<PromRule[]> {
    const data = (await this.#get('rules', {})) as { groups: { rules: PromRule[] }[] };
    return data.groups.flatMap(({ rules }) => rules);
  }

  /** Waits until each job has been scraped well `times` times, and the rules have been evaluated behind that. */
  async scraped(jobs: readonly string[], times = 1): Promise<void> {
    for (const job of jobs) {
      await pollUntil(
        `${times} scrapes of ${job}`,
        async () => {
          const windowMs = times * 4 * SCRAPE_INTERVAL_MS;
          const up = await this.query(
            `sum_over_time(up{job=${JSON.stringify(job)}}[${windowMs}ms])`,
          ).catch(() => []);
          return (up[0]?.value ?? 0) >= times ? true : null;
        },
        { timeoutMs: START_TIMEOUT_MS },
      ).catch((error: unknown) => {
        throw new Error(`${String(error)}; it said:\n${this.#output()}`, { cause: error });
      });
    }
  }

  /** Everything that it did not like since its start, as sentences. */
  async complaints(): Promise<string[]> {
    const text = await (await fetch(`${this.#url}/metrics`)).text();
    const counters = REFUSALS.map((name) => {
      const value = new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1];
      return value === '0' ? null : `${name} is ${value ?? 'not there'}`;
    });
    const lines = this.#output().split('\n');
    return [
      ...counters.filter((line) => line !== null),
      ...lines.filter((line) => /level=(warn|error)|panic/.test(line)),
    ];
  }

  async #get(path: string, parameters: Record<string, string>): Promise<unknown> {
    const answer = await fetch(`${this.#url}/api/v1/${path}`, {
      method: path === 'query' ? 'POST' : 'GET',
      ...(path === 'query' ? { body: new URLSearchParams(parameters) } : {}),
    } as RequestInit);
    const body = (await answer.json()) as { status: string; data: unknown; error?: string };
    if (body.status !== 'success') throw new Error(`${body.error}`);
    return body.data;
  }
}

/** Starts it as the workspace's user; it ends with the workspace. */
export async function startPrometheus(
  workspace: Workspace,
  options: PrometheusOptions,
): Promise<Prometheus> {
  const directory = await workspace.makeDirectory('prometheus');
  const file = join(directory, 'prometheus.yml');
  const ruleFiles = await writeRules(workspace, directory, options.rules ?? []);
  // YAML is a superset of JSON.
  const configuration = {
    global: { evaluation_interval: `${SCRAPE_INTERVAL_MS}ms` },
    rule_files: ruleFiles,
    scrape_configs: Object.entries(options.jobs).map(([name, target]) => ({
      job_name: name,
      scrape_interval: `${SCRAPE_INTERVAL_MS}ms`,
      scrape_timeout: `${SCRAPE_INTERVAL_MS}ms`,
      static_configs: [{ targets: [target] }],
    })),
  };
  await writeFile(file, JSON.stringify(configuration));
  await workspace.giveAway(file);
  const port = await freePort();
  const { user } = workspace;
  const child = spawn(
    program('prometheus'),
    [
      `--config.file=${file}`,
      `--storage.tsdb.path=${join(directory, 'data')}`,
      `--web.listen-address=127.0.0.1:${port}`,
      '--log.level=info',
    ],
    {
      ...(user === null ? {} : { uid: user.uid, gid: user.gid }),
      cwd: directory,
      env: serverEnvironment(directory),
      stdio: ['ignore', 'ignore', 'pipe'],
    },
  );
  let output = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (output += text));
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  workspace.onClose(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  const url = `http://127.0.0.1:${port}`;
  await pollUntil(
    'Prometheus ready',
    async () => {
      if (child.exitCode !== null) throw new Error(`prometheus ended: ${output}`);
      const answer = await fetch(`${url}/-/ready`).catch(() => null);
      return answer?.status === 200 ? true : null;
    },
    { timeoutMs: START_TIMEOUT_MS },
  );
  return new Prometheus(url, () => output);
}

/** An address that answers what `url` answers to somebody who takes the text format only; closed with the workspace. */
export async function openTextOnly(workspace: Workspace, url: string): Promise<string> {
  const server = createServer((_request, response) => {
    void fetch(url, { headers: { accept: 'text/plain;version=0.0.4' } })
      .then(async (answer) => {
        response.setHeader('content-type', answer.headers.get('content-type') ?? '');
        response.writeHead(answer.status).end(await answer.text());
      })
      .catch((error: unknown) => response.writeHead(502).end(String(error)));
  });
  const port = await freePort();
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  workspace.onClose(async () => {
    server.closeAllConnections();
    await new Promise<void>((resolve) => server.close(() => resolve()));
  });
  return `127.0.0.1:${port}`;
}

/** `promtool check metrics` of a text. */
export async function promtoolCheckMetrics(
  workspace: Workspace,
  text: string,
): Promise<CommandResult> {
  const file = join(workspace.directory, 'exposition.prom');
  await writeFile(file, text);
  const shell = `${program('promtool')} check metrics < ${file}`;
  return await runCommand('/bin/sh', ['-c', shell], { user: null, cwd: workspace.directory });
}

async function writeRules(
  workspace: Workspace,
  directory: string,
  texts: readonly string[],
): Promise<string[]> {
  return await Promise.all(
    texts.map(async (text, index) => {
      const file = join(directory, `rules-${index}.yml`);
      await writeFile(file, text);
      await workspace.giveAway(file);
      return file;
    }),
  );
}

function program(name: string): string {
  const path = findProgram(name);
  if (path === null) throw new Error(`${name} is not installed`);
  return path;
}

function valueOf(text: string): number {
  return text === '+Inf' ? Infinity : text === '-Inf' ? -Infinity : Number(text);
}
