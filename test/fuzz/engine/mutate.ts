// How is an input made from others? By changes that know what a message is (its length, its numbers, its words, its
// neighbours), and by changes that know nothing.
import type { FuzzRandom } from './random.ts';
import { amount, happens, sizeOf } from './session.ts';
import type { FuzzSession, Step, StepKind } from './session.ts';

/** What changes are made with. */
export interface Material {
  /** Other inputs, to take parts from. Not empty. */
  readonly corpus: readonly FuzzSession[];
  /** Words, and other bytes that mean something. */
  readonly words: readonly Uint8Array[];
  /** What may happen besides what is said; empty for inputs that are one text. */
  readonly events: readonly StepKind[];
}

const STEPS_MAX = 120;
const SIZE_MAX = 48 * 1024;

const NUMBERS: readonly number[] = [
  0, 1, 2, 3, 4, 5, 7, 8, 9, 16, 25, 33, 34, 63, 64, 127, 128, 255, 256, 4095, 8192, 9999, 10_000,
  10_001, 32_767, 32_768, 65_535, 65_536, 0xff_ffff, 0x100_0000, 0x3fff_ffff, 0x7fff_fff0,
  0x7fff_ffff, 0x8000_0000, 0x8000_0001, 0xffff_fff0, 0xffff_fffe, 0xffff_ffff,
];
const NUMBER_WORDS: readonly string[] = (
  '0 1 -1 00 2 3 7 10 99 255 256 4294967295 4294967296 2147483647 2147483648 -2147483648 1e9 0x10 NaN ' +
  '18446744073709551615 18446744073709551616 9223372036854775807 99999999999999999999999999 1.5 007 1_0'
).split(' ');
const CHARACTERS: readonly number[] = [
  ...Buffer.from('\0\n\r\t \'"`\\/*-;,.:=()[]{}<>%$#@!&|?+~^_0aA\x7f\x80\xc3\xff', 'latin1'),
];

/** A new input: one of the corpus, changed one to six times. */
export function mutate(random: FuzzRandom, material: Material): FuzzSession {
  let session = random.pick(material.corpus);
  const count = 1 + random.small(6);
  for (let index = 0; index < count; index += 1) session = change(session, random, material);
  return bounded(session);
}

function bounded(session: FuzzSession): FuzzSession {
  if (session.steps.length <= STEPS_MAX && sizeOf(session) <= SIZE_MAX) return session;
  const steps: Step[] = [];
  let room = SIZE_MAX;
  for (const step of session.steps.slice(0, STEPS_MAX)) {
    if (step.bytes.length > room) break;
    room -= step.bytes.length;
    steps.push(step);
  }
  return { ...session, steps };
}

function change(session: FuzzSession, random: FuzzRandom, material: Material): FuzzSession {
  const hasSteps = session.steps.length > 0;
  const die = random.below(20);
  if (die < 12 && hasSteps) return changeStep(session, random, material);
  if (die === 12)
    return {
      ...session,
      chunk: random.pick([0, 0, 1, 2, 3, 5, 7, 1 + random.below(60), 65_536]),
      variant: random.below(256),
    };
  if (die === 13 && material.events.length > 0) return insertEvent(session, random, material);
  return changeOrder(session, random, material);
}

function insertEvent(session: FuzzSession, random: FuzzRandom, { events }: Material): FuzzSession {
  const kind = random.pick(events);
  const step =
    kind === 'time' || kind === 'wal' ? amount(kind, random.small(70_000)) : happens(kind);
  return {
    ...session,
    steps: session.steps.toSpliced(random.below(session.steps.length + 1), 0, step),
  };
}

function changeOrder(session: FuzzSession, random: FuzzRandom, { corpus }: Material): FuzzSession {
  const { steps } = session;
  const at = random.below(steps.length);
  const other = random.pick(corpus).steps;
  const from = random.below(other.length);
  switch (random.below(7)) {
    case 0:
      return { ...session, steps: steps.toSpliced(at, 1) };
    case 1:
      return {
        ...session,
        steps: steps.toSpliced(at, 0, ...steps.slice(at, at + 1 + random.small(4))),
      };
    case 2: {
      const [step] = steps.slice(at, at + 1);
      if (step === undefined) return session;
      const copies = Array.from({ length: 1 + random.small(20) }, () => step);
      return { ...session, steps: steps.toSpliced(at, 0, ...copies) };
    }
    case 3: {
      const moved = steps.slice(at, at + 1);
      const rest = steps.toSpliced(at, 1);
      return { ...session, steps: rest.toSpliced(random.below(rest.length + 1), 0, ...moved) };
    }
    case 4:
      return { ...session, steps: [...steps.slice(0, at), ...other.slice(from)] };
    case 5:
      return {
        ...session,
        steps: steps.toSpliced(at, 0, ...other.slice(from, from + 1 + random.small(4))),
      };
    default:
      return { ...session, steps: steps.slice(0, at + 1) };
  }
}

function changeStep(session: FuzzSession, random: FuzzRandom, material: Material): FuzzSession {
  const at = random.below(session.steps.length);
  const step = session.steps[at];
  if (step === undefined) return session;
  const frame = frameOf(step.bytes);
  let bytes = changeBytes(step.bytes, random, material);
  // A length that fits what is there lets the change through to who reads the body.
  if (frame !== null && bytes !== step.bytes && !random.oneIn(5)) bytes = withLength(bytes, frame);
  return { ...session, steps: session.steps.with(at, { kind: step.kind, bytes }) };
}

/** Where the length of a whole message stands; null when the bytes are none. */
function frameOf(bytes: Uint8Array): 0 | 1 | null {
  if (bytes.length >= 5 && int32(bytes, 1) === bytes.length - 1) return 1;
  return bytes.length >= 4 && int32(bytes, 0) === bytes.length ? 0 : null;
}

function int32(bytes: Uint8Array, at: number): number {
  return (
    (((bytes[at] ?? 0) << 24) |
      ((bytes[at + 1] ?? 0) << 16) |
      ((bytes[at + 2] ?? 0) << 8) |
      (bytes[at + 3] ?? 0)) >>>
    0
  );
}

function withLength(bytes: Uint8Array, at: 0 | 1): Uint8Array {
  if (bytes.length < at + 4) return bytes;
  const copy = Uint8Array.from(bytes);
  new DataView(copy.buffer).setUint32(at, bytes.length - at);
  return copy;
}

function changeBytes(bytes: Uint8Array, random: FuzzRandom, material: Material): Uint8Array {
  const at = random.below(bytes.length + 1);
  switch (random.below(14)) {
    case 0:
      return poke(bytes, random, (view, spot) =>
        view.setUint8(spot, view.getUint8(spot) ^ (1 << random.below(8))),
      );
    case 1:
      return poke(bytes, random, (view, spot) => view.setUint8(spot, random.below(256)));
    case 2:
      return pokeNumber(bytes, random);
    case 3:
      return changeLength(bytes, random);
    case 4:
      return bytes.slice(0, at);
    case 5:
      return splice(bytes, at, { remove: 1 + random.small(8) });
    case 6:
      return splice(bytes, at, { insert: noise(random) });
    case 7:
    case 8:
      return material.words.length === 0
        ? bytes
        : splice(bytes, at, {
            remove: random.oneIn(2) ? random.small(12) : 0,
            insert: random.pick(material.words),
          });
    case 9:
      return splice(bytes, at, { insert: Uint8Array.of(random.pick(CHARACTERS)) });
    case 10:
      return changeNumberWord(bytes, random);
    case 11: {
      const length = 1 + random.small(Math.min(200, bytes.length));
      return splice(bytes, at, {
        insert: bytes.slice(random.below(bytes.length), random.below(bytes.length) + length),
      });
    }
    case 12: {
      const { steps } = random.pick(material.corpus);
      const other = steps[random.below(steps.length)]?.bytes ?? bytes;
      const from = random.below(other.length);
      return splice(bytes, at, {
        remove: random.small(30),
        insert: other.slice(from, from + 1 + random.small(200)),
      });
    }
    default:
      return changeWord(bytes, random, material);
  }
}

function poke(
  bytes: Uint8Array,
  random: FuzzRandom,
  write: (view: DataView, at: number) => void,
): Uint8Array {
  if (bytes.length === 0) return bytes;
  const copy = Uint8Array.from(bytes);
  write(new DataView(copy.buffer), random.below(copy.length));
  return copy;
}

function pokeNumber(bytes: Uint8Array, random: FuzzRandom): Uint8Array {
  const size = random.pick([1, 2, 4, 4, 8] as const);
  if (bytes.length < size) return bytes;
  const copy = Uint8Array.from(bytes);
  const view = new DataView(copy.buffer);
  const at = random.below(bytes.length - size + 1);
  const value = random.pick(NUMBERS) + (random.oneIn(3) ? random.below(3) - 1 : 0);
  const isLittle = random.oneIn(3);
  if (size === 1) view.setUint8(at, value);
  else if (size === 2) view.setUint16(at, value, isLittle);
  else if (size === 4) view.setUint32(at, value, isLittle);
  else view.setBigUint64(at, (BigInt(random.pick(NUMBERS)) << 32n) | BigInt(value >>> 0), isLittle);
  return copy;
}

function changeLength(bytes: Uint8Array, random: FuzzRandom): Uint8Array {
  const at = frameOf(bytes) ?? random.below(2);
  if (bytes.length < at + 4) return bytes;
  const copy = Uint8Array.from(bytes);
  const honest = bytes.length - at;
  const value = random.oneIn(2) ? random.pick(NUMBERS) : honest + random.below(9) - 4;
  new DataView(copy.buffer).setUint32(at, value);
  return copy;
}

function splice(
  bytes: Uint8Array,
  at: number,
  { remove = 0, insert }: { remove?: number; insert?: Uint8Array },
): Uint8Array {
  const rest = Math.min(bytes.length, at + remove);
  const size = insert?.length ?? 0;
  const result = new Uint8Array(at + size + bytes.length - rest);
  result.set(bytes.subarray(0, at));
  if (insert !== undefined) result.set(insert, at);
  result.set(bytes.subarray(rest), at + size);
  return result;
}

/** Now and then more than any message may have. */
function noise(random: FuzzRandom): Uint8Array {
  const length = random.oneIn(200) ? random.below(40_000) : 1 + random.small(40);
  const bytes = new Uint8Array(length);
  if (random.oneIn(2)) return bytes.fill(random.pick(CHARACTERS));
  for (let index = 0; index < length; index += 1) bytes[index] = random.next();
  return bytes;
}

function isDigit(byte: number | undefined): boolean {
  return byte !== undefined && byte >= 0x30 && byte <= 0x39;
}

function changeNumberWord(bytes: Uint8Array, random: FuzzRandom): Uint8Array {
  let at = random.below(bytes.length);
  while (at < bytes.length && !isDigit(bytes[at])) at += 1;
  let end = at;
  while (isDigit(bytes[end])) end += 1;
  return splice(bytes, at, { remove: end - at, insert: Buffer.from(random.pick(NUMBER_WORDS)) });
}

function isLetter(byte: number | undefined): boolean {
  return byte !== undefined && (byte | 0x20) >= 0x61 && (byte | 0x20) <= 0x7a;
}

/** Another word in the place of one. */
function changeWord(bytes: Uint8Array, random: FuzzRandom, { words }: Material): Uint8Array {
  if (words.length === 0) return bytes;
  let at = random.below(bytes.length);
  while (at < bytes.length && !isLetter(bytes[at])) at += 1;
  let end = at;
  while (isLetter(bytes[end]) || bytes[end] === 0x5f) end += 1;
  return splice(bytes, at, { remove: end - at, insert: random.pick(words) });
}
