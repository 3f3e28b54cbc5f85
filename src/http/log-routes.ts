// The routes of the levels of the log: what each component writes, and a change of it until the next restart.
import type { RelayActions } from '../status/actions.ts';
import type { LogLevelJson } from './api-types.ts';
import type { ChangeLog } from './change-log.ts';
import { actionRefused, refuse } from './refusals.ts';
import { refusal } from './route.ts';
import type { Route } from './route.ts';
import { SCHEMAS } from './schemas.ts';

/** What they show and act on. */
export interface LogSources {
  readonly actions: Pick<RelayActions, 'logLevels' | 'setLogLevel'>;
  readonly changes: ChangeLog;
}

/** `GET` and `POST /api/v1/log`. */
export function logRoutes({ actions, changes }: LogSources): Route[] {
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
        const refusedBy = actions.setLogLevel(component, level);
        const refused = refusedBy === null ? null : actionRefused(refusedBy);
        const subject = { log_component: component, log_level: level ?? 'as configured' };
        changes.tell(request, { action: 'set log level', subject }, refused);
        return refused === null ? levelsJson(actions) : refuse(reply, refused);
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
