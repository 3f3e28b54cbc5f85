// A list in random order.

/** A copy of `list` in random order, every order as likely as any other (Fisher and Yates). 0 ≤ random() < 1. */
export function shuffled<T>(list: readonly T[], random: () => number): T[] {
  const rest = [...list];
  const order: T[] = [];
  while (rest.length > 0) order.push(...rest.splice(Math.floor(random() * rest.length), 1));
  return order;
}
