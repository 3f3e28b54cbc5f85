// Do two servers hold the same rows? One digest over all tables of a database that are not the system's.
import { createHash } from 'node:crypto';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';

/** What a database holds. */
export interface TableDigest {
  /** SHA-1 (hex) over names, row counts and row digests of all tables. */
  readonly digest: string;
  readonly tables: number;
  readonly rows: number;
}

const TABLES = `
  SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'm') AND c.relpersistence = 'p'
    AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg_toast%'
  ORDER BY 1`;

/**
 * Digests every permanent user table and materialized view of `database` in one transaction. Rows count whatever their
 * order; two equal rows count twice.
 */
export async function tableDigest(
  cluster: PostgresCluster,
  database = 'postgres',
): Promise<TableDigest> {
  await using session = await cluster.session({ database });
  const hash = createHash('sha1');
  let rows = 0;
  await session.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
  const tables = (await session.query(TABLES)).map(([name]) => name ?? '');
  for (const name of tables) {
    const [[count = '', digest = ''] = []] = await session.query(
      `SELECT count(*), md5(coalesce(string_agg(m, '' ORDER BY m), '')) FROM (SELECT md5(t::text) AS m FROM ${name} t) q`,
    );
    rows += Number(count);
    hash.update(`${name} ${count} ${digest}\n`);
  }
  await session.query('COMMIT');
  return { digest: hash.digest('hex'), tables: tables.length, rows };
}
