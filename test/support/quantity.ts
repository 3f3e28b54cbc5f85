// How many bytes is a quantity of Kubernetes (`512Mi`, `50G`)?

const UNITS: ReadonlyMap<string, number> = new Map([
  ['', 1],
  ['k', 1e3],
  ['M', 1e6],
  ['G', 1e9],
  ['T', 1e12],
  ['Ki', 2 ** 10],
  ['Mi', 2 ** 20],
  ['Gi', 2 ** 30],
  ['Ti', 2 ** 40],
]);

/** Bytes; throws for what is none. */
export function bytesOfQuantity(quantity: string | number): number {
  const [, digits, unit = ''] = /^(\d+(?:\.\d+)?)([kMGT]i?|Ki)?$/.exec(String(quantity)) ?? [];
  const factor = UNITS.get(unit);
  if (digits === undefined || factor === undefined)
    throw new Error(`no quantity of bytes: ${quantity}`);
  return Number(digits) * factor;
}
