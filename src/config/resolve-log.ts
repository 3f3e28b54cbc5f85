// What is logged, and how: from the values of `log.…` to what the log is opened with.
import { LOG_LEVELS } from '../base/log-levels.ts';
import type { LogLevel } from '../base/log-levels.ts';
import { LOG_FORMAT_WORDS } from './config.ts';
import type { LogConfig } from './config.ts';
import { LOG_COMPONENTS } from './log-components.ts';
import { suggest } from './suggest.ts';
import { wordsOf } from './values.ts';
import type { ConfigValues } from './values.ts';

const LEVELS = 'log.levels';

/** Every mistake is reported to `values`. */
export function resolveLog(values: ConfigValues): LogConfig {
  return {
    level: values.choice('log.level', LOG_LEVELS),
    format: values.choice('log.format', LOG_FORMAT_WORDS),
    levels: resolveLevels(values),
  };
}

function resolveLevels(values: ConfigValues): ReadonlyMap<string, LogLevel> {
  const { text, place, itemPlaces } = values.mustChoose(LEVELS);
  const levels = new Map<string, LogLevel>();
  for (const [index, word] of wordsOf(text).entries()) {
    const at = itemPlaces?.[index] ?? place;
    const [component = '', name = ''] = word.split('=', 2).map((part) => part.trim());
    const level = LOG_LEVELS.find((known) => known === name);
    if (!LOG_COMPONENTS.some((known) => known === component)) {
      const meant = suggest(component, LOG_COMPONENTS);
      values.report(
        at,
        `\`${LEVELS}\`: "${component.slice(0, 100)}" is no component of the log`,
        meant === null ? `They are: ${LOG_COMPONENTS.join(', ')}.` : `Did you mean "${meant}"?`,
      );
    } else if (level === undefined) {
      const meant = suggest(name, LOG_LEVELS);
      values.report(
        at,
        `\`${LEVELS}\`: the level of ${component} must be one of ${LOG_LEVELS.join(', ')}, not "${name.slice(0, 100)}"`,
        meant === null ? undefined : `Did you mean "${meant}"?`,
      );
    } else if (levels.has(component)) {
      values.report(at, `\`${LEVELS}\`: ${component} is given twice`);
    } else {
      levels.set(component, level);
    }
  }
  return levels;
}
