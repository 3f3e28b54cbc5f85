// The console as the rest of walcast sees it: sessions on database `walcast` that ask how the relay is, and change it.
import type { AdminDesk } from './admin-desk.ts';
import { CONSOLE_DATABASE } from './client.ts';
import type { ConsoleClient } from './client.ts';
import { ConsoleSession } from './console-session.ts';
import { FIXED_PARAMETERS } from './settings.ts';
import type { ConsoleSource } from './source.ts';

/** Opens sessions. Who may have one was decided before. */
export class ConsoleOpener {
  /** Name of the database that stands for it. */
  readonly database: string = CONSOLE_DATABASE;
  /** Parameters that are its own and not the upstream's, by lower-case name. */
  readonly parameters: ReadonlyMap<string, string> = FIXED_PARAMETERS;
  readonly #source: ConsoleSource;
  readonly #desk: AdminDesk | null;

  /** `desk`: for what changes something; without one nobody may. */
  constructor(source: ConsoleSource, desk: AdminDesk | null = null) {
    this.#source = source;
    this.#desk = desk;
  }

  /** A session that begins. */
  open(client: ConsoleClient): ConsoleSession {
    return new ConsoleSession(client, this.#source, this.#desk);
  }
}
