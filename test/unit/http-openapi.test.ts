// Does every route answer as /openapi.json says, and does that document hold together?
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Compile } from 'typebox/schema';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { silentLog } from '../../src/base/log.ts';
import { EventHub } from '../../src/http/event-hub.ts';
import { HttpAudit } from '../../src/http/audit.ts';
import { openApiDocument } from '../../src/http/openapi.ts';
import { Pictures } from '../../src/http/pictures.ts';
import { allRoutes } from '../../src/http/routes.ts';
import type { HttpServer } from '../../src/http/server.ts';
import { toLsn } from '../../src/pg/lsn.ts';
import type { RelayStatus } from '../../src/status/status.ts';
import {
  openTestPort,
  RecordingActions,
  RecordingMetrics,
  sampleFile,
} from '../support/http-port.ts';
import { readEvents } from '../support/event-client.ts';
import { sampleStatus, unknownStatus } from '../support/relay-status.ts';

const GOLDEN = fileURLToPath(new URL('golden/openapi.json', import.meta.url));
const TOKEN = 'a-token-of-thirty-two-characters';

interface Operation {
  readonly operationId: string;
  readonly parameters?: readonly { name: string; in: string; required: boolean }[];
  readonly requestBody?: object;
  readonly responses: Readonly<
    Record<string, { content?: Record<string, { schema?: Record<string, unknown> }> }>
  >;
  readonly security: readonly object[];
}

interface Document {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, object>> };
}

const pictures = new Pictures({
  source: { status: () => sampleStatus() },
  clock: systemClock,
});
const routes = allRoutes({
  pictures,
  events: {
    hub: new EventHub({ pictures, clock: systemClock, log: silentLog, isLoopback: true }),
    maySeeMore: () => true,
  },
  metrics: new RecordingMetrics(),
  actions: new RecordingActions(),
  clock: systemClock,
  log: silentLog,
  audit: new HttpAudit({ log: silentLog, clock: systemClock }),
  page: null,
});
const document = JSON.parse(JSON.stringify(openApiDocument(routes))) as Document;
const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({
    method: method.toUpperCase(),
    path,
    operation,
  })),
);

describe('the document', () => {
  test('is the committed one', () => {
    if (process.env['WALCAST_TEST_UPDATE'] === '1') {
      writeFileSync(GOLDEN, `${JSON.stringify(document, null, 2)}\n`);
    }
    expect(JSON.parse(readFileSync(GOLDEN, 'utf8'))).toEqual(document);
  });

  test('lists every path of the contract', () => {
    const listed = operations.map(({ method, path }) => `${method} ${path}`);
    expect(listed).toEqual(
      expect.arrayContaining([
        ...['/livez', '/startupz', '/readyz', '/metrics', '/openapi.json', '/wal/{file}'].map(
          (path) => `GET ${path}`,
        ),
        ...['status', 'upstream', 'standbys', 'slots', 'store', 'sync', 'version', 'config'].map(
          (name) => `GET /api/v1/${name}`,
        ),
        'GET /standbys',
        'GET /api/v1/events',
        'POST /api/v1/reload',
        'POST /api/v1/drain',
        'POST /api/v1/pause',
        'POST /api/v1/resume',
        'POST /api/v1/slots',
        'DELETE /api/v1/slots/{name}',
        'DELETE /api/v1/standbys/{pid}',
      ]),
    );
  });

  test('refers to nothing that it does not define, and names every operation once', () => {
    const references = [...JSON.stringify(document).matchAll(/"\$ref":"([^"]+)"/g)].map(
      ([, target = '']) => target.replace('#/components/schemas/', ''),
    );
    expect(references.length).toBeGreaterThan(20);
    for (const name of references) expect(document.components.schemas).toHaveProperty(name);
    const ids = operations.map(({ operation }) => operation.operationId);
    expect(new Set(ids).size).toBe(ids.length);
  });

  test('describes every field, every parameter and every answer', () => {
    const bare: string[] = [];
    const look = (schema: unknown, path: string): void => {
      if (typeof schema !== 'object' || schema === null || '$ref' in schema) return;
      if (!('description' in schema)) bare.push(path);
      const { properties = {}, items } = Object(schema);
      for (const [name, field] of Object.entries(properties)) look(field, `${path}.${name}`);
      look(items, `${path}[]`);
    };
    for (const [name, schema] of Object.entries(document.components.schemas)) look(schema, name);
    expect(bare).toEqual([]);
    for (const { operation } of operations) {
      for (const part of [...(operation.parameters ?? []), ...Object.values(operation.responses)])
        expect(part).toMatchObject({ description: expect.stringMatching(/\S/) });
    }
  });

  test('says of everything that is refused what to do next', () => {
    for (const { operation } of operations) {
      for (const [code, { content }] of Object.entries(operation.responses)) {
        const [type, { schema }] = Object.entries(content ?? {})[0] ?? ['', {}];
        if (Number(code) < 400 || schema?.['$ref'] === '#/components/schemas/Probe') continue;
        if (schema?.['$ref'] === '#/components/schemas/StandbyCheck') continue;
        expect([type, schema]).toEqual([
          'application/problem+json',
          { $ref: '#/components/schemas/Problem' },
        ]);
      }
    }
    const { required } = Object(document.components.schemas['Problem']);
    expect(required).toEqual(['type', 'title', 'status', 'detail', 'hint']);
  });

  test.each(operations)(
    '$method $path declares the names in its path, and whoever changes something needs a token',
    ({ method, path, operation }) => {
      const inPath = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name);
      const declared = (operation.parameters ?? []).filter((parameter) => parameter.in === 'path');
      expect(declared.map(({ name }) => name)).toEqual(inPath);
      expect(declared.every(({ required }) => required)).toBe(true);
      if (method !== 'GET') expect(operation.security).toEqual([{ token: [] }]);
      expect(Object.keys(operation.responses)).toEqual(
        expect.arrayContaining(method === 'GET' ? [] : ['401', '403', '429']),
      );
    },
  );
});

describe('every route answers as documented', () => {
  const actions = new RecordingActions();
  let status: RelayStatus = sampleStatus();
  let server: HttpServer;

  beforeAll(async () => {
    actions.file = (name) =>
      name.endsWith('.history')
        ? sampleFile(name, [Buffer.from('1\t0/3000000\tno recovery target specified\n')])
        : { kind: 'incomplete', availableLsn: toLsn(0x3000000n) };
    server = await openTestPort({
      source: { status: () => status },
      actions,
      token: () => TOKEN,
    });
  });

  afterAll(async () => {
    await server.close();
  });

  /** Asks, and compares the answer with what the document says about its code. */
  async function ask(
    operation: { method: string; path: string; operation: Operation },
    options: { values?: Record<string, string>; body?: unknown; token?: string } = {},
  ): Promise<number> {
    const path = operation.path.replaceAll(
      /\{(\w+)\}/g,
      (_all, name: string) => options.values?.[name] ?? 'x',
    );
    const response = await fetch(`${server.url}${path}`, {
      method: operation.method,
      ...(options.body === undefined ? {} : { body: JSON.stringify(options.body) }),
      headers: {
        ...(options.body === undefined ? {} : { 'content-type': 'application/json' }),
        ...(options.token === undefined ? {} : { authorization: `Bearer ${options.token}` }),
      },
    });
    const documented = operation.operation.responses[String(response.status)];
    expect(documented, `${response.status} is documented`).toBeDefined();
    const [type, content] = Object.entries(documented?.content ?? {})[0] ?? [null, null];
    if (type === null) expect(await response.text()).toBe('');
    else expect(response.headers.get('content-type')).toContain(type);
    if (type === 'text/event-stream') {
      await expectSnapshot(response);
      return response.status;
    }
    const schema = content?.schema;
    if (schema !== undefined) expectToFit(schema, await response.json());
    else await response.text();
    return response.status;
  }

  /** The stream has no end: what comes first is looked at. */
  async function expectSnapshot(response: Response): Promise<void> {
    const client = readEvents(response);
    const { data } = await client.nextOf('snapshot');
    expectToFit({ $ref: '#/components/schemas/SnapshotEvent' }, data);
    await client.close();
  }

  function expectToFit(schema: Record<string, unknown>, answer: unknown): void {
    // The components are put where the references look for them.
    const whole = { ...schema, components: document.components };
    const [isValid, errors] = Compile(whole).Errors(answer);
    expect(isValid, JSON.stringify(errors)).toBe(true);
  }

  const values = { name: 'slot_a', pid: '42', file: '00000002.history' };
  const slotBody = { name: 'slot_a', reserve_wal: true };
  const levelBody = { component: 'walsender', level: 'debug' };

  function bodyOf({ path }: { readonly path: string }): unknown {
    return path === '/api/v1/log' ? levelBody : slotBody;
  }

  test.each(operations)('$method $path', async (operation) => {
    const asked = operation.operation.requestBody === undefined ? {} : { body: bodyOf(operation) };
    const code = await ask(operation, { values, token: TOKEN, ...asked });
    expect(code).toBeLessThan(300);
  });

  test.each(operations)('$method $path while nothing is known yet', async (operation) => {
    status = unknownStatus();
    actions.refusal = { sqlstate: '57P03', message: 'the database system is starting up' };
    actions.file = () => ({ kind: 'starting' });
    const asked = operation.operation.requestBody === undefined ? {} : { body: bodyOf(operation) };
    await ask(operation, { values, token: TOKEN, ...asked });
  });

  test.each(operations.filter(({ method }) => method !== 'GET'))(
    '$method $path without a token, and with a wrong one',
    async (operation) => {
      expect(await ask(operation, { values, body: slotBody })).toBe(401);
      expect(await ask(operation, { values, body: slotBody, token: 'wrong' })).toBe(401);
    },
  );

  test('a check that cannot fail would not do: an answer with a field too many does not fit', () => {
    const schema = { $ref: '#/components/schemas/Probe' };
    expectToFit(schema, { status: 'ok', state: 'streaming', reason: null });
    expect(() =>
      expectToFit(schema, { status: 'ok', state: 'streaming', reason: null, more: 1 }),
    ).toThrow();
  });
});
