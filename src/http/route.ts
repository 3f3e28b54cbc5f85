// What a route is: the one description from which fastify serves it and /openapi.json tells about it.
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { TSchema } from 'typebox';
import { SCHEMAS } from './schemas.ts';

/**
 * Who may ask. `open`: everybody who reaches the port. `read`: everybody on loopback, and whoever shows the token where
 * the port is reachable from elsewhere and a token is set. `write`: only who shows the token. `wal`: only who shows it, or
 * the one for WAL files; being on this machine is not enough for the whole database.
 */
export type Access = 'open' | 'read' | 'write' | 'wal';

/** One status code of a route. Without a type the body is JSON of that schema; without either there is none. */
export interface Answer {
  readonly description: string;
  readonly schema?: TSchema;
  readonly type?: string;
  /** Where the client chooses, by Accept: those it may have besides. */
  readonly otherTypes?: readonly string[];
  /** It is sent as it was written, not put into JSON by the schema: a serializer for it would be compiled for nothing. */
  readonly isWritten?: true;
}

/** A value in the path or the query. */
export interface Parameter {
  readonly name: string;
  readonly in: 'path' | 'query' | 'header';
  readonly description: string;
  readonly schema: TSchema;
}

/** One route. GET routes answer HEAD as well. */
export interface Route {
  readonly method: 'GET' | 'POST' | 'DELETE';
  /** `/api/v1/slots/{name}`. */
  readonly path: string;
  readonly operation: string;
  readonly summary: string;
  readonly access: Access;
  readonly parameters?: readonly Parameter[];
  readonly body?: TSchema;
  readonly answers: Readonly<Record<number, Answer>>;
  /** OPTIONS is answered as GET is: what HAProxy asks with where nobody tells it otherwise. */
  readonly hasOptions?: true;
  readonly handle: (request: FastifyRequest, reply: FastifyReply) => unknown;
  /** Where HEAD must not simply do what GET does and drop the body. */
  readonly handleHead?: (request: FastifyRequest, reply: FastifyReply) => unknown;
}

/** An answer that tells what went wrong. */
export function refusal(description: string): Answer {
  return {
    description,
    schema: SCHEMAS.problem,
    type: 'application/problem+json',
    isWritten: true,
  };
}

/** The methods that it takes. */
export function methodsOf({ method, hasOptions }: Route): readonly string[] {
  if (method !== 'GET') return [method];
  return hasOptions === true ? ['GET', 'HEAD', 'OPTIONS'] : ['GET', 'HEAD'];
}

/** What a route answers, together with what any route of its kind may answer. */
export function answersOf(route: Route): Readonly<Record<number, Answer>> {
  return { ...(route.method === 'GET' ? {} : BODY), ...ACCESS[route.access], ...route.answers };
}

/** The client's address; empty when its connection is gone by now, where fastify has `undefined` for a string. */
export function addressOf(request: FastifyRequest): string {
  return request.socket.remoteAddress ?? '';
}

/** A value of the path, decoded; empty when there is none of that name. */
export function pathValue(request: FastifyRequest, name: string): string {
  const { params } = request;
  if (typeof params !== 'object' || params === null) return '';
  const value: unknown = Object.getOwnPropertyDescriptor(params, name)?.value;
  return typeof value === 'string' ? value : '';
}

/** The names in the query. */
export function queryNames({ query }: FastifyRequest): readonly string[] {
  return typeof query === 'object' && query !== null ? Object.keys(query) : [];
}

/** The values of that name in the query, decoded, in their order. */
export function queryValues(request: FastifyRequest, name: string): readonly string[] {
  const query = request.query;
  if (typeof query !== 'object' || query === null) return [];
  const value: unknown = Object.getOwnPropertyDescriptor(query, name)?.value;
  const values: readonly unknown[] = Array.isArray(value) ? value : [value];
  return values.filter((entry) => typeof entry === 'string');
}

const BODY: Readonly<Record<number, Answer>> = {
  400: refusal('The body is not what is documented here.'),
  413: refusal('The body is too large.'),
  415: refusal('The body is no JSON.'),
};

const NO_CERTIFICATE: Readonly<Record<number, Answer>> = {
  403: refusal('No client certificate that http.tls.ca knows.'),
};

const WRONG_TOKEN: Readonly<Record<number, Answer>> = {
  ...NO_CERTIFICATE,
  401: refusal('No token, or a wrong one.'),
  429: refusal('Too many wrong tokens from this address; Retry-After says when to come again.'),
};

const ACCESS: Readonly<Record<Access, Readonly<Record<number, Answer>>>> = {
  open: {},
  read: WRONG_TOKEN,
  write: {
    ...WRONG_TOKEN,
    403: refusal('No token is configured (http.token_file), or no client certificate was shown.'),
  },
  wal: {
    ...WRONG_TOKEN,
    403: refusal(
      'No token is configured (http.wal_token_file, http.token_file), or no client certificate was shown.',
    ),
  },
};
