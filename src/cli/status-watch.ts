// The same picture again and again: drawn over itself on a terminal until a key or a signal ends it, whatever becomes of
// the walcast meanwhile.
import type { Clock } from '../base/clock.ts';
import { errorText, OperationalError } from '../base/errors.ts';
import { ageText } from '../base/human-text.ts';
import { STATUS_WATCH_MS } from '../config/limits.ts';
import { EXIT } from './command.ts';
import type { CommandContext } from './command.ts';
import { inColours } from './paint.ts';
import { printable } from './plain-text.ts';
import type { StatusRoom } from './status-view.ts';

const HOME = '\x1b[H';
const CLEAR_SCREEN = `${HOME}\x1b[2J`;
const CLEAR_TO_END_OF_LINE = '\x1b[K';
const CLEAR_BELOW = '\x1b[J';

/** Control-C, which a terminal that gives single keys does not turn into a signal. */
const INTERRUPT_KEY = '\x03';

/** Where nobody knows how large the terminal is. */
const USUAL_ROOM: StatusRoom = { columns: 80, rows: 24 };

/** What is watched: asks, and gives what to show in so much room. */
export type Asking = () => Promise<(room: StatusRoom) => string>;

/** What was shown last, and since when there is nothing newer. */
interface Last {
  readonly draw: (room: StatusRoom) => string;
  readonly atMs: number;
}

/**
 * Asks every two seconds and shows what came. Rejects when the first question has no answer; later ones are told above the
 * last picture, and asked again.
 */
export async function watch(
  context: CommandContext,
  { ask, isScreen }: { readonly ask: Asking; readonly isScreen: boolean },
): Promise<number> {
  let stop: () => void = () => {};
  const stopped = new Promise<'stopped'>((resolve) => {
    stop = () => resolve('stopped');
  });
  const releases = [context.onSignal(stop)];
  if (isScreen && context.onKey !== undefined) {
    releases.push(
      context.onKey((key) => {
        if (key === 'q' || key === 'Q' || key === INTERRUPT_KEY) stop();
      }),
    );
  }
  let isDrawn = false;
  try {
    const first = await Promise.race([stopped, ask()]);
    if (first === 'stopped') return EXIT.ok;
    let last: Last = { draw: first, atMs: context.clock.nowMs() };
    show(context, { isScreen, isFirst: true }, last.draw(roomOf(context, isScreen)));
    isDrawn = isScreen;
    for (;;) {
      const next = await Promise.race([stopped, delay(context.clock, STATUS_WATCH_MS)]);
      if (next === 'stopped') return EXIT.ok;
      const answer = await Promise.race([stopped, tried(ask)]);
      if (answer === 'stopped') return EXIT.ok;
      last = showNext(context, { isScreen, answer, last });
    }
  } finally {
    for (const release of releases) release();
    // What comes next begins a line of its own.
    if (isDrawn) context.print('\n');
  }
}

/** What to draw, or why there is nothing new. */
type Answer = { readonly draw: Last['draw'] } | { readonly reason: string };

async function tried(ask: Asking): Promise<Answer> {
  try {
    return { draw: await ask() };
  } catch (error) {
    if (!(error instanceof OperationalError)) throw error;
    return { reason: printable(errorText(error)) };
  }
}

function showNext(
  context: CommandContext,
  { isScreen, answer, last }: { isScreen: boolean; answer: Answer; last: Last },
): Last {
  const nowMs = context.clock.nowMs();
  if ('draw' in answer) {
    show(context, { isScreen, isFirst: false }, answer.draw(roomOf(context, isScreen)));
    return { draw: answer.draw, atMs: nowMs };
  }
  if (!isScreen) {
    context.printError(`walcast status: ${answer.reason}; trying again\n`);
    return last;
  }
  const { columns, rows } = roomOf(context, true);
  const old = `NO ANSWER for ${ageText(nowMs - last.atMs)}, trying again; what is below is as old. ${answer.reason}`;
  const below = last.draw({ columns, rows: rows === null ? null : Math.max(1, rows - 1) });
  show(context, { isScreen, isFirst: false }, `${old.slice(0, columns ?? undefined)}\n${below}`);
  return last;
}

/** One line of the screen stays for the cursor and what tells how to leave. */
function roomOf(context: CommandContext, isScreen: boolean): StatusRoom {
  if (!isScreen) return { columns: null, rows: null };
  const { columns, rows } = context.screenSize?.() ?? USUAL_ROOM;
  return { columns, rows: rows === null ? null : Math.max(1, rows - 1) };
}

function show(
  context: CommandContext,
  { isScreen, isFirst }: { readonly isScreen: boolean; readonly isFirst: boolean },
  text: string,
): void {
  if (!isScreen) {
    context.print(text);
    return;
  }
  const painted = hasColours(context) ? inColours(text) : text;
  // Drawn over what is there: clearing the whole screen each time flickers. A line is cleared before it is written: behind one
  // that reaches the edge the cursor stands on its last character still.
  const lines = painted.replaceAll('\n', `\n${CLEAR_TO_END_OF_LINE}`);
  const footer = context.onKey === undefined ? '' : 'q: quit';
  const start = isFirst ? CLEAR_SCREEN : `${HOME}${CLEAR_TO_END_OF_LINE}`;
  context.print(`${start}${lines}${footer}${CLEAR_BELOW}`);
}

/** As https://no-color.org asks, and for terminals that say they have none. */
function hasColours({ env }: CommandContext): boolean {
  return (env['NO_COLOR'] ?? '') === '' && env['TERM'] !== 'dumb';
}

function delay(clock: Clock, ms: number): Promise<'elapsed'> {
  return new Promise((resolve) => {
    clock.setTimer(ms, () => resolve('elapsed'));
  });
}
