// The API as an OpenAPI 3.1 document, made from the routes as they are served. (spec.openapis.org/oas/v3.1.0; its schemas
// are JSON Schema as TypeBox writes it, so they are taken as they are.)
import { answersOf, refusal } from './route.ts';
import type { Access, Answer, Parameter, Route } from './route.ts';
import { SCHEMAS } from './schemas.ts';

/** Any JSON. */
export type Json =
  | string
  | number
  | boolean
  | null
  | readonly Json[]
  | { readonly [key: string]: Json };

/** The version of the API, which is in its paths; that of the program is at /api/v1/version. */
const API_VERSION = '1';

const SCHEMA_NAMES: ReadonlyMap<unknown, string> = new Map(
  Object.entries(SCHEMAS).map(([name, schema]) => [schema, componentName(name)]),
);

/** The document. */
export function openApiDocument(routes: readonly Route[]): Json {
  const paths: Record<string, Record<string, Json>> = {};
  for (const route of routes) {
    (paths[route.path] ??= {})[route.method.toLowerCase()] = operationOf(route);
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'walcast',
      version: API_VERSION,
      description:
        'State and control of a WAL relay for PostgreSQL. LSNs are text (0/1763E00), unknown is null, times are ISO 8601 UTC. ' +
        'GET is answered to HEAD as well, and where the answer is a probe to OPTIONS. Requests for a port on loopback must name this machine, else they get 421.',
    },
    paths,
    components: {
      schemas: Object.fromEntries(
        Object.entries(SCHEMAS).map(([name, schema]) => [componentName(name), inner(schema)]),
      ),
      securitySchemes: {
        token: {
          type: 'http',
          scheme: 'bearer',
          description:
            'The token of http.token_file. What changes something always needs it; what shows something needs it where ' +
            'the port can be reached from other machines and a token is set.',
        },
        walToken: {
          type: 'http',
          scheme: 'bearer',
          description: 'The token of http.wal_token_file, which opens WAL files and nothing else.',
        },
      },
    },
  };
}

/** An empty requirement beside the token: it may be needed. */
const SECURITY: Readonly<Record<Access, Json>> = {
  open: [],
  read: [{}, { token: [] }],
  write: [{ token: [] }],
  wal: [{ token: [] }, { walToken: [] }],
};

function componentName(name: string): string {
  return name.charAt(0).toUpperCase() + name.slice(1);
}

/** What has to do with no route in particular. */
const REFUSED: Answer = refusal(
  'Refused as any path may be: no request that is understood (400, 408, 431), another host (421), a mistake of walcast (500), shutting down (503).',
);

function operationOf(route: Route): Json {
  const { operation, summary, access, parameters = [], body } = route;
  const answers = Object.entries(answersOf(route)).map(([code, answer]) => [
    code,
    answerOf(answer),
  ]);
  return {
    operationId: operation,
    summary,
    ...(parameters.length === 0 ? {} : { parameters: parameters.map(parameterOf) }),
    ...(body === undefined
      ? {}
      : {
          requestBody: { required: true, content: { 'application/json': { schema: ref(body) } } },
        }),
    responses: { ...Object.fromEntries(answers), default: answerOf(REFUSED) },
    security: SECURITY[access],
  };
}

function parameterOf(parameter: Parameter): Json {
  const { name, description, schema } = parameter;
  const isRequired = parameter.in === 'path';
  return { name, in: parameter.in, description, required: isRequired, schema: ref(schema) };
}

function answerOf({ description, schema, type, otherTypes = [] }: Answer): Json {
  if (schema === undefined && type === undefined) return { description };
  const content = schema === undefined ? {} : { schema: ref(schema) };
  // What stands behind it (a charset) is nothing to choose by.
  const types = [type ?? 'application/json', ...otherTypes].map((each) => each.split(';')[0] ?? '');
  return { description, content: Object.fromEntries(types.map((each) => [each, content])) };
}

/** A schema that has a name is referred to; another is written out. */
function ref(schema: unknown): Json {
  const name = SCHEMA_NAMES.get(schema);
  return name === undefined ? inner(schema) : { $ref: `#/components/schemas/${name}` };
}

function inner(schema: unknown): Json {
  if (Array.isArray(schema)) return schema.map(ref);
  if (typeof schema === 'string' || typeof schema === 'number' || typeof schema === 'boolean') {
    return schema;
  }
  if (typeof schema !== 'object' || schema === null) return null;
  return Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, ref(value)]));
}
