// What is said when something is refused, and how: problem details (RFC 9457), each with a next step.
import type { FastifyReply } from 'fastify';
import type { ProblemJson } from './api-types.ts';

/** The media type of all of them. */
export const PROBLEM_TYPE: string = 'application/problem+json; charset=utf-8';

const PROBLEM_URN = 'urn:walcast:problem:';

/**
 * Every kind: programs may tell them apart by their code, which is the end of `type` and never changes its meaning. The
 * table of docs/http-api.md is this one.
 */
export const PROBLEMS = {
  'not-found': { status: 404, title: 'There is no such path' },
  'method-not-allowed': { status: 405, title: 'The path does not take this method' },
  'invalid-request': { status: 400, title: 'The request is not what is documented' },
  'not-http': { status: 400, title: 'This is no HTTP request' },
  'too-slow': { status: 408, title: 'The request took too long' },
  'body-too-large': { status: 413, title: 'The body is too large' },
  'not-json': { status: 415, title: 'The body is no JSON' },
  'foreign-host': { status: 421, title: 'The request is for another host' },
  'headers-too-large': { status: 431, title: 'The headers are too large' },
  'token-missing': { status: 401, title: 'A token is needed' },
  'token-wrong': { status: 401, title: 'The token is wrong' },
  'token-not-configured': { status: 403, title: 'No token is configured' },
  'certificate-missing': { status: 403, title: 'A client certificate is needed' },
  'too-many-wrong-tokens': { status: 429, title: 'Too many wrong tokens came from this address' },
  'invalid-name': { status: 400, title: 'This is no such name' },
  'no-such-object': { status: 404, title: 'There is nothing of that name' },
  'already-exists': { status: 409, title: 'There is one of that name' },
  'limit-reached': { status: 409, title: 'There is no room for another one' },
  'not-now': { status: 409, title: 'It cannot be done in this state' },
  'in-use': { status: 409, title: 'It is in use' },
  'configuration-refused': { status: 422, title: 'The configuration has mistakes' },
  'wal-incomplete': { status: 409, title: 'The WAL segment is not complete yet' },
  'wal-damaged': { status: 500, title: 'The WAL file is damaged' },
  'not-supported': { status: 501, title: 'walcast does not do this' },
  'starting-up': { status: 503, title: 'walcast is starting up' },
  'shutting-down': { status: 503, title: 'walcast is shutting down' },
  busy: { status: 503, title: 'Too many ask for this' },
  failed: { status: 500, title: 'It failed' },
  'internal-error': { status: 500, title: 'walcast made a mistake' },
} as const;

/** Code of a kind. */
export type ProblemCode = keyof typeof PROBLEMS;

/** What is particular this time. */
export interface ProblemFacts {
  /** What happened, to whom: a sentence without its full stop, or several. */
  readonly detail: string;
  /** What to do next. */
  readonly hint: string;
  readonly sqlstate?: string;
  readonly problems?: readonly string[];
}

/** The body of an answer. */
export function problemJson(code: ProblemCode, facts: ProblemFacts): ProblemJson {
  const { status, title } = PROBLEMS[code];
  return { type: `${PROBLEM_URN}${code}`, title, status, ...facts };
}

/** Answers. What may be better in a moment says when to ask again. */
export function sendProblem(
  reply: FastifyReply,
  code: ProblemCode,
  facts: ProblemFacts,
): FastifyReply {
  const { status } = PROBLEMS[code];
  if (status === 503) void reply.header('retry-after', '1');
  return reply
    .code(status)
    .type(PROBLEM_TYPE)
    .send(JSON.stringify(problemJson(code, facts)));
}
