// A helper process of the bench and the conversation with it: it is asked by name, answers once, and ends with us.
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const ANSWER_TIMEOUT_MS = 300_000;

/** The parent's end. One question at a time. */
export class HelperProcess {
  /** @type {import('node:child_process').ChildProcess} */
  #child;

  /**
   * @param {string} file beside this one
   * @param {readonly string[]} [execArgv] options of Node.js
   */
  constructor(file, execArgv = []) {
    this.#child = fork(fileURLToPath(new URL(file, import.meta.url)), [], {
      execArgv: [...execArgv],
      serialization: 'advanced',
    });
  }

  get pid() {
    return this.#child.pid ?? 0;
  }

  /**
   * Asks and waits for the answer. Rejects with the helper's own error, when it ends, and after five minutes.
   * @param {string} question
   * @param {unknown} [details]
   * @returns {Promise<any>}
   */
  ask(question, details) {
    return new Promise((resolve, reject) => {
      const child = this.#child;
      /** @param {() => void} action */
      const settle = (action) => {
        clearTimeout(timer);
        child.off('message', onMessage);
        child.off('exit', onExit);
        action();
      };
      const onMessage = (/** @type {any} */ answer) =>
        settle(() => {
          if (answer.error === undefined) resolve(answer.result);
          else reject(new Error(`${question}: ${answer.error}`));
        });
      const onExit = (/** @type {number | null} */ code) =>
        settle(() =>
          reject(new Error(`${question}: the helper process ended (exit code ${code})`)),
        );
      const timer = setTimeout(
        () => settle(() => reject(new Error(`${question}: no answer in ${ANSWER_TIMEOUT_MS} ms`))),
        ANSWER_TIMEOUT_MS,
      );
      child.on('message', onMessage);
      child.on('exit', onExit);
      child.send({ question, details });
    });
  }

  /** Ends it and waits until it is gone. */
  close() {
    const child = this.#child;
    if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
    return new Promise((resolve) => {
      child.once('exit', resolve);
      child.kill('SIGKILL');
    });
  }
}

/**
 * The helper's end: answers questions with the handler of that name. Ends when the parent is gone.
 * @param {Record<string, (details: any) => unknown>} handlers
 */
export function answerQuestions(handlers) {
  process.on('disconnect', () => process.exit(0));
  // A Ctrl-C at the terminal goes to the whole group; the parent decides when we end.
  process.on('SIGINT', () => {});
  process.on('message', (/** @type {{ question: string, details: unknown }} */ message) => {
    answer(handlers, message).catch((/** @type {unknown} */ error) => {
      process.send?.({
        error: error instanceof Error ? (error.stack ?? error.message) : String(error),
      });
    });
  });
}

/**
 * @param {Record<string, (details: any) => unknown>} handlers
 * @param {{ question: string, details: unknown }} message
 */
async function answer(handlers, { question, details }) {
  const handler = handlers[question];
  if (handler === undefined) throw new RangeError(`unknown question ${question}`);
  process.send?.({ result: await handler(details) });
}
