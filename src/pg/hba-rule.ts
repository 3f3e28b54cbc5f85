// What does a rule of pg_hba.conf say? (hba.h:HbaLine)
import type { HbaWord } from './hba-words.ts';
import type { IpNetwork } from './ip-address.ts';

/** Methods that are carried out, as they are written. */
export const HBA_METHODS = ['trust', 'reject', 'scram-sha-256', 'md5', 'cert'] as const;
export type HbaMethod = (typeof HBA_METHODS)[number];

/** `clientcert`: what of a client certificate is asked for beside the method. */
export type HbaClientCert = 'verify-ca' | 'verify-full';

/** `clientname`: which part of the subject is the name of the client. */
export type HbaClientName = 'CN' | 'DN';

/** First word of a rule. */
export type HbaConnectionType = 'local' | 'host' | 'hostssl' | 'hostnossl';

/** Third word of a `host` rule. A name that begins with a dot means every host below it. */
export type HbaAddress =
  | { readonly kind: 'all' }
  | { readonly kind: 'samehost' }
  | { readonly kind: 'samenet' }
  | { readonly kind: 'network'; readonly network: IpNetwork }
  | { readonly kind: 'name'; readonly name: string };

/** One rule. */
export interface HbaRule {
  /** The file it stands in; empty when the text that was read has no name. */
  readonly source: string;
  /** Line of that file, from 1. */
  readonly line: number;
  /** The line as written, without surrounding space. */
  readonly text: string;
  readonly type: HbaConnectionType;
  readonly databases: readonly HbaWord[];
  readonly users: readonly HbaWord[];
  /** Null for `local`. */
  readonly address: HbaAddress | null;
  readonly method: HbaMethod;
  /** Null: none is asked for. `verify-full` with method `cert`, always. */
  readonly clientCert: HbaClientCert | null;
  readonly clientName: HbaClientName;
  /** Name of the map of names (pg_ident.conf); null: names have to be the same. */
  readonly map: string | null;
}
