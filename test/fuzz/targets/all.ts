// Everything that is fuzzed.
import type { FuzzTarget } from '../engine/target.ts';
import { COMMANDS, CONSOLE_TARGET, COPYBOTH, STARTUP } from './downstream.ts';

/** In the order in which they run. */
export const TARGETS: readonly FuzzTarget[] = [STARTUP, COMMANDS, COPYBOTH, CONSOLE_TARGET];
