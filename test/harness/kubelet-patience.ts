// What would a container's probes come to within a time that nobody has to wait for? They ask for real, by a clock that a test moves.
import type { IContainer } from 'kubernetes-models/v1/Container';
import { ManualClock } from '../support/manual-clock.ts';
import { askHttp, ContainerProbes } from './kubelet-probes.ts';
import type { Ask } from './kubelet-probes.ts';

/** Asks `address` as often as the manifest has it in `seconds`. What they told, each thing once until it changed. */
export async function probesOver(
  seconds: number,
  container: IContainer,
  address: string,
): Promise<string[]> {
  const clock = new ManualClock();
  const told: string[] = [];
  const tell = (text: string): void => {
    if (told.at(-1) !== text) told.push(text);
  };
  const asked = new Set<Promise<unknown>>();
  const ask: Ask = (probe) => {
    const answer = askHttp(address, container, probe);
    asked.add(answer);
    return answer;
  };
  const probes = new ContainerProbes(container, {
    clock,
    ask,
    events: {
      onStarted: () => tell('started'),
      onReady: (isReady) => tell(isReady ? 'ready' : 'not ready'),
      onDead: (kind) => tell(`${kind} dead`),
    },
  });
  probes.start();
  for (let second = 0; second <= seconds; second += 1) {
    clock.advance(second === 0 ? 0 : 1_000);
    await Promise.all(asked);
    asked.clear();
    // What follows an answer is done, the next timer included.
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
  probes.stop();
  return told;
}
