// Which bytes is an event? (text/event-stream: WHATWG HTML, section 9.2, server-sent events). And what of a picture is other than in the
// one before it?
import type { EventName } from './event-types.ts';
import { statusText } from './pictures.ts';
import type { PictureTexts } from './pictures.ts';

/** How long a client that lost its connection waits before it comes again, milliseconds. */
const RETRY_MS = 1_000;

/** The first bytes of a stream. */
export const STREAM_BEGIN: Buffer = Buffer.from(`retry: ${RETRY_MS}\n\n`);

/** Says nothing, to whoever wants to know that somebody is there. */
export const KEEP_ALIVE: Buffer = Buffer.from(': keep-alive\n\n');

/** One event; `data` is JSON, which has no line ends in it. */
export function eventFrame(name: EventName, id: number, data: string): Buffer {
  return Buffer.from(`event: ${name}\nid: ${id}\ndata: ${data}\n\n`);
}

/** Data of `snapshot`. */
export function snapshotData(picture: PictureTexts): string {
  const { at, relay, upstream, store, slots, sync, standbys } = picture;
  const status = statusText(relay, standbys);
  return `{"at":${JSON.stringify(at)},"status":${status},"upstream":${upstream},"store":${store},"slots":${slots},"sync":${sync}}`;
}

/** Data of `change` from the one to the other; null when nothing but the time is other. */
export function changeData(before: PictureTexts, after: PictureTexts): string | null {
  const parts: string[] = [];
  if (after.relay !== before.relay) parts.push(`"status":${after.relay}`);
  for (const name of ['upstream', 'store', 'slots', 'sync'] as const) {
    if (after[name] !== before[name]) parts.push(`"${name}":${after[name]}`);
  }
  const known = new Map(before.standbys.map(({ pid, text }) => [pid, text]));
  const changed = after.standbys.filter(({ pid, text }) => known.get(pid) !== text);
  for (const { pid } of after.standbys) known.delete(pid);
  const gone = [...known.keys()];
  if (parts.length + changed.length + gone.length === 0) return null;
  const texts = changed.map(({ text }) => text);
  const standbys = `"standbys":{"changed":[${texts.join(',')}],"gone":[${gone.join(',')}]}`;
  return `{${[`"at":${JSON.stringify(after.at)}`, ...parts, standbys].join(',')}}`;
}
