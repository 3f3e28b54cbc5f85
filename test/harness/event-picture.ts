// What does somebody see who only listens to /api/v1/events? A snapshot, and every change put over it.
import type {
  ChangeJson,
  EndJson,
  SnapshotJson,
  StandbyChangesJson,
} from '../../src/http/event-types.ts';
import type { StandbyJson } from '../../src/http/api-types.ts';

/** A listener. It connects again by itself when the stream has ended. */
export class EventPicture implements AsyncDisposable {
  readonly #url: string;
  readonly #abort = new AbortController();
  readonly #listening: Promise<void>;
  #picture: SnapshotJson | null = null;
  #lastId = 0;
  #problem: string | null = null;

  constructor(url: string) {
    this.#url = url;
    this.#listening = this.#listen();
  }

  /** Everything as the events so far have it; null before the first of a connection. Throws at what cannot be understood. */
  get picture(): SnapshotJson | null {
    if (this.#problem !== null) throw new Error(this.#problem);
    return this.#picture;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort.abort();
    await this.#listening;
  }

  async #listen(): Promise<void> {
    const { signal } = this.#abort;
    while (!signal.aborted) {
      await this.#connection(signal).catch(() => {});
      this.#picture = null;
      if (!signal.aborted) await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }

  async #connection(signal: AbortSignal): Promise<void> {
    const response = await fetch(`${this.#url}/api/v1/events`, { signal });
    const type = response.headers.get('content-type') ?? '';
    if (response.body === null || !type.startsWith('text/event-stream')) return;
    this.#lastId = 0;
    let text = '';
    const decoder = new TextDecoder();
    for await (const bytes of response.body) {
      text += decoder.decode(bytes as Uint8Array, { stream: true });
      const blocks = text.split('\n\n');
      text = blocks.pop() ?? '';
      for (const block of blocks) this.#take(block);
    }
  }

  #take(block: string): void {
    const fields = new Map(
      block.split('\n').map((line) => {
        const [name = '', ...rest] = line.split(': ');
        return [name, rest.join(': ')] as const;
      }),
    );
    const event = fields.get('event');
    if (event === undefined) return;
    const data = JSON.parse(fields.get('data') ?? '') as SnapshotJson | ChangeJson | EndJson;
    if ('reason' in data) return;
    const id = Number(fields.get('id'));
    if (id <= this.#lastId) this.#problem = `event ${id} behind event ${this.#lastId}`;
    this.#lastId = id;
    if (event === 'snapshot' && 'slots' in data) this.#picture = data as SnapshotJson;
    else if (event === 'change' && this.#picture !== null)
      this.#picture = changed(this.#picture, data as ChangeJson);
    else this.#problem = `a ${event} where none is expected`;
  }
}

const RETRY_MS = 100;

function changed(before: SnapshotJson, change: ChangeJson): SnapshotJson {
  const { standbys: changes, status, ...others } = change;
  const standbys = changedStandbys(before.status.standbys, changes);
  return { ...before, ...others, status: { ...before.status, ...status, standbys } };
}

function changedStandbys(
  before: readonly StandbyJson[],
  { changed: news, gone }: StandbyChangesJson,
): StandbyJson[] {
  const byPid = new Map(before.map((one) => [one.pid, one]));
  for (const one of news) byPid.set(one.pid, one);
  for (const pid of gone) byPid.delete(pid);
  return [...byPid.values()];
}
