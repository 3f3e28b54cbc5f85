// What the commands of the campaigns share: options or help, a run of vitest with a configuration of its own, an exit code.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));

/**
 * Runs a command: reads its options, prints help where they ask for it (null) or are wrong, and resolves with the exit code.
 * @template T
 * @param {{ name: string, help: string, read: (argv: string[]) => T | null, run: (options: T) => Promise<number> }} command
 * @param {string[]} argv
 * @returns {Promise<number>}
 */
export async function runCommand({ name, help, read, run }, argv) {
  /** @type {T | null} */
  let options;
  try {
    options = read(argv);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    console.error(`walcast ${name}: ${reason}\n\n${help}`);
    return 2;
  }
  if (options === null) {
    process.stdout.write(help);
    return 0;
  }
  const worst = await run(options);
  console.log(worst === 0 ? `${name}: ok` : `${name}: FAILED, see above`);
  return worst;
}

/** @param {string} name @param {string | undefined} text @param {number} min */
export function wholeNumber(name, text, min) {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (!Number.isInteger(value) || value < min || value >= 2 ** 32)
    throw new Error(`${name} ${text}: a whole number from ${min} on is expected`);
  return value;
}

/**
 * Runs the tests of a configuration in an environment; a signal at the terminal ends them.
 * @param {string} name of the command, for messages
 * @param {string} config path of vitest's configuration
 * @param {Record<string, string>} environment
 * @returns {Promise<number>} the exit code
 */
export function runVitest(name, config, environment) {
  const vitest = join(root, 'node_modules/vitest/vitest.mjs');
  const child = spawn(process.execPath, [vitest, 'run', '-c', config], {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, NO_COLOR: '1', ...environment },
  });
  const end = (/** @type {NodeJS.Signals} */ signal) => child.kill(signal);
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, end);
  return new Promise((resolve) => {
    const ended = (/** @type {number} */ code) => {
      for (const signal of ['SIGINT', 'SIGTERM']) process.off(signal, end);
      resolve(code);
    };
    child.on('error', (error) => {
      console.error(`walcast ${name}: vitest did not start: ${error.message}`);
      ended(1);
    });
    child.on('exit', (code) => ended(code ?? 1));
  });
}
