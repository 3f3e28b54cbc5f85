// What is in effect for each key, as people are shown it: written as in the file, secrets masked, with where it came from.
import { maskConninfo } from '../pg/conninfo.ts';
import { parseUserList } from '../pg/user-list.ts';
import type { Origin } from './config.ts';
import type { RawTls, RawValue } from './layer.ts';
import { formatPlace } from './problem.ts';
import { isWordListKind, SETTINGS } from './settings.ts';
import type { Setting } from './settings.ts';
import { parseNumberWithUnit } from './units.ts';
import { wordsOf } from './values.ts';
import type { ConfigValues } from './values.ts';

/** The value of one key. */
export interface EffectiveValue {
  readonly key: string;
  /** Of each item of `listen`: its TLS as it would be written, names of files absolute; null for an item without. */
  readonly tls: readonly (ReadonlyMap<string, string> | null)[];
  /**
   * As it would be written in the file, a list item by item; numbers with their unit, names of files absolute, secrets
   * masked, of users only their names. Null: not set.
   */
  readonly shown: string | readonly string[] | null;
  readonly origin: Origin;
  /** `walcast.yaml:12:3`, `WALCAST_LISTEN`, `--listen`; null for a default or what is not set. */
  readonly place: string | null;
  /** Equal where the value means the same; holds the content of files that are named. May hold a secret: never shown. */
  readonly meaning: string;
}

/** What is not in the text of the values: found while they were read. */
export interface EffectiveFindings {
  /** Content of the files that keys name, by key. */
  readonly contents: ReadonlyMap<string, string>;
  /** Values that came from inside another key: the value, and that key. */
  readonly derived: ReadonlyMap<string, { readonly text: string; readonly from: string }>;
}

/** Every key, in the order of the table. `values` holds no mistake. */
export function effectiveValues(
  values: ConfigValues,
  findings: EffectiveFindings,
): ReadonlyMap<string, EffectiveValue> {
  return new Map(
    SETTINGS.map((setting) => [setting.path, effectiveValue(setting, values, findings)]),
  );
}

function effectiveValue(
  setting: Setting,
  values: ConfigValues,
  findings: EffectiveFindings,
): EffectiveValue {
  const key = setting.path;
  const derived = findings.derived.get(key);
  const chosen = values.get(derived?.from ?? key);
  if (chosen === null)
    return { key, shown: null, tls: [], origin: 'default', place: null, meaning: '' };
  const text = derived?.text ?? writtenText(setting, values);
  const place = chosen.origin === 'default' ? null : formatPlace(chosen.place);
  const content = findings.contents.get(key);
  const tls = tlsOf(chosen.itemTls).map((raw) => (raw === null ? null : writtenTls(raw, values)));
  if (setting.kind === 'users') {
    const meaning = JSON.stringify(chosen.text);
    return { key, tls, shown: userNames(chosen.text), origin: chosen.origin, place, meaning };
  }
  return {
    key,
    tls,
    shown: setting.isSecret && typeof text === 'string' ? maskConninfo(text) : text,
    origin: chosen.origin,
    place,
    meaning: JSON.stringify([
      meaningOf(setting, text),
      content ?? null,
      tls.map((words) => (words === null ? null : Object.fromEntries(words))),
    ]),
  };
}

/** Empty where no item has any: how a list was written that says the same does not matter. */
function tlsOf(items: RawValue['itemTls'] = []): readonly (RawTls | null)[] {
  return items.some((raw) => raw !== null) ? items : [];
}

function writtenTls(raw: RawTls, values: ConfigValues): ReadonlyMap<string, string> {
  return new Map(
    [...raw].map(([name, entry]) => [
      name,
      name === 'client_cert' ? entry.text : (values.resolveName(entry, name) ?? ''),
    ]),
  );
}

function userNames(text: string | readonly string[]): readonly string[] {
  const list = parseUserList(wordsOf(text).join('\n'));
  return 'lines' in list ? [...list.lines.keys()] : [];
}

function writtenText(setting: Setting, values: ConfigValues): string | readonly string[] {
  const { path, kind, unit } = setting;
  const { text } = values.mustChoose(path);
  if (kind === 'path') return values.path(path) ?? '';
  if (kind === 'addresses') return typeof text === 'string' ? [text] : text;
  if (isWordListKind(kind)) return wordsOf(text);
  const written = typeof text === 'string' ? text : text.join(',');
  if (unit === null || kind === 'integer') return written;
  const isBare = /^[\s\d]*$/.test(written);
  return isBare && Number(written) !== 0 ? `${written.trim()}${unit}` : written;
}

/** A number in its base unit, so that `60s` is `1min`; else as written. */
function meaningOf(
  { kind, unit }: Setting,
  text: string | readonly string[],
): number | string | readonly string[] {
  const isNumber = kind === 'size' || kind === 'duration' || kind === 'integer';
  if (!isNumber || typeof text !== 'string') return text;
  const parsed = parseNumberWithUnit(text, unit);
  return 'value' in parsed ? parsed.value : text;
}
