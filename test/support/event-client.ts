// A subscriber of /api/v1/events, as a page is one: fetch, and the stream read by the rules of text/event-stream.
import type { ChangeJson, SnapshotJson } from '../../src/http/event-types.ts';

/** One event. `event` is `comment` for a line that only says that somebody is there. */
export interface ReceivedEvent {
  readonly event: string;
  readonly id: string | null;
  readonly data: unknown;
}

/** An open stream. */
export interface EventClient {
  readonly response: Response;
  /** The next event or comment; null at the end of the stream. */
  next(): Promise<ReceivedEvent | null>;
  /** The next one of that name; those before it are left out. */
  nextOf(event: string): Promise<ReceivedEvent>;
  /** Goes away. */
  close(): Promise<void>;
}

/** Asks for the stream; `token` goes into the header. */
export async function openEvents(url: string, token?: string): Promise<EventClient> {
  const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
  return readEvents(await fetch(`${url}/api/v1/events`, { headers }));
}

/** Reads the answer to such a question. */
export function readEvents(response: Response): EventClient {
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  /** Up to here there is no end of an event. */
  let searched = 0;
  const next = async (): Promise<ReceivedEvent | null> => {
    for (;;) {
      const end = text.indexOf('\n\n', searched);
      if (end >= 0) {
        const block = text.slice(0, end);
        text = text.slice(end + 2);
        searched = 0;
        const event = eventOf(block);
        if (event !== null) return event;
        continue;
      }
      const piece = await reader?.read();
      if (piece === undefined || piece.done) return null;
      searched = Math.max(0, text.length - 1);
      text += piece.value;
    }
  };
  return {
    response,
    next,
    nextOf: async (wanted) => {
      for (;;) {
        const event = await next();
        if (event === null) throw new Error(`the stream ended before ${wanted}`);
        if (event.event === wanted) return event;
      }
    },
    close: async () => await reader?.cancel(),
  };
}

function eventOf(block: string): ReceivedEvent | null {
  const fields = new Map<string, string>();
  for (const line of block.split('\n')) {
    const colon = line.indexOf(': ');
    fields.set(line.slice(0, colon), line.slice(colon + 2));
  }
  const [event, data, comment] = [fields.get('event'), fields.get('data'), fields.get('')];
  if (comment !== undefined) return { event: 'comment', id: null, data: comment };
  if (event === undefined || data === undefined) return null;
  return { event, id: fields.get('id') ?? null, data: JSON.parse(data) };
}

/** What is known after a change, as a page takes it: throws where one has gone that was never there. */
export function applied(known: SnapshotJson, change: ChangeJson): SnapshotJson {
  const { standbys, status = known.status, ...parts } = change;
  const all = new Map(known.status.standbys.map((standby) => [standby.pid, standby]));
  for (const standby of standbys.changed) all.set(standby.pid, standby);
  for (const pid of standbys.gone) {
    if (!all.delete(pid)) throw new Error(`standby ${pid} has gone without having been there`);
  }
  return { ...known, ...parts, status: { ...status, standbys: [...all.values()] } };
}

/** Reads until what is known is as wanted, and gives it. */
export async function followUntil(
  client: EventClient,
  isWanted: (known: SnapshotJson) => boolean,
  from: SnapshotJson | null = null,
): Promise<SnapshotJson> {
  let known = from;
  while (known === null || !isWanted(known)) {
    const event = await client.next();
    if (event === null) throw new Error('the stream ended before that');
    if (event.event === 'snapshot') known = event.data as SnapshotJson;
    else if (event.event === 'change' && known !== null)
      known = applied(known, event.data as ChangeJson);
  }
  return known;
}
