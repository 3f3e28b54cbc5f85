// What is answered when there is no route, or a route fails. Never with a word about the inside.
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { errorText } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { PROBLEM_TYPE, problemJson, sendProblem } from './problems.ts';
import type { ProblemCode, ProblemFacts } from './problems.ts';
import { methodsOf } from './route.ts';
import type { Route } from './route.ts';

/** By status code; what fastify refuses with another one is `invalid-request`, too. */
const KINDS: Readonly<Record<number, { readonly code: ProblemCode; readonly hint: string }>> = {
  413: {
    code: 'body-too-large',
    hint: 'GET /openapi.json says what is expected: no request needs so much.',
  },
  415: { code: 'not-json', hint: 'Send JSON, with "Content-Type: application/json".' },
};

/** Sets the handlers. The client's path is compared with those of the routes, never read as a pattern. */
export function addErrorAnswers(
  server: FastifyInstance,
  { log, routes }: { readonly log: Log; readonly routes: readonly Route[] },
): void {
  // The router takes it for the path `/`.
  server.addHook('onRequest', async (request, reply) => {
    if (request.url === '*') return reply.callNotFound();
    return undefined;
  });
  server.setNotFoundHandler(async (request, reply) => {
    const methods = methodsAt(routes, request.url.split('?')[0] ?? '');
    if (methods.length === 0) {
      const hint = 'GET /openapi.json lists every path.';
      await sendProblem(reply, 'not-found', { detail: 'not found', hint });
      return;
    }
    const allow = methods.join(', ');
    void reply.header('allow', allow);
    await sendProblem(reply, 'method-not-allowed', {
      detail: 'method not allowed',
      hint: `Use ${allow}.`,
    });
  });
  server.setErrorHandler(async (error: FastifyError, request, reply) => {
    const statusCode = error.statusCode ?? 500;
    if (statusCode >= 500) {
      logFailure(log, request, error);
      const hint = 'The log of walcast says more.';
      await sendProblem(reply, 'internal-error', { detail: 'internal error', hint });
      return;
    }
    await sendInvalid(reply, error);
  });
}

/** For what fastify found wrong with a request. */
export function sendInvalid(reply: FastifyReply, error: FastifyError): FastifyReply {
  const kind = KINDS[error.statusCode ?? 400];
  const hint = kind?.hint ?? 'GET /openapi.json says what is expected.';
  return sendProblem(reply, kind?.code ?? 'invalid-request', { detail: error.message, hint });
}

function logFailure(log: Log, request: FastifyRequest, error: FastifyError): void {
  log.error('an HTTP request failed', {
    route: request.routeOptions.url,
    error: errorText(error),
  });
}

/** The methods of the routes whose path this is; none when there is no such path. */
function methodsAt(routes: readonly Route[], path: string): string[] {
  return [...new Set(routes.filter((route) => isPathOf(route, path)).flatMap(methodsOf))];
}

function isPathOf(route: Route, path: string): boolean {
  const [wanted, given] = [route.path.split('/'), path.split('/')];
  return (
    wanted.length === given.length &&
    wanted.every((part, index) =>
      part.startsWith('{') ? given[index] !== '' : part === given[index],
    )
  );
}

/** By the code of Node.js, with the phrase of the status line; everything else is no HTTP request. */
const NON_REQUESTS: Readonly<Record<string, readonly [ProblemCode, string, ProblemFacts]>> = {
  ERR_HTTP_REQUEST_TIMEOUT: [
    'too-slow',
    'Request Timeout',
    { detail: 'the request took too long', hint: 'Send headers and body without a pause.' },
  ],
  HPE_HEADER_OVERFLOW: [
    'headers-too-large',
    'Request Header Fields Too Large',
    { detail: 'the headers are too large', hint: 'No request needs so many.' },
  ],
};

/** What is said to who sends something that is no request; the connection ends with it. By the code of Node.js. */
export function nonRequestAnswer(nodeCode: string | undefined): string {
  const [code, phrase, facts] = NON_REQUESTS[nodeCode ?? ''] ?? [
    'not-http',
    'Bad Request',
    {
      detail: 'this is no HTTP request',
      hint: 'Speak HTTP/1.1 here; standbys connect to `listen`.',
    },
  ];
  const problem = problemJson(code, facts);
  const body = JSON.stringify(problem);
  return [
    `HTTP/1.1 ${problem.status} ${phrase}`,
    `Content-Type: ${PROBLEM_TYPE}`,
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Connection: close',
    '',
    body,
  ].join('\r\n');
}
