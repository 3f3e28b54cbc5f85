// Everything that is fuzzed.
import type { FuzzTarget } from '../engine/target.ts';
import { CERTIFICATE, DOCUMENTS, FILES, MESSAGES, WAL_RECORDS } from './decoders.ts';
import { COMMANDS, CONSOLE_TARGET, COPYBOTH, STARTUP } from './downstream.ts';
import { HTTP } from './http.ts';
import { READ_THROUGH } from './read-through.ts';
import { SASL } from './sasl.ts';
import { SOCKETS } from './sockets.ts';
import { ACCESS, CONFIG, CONNINFO } from './texts.ts';
import { UPSTREAM } from './upstream.ts';

/** In the order in which they run. */
export const TARGETS: readonly FuzzTarget[] = [
  STARTUP,
  SASL,
  COMMANDS,
  COPYBOTH,
  CONSOLE_TARGET,
  UPSTREAM,
  READ_THROUGH,
  MESSAGES,
  WAL_RECORDS,
  DOCUMENTS,
  CERTIFICATE,
  FILES,
  CONNINFO,
  ACCESS,
  CONFIG,
  HTTP,
  SOCKETS,
];
