// Which requests of a connection are answered? One at a time: a client that sends the next one before it has read the
// answer makes the server keep answers in memory, as many as fit into what it sends (RFC 9112 section 9.3.2 leaves it to
// the server to close instead; clients then ask again).
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

interface Running {
  readonly response: ServerResponse;
  /** Requests that came before the answer was out. */
  behind: number;
}

/** Tells the requests that are answered from those that came too early. */
export class OneAtATime {
  readonly #behindMax: number;
  readonly #running = new WeakMap<Socket, Running>();
  readonly #early = new WeakSet<IncomingMessage>();

  /** `behindMax`: requests of one connection that may wait behind a running one before the connection is destroyed. */
  constructor(behindMax: number) {
    this.#behindMax = behindMax;
  }

  /** To be told of each request, in the order of their arrival and before it is answered. */
  arrived(request: IncomingMessage, response: ServerResponse): void {
    const { socket } = request;
    const running = this.#running.get(socket);
    if (running === undefined) {
      this.#begin(socket, response);
      return;
    }
    this.#early.add(request);
    running.behind++;
    // Says `Connection: close`, unless the headers are out already.
    running.response.shouldKeepAlive = false;
    if (running.behind > this.#behindMax) socket.destroy();
  }

  /** True for a request that must not be answered: its connection ends with the answer before it. */
  isEarly(request: IncomingMessage): boolean {
    return this.#early.has(request);
  }

  #begin(socket: Socket, response: ServerResponse): void {
    const running: Running = { response, behind: 0 };
    this.#running.set(socket, running);
    response.once('finish', () => {
      if (running.behind === 0) this.#running.delete(socket);
      else socket.destroySoon();
    });
  }
}
