// Goes to a host that is not followed now, to drop a slot that walcast had made there. Everything that could make it
// somebody else's slot is looked at first, as far as the server can say.
import type { Lsn } from '../pg/lsn.ts';
import { SQLSTATE } from '../pg/sqlstate.ts';
import type { KnownSlot } from './left-slots.ts';
import { withSideSession } from './side-session.ts';
import type { SideSessionOptions } from './side-session.ts';
import type { CommandRunner } from './upstream-command.ts';
import { identifyUpstream } from './upstream-identify.ts';
import { dropSlot } from './upstream-slot.ts';

/**
 * What came of it. `taken`: somebody else uses it; `in-use`: somebody does, perhaps our own dead session; `present`: that
 * server is the one that is followed; `refused`: the server does not let it go.
 */
export type ErrandOutcome =
  | { readonly kind: 'dropped' | 'present' }
  | { readonly kind: 'taken' | 'in-use' | 'refused'; readonly why: string };

/** The server that WAL streams from. */
export interface PresentServer {
  /** Numeric; null for a Unix socket. */
  readonly address: string | null;
  readonly port: number;
  /** The one in use there. */
  readonly slot: string | null;
  /** When it said something last, by the monotonic clock. */
  readonly heardAtMs: number;
}

/** What is known on this side. */
export interface ErrandFacts {
  /** Our own durable end. */
  readonly flushedLsn: Lsn;
  readonly present: PresentServer;
}

/**
 * Drops `known.slot` on that host. A slot that is beyond what was reported with it was moved by somebody else.
 * Rejects with a WalcastError when the host cannot be asked.
 */
export function dropLeftSlot(
  session: SideSessionOptions,
  known: KnownSlot,
  facts: ErrandFacts,
): Promise<ErrandOutcome> {
  const { present } = facts;
  return withSideSession(session, async (runner, address) => {
    // One server may be listed under two names, or a name may lead to another server than it did.
    const isPresent =
      address !== null &&
      present.slot === known.slot &&
      present.address === address &&
      present.port === session.host.port;
    return isPresent ? { kind: 'present' } : await dropIfOurs(runner, known, facts.flushedLsn);
  });
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
  // INVALID_LSN, which reserves nothing or is not known, is beyond nothing.
  if (identity.slotRestartLsn > (known.releasedLsn ?? flushedLsn)) {
    return { kind: 'taken', why: 'somebody else has moved it since' };
  }
  const refusal = await dropSlot(runner, known.slot);
  if (refusal === null) return { kind: 'dropped' };
  const isInUse = refusal.code === SQLSTATE.objectInUse;
  return { kind: isInUse ? 'in-use' : 'refused', why: refusal.message };
}
