// How is a configuration shown key by key, and what does the log say of one that was read again?
import type { Log } from '../base/log.ts';
import type { Config } from '../config/config.ts';
import type { EffectiveValue } from '../config/effective.ts';
import { isListKind, SETTINGS, settingOf } from '../config/settings.ts';
import type { SettingKind } from '../config/settings.ts';
import type { ConfigEntry } from '../status/actions.ts';
import type { ReloadPlan } from './reload-plan.ts';

/** A configuration as its entries are shown. */
export function configEntries(
  { values }: Config,
  pendingRestart: readonly string[],
): readonly ConfigEntry[] {
  return SETTINGS.map(({ path, kind, defaultText, isReloadable }) => {
    const value = values.get(path);
    return {
      key: path,
      value: value === undefined ? null : shownText(value),
      defaultValue:
        defaultText !== null && isListKind(kind)
          ? listText(kind, defaultText === '' ? [] : [defaultText])
          : defaultText,
      origin: value?.origin ?? 'default',
      place: value?.place ?? null,
      isReloadable,
      isPendingRestart: pendingRestart.includes(path),
    };
  });
}

function shownText({ key, shown, tls }: EffectiveValue): string | null {
  if (typeof shown === 'string' || shown === null) return shown;
  return listText(settingOf(key)?.kind ?? 'names', shown, tls);
}

function listText(
  kind: SettingKind,
  items: readonly string[],
  tls: EffectiveValue['tls'] = [],
): string {
  const texts = items.map((item) => JSON.stringify(item));
  if (kind === 'users') return `{ ${texts.map((text) => `${text}: "***"`).join(', ')} }`;
  if (items.length === 0) return '[]';
  const shown =
    kind === 'addresses'
      ? texts.map((text, index) => `{ address: ${text}${tlsText(tls[index] ?? null)} }`)
      : texts;
  return `[ ${shown.join(', ')} ]`;
}

function tlsText(tls: ReadonlyMap<string, string> | null): string {
  if (tls === null) return '';
  const words = [...tls].map(([name, text]) => `${name}: ${JSON.stringify(text)}`);
  return `, tls: { ${words.join(', ')} }`;
}

/** What changed, what waits, what is warned about now and was not before. PostgreSQL's words. (guc.c:set_config_option, guc-file.l:ProcessConfigFileInternal) */
export function logReload(
  log: Log,
  { before, loaded, plan }: { before: Config; loaded: Config; plan: ReloadPlan },
): void {
  for (const key of plan.changed) log.info(`\`${key}\` changed`, difference(key, before, loaded));
  for (const key of plan.pendingRestart) {
    log.warn(`\`${key}\` cannot be changed without a restart`, difference(key, before, loaded));
  }
  if (before.hba !== null && loaded.hba === null) {
    log.warn('there are no access rules any more: every connection over TCP is refused');
  }
  for (const warning of loaded.warnings) {
    if (!before.warnings.includes(warning)) log.warn(warning);
  }
  log.info('the configuration was read again', {
    changed: plan.changed.length,
    pending_restart: plan.pendingRestart.length,
  });
}

/** Of a block of rules or a file only that it changed is said: rules can be many lines. */
function difference(
  key: string,
  before: Config,
  after: Config,
): { from?: string | null; to?: string | null; place: string | null } {
  const [a, b] = [before.values.get(key), after.values.get(key)];
  const place = b?.place ?? null;
  if (a === undefined || b === undefined || settingOf(key)?.kind === 'rules') return { place };
  return { from: shownText(a), to: shownText(b), place };
}
