// The routes: which path answers what.
import type { FastifyInstance, FastifyReply } from 'fastify';
import type { BuildInfo } from '../config/build-info.ts';
import { fromBaseUnit, parseNumberWithUnit } from '../config/units.ts';
import type { Metrics } from '../metrics/registry.ts';
import type { StatusSource } from '../status/status.ts';
import type { ProbeJson, VersionJson } from './api-types.ts';
import { liveness, readiness, startup } from './probes.ts';
import { SCHEMAS } from './schemas.ts';
import { standbysJson, statusJson } from './status-json.ts';

/** What the answers are made from. */
export interface RouteSources {
  readonly source: StatusSource;
  readonly metrics: Metrics;
  readonly build: BuildInfo;
}

/** Adds every route. All are read-only; HEAD is answered where GET is. */
export function addRoutes(server: FastifyInstance, sources: RouteSources): void {
  addProbes(server, sources.source);
  addApi(server, sources);
  server.get('/metrics', async (_request, reply) => {
    const { contentType, body } = await sources.metrics.render();
    return reply.header('content-type', contentType).send(body);
  });
}

function addProbes(server: FastifyInstance, source: StatusSource): void {
  const schema = { response: { 200: SCHEMAS.probe, 503: SCHEMAS.probe, 400: SCHEMAS.error } };
  server.get('/livez', { schema }, (_request, reply) => answer(reply, liveness(source.status())));
  server.get('/startupz', { schema }, (_request, reply) => answer(reply, startup(source.status())));
  server.get('/readyz', { schema }, (request, reply) => {
    const lag = lagOf(request.query);
    if ('problem' in lag) return reply.code(400).send({ error: `lag ${lag.problem}` });
    return answer(reply, readiness(source.status(), lag.bytesMax));
  });
}

function addApi(server: FastifyInstance, { source, build }: RouteSources): void {
  const version: VersionJson = {
    version: build.version,
    revision: build.revision,
    node_version: build.nodeVersion,
    postgresql_majors: build.postgresqlMajors,
  };
  const answering = (schema: keyof typeof SCHEMAS): { schema: { response: object } } => ({
    schema: { response: { 200: SCHEMAS[schema] } },
  });
  server.get('/api/v1/status', answering('status'), () => statusJson(source.status()));
  server.get('/api/v1/standbys', answering('standbys'), () => standbysJson(source.status()));
  server.get('/api/v1/version', answering('version'), () => version);
}

function answer(reply: FastifyReply, probe: ProbeJson): FastifyReply {
  return reply.code(probe.status === 'ok' ? 200 : 503).send(probe);
}

/** `?lag=64MB`; a bare number counts bytes. */
function lagOf(query: unknown): { bytesMax: number | null } | { problem: string } {
  if (typeof query !== 'object' || query === null || !('lag' in query)) return { bytesMax: null };
  const parsed = parseNumberWithUnit(String(query.lag), 'B');
  if ('problem' in parsed) return parsed;
  if (parsed.value < 0) return { problem: 'is negative' };
  return { bytesMax: fromBaseUnit(parsed.value, 'B') };
}
