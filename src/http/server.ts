// Opens the HTTP port: probes, metrics, the JSON API. The only room that knows fastify.
import { fastify } from 'fastify';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Clock } from '../base/clock.ts';
import { errorText, OperationalError, systemErrorCode } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { formatTcpAddress } from '../config/address.ts';
import type { TcpAddress } from '../config/config.ts';
import {
  HTTP_BODY_BYTES_MAX,
  HTTP_CLOSE_GRACE_MS,
  HTTP_CONNECTIONS_MAX,
  HTTP_EARLY_REQUESTS_MAX,
  HTTP_HEADER_BYTES_MAX,
  HTTP_HEADERS_TIMEOUT_MS,
  HTTP_INACTIVITY_MS,
  HTTP_KEEP_ALIVE_MS,
  HTTP_REQUEST_TIMEOUT_MS,
  HTTP_TIMEOUT_CHECK_MS,
} from '../config/limits.ts';
import type { Metrics } from '../metrics/registry.ts';
import type { RelayActions } from '../status/actions.ts';
import type { StatusSource } from '../status/status.ts';
import type { ErrorJson } from './api-types.ts';
import { Authorization } from './authorization.ts';
import { addErrorAnswers, nonRequestAnswer } from './error-answers.ts';
import { isLoopbackHeader, isLoopbackHost } from './host-check.ts';
import { OneAtATime } from './one-at-a-time.ts';
import { addRoutes, allRoutes } from './routes.ts';

/** How to open the port. */
export interface HttpOptions {
  readonly listen: TcpAddress;
  readonly log: Log;
  readonly clock: Clock;
  /** What requests that change something have to show; asked at each of them, null when none is configured. */
  readonly token: () => string | null;
  /** After how long a connection on which nothing moves is destroyed; default {@link HTTP_INACTIVITY_MS}. */
  readonly inactivityMs?: number;
}

/** An open port. */
export interface HttpServer {
  /** `http://127.0.0.1:9188`, with the port really in use. */
  readonly url: string;
  readonly port: number;
  /** Stops listening, ends idle connections, waits for the running requests at most a second. */
  close(): Promise<void>;
}

/** What is asked and told at each request, from the first one on. */
export interface HttpSources {
  readonly source: StatusSource;
  readonly metrics: Metrics;
  readonly actions: RelayActions;
}

/** Resolves once the port accepts connections. Rejects with {@link OperationalError} when it cannot be had. */
export async function openHttp(options: HttpOptions, sources: HttpSources): Promise<HttpServer> {
  const { listen, log, clock } = options;
  const isLoopback = isLoopbackHost(listen.host);
  const oneAtATime = new OneAtATime(HTTP_EARLY_REQUESTS_MAX);
  const server = createServer(options.inactivityMs ?? HTTP_INACTIVITY_MS, oneAtATime);
  server.server.maxConnections = HTTP_CONNECTIONS_MAX;
  refuseEarlyRequests(server, oneAtATime);
  if (isLoopback) server.addHook('onRequest', refuseForeignHost);
  addMeasuring(server, sources.metrics);
  readJsonOnly(server);
  const authorization = new Authorization({ ...options, isLoopback });
  const routes = allRoutes({ ...sources, clock, log });
  addRoutes(server, routes, (access, request, reply) =>
    authorization.check(access, request, reply),
  );
  addErrorAnswers(server, { log, routes });
  const port = await listenOn(server, listen);
  const host = listen.host === '*' ? '0.0.0.0' : listen.host;
  const url = `http://${formatTcpAddress(host, port)}`;
  log.info('HTTP port is open', { url });
  if (!isLoopback && options.token() === null) log.warn(OPEN_TO_ALL, { url });
  return {
    url,
    port,
    close: () => closeServer(server, clock),
  };
}

const OPEN_TO_ALL =
  'the HTTP port can be reached from other machines and shows everything to everybody, WAL included: ' +
  'set http.token_file, or let http.listen be an address on loopback';

function createServer(inactivityMs: number, oneAtATime: OneAtATime): FastifyInstance {
  return fastify({
    logger: false,
    connectionTimeout: inactivityMs,
    bodyLimit: HTTP_BODY_BYTES_MAX,
    // What is longer than a name can be is refused by who knows the names.
    routerOptions: { maxParamLength: HTTP_HEADER_BYTES_MAX },
    ajv: { customOptions: { coerceTypes: false, removeAdditional: false, useDefaults: false } },
    requestTimeout: HTTP_REQUEST_TIMEOUT_MS,
    keepAliveTimeout: HTTP_KEEP_ALIVE_MS,
    forceCloseConnections: 'idle',
    return503OnClosing: true,
    frameworkErrors: (error, _request, reply) => {
      const hint = 'GET /openapi.json lists every path.';
      const answer: ErrorJson = { error: error.message, hint };
      void (reply as FastifyReply).code(error.statusCode ?? 400).send(answer);
    },
    clientErrorHandler: ({ code }, socket) => {
      // Behind a part of an answer it would be taken for more of it.
      if (socket.writable && !oneAtATime.isAnswering(socket)) socket.write(nonRequestAnswer(code));
      socket.destroy();
    },
    http: {
      headersTimeout: HTTP_HEADERS_TIMEOUT_MS,
      connectionsCheckingInterval: HTTP_TIMEOUT_CHECK_MS,
      maxHeaderSize: HTTP_HEADER_BYTES_MAX,
    },
  });
}

/** Before everything else, also before a request without a route: what is not answered must cost next to nothing. */
function refuseEarlyRequests(server: FastifyInstance, oneAtATime: OneAtATime): void {
  server.server.prependListener('request', (request, response) =>
    oneAtATime.arrived(request, response),
  );
  server.addHook('onRequest', async (request, reply) => {
    if (oneAtATime.isEarly(request.raw)) reply.hijack();
  });
}

async function refuseForeignHost(request: FastifyRequest, reply: FastifyReply): Promise<void> {
  if (isLoopbackHeader(request.headers.host)) return;
  await reply.code(421).send({
    error: 'this port answers requests to localhost only',
    hint: 'Ask under the name localhost, or set http.listen to an address that others can reach.',
  });
}

function addMeasuring(server: FastifyInstance, metrics: Metrics): void {
  server.addHook('onSend', async (_request, reply) => {
    void reply.header('cache-control', 'no-store').header('x-content-type-options', 'nosniff');
  });
  server.addHook('onResponse', async (request, reply) => {
    metrics.observeRequest({
      method: request.method,
      route: request.is404 ? 'none' : (request.routeOptions.url ?? 'none'),
      statusCode: reply.statusCode,
      seconds: reply.elapsedTime / 1000,
    });
  });
}

/** An empty body is none, whatever the header says of it: many clients give a type to requests without a body too. */
function readJsonOnly(server: FastifyInstance): void {
  const parse = server.getDefaultJsonParser('error', 'error');
  server.removeAllContentTypeParsers();
  server.addContentTypeParser(
    'application/json',
    { parseAs: 'string' },
    (request, body: string, done) => {
      if (body === '') done(null, undefined);
      else void parse(request, body, done);
    },
  );
}

async function listenOn(server: FastifyInstance, listen: TcpAddress): Promise<number> {
  const host = listen.host === '*' ? '::' : listen.host;
  try {
    await server.listen({ host, port: listen.port });
  } catch (error) {
    throw cannotListen(listen, error);
  }
  const address = server.addresses()[0];
  return typeof address === 'object' ? address.port : listen.port;
}

function cannotListen(listen: TcpAddress, error: unknown): OperationalError {
  const address = formatTcpAddress(listen.host, listen.port);
  const code = systemErrorCode(error) ?? 'EIO';
  const reasons: Readonly<Record<string, string>> = {
    EADDRINUSE: 'the port is in use',
    EACCES: 'ports below 1024 need a privilege',
    EADDRNOTAVAIL: 'this machine has no such address',
    ENOTFOUND: 'the host name is not known',
  };
  const reason = reasons[code] ?? errorText(error);
  return new OperationalError(code, `cannot listen on ${address} for HTTP: ${reason}`, {
    hint: 'Set http.listen (--http HOST:PORT) to a free address, or to "" for no HTTP port.',
    cause: error,
  });
}

async function closeServer(server: FastifyInstance, clock: Clock): Promise<void> {
  const timer = clock.setTimer(HTTP_CLOSE_GRACE_MS, () => server.server.closeAllConnections());
  await server.close();
  timer.cancel();
}
