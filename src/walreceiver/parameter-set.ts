// What the server reports about its session (ParameterStatus), with a bound: a server may report as often as it likes.
import { ProtocolViolation } from '../base/errors.ts';
import { UPSTREAM_PARAMETER_CHARACTERS_MAX, UPSTREAM_PARAMETERS_MAX } from '../config/limits.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import { printable } from './upstream-errors.ts';

/** Values by name as the server spells it. */
export class ParameterSet {
  readonly #values = new Map<string, string>();

  /** Throws {@link ProtocolViolation} when the server reports more or longer values than any does. */
  set(name: string, value: string): void {
    if (name.length + value.length > UPSTREAM_PARAMETER_CHARACTERS_MAX) {
      throw new ProtocolViolation(
        SQLSTATE.protocolViolation,
        `the upstream reports parameter "${printable(name.slice(0, 63))}" with ${value.length} characters`,
      );
    }
    if (!this.#values.has(name) && this.#values.size >= UPSTREAM_PARAMETERS_MAX) {
      throw new ProtocolViolation(
        SQLSTATE.protocolViolation,
        `the upstream reports more than ${UPSTREAM_PARAMETERS_MAX} parameters`,
      );
    }
    this.#values.set(name, value);
  }

  /** The value of a parameter by the name as the server spells it. */
  get(name: string): string | undefined {
    return this.#values.get(name);
  }

  /** A copy of all values, by the name as the server spells it. */
  toMap(): ReadonlyMap<string, string> {
    return new Map(this.#values);
  }
}
