// GET /wal/{file}: a whole WAL segment or a history file, for restore_command. Sent as fast as it is taken, a piece in
// memory at a time, and not for ever.
import { Readable } from 'node:stream';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import type { Clock } from '../base/clock.ts';
import { WAL_DOWNLOAD_BYTES_PER_SECOND_MIN, WAL_DOWNLOAD_MS_MIN } from '../config/limits.ts';
import type { RelayActions } from '../status/actions.ts';
import type { HttpAudit } from './audit.ts';
import { refuse, walFileRefused } from './refusals.ts';
import { pathValue, refusal } from './route.ts';
import type { Route } from './route.ts';

/** What it is served with. */
export interface WalRouteSources {
  readonly actions: RelayActions;
  readonly clock: Clock;
  readonly audit: HttpAudit;
}

/** Bytes that are read ahead of the socket; a piece is larger, so it is one. */
const READ_AHEAD_BYTES = 1;

/** The route. */
export function walRoute(sources: WalRouteSources): Route {
  return {
    method: 'GET',
    path: '/wal/{file}',
    operation: 'getWalFile',
    summary: 'A whole WAL segment or a timeline history file, byte for byte, for restore_command.',
    access: 'wal',
    parameters: [
      {
        name: 'file',
        in: 'path',
        description: 'Name as in pg_wal: 24 hexadecimal digits, or 8 and ".history".',
        schema: Type.String(),
      },
      {
        name: 'if-none-match',
        in: 'header',
        description: 'An ETag that was sent before: 304 without the file.',
        schema: Type.String(),
      },
    ],
    answers: {
      200: { description: 'The file.', type: 'application/octet-stream' },
      304: { description: 'It is the one the client has.' },
      400: refusal('No name of a WAL file.'),
      404: refusal('Not stored here, or not any more, or not yet.'),
      409: refusal('The segment is still being received.'),
      500: refusal('What is stored is damaged.'),
      503: refusal('The store is not open or is empty, or too many files are being fetched.'),
    },
    handle: (request, reply) => give(sources, request, reply),
    handleHead: (request, reply) => give(sources, request, reply),
  };
}

async function give(
  { actions, clock, audit }: WalRouteSources,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const name = pathValue(request, 'file');
  const file = await actions.openWalFile(name);
  if ('kind' in file) return refuse(reply, walFileRefused(name, file));
  const { socket } = request.raw;
  if (socket.destroyed) {
    // Its client is gone by now, and nothing that ends with the answer would ever end.
    file.close();
    return reply.hijack();
  }
  reply.raw.once('close', () => file.close());
  const tag = `"${file.version}"`;
  void reply.header('etag', tag);
  if (isKnown(request.headers['if-none-match'], tag)) return reply.code(304).send();
  void reply.type('application/octet-stream').header('content-length', file.size);
  if (request.method === 'HEAD') return reply.send();
  audit.walFile(request, file.name);
  endInTime(clock, request, { reply, size: file.size });
  const pieces = Readable.from(file.chunks, {
    objectMode: false,
    highWaterMark: READ_AHEAD_BYTES,
  });
  return reply.send(pieces);
}

function endInTime(
  clock: Clock,
  request: FastifyRequest,
  { reply, size }: { readonly reply: FastifyReply; readonly size: number },
): void {
  const slowestMs = (size / WAL_DOWNLOAD_BYTES_PER_SECOND_MIN) * 1000;
  const { socket } = request.raw;
  const timer = clock.setTimer(WAL_DOWNLOAD_MS_MIN + slowestMs, () => socket.destroy());
  reply.raw.once('close', () => timer.cancel());
}

/** (RFC 9110 section 13.1.2; what stands behind a name never changes, so weak tags are as good) */
function isKnown(header: string | undefined, tag: string): boolean {
  if (header === undefined) return false;
  const tags = header.split(',').map((part) => part.trim().replace(/^W\//, ''));
  return tags.includes('*') || tags.includes(tag);
}
