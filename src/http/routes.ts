// The routes: which path answers what, and how fastify is told.
import type { FastifyInstance, FastifyReply, FastifyRequest, RouteOptions } from 'fastify';
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import { readBuildInfo } from '../config/build-info.ts';
import type { Metrics } from '../metrics/registry.ts';
import type { RelayActions } from '../status/actions.ts';
import type { HttpAudit } from './audit.ts';
import { ChangeLog } from './change-log.ts';
import { eventRoute } from './event-routes.ts';
import type { EventSources } from './event-routes.ts';
import { openApiDocument } from './openapi.ts';
import { logRoutes } from './log-routes.ts';
import { pageRoute } from './page-route.ts';
import type { StatusPage } from './page-route.ts';
import type { Pictures } from './pictures.ts';
import { metricsRoute, probeRoutes } from './probe-routes.ts';
import { readRoutes } from './read-routes.ts';
import { answersOf } from './route.ts';
import type { Access, Route } from './route.ts';
import { walRoute } from './wal-route.ts';
import { writeRoutes } from './write-routes.ts';

/** What the answers are made from. */
export interface RouteSources {
  readonly pictures: Pictures;
  readonly events: EventSources;
  readonly metrics: Metrics;
  readonly actions: RelayActions;
  readonly clock: Clock;
  readonly log: Log;
  readonly audit: HttpAudit;
  readonly page: StatusPage | null;
}

/** Sends the answer to a request that may not go on. */
export type CheckAccess = (
  access: Access,
  request: FastifyRequest,
  reply: FastifyReply,
) => Promise<void>;

/** Every route, `/openapi.json` included. */
export function allRoutes(sources: RouteSources): Route[] {
  const changes = new ChangeLog(sources.log);
  const routes = [
    ...probeRoutes(sources.pictures),
    metricsRoute(sources.metrics),
    ...readRoutes({ ...sources, build: readBuildInfo() }),
    eventRoute(sources.events),
    ...writeRoutes({ ...sources, changes }),
    ...logRoutes({ ...sources, changes }),
    walRoute(sources),
    pageRoute(sources.page),
  ];
  let document: unknown = null;
  routes.push({
    method: 'GET',
    path: '/openapi.json',
    operation: 'getOpenApi',
    summary: 'This document.',
    access: 'open',
    answers: { 200: { description: 'The document.', type: 'application/json' } },
    handle: () => (document ??= openApiDocument(routes)),
  });
  return routes;
}

/** Tells fastify. */
export function addRoutes(
  server: FastifyInstance,
  routes: readonly Route[],
  check: CheckAccess,
): void {
  for (const route of routes) {
    const options = optionsOf(route, check);
    if (route.hasOptions === true) server.route({ ...options, method: 'OPTIONS' });
    if (route.handleHead === undefined) {
      server.route(options);
      continue;
    }
    server.route({ ...options, exposeHeadRoute: false });
    server.route({ ...options, method: 'HEAD', handler: route.handleHead });
  }
}

function optionsOf(route: Route, check: CheckAccess): RouteOptions {
  const response: Record<string, unknown> = {};
  for (const [code, { schema, isWritten }] of Object.entries(answersOf(route))) {
    if (schema !== undefined && isWritten !== true) response[code] = schema;
  }
  return {
    method: route.method,
    url: route.path.replaceAll(/\{([a-z]+)\}/g, ':$1'),
    schema: { response, ...(route.body === undefined ? {} : { body: route.body }) },
    onRequest: (request, reply) => check(route.access, request, reply),
    handler: route.handle,
  };
}
