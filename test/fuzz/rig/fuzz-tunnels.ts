// The other end of tunnels, which an input plays.
import { setImmediate as nextTurn } from 'node:timers/promises';
import { OperationalError } from '../../../src/base/errors.ts';
import type { TunnelConnection, TunnelEvents, TunnelOpener } from '../../../src/walsender/ports.ts';

class FuzzTunnel implements TunnelConnection {
  readonly events: TunnelEvents;
  isClosed = false;
  isPaused = false;

  constructor(events: TunnelEvents) {
    this.events = events;
  }

  write(): void {}

  pendingBytes(): number {
    return 0;
  }

  pause(): void {
    this.isPaused = true;
  }

  resume(): void {
    this.isPaused = false;
  }

  close(): void {
    this.isClosed = true;
  }
}

/** Tunnels of one client after the other. */
export class FuzzTunnels implements TunnelOpener {
  #open: FuzzTunnel[] = [];
  /** The upstream cannot be reached. */
  isBroken = false;

  async open(_applicationName: string, events: TunnelEvents): Promise<TunnelConnection> {
    await nextTurn();
    if (this.isBroken) throw new OperationalError('ECONNREFUSED', 'nobody listens there');
    const tunnel = new FuzzTunnel(events);
    this.#open.push(tunnel);
    return tunnel;
  }

  /** The upstream says these bytes in the newest tunnel. */
  say(bytes: Uint8Array): void {
    const tunnel = this.#open.at(-1);
    if (tunnel === undefined || tunnel.isClosed || tunnel.isPaused) return;
    const buffer = Buffer.from(bytes);
    tunnel.events.onBytes(buffer);
    buffer.fill(0xa5);
  }

  /** The upstream ends the newest tunnel. */
  end(reason: string | null): void {
    const tunnel = this.#open.at(-1);
    if (tunnel === undefined || tunnel.isClosed) return;
    tunnel.isClosed = true;
    tunnel.events.onClose(reason);
  }

  /** Tunnels that nobody closed; they are forgotten. */
  takeLeft(): number {
    const left = this.#open.filter(({ isClosed }) => !isClosed).length;
    this.#open = [];
    return left;
  }
}
