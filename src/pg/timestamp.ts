// Timestamps on the wire: microseconds since 2000-01-01 00:00 UTC, signed 64 bits. (src/include/datatype/timestamp.h)

declare const timestampBrand: unique symbol;

/** Microseconds since the PostgreSQL epoch. */
export type PgTimestamp = bigint & { readonly [timestampBrand]: true };

const PG_EPOCH_UNIX_MS = 946_684_800_000;

/** Brands a value read from the wire. */
export function toPgTimestamp(micros: bigint): PgTimestamp {
  return BigInt.asIntN(64, micros) as PgTimestamp;
}

/** From milliseconds since 1970-01-01 UTC. */
export function pgTimestampFromUnixMs(unixMs: number): PgTimestamp {
  return toPgTimestamp(BigInt(Math.round((unixMs - PG_EPOCH_UNIX_MS) * 1000)));
}

/** To milliseconds since 1970-01-01 UTC. */
export function unixMsFromPgTimestamp(timestamp: PgTimestamp): number {
  return Number(timestamp) / 1000 + PG_EPOCH_UNIX_MS;
}
