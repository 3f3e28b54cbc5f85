// Which address does a name of the cluster have at this moment? The part of a cluster's DNS that pods and standbys ask: A records.
// (RFC 1035 section 4.1)
import { createSocket } from 'node:dgram';
import type { Socket } from 'node:dgram';

/** Addresses of a name in lower case without the last dot; null where there is no such name. */
export type NameTable = (name: string) => readonly string[] | null;

const PORT = 53;
const HEADER_BYTES = 12;
const TYPE_A = 1;
/** So long may others remember an answer. (CoreDNS: kubernetes) */
const TTL_S = 5;
const NO_SUCH_NAME = 3;
const ANSWERS_MAX = 20;

/** Text of a pod's `/etc/resolv.conf`. (pkg/kubelet/network/dns/dns.go) */
export function resolvConf(server: string, namespace: string): string {
  const search = [`${namespace}.svc`, 'svc', ''].map((part) =>
    [part, 'cluster.local'].filter((text) => text !== '').join('.'),
  );
  return `nameserver ${server}\nsearch ${search.join(' ')}\noptions ndots:5\n`;
}

/** Answers questions at `address` until it is closed. */
export function openDns(address: string, names: NameTable): Promise<AsyncDisposable> {
  const socket = createSocket('udp4');
  socket.on('message', (query, from) => {
    const answer = answerTo(query, names);
    if (answer !== null) socket.send(answer, from.port, from.address);
  });
  return new Promise((resolve, reject) => {
    socket.once('error', reject);
    socket.bind(PORT, address, () => resolve({ [Symbol.asyncDispose]: () => closed(socket) }));
  });
}

/** The answer to `query`; null to what is no question. */
export function answerTo(query: Buffer, names: NameTable): Buffer | null {
  if (query.length < HEADER_BYTES || query.readUInt16BE(4) !== 1) return null;
  const labels: string[] = [];
  let at = HEADER_BYTES;
  for (;;) {
    const length = query[at] ?? 64;
    if (length > 63) return null;
    at += 1 + length;
    if (length === 0) break;
    labels.push(query.toString('latin1', at - length, at));
  }
  if (query.length < at + 4) return null;
  const type = query.readUInt16BE(at);
  const addresses = names(labels.join('.').toLowerCase());
  const records = type === TYPE_A ? (addresses ?? []).slice(0, ANSWERS_MAX).map(record) : [];
  const header = Buffer.from(query.subarray(0, HEADER_BYTES));
  // A response of the one who knows, to a question that wished for recursion, which is there.
  header.writeUInt16BE(0x8580 | (addresses === null ? NO_SUCH_NAME : 0), 2);
  header.writeUInt16BE(records.length, 6);
  header.writeUInt32BE(0, 8);
  return Buffer.concat([header, query.subarray(HEADER_BYTES, at + 4), ...records]);
}

function record(address: string): Buffer {
  const bytes = Buffer.alloc(16);
  // The name of the question.
  bytes.writeUInt16BE(0xc000 | HEADER_BYTES, 0);
  bytes.writeUInt16BE(TYPE_A, 2);
  bytes.writeUInt16BE(1, 4);
  bytes.writeUInt32BE(TTL_S, 6);
  bytes.writeUInt16BE(4, 10);
  bytes.set(address.split('.').map(Number), 12);
  return bytes;
}

function closed(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    socket.close(() => resolve());
  });
}
