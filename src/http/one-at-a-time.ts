// Which requests of a connection are answered? One at a time: a client that sends the next one before it has read the
// answer makes the server keep answers in memory, as many as fit into what it sends (RFC 9112 section 9.3.2 leaves it to
// the server to close instead; clients then ask again).
import type { FastifyReply, FastifyRequest } from 'fastify';

type RawRequest = FastifyRequest['raw'];
type RawResponse = FastifyReply['raw'];
type Socket = RawRequest['socket'];

interface Running {
  readonly request: RawRequest;
  readonly response: RawResponse;
  /** Requests that came before the answer was out. */
  behind: number;
}

/** Tells the requests that are answered from those that came too early. */
export class OneAtATime {
  readonly #behindMax: number;
  readonly #running = new WeakMap<Socket, Running>();
  readonly #early = new WeakSet<RawRequest>();

  /** `behindMax`: requests of one connection that may wait behind a running one before the connection is destroyed. */
  constructor(behindMax: number) {
    this.#behindMax = behindMax;
  }

  /** To be told of each request, in the order of their arrival and before it is answered. */
  arrived(request: RawRequest, response: RawResponse): void {
    const { socket } = request;
    const running = this.#running.get(socket);
    if (running === undefined) {
      this.#begin(request, response);
      return;
    }
    this.#early.add(request);
    running.behind++;
    // Says `Connection: close`, unless the headers are out already.
    running.response.shouldKeepAlive = false;
    if (running.behind > this.#behindMax) socket.destroy();
  }

  /** True while an answer is on its way on that connection: to a request that came whole, or one that has begun. */
  isAnswering(socket: Socket): boolean {
    const running = this.#running.get(socket);
    return running !== undefined && (running.request.complete || running.response.headersSent);
  }

  /** True for a request that must not be answered: its connection ends with the answer before it. */
  isEarly(request: RawRequest): boolean {
    return this.#early.has(request);
  }

  #begin(request: RawRequest, response: RawResponse): void {
    const { socket } = request;
    const running: Running = { request, response, behind: 0 };
    this.#running.set(socket, running);
    response.once('finish', () => {
      if (running.behind === 0) this.#running.delete(socket);
      else socket.destroySoon();
    });
  }
}
