// How does the log of `walcast run` look, and whose lines are in it?
import { openLog } from '../base/log.ts';
import type { LogSettings, ProcessLog } from '../base/log.ts';
import type { Config } from '../config/config.ts';
import { LOG_COMPONENTS, PROCESS_COMPONENT } from '../config/log-components.ts';
import type { CommandContext } from './command.ts';

type Surroundings = Pick<CommandContext, 'isErrorTerminal'>;

/** The log that the configuration asks for. */
export function openRunLog(config: Config['log'], surroundings: Surroundings): ProcessLog {
  return openLog({
    ...logSettings(config, surroundings),
    component: PROCESS_COMPONENT,
    components: LOG_COMPONENTS,
  });
}

/** What of it may change while it is open. `auto`: whoever looks at a terminal reads text. */
export function logSettings(
  { level, format, levels }: Config['log'],
  { isErrorTerminal }: Surroundings,
): LogSettings {
  const automatic = isErrorTerminal === true ? 'text' : 'json';
  return { level, levels, format: format === 'auto' ? automatic : format };
}
