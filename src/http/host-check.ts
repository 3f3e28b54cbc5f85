// May a request with this Host header be answered? Guards a port on loopback against DNS rebinding: a page of another
// site whose name was made to resolve to 127.0.0.1 sends its own name.

/** True for a listen host that only this machine can reach. */
export function isLoopbackHost(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host);
}

/** True when the header names this machine's loopback; any port is accepted, because port forwarding changes it. */
export function isLoopbackHeader(header: string | undefined): boolean {
  // HTTP/1.0 has no Host header, and a browser never speaks it; Node.js refuses HTTP/1.1 without one.
  if (header === undefined) return true;
  const match = /^(?:\[([0-9A-Fa-f:]+)\]|([^:[\]]+))(?::\d{1,5})?$/.exec(header);
  const name = (match?.[1] ?? match?.[2] ?? '').toLowerCase();
  return isLoopbackHost(name) || name.endsWith('.localhost');
}
