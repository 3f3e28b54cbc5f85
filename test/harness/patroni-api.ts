// Patroni's REST API as far as discovery uses it, told by the test what to answer: the servers behind it are real.
import { createServer } from 'node:http';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { SampleMember } from '../support/patroni-samples.ts';

/** A server that answers GET /cluster. */
export class PatroniApi implements AsyncDisposable {
  /** In the order of Patroni, which is by name. Changed by the test. */
  members: readonly SampleMember[] = [];
  /** Answers 503 and says nothing about anybody, as a node does that has lost its store. */
  isDown = false;
  requests = 0;
  readonly #server: Server;

  /** Use {@link openPatroniApi}. */
  constructor() {
    this.#server = createServer((request, response) => {
      this.requests += 1;
      const isAnswer = !this.isDown && request.url === '/cluster';
      response.shouldKeepAlive = false;
      response.writeHead(isAnswer ? 200 : 503, { 'Content-Type': 'application/json' });
      response.end(JSON.stringify(isAnswer ? { members: this.members, scope: 'demo' } : {}));
    });
  }

  get url(): string {
    const { port } = this.#server.address() as AddressInfo;
    return `http://127.0.0.1:${port}`;
  }

  async listen(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#server.listen(0, '127.0.0.1', resolve);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => {
      this.#server.close(resolve);
    });
  }
}

/** Opens one on a free port of loopback. */
export async function openPatroniApi(): Promise<PatroniApi> {
  const api = new PatroniApi();
  await api.listen();
  return api;
}

/** A member at a port of loopback, as Patroni names it. */
export function memberAt(
  name: string,
  port: number,
  fields: Partial<SampleMember> = {},
): SampleMember {
  const role = fields.role ?? 'replica';
  return {
    name,
    role,
    state: role === 'leader' ? 'running' : 'streaming',
    api_url: 'http://127.0.0.1:1/patroni',
    host: '127.0.0.1',
    port,
    ...fields,
  };
}
