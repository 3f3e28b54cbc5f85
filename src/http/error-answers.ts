// What is answered when there is no route, or a route fails. Never with a word about the inside.
import type { FastifyError, FastifyInstance, FastifyRequest } from 'fastify';
import { errorText } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { ErrorJson } from './api-types.ts';
import type { Route } from './route.ts';

/** What a client can do about an answer of that code. */
const HINTS: Readonly<Record<number, string>> = {
  400: 'GET /openapi.json says what is expected.',
  413: 'GET /openapi.json says what is expected: no request needs so much.',
  415: 'Send JSON, with "Content-Type: application/json".',
};

/** Sets the handlers. The client's path is compared with those of the routes, never read as a pattern. */
export function addErrorAnswers(
  server: FastifyInstance,
  { log, routes }: { readonly log: Log; readonly routes: readonly Route[] },
): void {
  server.setNotFoundHandler(async (request, reply) => {
    const methods = methodsOf(routes, request.url.split('?')[0] ?? '');
    if (methods.length === 0) {
      const hint = 'GET /openapi.json lists every path.';
      await reply.code(404).send({ error: 'not found', hint } satisfies ErrorJson);
      return;
    }
    const allow = methods.join(', ');
    await reply
      .code(405)
      .header('allow', allow)
      .send({ error: 'method not allowed', hint: `Use ${allow}.` } satisfies ErrorJson);
  });
  server.setErrorHandler(async (error: FastifyError, request, reply) => {
    const statusCode = error.statusCode ?? 500;
    if (statusCode >= 500) logFailure(log, request, error);
    await reply.code(statusCode).send(bodyOf(statusCode, error));
  });
}

function bodyOf(statusCode: number, error: FastifyError): ErrorJson {
  if (statusCode >= 500) return { error: 'internal error', hint: 'The log of walcast says more.' };
  const hint = HINTS[statusCode];
  return hint === undefined ? { error: error.message } : { error: error.message, hint };
}

function logFailure(log: Log, request: FastifyRequest, error: FastifyError): void {
  log.error('an HTTP request failed', {
    route: request.routeOptions.url,
    error: errorText(error),
  });
}

/** The methods of the routes whose path this is; none when there is no such path. */
function methodsOf(routes: readonly Route[], path: string): string[] {
  const methods = routes
    .filter((route) => isPathOf(route, path))
    .flatMap(({ method }) => (method === 'GET' ? ['GET', 'HEAD'] : [method]));
  return [...new Set(methods)];
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

/** What is said to who sends something that is no request; the connection ends with it. By the code of Node.js. */
export function nonRequestAnswer(code: string | undefined): string {
  const answers: Readonly<Record<string, readonly [string, ErrorJson]>> = {
    ERR_HTTP_REQUEST_TIMEOUT: [
      '408 Request Timeout',
      { error: 'the request took too long', hint: 'Send headers and body without a pause.' },
    ],
    HPE_HEADER_OVERFLOW: [
      '431 Request Header Fields Too Large',
      { error: 'the headers are too large', hint: 'No request needs so many.' },
    ],
  };
  const [status, answer] = answers[code ?? ''] ?? [
    '400 Bad Request',
    {
      error: 'this is no HTTP request',
      hint: 'Speak HTTP/1.1 here; standbys connect to `listen`.',
    },
  ];
  const body = JSON.stringify(answer);
  return [
    `HTTP/1.1 ${status}`,
    'Content-Type: application/json; charset=utf-8',
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Connection: close',
    '',
    body,
  ].join('\r\n');
}
