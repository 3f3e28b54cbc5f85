// How does one matter become findings? Many subjects with the same matter are told one by one up to a bound, then as one
// more; texts that came from elsewhere are cut.
import { FINDING_NAMES_MAX, FINDING_TEXT_MAX, FINDINGS_OF_A_CODE_MAX } from '../config/limits.ts';
import type { Finding } from './finding.ts';

/** What {@link told} needs of one kind of matter. */
export interface Matter<T> {
  readonly code: string;
  readonly severity: Finding['severity'];
  readonly alert: string | null;
  /** The worst first, if one is worse than another. */
  readonly of: readonly T[];
  readonly subject: (item: T) => string;
  readonly message: (item: T) => string;
  readonly nextStep: (item: T) => string;
  /** What the others have in common: `standbys are stalled`, behind `12 more `. */
  readonly others: string;
}

/** One finding a subject, and one for all beyond the bound. */
export function told<T>(matter: Matter<T>): Finding[] {
  const { code, severity, alert, of: items } = matter;
  // One more than the bound would be told in as many lines.
  const shown = items.slice(0, FINDINGS_OF_A_CODE_MAX);
  const found = shown.map((item) =>
    finding({
      code,
      severity,
      alert,
      subject: matter.subject(item),
      message: matter.message(item),
      nextStep: matter.nextStep(item),
    }),
  );
  const rest = items.slice(FINDINGS_OF_A_CODE_MAX);
  const [first] = rest;
  if (first === undefined) return found;
  const names = namesText(rest.map(matter.subject));
  const message = `${rest.length} more ${matter.others}: ${names}`;
  found.push(
    finding({ code, severity, alert, subject: null, message, nextStep: matter.nextStep(first) }),
  );
  return found;
}

/** A finding whose texts have a bound. */
export function finding(parts: Finding): Finding {
  return { ...parts, message: cut(parts.message), nextStep: cut(parts.nextStep) };
}

/** The first few names, and how many more there are. */
export function namesText(names: readonly string[]): string {
  const more = names.length - FINDING_NAMES_MAX;
  return names.slice(0, FINDING_NAMES_MAX).join(', ') + (more > 0 ? ` and ${more} more` : '');
}

/** `1 standby`, `2 standbys`. */
export function counted(count: number, word: string): string {
  return `${count} ${word}${count === 1 ? '' : 's'}`;
}

/** Without the full stop at its end; a question stays one. */
export function withoutStop(text: string): string {
  return text.trim().replace(/\.+$/, '');
}

/** A text whose last sentence says what to do: what lies before it, and that sentence; `fallback` where there is only one. */
export function splitAdvice(text: string, fallback: string): readonly [string, string] {
  const end = text.lastIndexOf('. ');
  if (end < 0) return [withoutStop(text), fallback];
  return [text.slice(0, end), text.slice(end + 2)];
}

function cut(text: string): string {
  return text.length <= FINDING_TEXT_MAX ? text : `${text.slice(0, FINDING_TEXT_MAX - 1)}…`;
}
