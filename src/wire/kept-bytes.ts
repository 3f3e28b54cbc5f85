// Bytes that came and that nobody has asked for yet: those of a client that has not said who it is, in little more room than
// they need.

/** What strangers send is not kept in twice the room. */
const SPARE_BYTES_MAX = 4_096;
/** So many are kept without making room again. */
const ROOM_MIN = 256;
const EMPTY = new Uint8Array(0);

/** Keeps copies of chunks, and gives them out in pieces. */
export class KeptBytes {
  #room: Uint8Array = EMPTY;
  #start = 0;
  #end = 0;

  /** How many are kept. */
  get length(): number {
    return this.#end - this.#start;
  }

  /** All of them; a view that holds until the next call. */
  view(): Uint8Array {
    return this.#room.subarray(this.#start, this.#end);
  }

  /** Keeps a copy of `chunk` behind the others. */
  push(chunk: Uint8Array): void {
    if (this.#end + chunk.length > this.#room.length) this.#makeRoom(this.length + chunk.length);
    this.#room.set(chunk, this.#end);
    this.#end += chunk.length;
  }

  /** Lets go of the first `bytes`. */
  drop(bytes: number): void {
    this.#start += bytes;
  }

  /** A copy of all of them; none is kept any longer. */
  takeAll(): Uint8Array {
    const all = this.#room.slice(this.#start, this.#end);
    this.#room = EMPTY;
    this.#start = 0;
    this.#end = 0;
    return all;
  }

  #makeRoom(needed: number): void {
    const kept = this.view();
    const grown = new Uint8Array(Math.max(ROOM_MIN, needed + Math.min(needed, SPARE_BYTES_MAX)));
    grown.set(kept);
    this.#room = grown;
    this.#start = 0;
    this.#end = kept.length;
  }
}
