// Which WebAssembly computes a CRC-32C? One function, written down here instruction by instruction, because it is small: the
// loop of updateInScript over bytes in the module's own memory. It is faster than the same in JavaScript, which reads bytes one
// by one and checks the bounds of each. (WebAssembly Core Specification 1.0, chapter 5, binary format)

/** A piece of code: instructions in the order of the binary format. */
type Code = readonly number[];

const MAGIC = [0x00, 0x61, 0x73, 0x6d];
const VERSION = [0x01, 0x00, 0x00, 0x00];

// Instructions.
const BLOCK = [0x02, 0x40];
const LOOP = [0x03, 0x40];
const END = [0x0b];
const I32_LOAD = 0x28;
const I32_LOAD8_U = 0x2d;
const I32_GT_U = [0x4b];
const I32_ADD = [0x6a];
const I32_AND = [0x71];
const I32_XOR = [0x73];
const I32_SHL = [0x74];
const I32_SHR_U = [0x76];
const I32 = 0x7f;

// Locals of the function: its parameters, then two of its own.
const STATE = 0;
const AT = 1;
const LAST = 2;
const WORD = 3;
const SUM = 4;

/**
 * The module as bytes. It exports `memory`, of `pages` pages of 64 KiB for ever, and `update(state, start, end)`, which folds
 * memory[start, end) into `state` and returns the new state. The caller puts the tables at the start of the memory, table 0
 * first, and the bytes behind them.
 */
export function crc32cModule(pages: number): Uint8Array<ArrayBuffer> {
  const type = [0x60, ...vector([[I32], [I32], [I32]]), ...vector([[I32]])];
  const exported = [
    [...name('memory'), 0x02, 0],
    [...name('update'), 0x00, 0],
  ];
  const locals = vector([[...unsigned(2), I32]]);
  const body = [...locals, ...updateCode(), ...END];
  return new Uint8Array([
    ...MAGIC,
    ...VERSION,
    ...section(1, vector([type])),
    ...section(3, vector([unsigned(0)])),
    ...section(5, vector([[0x01, ...unsigned(pages), ...unsigned(pages)]])),
    ...section(7, vector(exported)),
    ...section(10, vector([[...unsigned(body.length), ...body]])),
  ]);
}

function updateCode(): Code {
  const fourBytes = [word(0), get(STATE), I32_XOR, set(WORD), lookUp(3), set(STATE)].flat();
  return [
    ...whileRoom(16, sixteenBytes()),
    ...whileRoom(4, fourBytes),
    ...whileRoom(1, oneByte()),
    ...get(STATE),
  ];
}

/** Runs `code`, which takes `size` bytes, as long as so many are left. */
function whileRoom(size: number, code: Code): Code {
  const isOver = [get(AT), constant(size), I32_ADD, get(LAST), I32_GT_U].flat();
  const step = [get(AT), constant(size), I32_ADD, set(AT)].flat();
  return [BLOCK, LOOP, isOver, branchIf(1), code, step, branch(0), END, END].flat();
}

/** The three words that do not wait for the state come first: a processor works on them while it has the one before. */
function sixteenBytes(): Code {
  return [
    [word(4), set(WORD), lookUp(11), set(SUM)],
    [word(8), set(WORD), lookUp(7), get(SUM), I32_XOR, set(SUM)],
    [word(12), set(WORD), lookUp(3), get(SUM), I32_XOR, set(SUM)],
    [word(0), get(STATE), I32_XOR, set(WORD)],
    [lookUp(15), get(SUM), I32_XOR, set(STATE)],
  ].flat(2);
}

function oneByte(): Code {
  return [
    [get(AT), [I32_LOAD8_U, ...alignedAt(0, 0)], get(STATE), I32_XOR, set(WORD)],
    [get(STATE), constant(8), I32_SHR_U, entry(0, 0), I32_XOR, set(STATE)],
  ].flat(2);
}

/** The four bytes of WORD, each in its table, from table `first` downwards. */
function lookUp(first: number): Code {
  return [
    [entry(first, 0), entry(first - 1, 1), I32_XOR],
    [entry(first - 2, 2), entry(first - 3, 3), I32_XOR, I32_XOR],
  ].flat(2);
}

/** The entry of a table for one byte of WORD, counted from the lowest. */
function entry(table: number, byte: number): Code {
  const shift = 8 * byte - 2;
  const moved = shift < 0 ? [constant(2), I32_SHL] : [constant(shift), I32_SHR_U];
  const load = [I32_LOAD, ...alignedAt(2, table * 1024)];
  return [get(WORD), ...moved, constant(255 << 2), I32_AND, load].flat();
}

/** The little-endian word at AT + offset, however it is aligned. */
function word(offset: number): Code {
  return [...get(AT), I32_LOAD, ...alignedAt(0, offset)];
}

function alignedAt(alignment: number, offset: number): Code {
  return [...unsigned(alignment), ...unsigned(offset)];
}

function get(local: number): Code {
  return [0x20, ...unsigned(local)];
}

function set(local: number): Code {
  return [0x21, ...unsigned(local)];
}

function branch(depth: number): Code {
  return [0x0c, ...unsigned(depth)];
}

function branchIf(depth: number): Code {
  return [0x0d, ...unsigned(depth)];
}

function constant(value: number): Code {
  return [0x41, ...signed(value)];
}

// --- the binary format

function section(id: number, content: Code): Code {
  return [id, ...unsigned(content.length), ...content];
}

function vector(items: readonly Code[]): Code {
  return [...unsigned(items.length), ...items.flat()];
}

function name(text: string): Code {
  return vector([...Buffer.from(text, 'utf8')].map((byte) => [byte]));
}

/** LEB128 of a number that is not negative. */
function unsigned(value: number): Code {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...unsigned(value >>> 7)];
}

/** Signed LEB128. */
function signed(value: number): Code {
  if (value >= -64 && value < 64) return [value & 0x7f];
  return [(value & 0x7f) | 0x80, ...signed(value >> 7)];
}
