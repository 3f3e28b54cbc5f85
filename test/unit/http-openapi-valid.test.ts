// Is /openapi.json an OpenAPI document? Of the specification of 3.1 (spec.openapis.org/oas/v3.1.0) those objects that the document is
// made of, as a JSON schema; and every schema in it is one of JSON Schema 2020-12, as 3.1 wants it.
import { Ajv2020 } from 'ajv/dist/2020.js';
import type { ValidateFunction } from 'ajv/dist/2020.js';
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { PROBLEMS } from '../../src/http/problems.ts';
import { SCHEMAS } from '../../src/http/schemas.ts';

const text = readFileSync(new URL('golden/openapi.json', import.meta.url), 'utf8');
const schemaObject = { type: ['object', 'boolean'] };
const mediaTypes = {
  type: 'object',
  propertyNames: { pattern: '^[a-z]+/[a-z0-9.+*-]+$' },
  additionalProperties: {
    type: 'object',
    properties: { schema: schemaObject },
    additionalProperties: false,
  },
};

/** Sections 4.8.1 (OpenAPI Object) to 4.8.30 (Security Requirement Object). */
const OPENAPI = {
  type: 'object',
  required: ['openapi', 'info', 'paths'],
  properties: {
    openapi: { type: 'string', pattern: '^3\\.1\\.\\d+$' },
    info: {
      type: 'object',
      required: ['title', 'version'],
      properties: {
        title: { type: 'string' },
        version: { type: 'string' },
        description: { type: 'string' },
      },
      additionalProperties: false,
    },
    paths: {
      type: 'object',
      propertyNames: { pattern: '^/' },
      additionalProperties: {
        type: 'object',
        propertyNames: { enum: ['get', 'put', 'post', 'delete', 'head', 'patch', 'options'] },
        additionalProperties: { $ref: '#/$defs/operation' },
      },
    },
    components: {
      type: 'object',
      properties: {
        schemas: {
          type: 'object',
          propertyNames: { pattern: '^[a-zA-Z0-9._-]+$' },
          additionalProperties: schemaObject,
        },
        securitySchemes: {
          type: 'object',
          additionalProperties: {
            type: 'object',
            required: ['type', 'scheme'],
            properties: {
              type: { const: 'http' },
              scheme: { type: 'string' },
              description: { type: 'string' },
            },
            additionalProperties: false,
          },
        },
      },
      additionalProperties: false,
    },
  },
  additionalProperties: false,
  $defs: {
    operation: {
      type: 'object',
      required: ['operationId', 'responses'],
      properties: {
        operationId: { type: 'string', pattern: '^[a-zA-Z]+$' },
        summary: { type: 'string' },
        parameters: { type: 'array', items: { $ref: '#/$defs/parameter' } },
        requestBody: {
          type: 'object',
          required: ['content'],
          properties: { required: { type: 'boolean' }, content: mediaTypes },
          additionalProperties: false,
        },
        responses: {
          type: 'object',
          minProperties: 1,
          propertyNames: { pattern: '^(?:default|[1-5][0-9][0-9])$' },
          additionalProperties: {
            type: 'object',
            required: ['description'],
            properties: { description: { type: 'string' }, content: mediaTypes },
            additionalProperties: false,
          },
        },
        security: {
          type: 'array',
          items: { type: 'object', additionalProperties: { type: 'array', maxItems: 0 } },
        },
      },
      additionalProperties: false,
    },
    parameter: {
      type: 'object',
      required: ['name', 'in', 'schema'],
      properties: {
        name: { type: 'string' },
        in: { enum: ['query', 'header', 'path'] },
        description: { type: 'string' },
        required: { type: 'boolean' },
        schema: schemaObject,
      },
      additionalProperties: false,
      if: { properties: { in: { const: 'path' } } },
      // oxlint-disable-next-line unicorn/no-thenable -- JSON Schema names it so
      then: { required: ['required'], properties: { required: { const: true } } },
    },
  },
};

interface Document {
  readonly info: { title?: string };
  readonly paths: Record<string, Record<string, { security: object[]; responses: object }>>;
  readonly components: {
    readonly schemas: Readonly<Record<string, object>>;
    readonly securitySchemes: object;
  };
}

const document = (): Document => JSON.parse(text) as Document;
const ajv = new Ajv2020({ strict: false, allErrors: true });
const validate: ValidateFunction = ajv.compile(OPENAPI);

describe('the document', () => {
  test('has the objects of OpenAPI 3.1 in their places, and nothing beside them', () => {
    expect([validate(document()), validate.errors]).toEqual([true, null]);
  });

  test('has schemas of JSON Schema 2020-12', () => {
    const { schemas } = document().components;
    expect(Object.keys(schemas)).toHaveLength(Object.keys(SCHEMAS).length);
    for (const [name, schema] of Object.entries(schemas))
      expect([name, ajv.validateSchema(schema)]).toEqual([name, true]);
    expect(ajv.validateSchema({ type: 'nothing' })).toBe(false);
  });

  test('asks for tokens that it knows', () => {
    const { paths, components } = document();
    const asked = Object.values(paths).flatMap((methods) =>
      Object.values(methods).flatMap(({ security }) => security.flatMap((one) => Object.keys(one))),
    );
    expect(new Set(asked)).toEqual(new Set(Object.keys(components.securitySchemes)));
  });

  test('would be refused with anything of it missing or out of its place', () => {
    const untitled = document();
    delete untitled.info.title;
    expect(validate(untitled)).toBe(false);
    const silent = document();
    for (const methods of Object.values(silent.paths)) {
      for (const operation of Object.values(methods)) operation.responses = { 200: {} };
    }
    expect(validate(silent)).toBe(false);
    expect(validate({ ...document(), more: 1 })).toBe(false);
  });
});

test('every kind of problem is in docs/http-api.md, with its status code', () => {
  const docs = readFileSync(new URL('../../docs/http-api.md', import.meta.url), 'utf8');
  const rows = [...docs.matchAll(/^\| `([a-z-]+)` \| (\d{3}) \|/gm)].map(
    ([, code = '', status]) => [code, Number(status)],
  );
  const kinds = Object.entries(PROBLEMS).map(([code, { status }]) => [code, status]);
  expect(rows).toEqual(kinds);
});
