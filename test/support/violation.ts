// What a decoder says about bytes that it refuses.
import { ProtocolViolation } from '../../src/base/errors.ts';

/** SQLSTATE and message of the violation that `run` throws; null when it takes what it was given. */
export function violation(run: () => unknown): string | null {
  try {
    run();
  } catch (error) {
    if (error instanceof ProtocolViolation) return `${error.code} ${error.message}`;
    throw error;
  }
  return null;
}
