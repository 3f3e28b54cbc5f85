// May the level of a component be set to that? A name that nobody knows is refused with those that there are.
import { LOG_LEVELS } from '../base/log-levels.ts';
import type { LogLevelControl } from '../base/log-levels.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import type { ActionRefusal } from '../status/actions.ts';

/** Longer than any name that is right. */
const SHOWN_LENGTH_MAX = 63;

/** Sets it until the process ends; `level` null: back to the configuration. Null = done. */
export function changeLogLevel(
  levels: LogLevelControl,
  component: string,
  level: string | null,
): ActionRefusal | null {
  const known = LOG_LEVELS.find((name) => name === level) ?? null;
  if (level !== null && known === null) {
    return {
      sqlstate: SQLSTATE.invalidParameterValue,
      message: `"${level.slice(0, SHOWN_LENGTH_MAX)}" is no level of the log`,
      hint: `Levels are ${LOG_LEVELS.join(', ')}.`,
    };
  }
  if (levels.set(component, known)) return null;
  const names = levels.list().map((entry) => entry.component);
  return {
    sqlstate: SQLSTATE.undefinedObject,
    message: `"${component.slice(0, SHOWN_LENGTH_MAX)}" is no component of the log`,
    hint: `Components are ${names.join(', ')}.`,
  };
}
