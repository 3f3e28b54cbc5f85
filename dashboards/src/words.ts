// Which words and colours stand for states, everywhere the same?
import type { ThresholdSpec, WordSpec } from './panel-spec.ts';

const GOOD = 'green';
const BUSY = 'yellow';
const BAD = 'red';
const QUIET = 'text';

/** States of the upstream connection; their place, from 1, is the code that `stateCode` makes. */
export const UPSTREAM_STATES: readonly string[] = [
  'disconnected',
  'connecting',
  'waiting_for_wal',
  'catchup',
  'streaming',
];

/** States of a standby, in the same way. */
export const STANDBY_STATES: readonly string[] = [
  'disconnected',
  'startup',
  'catchup',
  'streaming',
  'backup',
  'stopping',
];

/** What became of a slot's WAL, in the same way. */
export const SLOT_STATES: readonly string[] = ['reserved', 'extended', 'unreserved', 'lost'];

/** What the upstream makes of the relay, in the same way. */
export const SYNC_STATES: readonly string[] = ['unknown', 'async', 'potential', 'quorum', 'sync'];

/** How the codes of {@link UPSTREAM_STATES} are shown. */
export const UPSTREAM_WORDS: readonly WordSpec[] = wordsOf(UPSTREAM_STATES, {
  disconnected: BAD,
  connecting: BUSY,
  waiting_for_wal: BAD,
  catchup: BUSY,
  streaming: GOOD,
});

/** How those of {@link STANDBY_STATES} are. */
export const STANDBY_WORDS: readonly WordSpec[] = wordsOf(STANDBY_STATES, {
  disconnected: BAD,
  startup: BUSY,
  catchup: BUSY,
  streaming: GOOD,
  backup: 'blue',
  stopping: BUSY,
});

/** How those of {@link SLOT_STATES} are. */
export const SLOT_WORDS: readonly WordSpec[] = wordsOf(SLOT_STATES, {
  reserved: GOOD,
  extended: BUSY,
  unreserved: 'orange',
  lost: BAD,
});

/** How those of {@link SYNC_STATES} are. */
export const SYNC_WORDS: readonly WordSpec[] = wordsOf(SYNC_STATES, {
  unknown: QUIET,
  async: 'blue',
  potential: BUSY,
  quorum: GOOD,
  sync: GOOD,
});

/** Of a synchronous policy. */
export const SATISFIED_WORDS: readonly WordSpec[] = [
  { value: 0, text: 'not satisfied', color: BAD },
  { value: 1, text: 'satisfied', color: GOOD },
];

/** Of a slot: whether a standby uses it. */
export const ACTIVE_WORDS: readonly WordSpec[] = [
  { value: 0, text: 'unused', color: BUSY },
  { value: 1, text: 'in use', color: GOOD },
];

/** Of the last reload of the configuration. */
export const GOOD_WORDS: readonly WordSpec[] = [
  { value: 0, text: 'refused', color: BAD },
  { value: 1, text: 'in effect', color: GOOD },
];

/** Good below `warning`, bad from `critical` on. */
export function upTo(warning: number, critical: number): readonly ThresholdSpec[] {
  return [
    { from: null, color: GOOD },
    { from: warning, color: BUSY },
    { from: critical, color: BAD },
  ];
}

/** Bad below `critical`, good from `warning` on. */
export function atLeast(critical: number, warning: number): readonly ThresholdSpec[] {
  return [
    { from: null, color: BAD },
    { from: critical, color: BUSY },
    { from: warning, color: GOOD },
  ];
}

function wordsOf(words: readonly string[], colors: Readonly<Record<string, string>>): WordSpec[] {
  return words.map((text, index) => ({ value: index + 1, text, color: colors[text] ?? QUIET }));
}
