// The words that the schemas of the JSON API are made of.
import { Type } from 'typebox';
import type { Static, TInteger, TObject, TString, TUnsafe } from 'typebox';

// Not as unions: fastify would compile a validator for each at the first answer, and nothing else runs meanwhile.
/** Text, or unknown. */
export const nullableText: TUnsafe<string | null> = Type.Unsafe<string | null>({
  type: ['string', 'null'],
});
/** A whole number, or unknown. */
export const nullableInteger: TUnsafe<number | null> = Type.Unsafe<number | null>({
  type: ['integer', 'null'],
});
/** A number, or unknown. */
export const nullableNumber: TUnsafe<number | null> = Type.Unsafe<number | null>({
  type: ['number', 'null'],
});
/** An LSN, or unknown. */
export const lsn: TUnsafe<string | null> = Type.Unsafe<string | null>({
  type: ['string', 'null'],
  pattern: '^[0-9A-F]{1,8}/[0-9A-F]{1,8}$',
});
/** A time, ISO 8601 in UTC. */
export const time: TString = Type.String({ format: 'date-time' });
/** A time, or unknown. */
export const nullableTime: TUnsafe<string | null> = Type.Unsafe<string | null>({
  type: ['string', 'null'],
  format: 'date-time',
});
/** No other fields. */
export const closed: { readonly additionalProperties: false } = { additionalProperties: false };

/** Positions as reported; null = not offered. */
export const positions: TObject<{ write: typeof lsn; flush: typeof lsn; apply: typeof lsn }> =
  Type.Object({ write: lsn, flush: lsn, apply: lsn }, closed);
/** A full transaction id in decimal. */
export const xid: TUnsafe<string | null> = Type.Unsafe<string | null>({
  type: ['string', 'null'],
  pattern: '^[0-9]{1,20}$',
});

/** One of the words, or null. */
export function nullableEnum<const Word extends string>(
  words: readonly Word[],
): TUnsafe<Word | null> {
  return Type.Unsafe<Word | null>({ type: ['string', 'null'], enum: [...words, null] });
}

/** An object, or null. */
export function nullableObject<Schema extends TObject>(
  schema: Schema,
): TUnsafe<Static<Schema> | null> {
  return Type.Unsafe<Static<Schema> | null>({ ...schema, type: ['object', 'null'] });
}

/** Whole numbers by name. */
export function counts<const Name extends string>(
  names: readonly Name[],
): TObject<Record<Name, TInteger>> {
  const fields = Object.fromEntries(names.map((name) => [name, Type.Integer()]));
  return Type.Object(fields as Record<Name, TInteger>, closed);
}
