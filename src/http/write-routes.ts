// The routes of the JSON API that change something. Each needs the token, and of each it is logged what came of it.
import type { FastifyReply } from 'fastify';
import { Type } from 'typebox';
import {
  noStandbyWith,
  RELOAD_MISTAKEN,
  RELOAD_WHILE_ENDING,
  RELOAD_WHILE_STARTING,
} from '../status/action-words.ts';
import type { ActionRefusal, RelayActions, ReloadReport } from '../status/actions.ts';
import type { ReloadJson } from './api-types.ts';
import type { ChangeLog } from './change-log.ts';
import type { Pictures } from './pictures.ts';
import { actionRefused, refuse } from './refusals.ts';
import type { Refusal } from './refusals.ts';
import { pathValue, refusal } from './route.ts';
import type { Answer, Parameter, Route } from './route.ts';
import { SCHEMAS } from './schemas.ts';
import { deadWalJson, slotsJson } from './status-json.ts';

/** What they act on. */
export interface WriteSources {
  readonly pictures: Pictures;
  readonly actions: RelayActions;
  readonly changes: ChangeLog;
}

const STARTING: Answer = refusal('The store is not open yet.');

const TOO_LATE: Refusal = notNow(RELOAD_WHILE_ENDING);

const TOO_EARLY: Refusal = notNow(RELOAD_WHILE_STARTING);

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

function reloadRoute({ actions, pictures, changes }: WriteSources): Route {
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
      const change = { action: 'reload' };
      const isDraining = (): boolean => pictures.fresh().status.isDraining;
      if (isDraining()) {
        changes.tell(request, change, TOO_LATE);
        return refuse(reply, TOO_LATE);
      }
      const { result, refusal: refused } = await changes.follow(request, change, {
        done: actions.reload(),
        refusalOf: (report) => reloadRefused(report, isDraining),
      });
      if (refused !== null) return refuse(reply, refused);
      const done: ReloadJson = { changed: result.changed, pending_restart: result.pendingRestart };
      return done;
    },
  };
}

/** What was begun in time may have come too late all the same. */
function reloadRefused(
  { problems, isNotNow = false }: ReloadReport,
  isDraining: () => boolean,
): Refusal | null {
  if (problems.length === 0) return null;
  if (isDraining()) return TOO_LATE;
  if (isNotNow) return TOO_EARLY;
  const { message: detail, hint } = RELOAD_MISTAKEN;
  return { code: 'configuration-refused', facts: { detail, hint, problems } };
}

function drainRoute({ actions, pictures, changes }: WriteSources): Route {
  return {
    method: 'POST',
    path: '/api/v1/drain',
    operation: 'drain',
    summary: 'Serves every standby to the end and stops, as SIGTERM does.',
    access: 'write',
    answers: { 202: { description: 'It has begun.', schema: SCHEMAS.drain } },
    handle: (request, reply) => {
      changes.tell(request, { action: 'drain' }, null);
      // The answer is on its way before the ports begin to close; a client that is gone by then asked all the same.
      reply.raw.once('close', () => {
        actions.drain();
        pictures.forget();
      });
      return reply.code(202).send({ state: 'draining' });
    },
  };
}

function pauseRoute({ actions, changes }: WriteSources, isToPause: boolean): Route {
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
      actions[name]();
      changes.tell(request, { action: name }, null);
      return { paused: isToPause };
    },
  };
}

function createSlotRoute({ actions, pictures, changes }: WriteSources): Route {
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
      const { refusal: refused } = await changes.follow(
        request,
        { action: 'create slot', subject: { slot: name } },
        { done: actions.createSlot(name, { reserveWal }), refusalOf },
      );
      if (refused !== null) return refuse(reply, refused);
      const slot = slotsJson(pictures.fresh().status).find(({ slot_name }) => slot_name === name);
      return reply.code(201).header('location', `/api/v1/slots/${name}`).send(slot);
    },
  };
}

function dropSlotRoute({ actions, changes }: WriteSources): Route {
  return {
    method: 'DELETE',
    path: '/api/v1/slots/{name}',
    operation: 'dropSlot',
    summary: 'Drops a replication slot that nobody uses. The WAL it kept may go.',
    access: 'write',
    parameters: [inPath('name', 'Name of the slot.')],
    answers: {
      204: { description: 'Dropped.' },
      404: refusal('There is no such slot.'),
      409: refusal('A standby uses it.'),
      500: refusal('The disk failed.'),
      503: STARTING,
    },
    handle: async (request, reply) => {
      const name = pathValue(request, 'name');
      const { refusal: refused } = await changes.follow(
        request,
        { action: 'drop slot', subject: { slot: name } },
        { done: actions.dropSlot(name), refusalOf },
      );
      return done(reply, refused);
    },
  };
}

function disconnectRoute({ actions, changes }: WriteSources): Route {
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
      const pid = pathValue(request, 'pid');
      const refused = disconnect(actions, pid);
      changes.tell(request, { action: 'disconnect standby', subject: { pid } }, refused);
      return done(reply, refused);
    },
  };
}

function disconnect(actions: RelayActions, text: string): Refusal | null {
  if (!/^[0-9]{1,10}$/.test(text)) {
    const hint = 'GET /api/v1/standbys shows the pid of each.';
    return { code: 'invalid-name', facts: { detail: 'this is no pid', hint } };
  }
  if (actions.disconnectStandby(Number(text))) return null;
  const hint = 'GET /api/v1/standbys shows those that are connected.';
  return { code: 'no-such-object', facts: { detail: noStandbyWith(text), hint } };
}

function releaseRoute({ actions, changes }: WriteSources): Route {
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
      const { result } = await changes.follow(
        request,
        { action: 'release dead WAL' },
        {
          done: actions.releaseDeadWal(),
          refusalOf: (gone) => refusalOf('sqlstate' in gone ? gone : null),
        },
      );
      if ('sqlstate' in result) return refuse(reply, actionRefused(result));
      return deadWalJson(result);
    },
  };
}

function done(reply: FastifyReply, refused: Refusal | null): FastifyReply {
  return refused === null ? reply.code(204).send() : refuse(reply, refused);
}

function refusalOf(refused: ActionRefusal | null): Refusal | null {
  return refused === null ? null : actionRefused(refused);
}

/** Refused for the state walcast is in. */
function notNow({ message: detail, hint }: { message: string; hint: string }): Refusal {
  return { code: 'not-now', facts: { detail, hint } };
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
