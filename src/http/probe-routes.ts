// The routes that ask whether all is well, and the metrics. Open to everybody who reaches the port.
import type { FastifyReply } from 'fastify';
import { Type } from 'typebox';
import { fromBaseUnit, parseNumberWithUnit } from '../config/units.ts';
import type { Metrics } from '../metrics/registry.ts';
import type { StatusSource } from '../status/status.ts';
import type { ProbeJson } from './api-types.ts';
import { liveness, readiness, startup } from './probes.ts';
import { sendProblem } from './problems.ts';
import { queryValues, refusal } from './route.ts';
import type { Answer, Route } from './route.ts';
import { SCHEMAS } from './schemas.ts';

const PROBE_ANSWERS: Readonly<Record<number, Answer>> = {
  200: { description: 'All is well.', schema: SCHEMAS.probe },
  503: { description: 'It is not; the reason is given.', schema: SCHEMAS.probe },
};

/** Livez, startupz, readyz. */
export function probeRoutes(source: StatusSource): Route[] {
  return [
    {
      method: 'GET',
      path: '/livez',
      operation: 'getLiveness',
      summary: 'Is the process alive? Never depends on the upstream.',
      access: 'open',
      answers: { 200: { description: 'It is.', schema: SCHEMAS.probe } },
      handle: (_request, reply) => answer(reply, liveness(source.status())),
    },
    {
      method: 'GET',
      path: '/startupz',
      operation: 'getStartup',
      summary: 'Is the store open?',
      access: 'open',
      answers: PROBE_ANSWERS,
      handle: (_request, reply) => answer(reply, startup(source.status())),
    },
    readyRoute(source),
  ];
}

function readyRoute(source: StatusSource): Route {
  return {
    method: 'GET',
    path: '/readyz',
    operation: 'getReadiness',
    summary: 'Is a standby that connects now served?',
    access: 'open',
    parameters: [
      {
        name: 'lag',
        in: 'query',
        description:
          'Ready only when no more WAL than this is missing from our own disk; a size such as 64MB, in bytes without a unit. ' +
          'What is missing is counted to the end of WAL that the upstream reported last, also while it is away.',
        schema: Type.String(),
      },
    ],
    answers: { ...PROBE_ANSWERS, 400: refusal('The bound on the lag is no size.') },
    handle: (request, reply) => {
      const lag = lagOf(queryValues(request, 'lag'));
      if ('problem' in lag) {
        const hint = 'Give a size such as 64MB; without a unit it counts bytes.';
        return sendProblem(reply, 'invalid-request', { detail: `lag ${lag.problem}`, hint });
      }
      return answer(reply, readiness(source.status(), lag.bytesMax));
    },
  };
}

/** The exposition, in the format the scraper asks for. */
export function metricsRoute(metrics: Metrics): Route {
  return {
    method: 'GET',
    path: '/metrics',
    operation: 'getMetrics',
    summary: 'Figures for Prometheus: text, or OpenMetrics where the Accept header asks for it.',
    access: 'open',
    answers: { 200: { description: 'The exposition.', type: 'text/plain' } },
    handle: async (request, reply) => {
      const { contentType, body } = await metrics.render(request.headers.accept);
      return reply.header('content-type', contentType).send(body);
    },
  };
}

function answer(reply: FastifyReply, probe: ProbeJson): FastifyReply {
  return reply.code(probe.status === 'ok' ? 200 : 503).send(probe);
}

/** `64MB`; a bare number counts bytes. A bound that is not understood must not be taken for none. */
function lagOf(values: readonly string[]): { bytesMax: number | null } | { problem: string } {
  const [text] = values;
  if (text === undefined) return { bytesMax: null };
  if (values.length > 1) return { problem: 'is given more than once' };
  const parsed = parseNumberWithUnit(text, 'B');
  if ('problem' in parsed) return parsed;
  if (parsed.value < 0) return { problem: 'is negative' };
  return { bytesMax: fromBaseUnit(parsed.value, 'B') };
}
