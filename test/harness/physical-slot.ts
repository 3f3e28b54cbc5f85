// Slots of standbys, made over the replication protocol: on a server and on walcast alike.
import type { ConnectTarget } from '../../src/demo/postgres-connect.ts';
import { openSqlSession } from '../../src/demo/sql-session.ts';

/** Creates a physical slot that reserves WAL at once. */
export async function createPhysicalSlot(
  target: ConnectTarget,
  name: string,
  major: number,
): Promise<void> {
  await using session = await openSqlSession({ ...target, replication: true });
  const options = major >= 15 ? '(RESERVE_WAL)' : 'RESERVE_WAL';
  await session.query(`CREATE_REPLICATION_SLOT "${name}" PHYSICAL ${options}`);
}
