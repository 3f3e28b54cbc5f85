// Who is let in, and who has to go for it? A port that strangers have filled must still answer whoever asks: a probe that is not
// answered has walcast restarted.
import { clientNetwork } from '../pg/client-network.ts';

/** What is used of a socket. */
export interface CountedSocket {
  readonly remoteAddress?: string | undefined;
  readonly remotePort?: number | undefined;
  once(event: 'close', listener: () => void): unknown;
  destroy(): unknown;
}

/** What tells one connection from another. */
type ClientEnd = Pick<CountedSocket, 'remoteAddress' | 'remotePort'>;

interface Place {
  readonly socket: CountedSocket;
  readonly network: string;
  /** The request on it has shown a token: it is not sent away for others. */
  isTrusted: boolean;
}

/** The connections of one port. */
export class ConnectionCaps {
  readonly #max: number;
  readonly #perClientMax: number;
  /** By address and port of the client; the one on which nothing was asked or answered for longest comes first. */
  readonly #places = new Map<string, Place>();

  /** `max`: connections in all; `perClientMax`: of one client network. */
  constructor(options: { readonly max: number; readonly perClientMax: number }) {
    this.#max = options.max;
    this.#perClientMax = options.perClientMax;
  }

  /**
   * To be told of each connection at once. Where there is no room for it, the one goes on which nothing was asked or answered
   * for longest, of its own network when that has its share, else of the one that has most. Being asked something protects
   * nobody, because a stranger can ask, and never take the answer or never send the body; having shown a token does, until that
   * request is over. When all have, the newcomer goes.
   */
  admit(socket: CountedSocket): void {
    const network = clientNetwork(socket.remoteAddress ?? '');
    if (!this.#makeRoom(network)) {
      socket.destroy();
      return;
    }
    const key = keyOf(socket);
    const place: Place = { socket, network, isTrusted: false };
    this.#places.set(key, place);
    socket.once('close', () => this.#remove(key, place));
  }

  /** A request has begun on that connection, also where `socket` is TLS on top of the one that came in; to call when it is over. */
  busy(socket: ClientEnd): () => void {
    const key = keyOf(socket);
    const place = this.#places.get(key);
    if (place === undefined) return () => {};
    this.#touch(key, place);
    return () => {
      place.isTrusted = false;
      this.#touch(key, place);
    };
  }

  /** The request on that connection has shown a token. */
  trust(socket: ClientEnd): void {
    const place = this.#places.get(keyOf(socket));
    if (place !== undefined) place.isTrusted = true;
  }

  /** Ends them all, those too that are in their handshake and that the server does not know as connections yet. */
  destroyAll(): void {
    for (const { socket } of this.#places.values()) socket.destroy();
  }

  #makeRoom(network: string): boolean {
    const counts = new Map<string, number>();
    for (const place of this.#places.values())
      counts.set(place.network, (counts.get(place.network) ?? 0) + 1);
    if ((counts.get(network) ?? 0) >= this.#perClientMax) {
      return this.#evict((place) => place.network === network);
    }
    if (this.#places.size < this.#max) return true;
    const strangers = [...this.#places.values()].filter(({ isTrusted }) => !isTrusted);
    const most = Math.max(0, ...strangers.map((place) => counts.get(place.network) ?? 0));
    return this.#evict((place) => counts.get(place.network) === most);
  }

  /** Ends the first that has shown no token and that `isOne` names; false when there is none. */
  #evict(isOne: (place: Place) => boolean): boolean {
    for (const [key, place] of this.#places) {
      if (place.isTrusted || !isOne(place)) continue;
      this.#places.delete(key);
      place.socket.destroy();
      return true;
    }
    return false;
  }

  /** From now on all others have been silent for longer. */
  #touch(key: string, place: Place): void {
    if (this.#remove(key, place)) this.#places.set(key, place);
  }

  #remove(key: string, place: Place): boolean {
    return this.#places.get(key) === place && this.#places.delete(key);
  }
}

function keyOf({ remoteAddress, remotePort }: ClientEnd): string {
  return `${remoteAddress ?? ''} ${remotePort ?? ''}`;
}
