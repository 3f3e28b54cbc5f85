// The routes of the JSON API that show something.
import type { FastifyReply } from 'fastify';
import type { BuildInfo } from '../config/build-info.ts';
import type { RelayActions } from '../status/actions.ts';
import type { VersionJson } from './api-types.ts';
import type { PicturePart, Pictures } from './pictures.ts';
import type { Answer, Route } from './route.ts';
import { SCHEMAS } from './schemas.ts';
import { configJson } from './status-json.ts';

/** What they show. */
export interface ReadSources {
  readonly pictures: Pictures;
  readonly actions: RelayActions;
  readonly build: BuildInfo;
}

/** Everything under /api/v1 that changes nothing. */
export function readRoutes({ pictures, actions, build }: ReadSources): Route[] {
  const version: VersionJson = {
    version: build.version,
    revision: build.revision,
    node_version: build.nodeVersion,
    postgresql_majors: build.postgresqlMajors,
  };
  const part = (
    name: PicturePart,
  ): Pick<Route, 'handle'> & { readonly answer: Partial<Answer> } => ({
    handle: async (_request, reply) => sendJson(reply, await pictures.answer(name)),
    answer: { isWritten: true },
  });
  return [
    showing('status', 'status', {
      summary: 'State of the whole relay.',
      ...part('status'),
    }),
    showing('upstream', 'upstreamDetail', {
      summary: 'The session to the upstream server.',
      ...part('upstream'),
    }),
    showing('standbys', 'standbys', {
      summary: 'Connected standbys, as in pg_stat_replication.',
      ...part('standbys'),
    }),
    showing('slots', 'slots', {
      summary: 'Replication slots kept here, as in pg_replication_slots.',
      ...part('slots'),
    }),
    showing('store', 'storeDetail', {
      summary: 'The WAL that is stored.',
      ...part('store'),
    }),
    showing('sync', 'sync', {
      summary: 'Which standbys have to confirm before walcast does, and whether they can.',
      ...part('sync'),
    }),
    showing('version', 'version', {
      summary: 'Which walcast this is, and the PostgreSQL majors it speaks.',
      handle: () => version,
    }),
    showing('config', 'configuration', {
      summary: 'Every key of the configuration in effect, and where it came from.',
      handle: () => configJson(actions.configuration()),
    }),
  ];
}

function sendJson(reply: FastifyReply, json: Buffer): FastifyReply {
  return reply.type('application/json; charset=utf-8').send(json);
}

function showing(
  name: string,
  schema: keyof typeof SCHEMAS,
  route: {
    readonly summary: string;
    readonly handle: Route['handle'];
    readonly answer?: Partial<Answer>;
  },
): Route {
  return {
    method: 'GET',
    path: `/api/v1/${name}`,
    operation: `get${name.charAt(0).toUpperCase()}${name.slice(1)}`,
    summary: route.summary,
    access: 'read',
    answers: { 200: { description: 'As it is now.', schema: SCHEMAS[schema], ...route.answer } },
    handle: route.handle,
  };
}
