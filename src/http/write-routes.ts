// The routes of the JSON API that change something. Each needs the token, and each is logged.
import type { FastifyReply, FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import type { Log } from '../base/log.ts';
import {
  noStandbyWith,
  RELOAD_MISTAKEN,
  RELOAD_WHILE_ENDING,
  RELOAD_WHILE_STARTING,
} from '../status/action-words.ts';
import type { ActionRefusal, RelayActions } from '../status/actions.ts';
import type { ReloadJson } from './api-types.ts';
import type { Pictures } from './pictures.ts';
import { sendProblem } from './problems.ts';
import type { ProblemFacts } from './problems.ts';
import { actionRefused, refuse } from './refusals.ts';
import { addressOf, pathValue, refusal } from './route.ts';
import type { Answer, Parameter, Route } from './route.ts';
import { SCHEMAS } from './schemas.ts';
import { deadWalJson, slotsJson } from './status-json.ts';

/** What they act on. */
export interface WriteSources {
  readonly pictures: Pictures;
  readonly actions: RelayActions;
  readonly log: Log;
}

const STARTING: Answer = refusal('The store is not open yet.');

const ENDING: ProblemFacts = {
  detail: RELOAD_WHILE_ENDING.message,
  hint: RELOAD_WHILE_ENDING.hint,
};

const TOO_EARLY: ProblemFacts = {
  detail: RELOAD_WHILE_STARTING.message,
  hint: RELOAD_WHILE_STARTING.hint,
};

/** Everything under /api/v1 that changes something. */
export function writeRoutes(sources: WriteSources): Route[] {
  return [
    reloadRoute(sources),
    drainRoute(sources),
    pauseRoute(sources, true),
    pauseRoute(sources, false),
    createSlotRoute(sources),
    dropSlotRoute(sources),
    disconnectRoute(sources),
    releaseRoute(sources),
  ];
}

function reloadRoute({ actions, pictures, log }: WriteSources): Route {
  return {
    method: 'POST',
    path: '/api/v1/reload',
    operation: 'reload',
    summary: 'Reads the configuration again, as SIGHUP does.',
    access: 'write',
    answers: {
      200: { description: 'Read, and applied where it can be.', schema: SCHEMAS.reload },
      409: refusal('Nothing is changed now, because walcast is starting or ending.'),
      422: refusal('The configuration has mistakes; nothing was changed.'),
    },
    handle: async (request, reply) => {
      logAction(log, request, 'reload');
      if (pictures.fresh().status.isDraining) return sendProblem(reply, 'not-now', ENDING);
      const { problems, changed, pendingRestart, isNotNow = false } = await actions.reload();
      const done: ReloadJson = { changed, pending_restart: pendingRestart };
      if (problems.length === 0) return done;
      // What was begun in time may have come too late all the same.
      if (pictures.fresh().status.isDraining) return sendProblem(reply, 'not-now', ENDING);
      if (isNotNow) return sendProblem(reply, 'not-now', TOO_EARLY);
      return sendProblem(reply, 'configuration-refused', {
        detail: RELOAD_MISTAKEN.message,
        hint: RELOAD_MISTAKEN.hint,
        problems,
      });
    },
  };
}

function drainRoute({ actions, pictures, log }: WriteSources): Route {
  return {
    method: 'POST',
    path: '/api/v1/drain',
    operation: 'drain',
    summary: 'Serves every standby to the end and stops, as SIGTERM does.',
    access: 'write',
    answers: { 202: { description: 'It has begun.', schema: SCHEMAS.drain } },
    handle: (request, reply) => {
      logAction(log, request, 'drain');
      // The answer is on its way before the ports begin to close; a client that is gone by then asked all the same.
      reply.raw.once('close', () => {
        actions.drain();
        pictures.forget();
      });
      return reply.code(202).send({ state: 'draining' });
    },
  };
}

function pauseRoute({ actions, log }: WriteSources, isToPause: boolean): Route {
  const name = isToPause ? 'pause' : 'resume';
  return {
    method: 'POST',
    path: `/api/v1/${name}`,
    operation: name,
    summary: isToPause
      ? 'Refuses new START_REPLICATIONs until it is resumed. Streams that run go on.'
      : 'Ends a pause; standbys come in by themselves.',
    access: 'write',
    answers: {
      200: {
        description: isToPause ? 'It is paused.' : 'It is not paused.',
        schema: SCHEMAS.pause,
      },
    },
    handle: (request) => {
      logAction(log, request, name);
      actions[name]();
      return { paused: isToPause };
    },
  };
}

function createSlotRoute({ actions, pictures, log }: WriteSources): Route {
  return {
    method: 'POST',
    path: '/api/v1/slots',
    operation: 'createSlot',
    summary: 'Creates a physical replication slot.',
    access: 'write',
    body: SCHEMAS.slotRequest,
    answers: {
      201: { description: 'Created, and on the disk.', schema: SCHEMAS.slot },
      400: refusal('No name that PostgreSQL takes, or no such body.'),
      409: refusal('There is one of that name, or all slots are in use, or no WAL yet.'),
      500: refusal('The disk failed.'),
      503: STARTING,
    },
    handle: async (request, reply) => {
      const { name, reserveWal } = slotRequestOf(request.body);
      logAction(log, request, 'create slot', { slot: name });
      const refused = await actions.createSlot(name, { reserveWal });
      if (refused !== null) return refuse(reply, actionRefused(refused));
      const slot = slotsJson(pictures.fresh().status).find(({ slot_name }) => slot_name === name);
      return reply.code(201).header('location', `/api/v1/slots/${name}`).send(slot);
    },
  };
}

function dropSlotRoute({ actions, log }: WriteSources): Route {
  return {
    method: 'DELETE',
    path: '/api/v1/slots/{name}',
    operation: 'dropSlot',
    summary: 'Drops a replication slot that nobody uses. The WAL it kept may go.',
    access: 'write',
    parameters: [inPath('name', 'Name of the slot.')],
    answers: {
      204: { description: 'Dropped.' },
      400: refusal('No name that PostgreSQL takes.'),
      404: refusal('There is no such slot.'),
      409: refusal('A standby uses it.'),
      500: refusal('The disk failed.'),
      503: STARTING,
    },
    handle: async (request, reply) => {
      const name = pathValue(request, 'name');
      logAction(log, request, 'drop slot', { slot: name });
      return done(reply, await actions.dropSlot(name));
    },
  };
}

function disconnectRoute({ actions, log }: WriteSources): Route {
  return {
    method: 'DELETE',
    path: '/api/v1/standbys/{pid}',
    operation: 'disconnectStandby',
    summary: "Ends a standby's session, as pg_terminate_backend does. It may connect again.",
    access: 'write',
    parameters: [inPath('pid', 'Its pid, as GET /api/v1/standbys shows it.')],
    answers: {
      204: { description: 'Ended.' },
      400: refusal('No pid.'),
      404: refusal('There is no session of that pid.'),
    },
    handle: (request, reply) => {
      const text = pathValue(request, 'pid');
      if (!/^[0-9]{1,10}$/.test(text)) {
        const hint = 'GET /api/v1/standbys shows the pid of each.';
        return sendProblem(reply, 'invalid-name', { detail: 'this is no pid', hint });
      }
      logAction(log, request, 'disconnect standby', { pid: Number(text) });
      if (actions.disconnectStandby(Number(text))) return done(reply, null);
      const hint = 'GET /api/v1/standbys shows those that are connected.';
      return sendProblem(reply, 'no-such-object', { detail: noStandbyWith(text), hint });
    },
  };
}

function releaseRoute({ actions, log }: WriteSources): Route {
  return {
    method: 'POST',
    path: '/api/v1/store/release',
    operation: 'releaseDeadWal',
    summary: 'Lets go of WAL that lies behind the switch point of a timeline that was left.',
    access: 'write',
    answers: {
      200: {
        description: 'What was let go of; nothing, when there was none.',
        schema: SCHEMAS.deadWal,
      },
      500: refusal('The disk failed.'),
      503: STARTING,
    },
    handle: async (request, reply) => {
      logAction(log, request, 'release dead WAL');
      const gone = await actions.releaseDeadWal();
      if ('sqlstate' in gone) return refuse(reply, actionRefused(gone));
      return deadWalJson(gone);
    },
  };
}

function done(reply: FastifyReply, refused: ActionRefusal | null): FastifyReply {
  return refused === null ? reply.code(204).send() : refuse(reply, actionRefused(refused));
}

function inPath(name: string, description: string): Parameter {
  return { name, in: 'path', description, schema: Type.String() };
}

/** The schema was checked before; what is read here has the form it says. */
function slotRequestOf(body: unknown): { name: string; reserveWal: boolean } {
  const isObject = typeof body === 'object' && body !== null;
  const name = isObject && 'name' in body ? body.name : '';
  const reserve = isObject && 'reserve_wal' in body ? body.reserve_wal : false;
  return { name: String(name), reserveWal: reserve === true };
}

/** Names from a client are shortened: a line must not grow with what is sent. */
function logAction(
  log: Log,
  request: FastifyRequest,
  action: string,
  fields: Readonly<Record<string, string | number>> = {},
): void {
  const shown = Object.entries(fields).map(([key, value]) => [key, String(value).slice(0, 63)]);
  log.info(`HTTP request: ${action}`, {
    ...Object.fromEntries(shown),
    client_addr: addressOf(request),
  });
}
