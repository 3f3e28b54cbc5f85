// The worked examples outside a cluster of Kubernetes: their own files, with what a cluster would give (names, ports, mounted
// directories) put in its place, and nothing else changed. A file that no longer says what is replaced fails its test.
import { randomBytes } from 'node:crypto';
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import type { Server, Socket } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseAllDocuments } from 'yaml';
import {
  deriveScramSecret,
  formatScramSecret,
  SCRAM_ITERATIONS_DEFAULT,
} from '../../src/auth/scram-secret.ts';
import { pollUntil } from '../../src/demo/postgres-process.ts';
import { runCommand } from '../../src/demo/postgres-user.ts';
import type { CommandResult } from '../../src/demo/postgres-user.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { spawnWalcast } from '../../src/demo/walcast-process.ts';
import type { WalcastProcess } from '../../src/demo/walcast-process.ts';
import type { StatusJson } from '../../src/http/api-types.ts';
import { freePort } from '../harness/free-port.ts';
import { makeCertificate } from '../support/certificates.ts';
import type { TestCertificate } from '../support/certificates.ts';
import { findProgram } from '../support/requirements.ts';
import { MountedSecret } from '../support/tls-server-rig.ts';

export type Example = 'cloudnative-pg' | 'patroni' | 'plain';

const EXAMPLES = fileURLToPath(new URL('../../deploy/examples/', import.meta.url));
const TOKEN = 'the-token-of-the-examples';
const STATUS_MS_MAX = 60_000;

/** Texts by what they stand in place of. */
export type Places = Readonly<Record<string, string>>;

export function examplePath(example: Example, name = ''): string {
  return join(EXAMPLES, example, name);
}

export async function exampleText(example: Example, name: string): Promise<string> {
  return await readFile(examplePath(example, name), 'utf8');
}

/** The objects of a YAML file. Throws on what is no YAML, a key that stands there twice included. */
export async function exampleObjects(example: Example, name: string): Promise<unknown[]> {
  const documents = parseAllDocuments(await exampleText(example, name), { strict: true });
  return documents.map((document) => {
    if (document.errors.length > 0) throw new Error(`${name}: ${String(document.errors)}`);
    return document.toJS() as unknown;
  });
}

/** The text with every key of `places` replaced. Throws where one is not there. */
export function placed(text: string, places: Places): string {
  let result = text;
  for (const [what, place] of Object.entries(places)) {
    if (!text.includes(what)) throw new Error(`"${what}" is not in:\n${text}`);
    result = result.replaceAll(what, place);
  }
  return result;
}

/** A field inside nested objects; undefined where there is none. */
export function at(value: unknown, ...path: readonly (string | number)[]): unknown {
  let here = value;
  for (const key of path) {
    if (typeof here !== 'object' || here === null) return undefined;
    here = (here as Readonly<Record<string, unknown>>)[String(key)];
  }
  return here;
}

/** The values of an object of texts. Throws when it is none. */
export function texts(value: unknown): Record<string, string> {
  const entries = Object.entries(typeof value === 'object' && value !== null ? value : {});
  return Object.fromEntries(
    entries.map(([key, text]: [string, unknown]) => {
      if (typeof text !== 'string') throw new Error(`${key} is no text: ${String(text)}`);
      return [key, text];
    }),
  );
}

/** Authorities and certificates by common name and DNS names. */
export function certificateOf(
  authority: TestCertificate,
  commonName: string,
  dns: readonly string[] = [],
): TestCertificate {
  return makeCertificate({ commonName, dns, issuer: authority });
}

/** What a pod of an example is started with. */
export interface PodOptions {
  readonly example: Example;
  /** Unique in the workspace; becomes `walcast_INDEX` upstream. */
  readonly index: number;
  /** Besides ports and directories. */
  readonly places: Places;
  /** Files of each mounted Secret, by the directory it is mounted at. */
  readonly secrets: Readonly<Record<string, Readonly<Record<string, string>>>>;
  /** Where an earlier pod of the same index was. */
  readonly after?: ExamplePod;
}

/** walcast as a pod of an example runs it. */
export class ExamplePod {
  readonly process: WalcastProcess;
  readonly port: number;
  readonly httpPort: number;
  readonly secrets: ReadonlyMap<string, MountedSecret>;

  constructor(parts: {
    process: WalcastProcess;
    port: number;
    httpPort: number;
    secrets: ReadonlyMap<string, MountedSecret>;
  }) {
    this.process = parts.process;
    this.port = parts.port;
    this.httpPort = parts.httpPort;
    this.secrets = parts.secrets;
  }

  /** An answer of the HTTP port to who has the token. */
  async get(path: string): Promise<Response> {
    const headers = { authorization: `Bearer ${TOKEN}` };
    return await fetch(`http://127.0.0.1:${this.httpPort}${path}`, { headers });
  }

  async status(): Promise<StatusJson> {
    return (await (await this.get('/api/v1/status')).json()) as StatusJson;
  }

  /** Polls the status until `check` holds. Rejects with the end of the log. */
  async waitForStatus(what: string, check: (status: StatusJson) => boolean): Promise<StatusJson> {
    try {
      return await pollUntil(
        what,
        async () => {
          const status = await this.status().catch(() => null);
          return status !== null && check(status) ? status : null;
        },
        { timeoutMs: STATUS_MS_MAX },
      );
    } catch (error) {
      throw new Error(`${String(error)}\n${this.process.log.slice(-20).join('\n')}`, {
        cause: error,
      });
    }
  }

  /** Waits until WAL streams in. */
  async streams(timeline = 1): Promise<StatusJson> {
    return await this.waitForStatus(
      `a stream on timeline ${timeline}`,
      ({ state, timeline: now }) => state === 'streaming' && now === timeline,
    );
  }

  /** Lines of the log that tell of a problem. */
  problems(): string[] {
    return this.process.log.filter((line) => /"level":"(error|fatal)"|Unhandled/i.test(line));
  }
}

/** Starts the configuration of an example as the pod with that index would be. */
export async function startPod(workspace: Workspace, options: PodOptions): Promise<ExamplePod> {
  const { example, index } = options;
  const name = `${example}-${index}`;
  const directory = await ownDirectory(workspace, name);
  const port = options.after?.port ?? (await freePort());
  const httpPort = options.after?.httpPort ?? (await freePort());
  const secrets = new Map<string, MountedSecret>();
  const mounts: Record<string, string> = {};
  for (const [mountPath, files] of Object.entries(options.secrets)) {
    const secretName = mountPath.replaceAll('/', '_');
    const place = await ownDirectory(workspace, join(name, secretName));
    const secret = options.after?.secrets.get(mountPath) ?? new MountedSecret(place);
    await secret.replace(files);
    secrets.set(mountPath, secret);
    mounts[`${mountPath}/`] = `${place}/`;
  }
  const configuration = placed(await exampleText(example, 'walcast.yaml'), {
    ...options.places,
    ...mounts,
    '/var/lib/walcast/data': join(directory, 'data'),
    '0.0.0.0:5432': `127.0.0.1:${port}`,
    '0.0.0.0:9188': `127.0.0.1:${httpPort}`,
  });
  await writeFile(join(directory, 'pg_hba.conf'), await exampleText(example, 'pg_hba.conf'));
  const process = await spawnWalcast(workspace, {
    name: `${name}/walcast`,
    configuration,
    environment: {
      WALCAST_UPSTREAM_SLOT: `walcast_${index}`,
      WALCAST_UPSTREAM_APPLICATION_NAME: `walcast_${index}`,
    },
  });
  return new ExamplePod({ process, port, httpPort, secrets });
}

/** Files of the Secret `walcast-credentials`. */
export function credentials(files: Readonly<Record<string, string>> = {}): Record<string, string> {
  return { token: `${TOKEN}\n`, 'wal-token': 'the-token-for-wal-of-the-examples\n', ...files };
}

/** A directory below the workspace that belongs to us, with what is above it open to others. */
async function ownDirectory(workspace: Workspace, name: string): Promise<string> {
  const path = join(workspace.directory, name);
  await mkdir(path, { recursive: true });
  await chmod(path, 0o755);
  return path;
}

/** A file for a server or a client program: theirs, and closed to others. */
export async function serverFile(
  workspace: Workspace,
  path: string,
  content: string,
): Promise<string> {
  await writeFile(path, content, { mode: 0o600 });
  await chmod(path, 0o600);
  await workspace.giveAway(path);
  return path;
}

/** Runs a client program of Debian as the user of the servers, with an environment of its own. */
export async function runClient(
  workspace: Workspace,
  program: string,
  args: readonly string[],
): Promise<CommandResult> {
  const path = findProgram(program);
  if (path === null) throw new Error(`${program} is not installed`);
  return await runCommand(path, args, { user: workspace.user, cwd: workspace.directory });
}

/** A line of the list of users, as `walcast scram --user` prints it. */
export async function userLine(name: string, password: string): Promise<string> {
  const secret = await deriveScramSecret(password, {
    salt: randomBytes(16),
    iterations: SCRAM_ITERATIONS_DEFAULT,
  });
  return `"${name}" "${formatScramSecret(secret)}"\n`;
}

/** A name of a Service: a port that leads to whichever server it is told to, and to nobody before. */
export class ServiceName implements AsyncDisposable {
  /** Where new connections go; null refuses them. */
  target: { readonly port: number } | null = null;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor() {
    this.#server = createServer((client) => this.#join(client));
  }

  static async open(): Promise<ServiceName> {
    const service = new ServiceName();
    await new Promise<void>((resolve) => {
      service.#server.listen(0, '127.0.0.1', resolve);
    });
    return service;
  }

  get port(): number {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('it is closed');
    return address.port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => {
      this.#server.close(resolve);
    });
  }

  #join(client: Socket): void {
    this.#keep(client);
    if (this.target === null) {
      client.resetAndDestroy();
      return;
    }
    const server = connect({ port: this.target.port, host: '127.0.0.1', noDelay: true });
    this.#keep(server);
    client.setNoDelay();
    client.pipe(server).pipe(client);
    client.once('close', () => server.destroy());
    server.once('close', () => client.destroy());
  }

  #keep(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on('error', () => socket.destroy());
    socket.once('close', () => this.#sockets.delete(socket));
  }
}

/** RFC 7396, which `kubectl patch --type merge` and `patronictl edit-config --apply` go by. */
export function merged(target: unknown, patch: unknown): unknown {
  if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) return patch;
  const isObject = typeof target === 'object' && target !== null && !Array.isArray(target);
  const result: Record<string, unknown> = isObject ? { ...target } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key];
    else result[key] = merged(result[key], value);
  }
  return result;
}
