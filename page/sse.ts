// Where do events begin and end in a stream of text? The line format of server-sent events (WHATWG HTML, 9.2.6).

/** One event. */
export interface StreamEvent {
  /** `message` where the stream does not name it. */
  readonly name: string;
  /** The lines of data, joined by line feeds. */
  readonly data: string;
}

/** Longest event that is taken, in UTF-16 code units: a snapshot of a thousand standbys has less than a tenth of it. */
export const EVENT_LENGTH_MAX: number = 16 * 1024 * 1024;

/**
 * Cuts a stream into events, however its pieces are cut. Lines end with CR, LF or both; comments and fields that nobody
 * needs here (`id`, `retry`) are left out; an event without data is none.
 */
export class EventStreamParser {
  #rest = '';
  /** The piece before ended with CR: an LF in front of the next one belongs to it. */
  #isBehindReturn = false;
  #isFirst = true;
  #name = '';
  #data: string[] = [];
  #length = 0;

  /** The events that `piece` completes, in their order. Throws {@link RangeError} for one that is longer than any can be. */
  push(piece: string): StreamEvent[] {
    const events: StreamEvent[] = [];
    for (const line of this.#linesOf(piece)) {
      if (line === '') {
        const event = this.#finish();
        if (event !== null) events.push(event);
      } else {
        this.#field(line);
      }
    }
    return events;
  }

  #linesOf(piece: string): string[] {
    let text = piece;
    if (text === '') return [];
    if (this.#isFirst) {
      this.#isFirst = false;
      if (text.startsWith('\uFEFF')) text = text.slice(1);
    }
    if (this.#isBehindReturn && text.startsWith('\n')) text = text.slice(1);
    this.#isBehindReturn = piece.endsWith('\r');
    const lines = text.split(/\r\n|\r|\n/);
    const first = `${this.#rest}${lines[0] ?? ''}`;
    lines[0] = first;
    this.#rest = lines.pop() ?? '';
    if (this.#rest.length > EVENT_LENGTH_MAX) throw tooLong();
    return lines;
  }

  #field(line: string): void {
    const colon = line.indexOf(':');
    const name = colon < 0 ? line : line.slice(0, colon);
    const start = line[colon + 1] === ' ' ? colon + 2 : colon + 1;
    const value = colon < 0 ? '' : line.slice(start);
    if (name === 'event') this.#name = value;
    if (name !== 'data') return;
    this.#data.push(value);
    this.#length += value.length;
    if (this.#length > EVENT_LENGTH_MAX) throw tooLong();
  }

  #finish(): StreamEvent | null {
    const [name, data] = [this.#name, this.#data];
    this.#name = '';
    this.#data = [];
    this.#length = 0;
    if (data.length === 0) return null;
    return { name: name === '' ? 'message' : name, data: data.join('\n') };
  }
}

function tooLong(): RangeError {
  return new RangeError('an event is too long');
}
