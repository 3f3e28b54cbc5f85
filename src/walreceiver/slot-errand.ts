// Goes to a host that is not followed now, to drop a slot that walcast had made there. Everything that could make it
// somebody else's slot is looked at first, as far as the server can say.
import type { Lsn } from '../pg/lsn.ts';
import { INVALID_LSN } from '../pg/lsn.ts';
import type { KnownSlot } from './left-slots.ts';
import { withSideSession } from './side-session.ts';
import type { SideSessionOptions } from './side-session.ts';
import type { CommandRunner } from './upstream-command.ts';
import { identifyUpstream } from './upstream-identify.ts';
import { dropSlot } from './upstream-slot.ts';

/** What came of it. `taken`: somebody else uses it; `refused`: the server does not let it go, in use for example. */
export type ErrandOutcome =
  | { readonly kind: 'dropped' }
  | { readonly kind: 'taken' | 'refused'; readonly why: string };

/**
 * Drops `known.slot` on that host. `flushedLsn` is our own durable end: a slot that is beyond it was never advanced by us.
 * Rejects with a WalcastError when the host cannot be asked.
 */
export function dropLeftSlot(
  session: SideSessionOptions,
  known: KnownSlot,
  flushedLsn: Lsn,
): Promise<ErrandOutcome> {
  return withSideSession(session, (runner) => dropIfOurs(runner, known, flushedLsn));
}

async function dropIfOurs(
  runner: CommandRunner,
  known: KnownSlot,
  flushedLsn: Lsn,
): Promise<ErrandOutcome> {
  const plan = { name: known.slot, action: 'leave', isKnown: true } as const;
  const { identity, isSlotMissing } = await identifyUpstream(runner, plan);
  if (isSlotMissing) return { kind: 'dropped' };
  if (identity.systemIdentifier !== known.systemIdentifier) {
    return { kind: 'taken', why: 'another cluster is there now' };
  }
  const { slotRestartLsn } = identity;
  if (slotRestartLsn !== INVALID_LSN && slotRestartLsn > flushedLsn) {
    return { kind: 'taken', why: 'it was moved beyond what walcast has' };
  }
  const refusal = await dropSlot(runner, known.slot);
  return refusal === null ? { kind: 'dropped' } : { kind: 'refused', why: refusal.message };
}
