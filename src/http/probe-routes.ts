// The routes that ask whether all is well, and the metrics. Open to everybody who reaches the port.
import type { FastifyReply, FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import { fromBaseUnit, parseNumberWithUnit } from '../config/units.ts';
import type { Metrics } from '../metrics/registry.ts';
import type { StatusSource } from '../status/status.ts';
import type { ProbeJson } from './api-types.ts';
import { liveness, readiness, startup } from './probes.ts';
import { sendProblem } from './problems.ts';
import type { ProblemFacts } from './problems.ts';
import { queryNames, queryValues, refusal } from './route.ts';
import type { Answer, Route } from './route.ts';
import { text } from './schema-words.ts';
import { SCHEMAS } from './schemas.ts';
import { checkStandbys } from './standby-check.ts';
import type { StandbyWish } from './standby-check.ts';

const PROBE_ANSWERS: Readonly<Record<number, Answer>> = {
  200: { description: 'All is well.', schema: SCHEMAS.probe },
  503: { description: 'It is not; the reason is given.', schema: SCHEMAS.probe },
};

/** Livez, startupz, readyz, and the check of standbys for load balancers. */
export function probeRoutes(source: StatusSource): Route[] {
  return [
    {
      method: 'GET',
      path: '/livez',
      operation: 'getLiveness',
      summary: 'Is the process alive? Never depends on the upstream.',
      access: 'open',
      hasOptions: true,
      answers: { 200: { description: 'It is.', schema: SCHEMAS.probe } },
      handle: (_request, reply) => answer(reply, liveness(source.status())),
    },
    {
      method: 'GET',
      path: '/startupz',
      operation: 'getStartup',
      summary: 'Is the store open?',
      access: 'open',
      hasOptions: true,
      answers: PROBE_ANSWERS,
      handle: (_request, reply) => answer(reply, startup(source.status())),
    },
    readyRoute(source),
    standbysRoute(source),
  ];
}

function readyRoute(source: StatusSource): Route {
  return {
    method: 'GET',
    path: '/readyz',
    operation: 'getReadiness',
    summary: 'Is a standby that connects now served?',
    access: 'open',
    hasOptions: true,
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
      if ('problem' in lag) return sendProblem(reply, 'invalid-request', lag.problem);
      return answer(reply, readiness(source.status(), lag.bytesMax));
    },
  };
}

function standbysRoute(source: StatusSource): Route {
  return {
    method: 'GET',
    path: '/standbys',
    operation: 'checkStandbys',
    summary: 'Do enough standbys stream, near enough to the end of the WAL? For load balancers.',
    access: 'open',
    hasOptions: true,
    parameters: [
      {
        name: 'lag',
        in: 'query',
        description:
          'A standby qualifies only when it lacks no more WAL than this, replayed; a size such as 16MB, in bytes without a unit. ' +
          'Counted to the end of the WAL that is known to exist, also while the upstream is away.',
        schema: text('A size.'),
      },
      {
        name: 'name',
        in: 'query',
        description: 'Count those of this application_name only.',
        schema: text('An application_name.'),
      },
      {
        name: 'min',
        in: 'query',
        description: 'So many have to qualify; 1 unless given.',
        schema: text('A whole number from 1 on.'),
      },
    ],
    answers: {
      200: { description: 'Enough qualify.', schema: SCHEMAS.standbyCheck },
      400: refusal('A parameter is not known, or is not what it has to be.'),
      503: { description: 'Too few do; the reason is given.', schema: SCHEMAS.standbyCheck },
    },
    handle: (request, reply) => {
      const wish = standbyWishOf(request);
      if ('problem' in wish) return sendProblem(reply, 'invalid-request', wish.problem);
      return answer(reply, checkStandbys(source.status(), wish));
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
    answers: {
      200: {
        description: 'The exposition.',
        type: 'text/plain',
        otherTypes: ['application/openmetrics-text'],
      },
    },
    handle: async (request, reply) => {
      const { contentType, body } = await metrics.render(request.headers.accept);
      return reply.header('content-type', contentType).send(body);
    },
  };
}

function answer(reply: FastifyReply, probe: ProbeJson): FastifyReply {
  return reply.code(probe.status === 'ok' ? 200 : 503).send(probe);
}

/** What is wrong with a request, for {@link sendProblem}. */
interface Wrong {
  readonly problem: ProblemFacts;
}

/** `64MB`; a bare number counts bytes. A bound that is not understood must not be taken for none. */
function lagOf(values: readonly string[]): { readonly bytesMax: number | null } | Wrong {
  const wrong = (what: string): Wrong => ({
    problem: {
      detail: `lag ${what}`,
      hint: 'Give a size such as 64MB; without a unit it counts bytes.',
    },
  });
  const [given] = values;
  if (given === undefined) return { bytesMax: null };
  if (values.length > 1) return wrong('is given more than once');
  const parsed = parseNumberWithUnit(given, 'B');
  if ('problem' in parsed) return wrong(parsed.problem);
  if (parsed.value < 0) return wrong('is negative');
  return { bytesMax: fromBaseUnit(parsed.value, 'B') };
}

const WISHES: readonly string[] = ['lag', 'name', 'min'];

/** A word that is not known may be one of these, mistyped: it must not be taken for no bound at all. */
function standbyWishOf(request: FastifyRequest): StandbyWish | Wrong {
  const unknown = queryNames(request).find((name) => !WISHES.includes(name));
  const hint = 'Ask for /standbys?lag=16MB&name=APPLICATION_NAME&min=1, or leave any of them out.';
  if (unknown !== undefined) return { problem: { detail: 'a parameter is not known', hint } };
  const lag = lagOf(queryValues(request, 'lag'));
  if ('problem' in lag) return lag;
  const [names, counts] = [queryValues(request, 'name'), queryValues(request, 'min')];
  if (names.length > 1) return { problem: { detail: 'name is given more than once', hint } };
  const [count = '1'] = counts;
  if (counts.length > 1 || !/^[1-9][0-9]{0,5}$/.test(count))
    return { problem: { detail: 'min is no whole number from 1 on', hint } };
  return { name: names[0] ?? null, lagBytesMax: lag.bytesMax, min: Number(count) };
}
