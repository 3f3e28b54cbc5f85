// How is it shown that a key of the configuration takes effect without a restart?
import type { Keys, ReloadRig } from './reload-rig.ts';

/** What a test has made for one key: addresses it came to know, for instance. */
export type Made = Readonly<Record<string, unknown>>;

type Maker<T> = (rig: ReloadRig, made: Made) => T;
type Of<T> = T | Maker<T>;

/** What is seen, as it is compared. */
export type Seen = string | number | boolean | null | readonly Seen[];

/** One key: how walcast runs before the reload, what the reload changes, and what is seen of it from outside. */
export interface Effect {
  readonly before?: Of<Keys>;
  /** Done once before {@link before} is in effect: nothing of it disturbs what is seen. */
  readonly prepare?: (rig: ReloadRig) => Promise<Made | void>;
  /** The same behind it. */
  readonly arrange?: (rig: ReloadRig) => Promise<void>;
  /** Over {@link before}: this key and no other. */
  readonly after: Of<Keys>;
  readonly observe: (rig: ReloadRig) => Promise<unknown>;
  /** Seen before; left out where it would be seen after a minute only. */
  readonly old?: Of<Seen>;
  readonly now: Of<Seen>;
}

export type Effects = Readonly<Record<string, Effect>>;

/** The value, of this rig. */
export function of<T extends Seen | Keys>(value: Of<T>, rig: ReloadRig, made: Made): T {
  return isMaker(value) ? value(rig, made) : value;
}

function isMaker<T>(value: Of<T>): value is Maker<T> {
  return typeof value === 'function';
}
