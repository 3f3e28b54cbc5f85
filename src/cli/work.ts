// What every long offline work has around it: a line that shows how far it is, and an end by Ctrl-C in good order.
import { EXIT } from './command.ts';
import type { CommandContext } from './command.ts';
import { ProgressLine } from './progress-line.ts';

/**
 * Resolves to what `work` gave, or to the exit code 1 when a signal ended it; a second signal ends the process, where a
 * disk lets nobody go. Rejects with what `work` rejects with.
 */
export async function withProgress<T>(
  context: CommandContext,
  title: string,
  work: (line: ProgressLine, signal: AbortSignal) => Promise<T>,
): Promise<T | typeof EXIT.failure> {
  const stop = new AbortController();
  let release: () => void = () => {};
  release = context.onSignal((signal) => {
    if (signal === 'SIGHUP') return;
    stop.abort();
    release();
  });
  const line = new ProgressLine(
    {
      clock: context.clock,
      isTerminal: context.isErrorTerminal === true,
      write: (text) => context.printError(text),
    },
    title,
  );
  try {
    return await work(line, stop.signal);
  } catch (error) {
    if (!stop.signal.aborted) throw error;
    line.end();
    context.printError(`walcast ${title}: interrupted\n`);
    return EXIT.failure;
  } finally {
    line.end();
    release();
  }
}
