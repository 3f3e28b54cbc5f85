// Plain SQL for the demo and the tests: one statement text in, rows of text out. (simple query protocol)
import { encodeQuery } from '../wire/frontend-messages.ts';
import { connectPostgres } from './postgres-connect.ts';
import type { ConnectTarget, PostgresClient } from './postgres-connect.ts';

/** One session. Statements run one after the other, in the order they were given. */
export class SqlSession implements AsyncDisposable {
  readonly #client: PostgresClient;
  #previous: Promise<unknown> = Promise.resolve();

  constructor(client: PostgresClient) {
    this.#client = client;
  }

  /**
   * Runs `sql`, which may hold several statements, and gives the rows of all of them as text; NULL is the empty text.
   * Rejects with OperationalError whose code is the SQLSTATE; the session stays usable when the server's does.
   */
  query(sql: string): Promise<string[][]> {
    const result = this.#previous.then(() => this.#run(sql));
    this.#previous = result.catch(() => {});
    return result;
  }

  /** The only value of the only row. Throws RangeError when there is another number of rows. */
  async value(sql: string): Promise<string> {
    const rows = await this.query(sql);
    const value = rows[0]?.[0];
    if (rows.length !== 1 || value === undefined) {
      throw new RangeError(`one value expected, got ${rows.length} rows: ${sql}`);
    }
    return value;
  }

  close(): void {
    this.#client.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  async #run(sql: string): Promise<string[][]> {
    this.#client.send(encodeQuery(sql));
    const rows: string[][] = [];
    let failure: Error | null = null;
    for (;;) {
      const message = await this.#client.next();
      switch (message.type) {
        case 'DataRow':
          rows.push(message.values.map((value) => (value === null ? '' : decodeText(value))));
          break;
        case 'ErrorResponse':
          failure ??= this.#client.refusal(message.fields);
          break;
        case 'ReadyForQuery':
          if (failure !== null) throw failure;
          return rows;
        case 'RowDescription':
        case 'CommandComplete':
        case 'EmptyQuery':
          break;
        default:
          throw this.#client.unexpected(message);
      }
    }
  }
}

/** Connects and logs in. Rejects with OperationalError. */
export async function openSqlSession(target: ConnectTarget): Promise<SqlSession> {
  return new SqlSession(await connectPostgres(target));
}

function decodeText(value: Uint8Array): string {
  return Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('utf8');
}
