// Does the compiled program follow its configuration when it is told to, by signal and by request? What needs an upstream
// is tried with real servers elsewhere; here there is none.
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { stringify } from 'yaml';

const PROGRAM = fileURLToPath(new URL('../../bin/walcast.mjs', import.meta.url));

let directory: string;
let running: Program | null;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'walcast-run-reload-'));
  running = null;
});

afterEach(() => {
  running?.child.kill('SIGKILL');
  rmSync(directory, { recursive: true });
});

/** A running walcast and what it logged. */
class Program {
  readonly child: ChildProcess;
  readonly exit: Promise<number | null>;
  readonly #lines: Record<string, unknown>[] = [];
  #wake: () => void = () => {};
  #isEnded = false;
  #read = 0;

  constructor(nodeWords: readonly string[] = []) {
    const words = [...nodeWords, PROGRAM, 'run', '-c', 'walcast.yaml'];
    this.child = spawn(process.execPath, words, {
      cwd: directory,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    this.exit = new Promise((resolve) => {
      this.child.once('close', (code) => {
        this.#isEnded = true;
        this.#wake();
        resolve(code);
      });
    });
    if (this.child.stderr === null) throw new Error('no pipe');
    createInterface({ input: this.child.stderr }).on('line', (line) => {
      this.#lines.push(JSON.parse(line));
      this.#wake();
    });
  }

  /** The next line, after the one found last, whose message holds `message`. */
  async find(message: string): Promise<Record<string, unknown>> {
    for (;;) {
      while (this.#read >= this.#lines.length && !this.#isEnded) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
      const line = this.#lines[this.#read];
      if (line === undefined)
        throw new Error(`never logged: ${message}\n${JSON.stringify(this.#lines, null, 1)}`);
      this.#read += 1;
      if (String(line['msg']).includes(message)) return line;
    }
  }
}

/** Writes walcast.yaml: no upstream is there, ports are free ones. */
function configure(keys: Record<string, unknown> = {}): void {
  const upstream = { conninfo: 'host=127.0.0.1 port=1 user=nobody' };
  const http = { listen: '127.0.0.1:0' };
  const file = { upstream, http, listen: [{ address: '127.0.0.1:0' }], ...keys };
  writeFileSync(
    join(directory, 'walcast.yaml'),
    stringify({ storage: { directory: 'data' }, ...file }),
  );
}

async function start(
  nodeWords: readonly string[] = [],
): Promise<{ walcast: Program; url: string }> {
  const walcast = new Program(nodeWords);
  running = walcast;
  const { url } = await walcast.find('HTTP port is open');
  return { walcast, url: String(url) };
}

function post(url: string, token: string | null): Promise<Response> {
  const headers = token === null ? {} : { authorization: `Bearer ${token}` };
  return fetch(url, { method: 'POST', headers });
}

const RULES = { hba: 'host replication all 127.0.0.1/32 trust\n' };

test(
  'a token is in effect after the reload that names it, and gone after one that does not',
  { timeout: 30_000 },
  async () => {
    configure();
    const { walcast, url } = await start();
    expect((await post(`${url}/api/v1/reload`, 'first-token-of-the-test')).status).toBe(403);
    writeFileSync(join(directory, 'token'), 'first-token-of-the-test\n', { mode: 0o600 });
    configure({ http: { listen: '127.0.0.1:0', token_file: 'token' } });
    walcast.child.kill('SIGHUP');
    expect(await walcast.find('the configuration was read again')).toMatchObject({ changed: 1 });
    writeFileSync(join(directory, 'token'), 'second-token-of-the-test\n', { mode: 0o600 });
    const answer = await post(`${url}/api/v1/reload`, 'first-token-of-the-test');
    expect(answer.status).toBe(200);
    expect(await answer.json()).toMatchObject({ changed: ['http.token_file'] });
    expect((await post(`${url}/api/v1/reload`, 'first-token-of-the-test')).status).toBe(401);
    expect((await post(`${url}/api/v1/reload`, 'second-token-of-the-test')).status).toBe(200);
    walcast.child.kill('SIGINT');
    expect(await walcast.exit).toBe(0);
  },
);

test('a drain by request ends the process with 0', { timeout: 30_000 }, async () => {
  writeFileSync(join(directory, 'token'), 'first-token-of-the-test\n', { mode: 0o600 });
  configure({ http: { listen: '127.0.0.1:0', token_file: 'token' } });
  const { walcast, url } = await start();
  // Asked earlier, it would end before it has started, and say so.
  await walcast.find('upstream: ');
  expect((await post(`${url}/api/v1/drain`, 'first-token-of-the-test')).status).toBeLessThan(300);
  await walcast.find('walcast stops after draining');
  expect(await walcast.exit).toBe(0);
});

test(
  'the first access rules open the port for standbys; a port that is taken refuses the reload',
  { timeout: 30_000 },
  async () => {
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
    const { port } = taken.address() as AddressInfo;
    const listen = [{ address: '127.0.0.1:0' }, { address: `127.0.0.1:${port}` }];
    configure({ listen });
    const { walcast, url } = await start();
    configure({ listen, auth: RULES });
    walcast.child.kill('SIGHUP');
    expect((await walcast.find('configuration: '))['msg']).toContain(`:${port}`);
    await walcast.find('nothing was changed');
    const entries = await (await fetch(`${url}/api/v1/config`)).json();
    expect(entries).toContainEqual(expect.objectContaining({ key: 'auth.hba', value: null }));
    await new Promise((resolve) => taken.close(resolve));
    walcast.child.kill('SIGHUP');
    await walcast.find('listening for standbys');
    expect(await walcast.find('listening for standbys')).toMatchObject({ port });
    await walcast.find('`auth.hba` changed');
    configure({ listen });
    walcast.child.kill('SIGHUP');
    await walcast.find('there are no access rules any more');
    walcast.child.kill('SIGTERM');
    expect(await walcast.exit).toBe(0);
  },
);

test('signals in quick succession are one reload after another', { timeout: 30_000 }, async () => {
  configure();
  const { walcast } = await start();
  for (let count = 1; count <= 20; count += 1) {
    configure({ drain_timeout: `${count}s` });
    walcast.child.kill('SIGHUP');
  }
  for (;;) {
    const { to } = await walcast.find('`drain_timeout` changed');
    if (to === '20s') break;
  }
  walcast.child.kill('SIGINT');
  expect(await walcast.exit).toBe(0);
});

test(
  'a signal that comes while the program is being loaded is obeyed',
  { timeout: 30_000 },
  async () => {
    configure();
    const hooks = join(directory, 'hooks.mjs');
    writeFileSync(
      hooks,
      `export async function load(url, context, next) {
       if (/\\/dist\\/program\\/commands-\\w+\\.js$/.test(url)) process.kill(process.pid, 'SIGHUP');
       return await next(url, context);
     }`,
    );
    const register = `import { register } from 'node:module'; register(${JSON.stringify(pathToFileURL(hooks))});`;
    const { walcast } = await start([
      '--import',
      `data:text/javascript,${encodeURIComponent(register)}`,
    ]);
    await walcast.find('the configuration was read again');
    walcast.child.kill('SIGINT');
    expect(await walcast.exit).toBe(0);
  },
);
