// What does a judgement about a running relay look like? Plain data: the status page, the API, the console and the
// command line show the same ones.

/** How much a finding matters, the worst first. `critical`: WAL or commits stand still, or soon will; `info`: good to know. */
export const FINDING_SEVERITIES = ['critical', 'warning', 'info'] as const;
export type FindingSeverity = (typeof FINDING_SEVERITIES)[number];

/** One thing that somebody should know about a running relay. */
export interface Finding {
  /** Which kind of thing it is; one of a fixed list, so that a program may react to it. */
  readonly code: string;
  readonly severity: FindingSeverity;
  /** application_name of a standby, name of a slot, role of a certificate …; null: the relay itself. */
  readonly subject: string | null;
  /** What is the matter, with its figures; a sentence without its full stop. May hold names that peers chose. */
  readonly message: string;
  /** What to do next, one sentence. */
  readonly nextStep: string;
  /** The alert of the same meaning, whose page is docs/runbooks/<alert>.md; null when there is none. */
  readonly alert: string | null;
}
