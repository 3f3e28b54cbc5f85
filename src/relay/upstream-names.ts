// What does the upstream's own synchronous_standby_names mean for us, and may our name satisfy commits that wait for
// somebody else?
import type { Log } from '../base/log.ts';
import type { UpstreamSyncNames } from '../status/status.ts';
import { syncMembershipIn } from '../syncrep/standby-names.ts';

/** The setting's name, as it is asked for. */
export const SYNC_NAMES_SETTING = 'synchronous_standby_names';

/** What the answer is held against. */
export interface OwnName {
  readonly applicationName: string;
  readonly hasPolicy: boolean;
  /** Names of the cluster's own members, where discovery knows them. */
  readonly memberNames: readonly string[];
}

/** The upstream's word, as of the last time it was asked. */
export class UpstreamNames {
  readonly #log: Log;
  #text: string | null = null;
  #asOfMs = 0;
  #said: string | null = null;

  constructor(log: Log) {
    this.#log = log;
  }

  /** A server was identified at `wallMs`; `text` is what it answered, undefined when it did not. */
  identified(text: string | undefined, wallMs: number): void {
    this.#text = text ?? null;
    this.#asOfMs = wallMs;
  }

  /** Null until a server was asked, and where it does not say. */
  status(own: OwnName): UpstreamSyncNames | null {
    if (this.#text === null) return null;
    return {
      synchronousStandbyNames: this.#text,
      membership: syncMembershipIn(this.#text, own.applicationName),
      asOfMs: this.#asOfMs,
    };
  }

  /** Why our application_name may satisfy commits that wait for somebody else; null when it cannot. */
  clash(own: OwnName): string | null {
    const name = own.applicationName;
    const isMember = own.memberNames.some((other) => other.toLowerCase() === name.toLowerCase());
    if (isMember) {
      return `our application_name "${name}" is that of a member of the upstream's cluster: commits that wait for that server take our word for its own. Set upstream.application_name to a name of our own.`;
    }
    if (own.hasPolicy || this.status(own)?.membership !== 'named') return null;
    return `synchronous_standby_names of the upstream ('${this.#text ?? ''}') names "${name}", our application_name, and walcast has no synchronous_standby_names: such commits wait until WAL is on the disk of walcast, not until a standby has it. If that name means another server, set upstream.application_name to a name of our own.`;
  }

  /** Says a clash in the log, each once in a row. */
  say(own: OwnName): void {
    const clash = this.clash(own);
    if (clash !== null && clash !== this.#said) this.#log.warn(clash);
    this.#said = clash;
  }
}
