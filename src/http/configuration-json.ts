// What the status says about the configuration in effect: since when, what the last reload was refused for, what waits for a
// restart. Its JSON and its schemas.
import { Type } from 'typebox';
import type { Static, TUnsafe } from 'typebox';
import type { RelayStatus } from '../status/status.ts';
import { counts, flag, list, nullableTime, object, text } from './schema-words.ts';

/** The configuration in effect. */
export interface ConfigurationJson {
  /** False after a reload that was refused, until one succeeds. */
  readonly last_reload_good: boolean;
  /** When what is in effect was loaded. */
  readonly loaded_at: string | null;
  /** When the last reload was refused; null when it was not. */
  readonly refused_at: string | null;
  /** Why it was refused: `file:line:column: message`, one a mistake, the first ones. */
  readonly problems: readonly string[];
  /** Keys whose new value takes effect at a restart. */
  readonly pending_restart: readonly string[];
  /** Since the start. */
  readonly reloads: { readonly success: number; readonly failure: number };
}

const configurationFields = object(
  {
    last_reload_good: flag('False after a reload that was refused, until one succeeds.'),
    loaded_at: nullableTime('When what is in effect was loaded.'),
    refused_at: nullableTime('When the last reload was refused; null when it was not.'),
    problems: list(
      text('file:line:column: message.'),
      'Why the last reload was refused, the first mistakes; empty when it was not.',
    ),
    pending_restart: list(text('A key.'), 'Those whose new value takes effect at a restart.'),
    reloads: counts(
      { success: 'Those that were taken.', failure: 'Those that were refused.' },
      'Reloads since the start, however they were asked for.',
    ),
  },
  'The configuration in effect.',
);

/** The schema of {@link ConfigurationJson}, as closed as all others. */
export const configuration: TUnsafe<ConfigurationJson> =
  Type.Unsafe<ConfigurationJson>(configurationFields);

// The compiler checks that the interface says the same as the schema.
const agreement: Static<typeof configurationFields> extends ConfigurationJson ? true : never = true;
void agreement;

/** `timeText` writes milliseconds as the API does; null for what no text can hold. */
export function configurationJson(
  { configuration: { isLastReloadGood, ...rest } }: Pick<RelayStatus, 'configuration'>,
  timeText: (ms: number | null) => string | null,
): ConfigurationJson {
  return {
    last_reload_good: isLastReloadGood,
    loaded_at: timeText(rest.loadedAtMs),
    refused_at: timeText(rest.refusedAtMs),
    problems: rest.problems,
    pending_restart: rest.pendingRestart,
    reloads: rest.reloads,
  };
}
