// How sizes and times are written: PostgreSQL's units, its rounding and its words for a mistake.
// (src/backend/utils/misc/guc.c: parse_int, convert_to_base_unit)

/** The unit a bare number of a setting counts in. */
export type BaseUnit = 'B' | 'kB' | 'MB' | 'ms' | 's' | 'min';

/** A number as written, in the setting's base unit; or why it cannot be one. */
export type ParsedNumber =
  | { readonly value: number }
  | { readonly problem: string; readonly hint?: string };

const MEMORY_BYTES: ReadonlyMap<string, number> = new Map([
  ['B', 1],
  ['kB', 1024],
  ['MB', 1024 ** 2],
  ['GB', 1024 ** 3],
  ['TB', 1024 ** 4],
]);

const TIME_MICROSECONDS: ReadonlyMap<string, number> = new Map([
  ['us', 1],
  ['ms', 1000],
  ['s', 1_000_000],
  ['min', 60_000_000],
  ['h', 3_600_000_000],
  ['d', 86_400_000_000],
]);

const MEMORY_HINT = 'Valid units for this parameter are "B", "kB", "MB", "GB", and "TB".';
const TIME_HINT = 'Valid units for this parameter are "us", "ms", "s", "min", "h", and "d".';

// No two parts of it can take the same character: otherwise it is tried with every way to share out a long row of them.
const NUMBER =
  /^\s*([+-]?(?:0[xX][0-9a-fA-F]+|(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?))\s*(?:([A-Za-z]+)\s*)?$/;

/**
 * Reads `text` as a setting of base unit `unit` (null: a plain number). White space may stand before the unit, the
 * unit's case matters, fractions are rounded to whole base units: all as PostgreSQL does. One thing is stricter:
 * a leading zero is refused where PostgreSQL would read an octal number.
 */
export function parseNumberWithUnit(text: string, unit: BaseUnit | null): ParsedNumber {
  const match = NUMBER.exec(text);
  if (match === null) return { problem: 'is not a number', ...hintFor(unit) };
  const [, digits = '', written = ''] = match;
  if (/^[+-]?0\d/.test(digits)) {
    return { problem: 'starts with a zero', hint: 'Write the number without leading zeros.' };
  }
  const number = Number(digits);
  if (!Number.isFinite(number)) return { problem: 'is out of range' };
  if (written === '') return { value: roundHalfEven(number) };
  if (unit === null) return { problem: 'takes no unit' };
  const factors = unitsOf(unit);
  const factor = factors.get(written);
  if (factor === undefined)
    return { problem: `has the unknown unit "${written}"`, ...hintFor(unit) };
  return { value: roundHalfEven((number * factor) / (factors.get(unit) ?? 1)) };
}

/** `value` base units in bytes (memory units) or milliseconds (time units). */
export function fromBaseUnit(value: number, unit: BaseUnit): number {
  const factor = unitsOf(unit).get(unit) ?? 1;
  return MEMORY_BYTES.has(unit) ? value * factor : (value * factor) / 1000;
}

/** The units that may be written where a bare number counts `unit`. */
export function unitWords(unit: BaseUnit): readonly string[] {
  return [...unitsOf(unit).keys()];
}

/** The unit spelled out, for documentation. */
export function unitName(unit: BaseUnit): string {
  const names = {
    B: 'bytes',
    kB: 'kilobytes',
    MB: 'megabytes',
    ms: 'milliseconds',
    s: 'seconds',
    min: 'minutes',
  };
  return names[unit];
}

function unitsOf(unit: BaseUnit): ReadonlyMap<string, number> {
  return MEMORY_BYTES.has(unit) ? MEMORY_BYTES : TIME_MICROSECONDS;
}

function hintFor(unit: BaseUnit | null): { hint?: string } {
  if (unit === null) return {};
  return { hint: MEMORY_BYTES.has(unit) ? MEMORY_HINT : TIME_HINT };
}

/** As rint(): a half goes to the even neighbour. */
function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}
