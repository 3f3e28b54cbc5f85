// How figures are shown: the machine they come from, tables for people, medians and percentiles.
import { cpus, loadavg, release, totalmem } from 'node:os';

/**
 * What a reader needs to know about the machine before comparing figures.
 * @returns {Record<string, string | number>}
 */
export function machineFacts() {
  const processors = cpus();
  return {
    date: new Date().toISOString(),
    processor: processors[0]?.model.trim() ?? 'unknown',
    cores: processors.length,
    memory_gib: round(totalmem() / 2 ** 30, 1),
    kernel: release(),
    node: process.version,
    openssl: process.versions.openssl,
    load_average_1min: round(loadavg()[0] ?? 0, 2),
  };
}

/**
 * One line of facts.
 * @param {Record<string, string | number>} facts
 */
export function printFacts(facts) {
  const parts = Object.entries(facts).map(
    ([name, value]) => `${name.replaceAll('_', ' ')} ${value}`,
  );
  console.log(parts.join(' · '));
}

/**
 * A table with the columns of the first row, numbers to the right.
 * @param {readonly Record<string, string | number | null>[]} rows
 */
export function printTable(rows) {
  const [first] = rows;
  if (first === undefined) return;
  const columns = Object.keys(first);
  const cells = rows.map((row) => columns.map((column) => String(row[column] ?? '–')));
  const widths = columns.map((column, index) =>
    Math.max(column.length, ...cells.map((line) => line[index]?.length ?? 0)),
  );
  const isNumeric = columns.map((column) => rows.every((row) => typeof row[column] !== 'string'));
  const align = (/** @type {string} */ text, /** @type {number} */ index) =>
    isNumeric[index] ? text.padStart(widths[index] ?? 0) : text.padEnd(widths[index] ?? 0);
  console.log(columns.map(align).join('  ').trimEnd());
  for (const line of cells) console.log(line.map(align).join('  ').trimEnd());
}

/**
 * @param {number} value
 * @param {number} digits
 */
export function round(value, digits) {
  const factor = 10 ** digits;
  return Math.round(value * factor) / factor;
}

/**
 * The middle value; the mean of the two middle ones for an even count.
 * @param {readonly number[]} values
 */
export function median(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

/**
 * The smallest value that at least `share` of the values do not exceed.
 * @param {readonly number[]} values
 * @param {number} share between 0 and 1
 */
export function percentile(values, share) {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN;
}

/**
 * The rows of several repetitions as one: the median of every number, the first of everything else.
 * @template {Record<string, string | number | null>} Row
 * @param {readonly Row[]} rows at least one
 * @param {number} digits
 * @returns {Row}
 */
export function medianRow(rows, digits) {
  const [first] = rows;
  if (first === undefined) throw new RangeError('no rows');
  const entries = Object.entries(first).map(([name, value]) => {
    const values = rows.map((row) => row[name]).filter((entry) => typeof entry === 'number');
    return [name, typeof value === 'number' ? round(median(values), digits) : value];
  });
  return Object.fromEntries(entries);
}
