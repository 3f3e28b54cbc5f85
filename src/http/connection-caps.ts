// Who is let in, and who is there? One client must not hold all the connections that the port has for everybody.
import { clientNetwork } from '../pg/client-network.ts';

/** What is counted of a socket. */
export interface CountedSocket {
  readonly remoteAddress?: string | undefined;
  once(event: 'close', listener: () => void): unknown;
  destroy(): unknown;
}

/** Counts the connections of each client network. */
export class ConnectionCaps {
  readonly #max: number;
  readonly #open = new Map<string, number>();
  readonly #sockets = new Set<CountedSocket>();

  /** `max`: connections of one client network. */
  constructor(max: number) {
    this.#max = max;
  }

  /** To be told of each connection at once; destroys one that is too many. */
  admit(socket: CountedSocket): void {
    const network = clientNetwork(socket.remoteAddress ?? '');
    const open = this.#open.get(network) ?? 0;
    if (open >= this.#max) {
      socket.destroy();
      return;
    }
    this.#open.set(network, open + 1);
    this.#sockets.add(socket);
    socket.once('close', () => {
      this.#sockets.delete(socket);
      const left = (this.#open.get(network) ?? 1) - 1;
      if (left === 0) this.#open.delete(network);
      else this.#open.set(network, left);
    });
  }

  /** Ends them all, those too that are in their handshake and that the server does not know as connections yet. */
  destroyAll(): void {
    for (const socket of this.#sockets) socket.destroy();
  }
}
