// What follows on a value that is there at once, or in a while? Only what has to be waited for costs a turn.

/** `next` of the value: at once where it is there, else when it is. */
export function andThen<Value, Next>(
  value: Value | Promise<Value>,
  next: (value: Value) => Next | Promise<Next>,
): Next | Promise<Next> {
  return value instanceof Promise ? value.then(next) : next(value);
}
