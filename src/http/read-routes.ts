// The routes of the JSON API that show something.
import type { Clock } from '../base/clock.ts';
import type { BuildInfo } from '../config/build-info.ts';
import type { RelayActions } from '../status/actions.ts';
import type { RelayStatus, StatusSource } from '../status/status.ts';
import type { VersionJson } from './api-types.ts';
import type { Route } from './route.ts';
import { SCHEMAS } from './schemas.ts';
import {
  configJson,
  slotsJson,
  standbysJson,
  statusJson,
  storeDetailJson,
  syncJson,
  upstreamDetailJson,
} from './status-json.ts';

/** What they show. */
export interface ReadSources {
  readonly source: StatusSource;
  readonly actions: RelayActions;
  readonly build: BuildInfo;
  readonly clock: Clock;
}

/** Everything under /api/v1 that changes nothing. */
export function readRoutes({ source, actions, build, clock }: ReadSources): Route[] {
  const version: VersionJson = {
    version: build.version,
    revision: build.revision,
    node_version: build.nodeVersion,
    postgresql_majors: build.postgresqlMajors,
  };
  const status = (): RelayStatus => source.status();
  return [
    showing('status', 'status', {
      summary: 'State of the whole relay.',
      show: () => statusJson(status(), clock.wallMs()),
    }),
    showing('upstream', 'upstreamDetail', {
      summary: 'The session to the upstream server.',
      show: () => upstreamDetailJson(status()),
    }),
    showing('standbys', 'standbys', {
      summary: 'Connected standbys, as in pg_stat_replication.',
      show: () => standbysJson(status()),
    }),
    showing('slots', 'slots', {
      summary: 'Replication slots kept here, as in pg_replication_slots.',
      show: () => slotsJson(status()),
    }),
    showing('store', 'storeDetail', {
      summary: 'The WAL that is stored.',
      show: () => storeDetailJson(status()),
    }),
    showing('sync', 'sync', {
      summary: 'Which standbys have to confirm before walcast does, and whether they can.',
      show: () => syncJson(status()),
    }),
    showing('version', 'version', {
      summary: 'Which walcast this is, and the PostgreSQL majors it speaks.',
      show: () => version,
    }),
    showing('config', 'configuration', {
      summary: 'Every key of the configuration in effect, and where it came from.',
      show: () => configJson(actions.configuration()),
    }),
  ];
}

function showing(
  name: string,
  schema: keyof typeof SCHEMAS,
  route: { readonly summary: string; readonly show: () => unknown },
): Route {
  return {
    method: 'GET',
    path: `/api/v1/${name}`,
    operation: `get${name.charAt(0).toUpperCase()}${name.slice(1)}`,
    summary: route.summary,
    access: 'read',
    answers: { 200: { description: 'As it is now.', schema: SCHEMAS[schema] } },
    handle: route.show,
  };
}
