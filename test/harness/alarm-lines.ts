// Which lines of a server's log tell that it was given something wrong?
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';

/** Lines that match `pattern`, from `mark` of the log on, each with the name of the server. */
export function alarmLines(server: PostgresCluster, pattern: RegExp, mark = 0): string[] {
  return server.log
    .textFrom(mark)
    .split('\n')
    .filter((line) => pattern.test(line))
    .map((line) => `${server.name} says: ${line}`);
}
