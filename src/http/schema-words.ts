// The words that the schemas of the JSON API are made of. Each needs a description: no field is undocumented.
import { Type } from 'typebox';
import type {
  Static,
  TArray,
  TBoolean,
  TEnum,
  TInteger,
  TNumber,
  TObject,
  TProperties,
  TSchema,
  TString,
  TUnsafe,
} from 'typebox';

// What may be null is no union: fastify would compile a validator for each at the first answer, and nothing else runs meanwhile.
/** Text, or unknown. */
export function nullableText(description: string): TUnsafe<string | null> {
  return Type.Unsafe<string | null>({ type: ['string', 'null'], description });
}

/** A whole number, or unknown. */
export function nullableInteger(description: string): TUnsafe<number | null> {
  return Type.Unsafe<number | null>({ type: ['integer', 'null'], description });
}

/** A number, or unknown. */
export function nullableNumber(description: string): TUnsafe<number | null> {
  return Type.Unsafe<number | null>({ type: ['number', 'null'], description });
}

/** An LSN, or unknown. */
export function lsn(description: string): TUnsafe<string | null> {
  const pattern = '^[0-9A-F]{1,8}/[0-9A-F]{1,8}$';
  return Type.Unsafe<string | null>({ type: ['string', 'null'], pattern, description });
}

/** A time, ISO 8601 in UTC. */
export function time(description: string): TString {
  return Type.String({ format: 'date-time', description });
}

/** A time, or unknown. */
export function nullableTime(description: string): TUnsafe<string | null> {
  return Type.Unsafe<string | null>({ type: ['string', 'null'], format: 'date-time', description });
}

/** A full transaction id in decimal: larger than what every reader of JSON takes for a number. */
export function xid(description: string): TUnsafe<string | null> {
  const pattern = '^[0-9]{1,20}$';
  return Type.Unsafe<string | null>({ type: ['string', 'null'], pattern, description });
}

/** Text. */
export function text(description: string): TString {
  return Type.String({ description });
}

/** A whole number. */
export function integer(description: string): TInteger {
  return Type.Integer({ description });
}

/** A number. */
export function number(description: string): TNumber {
  return Type.Number({ description });
}

/** Yes or no. */
export function flag(description: string): TBoolean {
  return Type.Boolean({ description });
}

/** One of the words. */
export function oneOf<const Word extends string>(
  words: readonly Word[],
  description: string,
): TEnum<Word[]> {
  return Type.Enum([...words], { description });
}

/** One of the words, or null. */
export function nullableOneOf<const Word extends string>(
  words: readonly Word[],
  description: string,
): TUnsafe<Word | null> {
  return Type.Unsafe<Word | null>({
    type: ['string', 'null'],
    enum: [...words, null],
    description,
  });
}

/** Any number of them, in an order that the description tells. */
export function list<Item extends TSchema>(item: Item, description: string): TArray<Item> {
  return Type.Array(item, { description });
}

/** These fields, and no others. */
export function object<Fields extends TProperties>(
  fields: Fields,
  description: string,
): TObject<Fields> {
  return Type.Object(fields, { additionalProperties: false, description });
}

/** An object, or null. */
export function nullableObject<Fields extends TProperties>(
  fields: Fields,
  description: string,
): TUnsafe<Static<TObject<Fields>> | null> {
  const schema = object(fields, description);
  return Type.Unsafe<Static<TObject<Fields>> | null>({ ...schema, type: ['object', 'null'] });
}

/** Whole numbers by name; each name with what is counted under it. */
export function counts<const Name extends string>(
  names: Readonly<Record<Name, string>>,
  description: string,
): TObject<Record<Name, TInteger>> {
  const fields = Object.fromEntries(
    Object.entries<string>(names).map(([name, what]) => [name, integer(what)]),
  );
  return object(fields as Record<Name, TInteger>, description);
}

/** Positions up to which something was written, flushed and applied; null = not offered. */
export function positions(description: string): TObject<{
  write: TUnsafe<string | null>;
  flush: TUnsafe<string | null>;
  apply: TUnsafe<string | null>;
}> {
  return object(
    {
      write: lsn('Written up to here, exclusive.'),
      flush: lsn('Safe on disk up to here, exclusive.'),
      apply: lsn('Replayed up to here, exclusive.'),
    },
    description,
  );
}
