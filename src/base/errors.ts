// The three families of errors, and what each one does to the process:
// a peer broke the protocol (its session ends), the world failed (retried or reported), or we are wrong (crash).
import { constants } from 'node:os';

/** Base of every error the program raises on purpose. `code` is stable and may be matched; the text may not. */
export abstract class WalcastError extends Error {
  readonly code: string;
  /** True when doing the same again later can succeed without a person changing something. */
  readonly isRetryable: boolean;

  constructor(code: string, message: string, options: { isRetryable: boolean; cause?: unknown }) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.code = code;
    this.isRetryable = options.isRetryable;
  }
}

/** Bad bytes from a peer. Ends that peer's session and nothing else. `code` is the SQLSTATE. */
export class ProtocolViolation extends WalcastError {
  constructor(sqlstate: string, message: string, options: { cause?: unknown } = {}) {
    super(sqlstate, message, { isRetryable: true, ...options });
  }
}

/** The world did not do what was asked: network, disk, another server, a configuration. */
export class OperationalError extends WalcastError {
  /** What the operator does next, one sentence, shown behind the message. */
  readonly hint: string | undefined;

  constructor(
    code: string,
    message: string,
    options: { isRetryable?: boolean; hint?: string; cause?: unknown } = {},
  ) {
    super(code, message, { isRetryable: options.isRetryable ?? false, cause: options.cause });
    this.hint = options.hint;
  }
}

/** A broken assumption of our own. Never caught except by the handler that ends the process. */
export class InvariantError extends WalcastError {
  constructor(message: string) {
    super('WALCAST_BUG', message, { isRetryable: false });
  }
}

/** Throws {@link InvariantError} when `condition` does not hold. */
export function invariant(condition: boolean, message: string): asserts condition {
  if (!condition) throw new InvariantError(message);
}

/** For the default branch of an exhaustive switch. */
export function assertNever(value: never, what: string): never {
  throw new InvariantError(`unexpected ${what}: ${String(value)}`);
}

/** The text of anything thrown. */
export function errorText(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const name = nameOfErrno(error);
  return name === null ? error.message : error.message.replace(UNNAMED, name);
}

/** The `code` of a Node.js system error (`ENOSPC` …), or null. */
export function systemErrorCode(error: unknown): string | null {
  if (error instanceof Error && 'code' in error && typeof error.code === 'string')
    return nameOfErrno(error) ?? error.code;
  return null;
}

/** What Node.js calls an error of the system that it has no name for (EDQUOT is one), in either kind of call. */
const UNNAMED =
  /^(?:UNKNOWN: unknown error|(?:Unknown system error -\d+: )?Unknown system error -\d+)/;

/** The system's name of such an error; null for any other. */
function nameOfErrno(error: Error): string | null {
  if (!('errno' in error) || !UNNAMED.test(error.message)) return null;
  const found = Object.entries(constants.errno).find(([, errno]) => errno === -Number(error.errno));
  return found?.[0] ?? null;
}
