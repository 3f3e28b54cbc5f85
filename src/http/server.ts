// Opens the HTTP port: probes, metrics, the JSON API. The only room that knows fastify.
import { fastify } from 'fastify';
import type {
  FastifyHttpOptions,
  FastifyInstance,
  FastifyReply,
  FastifyRequest,
  FastifyServerOptions,
} from 'fastify';
import type { Clock } from '../base/clock.ts';
import { errorText, OperationalError, systemErrorCode } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { formatTcpAddress } from '../config/address.ts';
import type { TcpAddress } from '../config/config.ts';
import {
  HTTP_BODY_BYTES_MAX,
  HTTP_CLOSE_GRACE_MS,
  HTTP_CONNECTIONS_MAX,
  HTTP_CONNECTIONS_PER_CLIENT_MAX,
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
import { HttpAudit } from './audit.ts';
import { Authorization } from './authorization.ts';
import { ConnectionCaps } from './connection-caps.ts';
import { addErrorAnswers, nonRequestAnswer, sendInvalid } from './error-answers.ts';
import { EventHub } from './event-hub.ts';
import { EVENTS_PATH } from './event-routes.ts';
import type { EventSources } from './event-routes.ts';
import { isLoopbackHeader, isLoopbackHost } from './host-check.ts';
import { readJsonOnly } from './json-body.ts';
import { OneAtATime } from './one-at-a-time.ts';
import { Pictures } from './pictures.ts';
import { sendProblem } from './problems.ts';
import { readStatusPage } from './page-route.ts';
import type { StatusPage } from './page-route.ts';
import { addRoutes, allRoutes } from './routes.ts';
import { followCertificate, isHandshakeFailure, secureServerOptions } from './secure-port.ts';
import type { PortTls } from './secure-port.ts';

/** How to open the port. */
export interface HttpOptions {
  readonly listen: TcpAddress;
  readonly log: Log;
  readonly clock: Clock;
  /** What requests that change something have to show; asked at each of them, null when none is configured. */
  readonly token: () => string | null;
  /** What opens WAL files and nothing else; the same. */
  readonly walToken: () => string | null;
  /** Null: plain HTTP. */
  readonly tls: PortTls | null;
  /** What is given at `/`, null for nothing; without it what was built. */
  readonly page?: StatusPage | null;
  /** What is other than {@link DEFAULT_TIMES}. */
  readonly times?: Partial<HttpTimes>;
}

/** Bounds of what a client may take its time for, milliseconds. */
export interface HttpTimes {
  /** After how long a connection on which nothing moves is destroyed. */
  readonly inactivity: number;
  /** For the TLS handshake, and then for the headers of a request, however they dribble in. */
  readonly headers: number;
  /** For a whole request. */
  readonly request: number;
}

const DEFAULT_TIMES: HttpTimes = {
  inactivity: HTTP_INACTIVITY_MS,
  headers: HTTP_HEADERS_TIMEOUT_MS,
  request: HTTP_REQUEST_TIMEOUT_MS,
};

/** An open port. */
export interface HttpServer {
  /** `http://127.0.0.1:9188` or `https://…`, with the port really in use. */
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
  const { listen, log, clock, tls } = options;
  const isLoopback = isLoopbackHost(listen.host);
  const oneAtATime = new OneAtATime(HTTP_EARLY_REQUESTS_MAX);
  const server = createServer({ ...DEFAULT_TIMES, ...options.times }, { oneAtATime, tls });
  const connections = limitConnections(server, isLoopback);
  refuseEarlyRequests(server, oneAtATime);
  if (isLoopback) server.addHook('onRequest', refuseForeignHost);
  const pictures = new Pictures({ source: sources.source, clock });
  addMeasuring(server, sources.metrics, pictures);
  const refuseFromNowOn = refuseWhileClosing(server);
  readJsonOnly(server);
  const needsCertificate = tls?.hasClientAuthorities === true;
  const audit = new HttpAudit({ log, clock });
  const authorization = new Authorization({
    ...options,
    audit,
    isLoopback,
    needsCertificate,
    onGoodToken: ({ socket }) => connections.trust(socket),
  });
  const hub = new EventHub({ pictures, clock, log, isLoopback });
  const events: EventSources = {
    hub,
    maySeeMore: (request) => authorization.isStillAllowed('read', request),
  };
  const page = options.page === undefined ? readStatusPage() : options.page;
  const routes = allRoutes({ ...sources, pictures, events, clock, log, audit, page });
  addRoutes(server, routes, (access, request, reply) =>
    authorization.check(access, request, reply),
  );
  addErrorAnswers(server, { log, routes });
  // From before the first connection, and before another certificate can come.
  const stopFollowing = tls === null ? null : followCertificate(server, tls);
  const port = await listenOn(server, listen);
  const host = listen.host === '*' ? '0.0.0.0' : listen.host;
  const url = `http${tls === null ? '' : 's'}://${formatTcpAddress(host, port)}`;
  log.info('HTTP port is open', { url });
  if (!isLoopback) warnOfOpenness(options, url);
  return {
    url,
    port,
    close: async () => {
      stopFollowing?.();
      refuseFromNowOn();
      hub.close();
      await closeServer(server, clock, connections);
    },
  };
}

function warnOfOpenness({ log, token, tls }: HttpOptions, url: string): void {
  if (token() === null && tls?.hasClientAuthorities !== true) log.warn(OPEN_TO_ALL, { url });
  if (tls === null) log.warn(READABLE, { url });
}

const OPEN_TO_ALL =
  'the HTTP port can be reached from other machines and shows state and configuration to everybody: ' +
  'set http.token_file, or let http.listen be an address on loopback';

const READABLE =
  'the HTTP port can be reached from other machines without TLS: whoever is on the way can read tokens and WAL; ' +
  'set http.tls, or let http.listen be an address on loopback behind a proxy with TLS';

/** A client network has its share only where there are others. */
function limitConnections(server: FastifyInstance, isLoopback: boolean): ConnectionCaps {
  const connections = new ConnectionCaps({
    max: HTTP_CONNECTIONS_MAX,
    perClientMax: isLoopback ? HTTP_CONNECTIONS_MAX : HTTP_CONNECTIONS_PER_CLIENT_MAX,
  });
  // Those that make room are there a moment longer.
  server.server.maxConnections = HTTP_CONNECTIONS_MAX * 2;
  server.server.prependListener('connection', (socket) => connections.admit(socket));
  server.server.prependListener('request', (request, response) =>
    response.once('close', connections.busy(request.socket)),
  );
  return connections;
}

function createServer(
  times: HttpTimes,
  { oneAtATime, tls }: { readonly oneAtATime: OneAtATime; readonly tls: PortTls | null },
): FastifyInstance {
  const limits = {
    headersTimeout: times.headers,
    connectionsCheckingInterval: Math.min(HTTP_TIMEOUT_CHECK_MS, times.headers),
    maxHeaderSize: HTTP_HEADER_BYTES_MAX,
  };
  const options: FastifyServerOptions = {
    logger: false,
    connectionTimeout: times.inactivity,
    bodyLimit: HTTP_BODY_BYTES_MAX,
    // What is longer than a name can be is refused by who knows the names.
    routerOptions: { maxParamLength: HTTP_HEADER_BYTES_MAX },
    ajv: { customOptions: { coerceTypes: false, removeAdditional: false, useDefaults: false } },
    requestTimeout: times.request,
    keepAliveTimeout: HTTP_KEEP_ALIVE_MS,
    forceCloseConnections: 'idle',
    // What it would say by itself is no problem JSON.
    return503OnClosing: false,
    frameworkErrors: (error, _request, reply) => {
      void sendInvalid(reply as FastifyReply, error);
    },
    clientErrorHandler: ({ code }, socket) => {
      // Behind a part of an answer it would be taken for more of it; where no TLS came about nothing can be said.
      const canAnswer =
        socket.writable && !isHandshakeFailure(code) && !oneAtATime.isAnswering(socket);
      if (canAnswer) socket.write(nonRequestAnswer(code));
      socket.destroy();
    },
  };
  // As fastify types it, a server with TLS were of another kind; it has all that one without has.
  const kind: FastifyHttpOptions<Server> =
    tls === null
      ? { ...options, http: limits }
      : Object.assign(options, {
          https: { ...limits, ...secureServerOptions(tls, times.headers) },
        });
  return fastify(kind);
}

type Server = FastifyInstance['server'];

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
  await sendProblem(reply, 'foreign-host', {
    detail: 'this port answers requests to localhost only',
    hint: 'Ask under the name localhost, or set http.listen to an address that others can reach.',
  });
}

/** What is returned begins it: from then on every request that still comes is refused, and its connection ends. */
function refuseWhileClosing(server: FastifyInstance): () => void {
  let isClosing = false;
  server.addHook('onRequest', async (_request, reply) => {
    if (!isClosing) return;
    void reply.header('connection', 'close');
    await sendProblem(reply, 'shutting-down', {
      detail: 'walcast is shutting down',
      hint: 'Ask again when it has been started anew.',
    });
  });
  return () => {
    isClosing = true;
  };
}

function addMeasuring(server: FastifyInstance, metrics: Metrics, pictures: Pictures): void {
  /** When streams of events began, milliseconds after they were asked for: their length is no time that anybody waited. */
  const begun = new WeakMap<FastifyReply, number>();
  /** Those that are waited for: a reply that becomes one of an error is sent twice. */
  const measured = new WeakSet<FastifyReply>();
  server.addHook('onSend', async (request, reply) => {
    void reply.header('x-content-type-options', 'nosniff');
    // The status page is the same for a long time, and says so.
    if (!reply.hasHeader('cache-control')) void reply.header('cache-control', 'no-store');
    if (mayHaveChanged(request, reply)) pictures.forget();
    if (request.routeOptions.url === EVENTS_PATH) begun.set(reply, reply.elapsedTime);
    if (measured.has(reply)) return;
    measured.add(reply);
    // An answer that its client did not wait for counts, too; whether it "finishes" then differs between versions of Node.js.
    reply.raw.once('close', () => {
      const elapsedMs = begun.get(reply) ?? reply.elapsedTime;
      metrics.observeRequest({
        method: request.method,
        route: request.is404 ? 'none' : (request.routeOptions.url ?? 'none'),
        statusCode: reply.statusCode,
        seconds: elapsedMs / 1000,
      });
    });
  });
}

/** Who was not let in has changed nothing: whoever reaches the port could have everything looked at anew. */
function mayHaveChanged({ method, is404 }: FastifyRequest, { statusCode }: FastifyReply): boolean {
  return (
    (method === 'POST' || method === 'DELETE') && !is404 && ![401, 403, 429].includes(statusCode)
  );
}

async function listenOn(server: FastifyInstance, listen: TcpAddress): Promise<number> {
  // By the name it would be two servers, the second one without the limits of the first.
  const names: Readonly<Record<string, string>> = { '*': '::', localhost: '127.0.0.1' };
  const host = names[listen.host] ?? listen.host;
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

async function closeServer(
  server: FastifyInstance,
  clock: Clock,
  connections: ConnectionCaps,
): Promise<void> {
  const timer = clock.setTimer(HTTP_CLOSE_GRACE_MS, () => connections.destroyAll());
  await server.close();
  timer.cancel();
}
