// How an address to listen on is written: HOST:PORT, [IPv6]:PORT, *:PORT, or /directory[:PORT] for a Unix socket.
import type { TcpAddress, UnixAddress } from './config.ts';

/** PostgreSQL's own port, used to name a Unix socket whose port is not given. */
const DEFAULT_PORT = 5432;

/** sizeof(sockaddr_un.sun_path) - 1 on Linux; the shortest of the platforms we know takes 103. */
const UNIX_PATH_BYTES_MAX = 107;

/** An address, or why the text is none. */
export type ParsedAddress<A> = { readonly address: A } | { readonly problem: string };

/** Reads an address to listen on. Host names are not resolved here. */
export function parseListenAddress(text: string): ParsedAddress<TcpAddress | UnixAddress> {
  return text.startsWith('/') ? parseUnixAddress(text) : parseTcpAddress(text);
}

/** Reads `HOST:PORT`. */
export function parseTcpAddress(text: string): ParsedAddress<TcpAddress> {
  const match = /^(?:\[([0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|([^[\]\s:/]+)):(\d{1,5})$/.exec(text);
  if (match === null) {
    const isBareIpv6 = /^[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:\d+$/.test(text);
    const advice = isBareIpv6
      ? 'put an IPv6 address in brackets, such as [::1]:5432'
      : 'write HOST:PORT, such as 127.0.0.1:5432';
    return { problem: `"${text}" is no address: ${advice}` };
  }
  const port = Number(match[3]);
  if (port > 65535) return { problem: `"${text}" is no address: a port is at most 65535` };
  return { address: { kind: 'tcp', host: match[1] ?? match[2] ?? '', port } };
}

/** `HOST:PORT` again, with brackets where they are needed. */
export function formatTcpAddress(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

function parseUnixAddress(text: string): ParsedAddress<UnixAddress> {
  const match = /^(\/.*?)\/*(?::(\d{1,5}))?$/.exec(text);
  const directory = match?.[1] ?? text;
  const port = match?.[2] === undefined ? DEFAULT_PORT : Number(match[2]);
  if (port < 1 || port > 65535) {
    return { problem: `"${text}" is no address: the port in a socket's name is 1 to 65535` };
  }
  const path = `${directory === '/' ? '' : directory}/.s.PGSQL.${port}`;
  if (Buffer.byteLength(path) > UNIX_PATH_BYTES_MAX) {
    return {
      problem: `Unix-domain socket path "${path}" is too long (maximum ${UNIX_PATH_BYTES_MAX} bytes)`,
    };
  }
  return { address: { kind: 'unix', directory, port, path } };
}
