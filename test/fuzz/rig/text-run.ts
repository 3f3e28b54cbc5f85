// A part of the program that takes bytes and gives an answer at once.
import { OperationalError, ProtocolViolation } from '../../../src/base/errors.ts';
import type { FuzzSession } from '../engine/session.ts';
import type { TargetRun } from '../engine/target.ts';

/** Takes one input. `variant`: as of the session. Errors of a peer and of the world are answers, any other is not. */
export type Feed = (bytes: Buffer, variant: number, chunk: number) => void;

/** Feeds each step as an input of its own. */
export function textRun(feed: Feed): TargetRun {
  return {
    run: ({ steps, variant, chunk }: FuzzSession): number => {
      for (const { bytes } of steps) {
        try {
          feed(Buffer.from(bytes), variant, chunk);
        } catch (error) {
          if (!(error instanceof ProtocolViolation || error instanceof OperationalError))
            throw error;
        }
      }
      return steps.length;
    },
    check: () => {},
    close: () => {},
  };
}
