// Where does a connection to a Service go? To one of its ready pods, chosen once; a pod that becomes unready keeps the connections
// that it has.
import { randomInt } from 'node:crypto';
import { connect, createServer } from 'node:net';
import type { Server, Socket } from 'node:net';
import { systemClock } from '../../src/base/clock.ts';

/**
 * Where a pod does not answer. The client's own kernel would try again and again, as long as `tcp_user_timeout` or its settings have
 * it: here its connection is open already, and is reset.
 */
const CONNECT_MS = 5_000;

/** A pod's address and port. */
export interface Endpoint {
  readonly host: string;
  readonly port: number;
}

/** One port of a Service. */
export class ServicePort implements AsyncDisposable {
  readonly #endpoints: () => readonly Endpoint[];
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  /** `endpoints`: the ready ones, asked for each connection. */
  constructor(endpoints: () => readonly Endpoint[]) {
    this.#endpoints = endpoints;
    this.#server = createServer({ allowHalfOpen: true, noDelay: true }, (client) =>
      this.#join(client),
    );
  }

  listen(host: string, port: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen({ host, port }, () => resolve());
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
    });
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  #join(client: Socket): void {
    const endpoints = this.#endpoints();
    const endpoint = endpoints[endpoints.length === 0 ? 0 : randomInt(endpoints.length)];
    if (endpoint === undefined) {
      client.on('error', () => {});
      // Nobody is there: as far from "connection refused" as a socket that is open already can be.
      client.resetAndDestroy();
      return;
    }
    const pod = connect({ ...endpoint, allowHalfOpen: true, noDelay: true });
    const timer = systemClock.setTimer(CONNECT_MS, () => pod.destroy(new Error('no answer')));
    pod.on('connect', () => timer.cancel());
    pod.on('close', () => timer.cancel());
    for (const [here, there] of [
      [client, pod],
      [pod, client],
    ] as const) {
      this.#sockets.add(here);
      here.pipe(there);
      here.on('error', () => there.resetAndDestroy());
      here.on('close', () => {
        this.#sockets.delete(here);
        if (!there.writableEnded) there.destroy();
      });
    }
  }
}
