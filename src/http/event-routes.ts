// GET /api/v1/events: everything, and then whatever changes, as server-sent events.
import type { FastifyReply, FastifyRequest } from 'fastify';
import { HTTP_EVENTS_INACTIVITY_MS, HTTP_EVENTS_PROBE_MS } from '../config/limits.ts';
import { clientNetwork } from '../pg/client-network.ts';
import type { EventHub } from './event-hub.ts';
import { sendProblem } from './problems.ts';
import { addressOf, refusal } from './route.ts';
import type { Route } from './route.ts';

/** What it is served with. */
export interface EventSources {
  readonly hub: EventHub;
  /** Whether a request that was let in to read would be let in now. */
  readonly maySeeMore: (request: FastifyRequest) => boolean;
}

/** Where the stream is. */
export const EVENTS_PATH: string = '/api/v1/events';

/** The media type of the stream; UTF-8 is the only charset that it knows. */
const EVENT_STREAM = 'text/event-stream; charset=utf-8';

/** The route. */
export function eventRoute({ hub, maySeeMore }: EventSources): Route {
  return {
    method: 'GET',
    path: EVENTS_PATH,
    operation: 'getEvents',
    summary:
      'Everything as one event (snapshot), then what changes, at most once a second (change), until walcast ends (end). ' +
      'Data is JSON: SnapshotEvent, ChangeEvent, EndEvent. A later snapshot replaces everything.',
    access: 'read',
    answers: {
      200: { description: 'Server-sent events.', type: 'text/event-stream' },
      503: refusal('Too many listen already.'),
    },
    handle: (request, reply) => {
      const stream = hub.open({
        network: clientNetwork(addressOf(request)),
        isAllowed: () => maySeeMore(request),
      });
      if (stream === null) return sendProblem(reply, 'busy', TOO_MANY);
      // Nothing moves on it for longer than on others; what was given has to be taken all the same.
      request.raw.socket.setTimeout(HTTP_EVENTS_INACTIVITY_MS);
      request.raw.socket.setKeepAlive(true, HTTP_EVENTS_PROBE_MS);
      return begin(reply).send(stream.readable);
    },
    handleHead: (_request, reply) => begin(reply).send(),
  };
}

const TOO_MANY = {
  detail: 'too many streams of events are open',
  hint: 'Ask again in a moment, or read GET /api/v1/status now and then.',
};

/** No proxy may keep events back, or gather them to compress them; and the connection ends with the stream. */
function begin(reply: FastifyReply): FastifyReply {
  return reply
    .type(EVENT_STREAM)
    .header('cache-control', 'no-store, no-transform')
    .header('x-accel-buffering', 'no')
    .header('connection', 'close');
}
