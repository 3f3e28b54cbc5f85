// The routes of the levels of the log: what each component writes, and a change of it until the next restart.
import type { Log } from '../base/log.ts';
import type { RelayActions } from '../status/actions.ts';
import type { LogLevelJson } from './api-types.ts';
import { actionRefused, refuse } from './refusals.ts';
import { addressOf, refusal } from './route.ts';
import type { Route } from './route.ts';
import { SCHEMAS } from './schemas.ts';

/** What they show and act on. */
export interface LogSources {
  readonly actions: Pick<RelayActions, 'logLevels' | 'setLogLevel'>;
  readonly log: Log;
}

/** `GET` and `POST /api/v1/log`. */
export function logRoutes({ actions, log }: LogSources): Route[] {
  return [
    {
      method: 'GET',
      path: '/api/v1/log',
      operation: 'getLogLevels',
      summary: 'What each component of the log writes.',
      access: 'read',
      answers: { 200: { description: 'As it is now.', schema: SCHEMAS.logLevels } },
      handle: () => levelsJson(actions),
    },
    {
      method: 'POST',
      path: '/api/v1/log',
      operation: 'setLogLevel',
      summary: 'Sets the level of a component of the log until the next restart.',
      access: 'write',
      body: SCHEMAS.logLevelRequest,
      answers: {
        200: { description: 'It is set. All levels, as they are now.', schema: SCHEMAS.logLevels },
        400: refusal('No such level, or no such body.'),
        404: refusal('There is no such component.'),
      },
      handle: (request, reply) => {
        const { component, level } = requestOf(request.body);
        const refused = actions.setLogLevel(component, level);
        const fields = {
          log_component: component.slice(0, 63),
          log_level: level ?? 'as configured',
          client_addr: addressOf(request),
          done: refused === null,
        };
        log.info('HTTP request: set log level', fields);
        return refused === null ? levelsJson(actions) : refuse(reply, actionRefused(refused));
      },
    },
  ];
}

function levelsJson(actions: LogSources['actions']): LogLevelJson[] {
  return actions.logLevels().map(({ component, level, origin }) => ({ component, level, origin }));
}

/** The schema was checked before; what is read here has the form it says. */
function requestOf(body: unknown): { component: string; level: string | null } {
  const isObject = typeof body === 'object' && body !== null;
  const component = isObject && 'component' in body ? body.component : '';
  const level = isObject && 'level' in body ? body.level : null;
  return {
    component: String(component),
    level: typeof level === 'string' && level !== 'reset' ? level : null,
  };
}
