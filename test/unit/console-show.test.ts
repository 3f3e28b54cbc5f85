// What does each SHOW of the console answer, and each view: columns, types, and values in text and in binary? The golden
// file has them all; `WALCAST_TEST_UPDATE=1` writes it.
import { readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { findings } from '../../src/health/findings.ts';
import { ADMIN_COMMANDS } from '../../src/status/status.ts';
import { REPORTS } from '../../src/console/show-reports.ts';
import { VIEWS } from '../../src/console/views.ts';
import { parseStatements } from '../../src/console/statement.ts';
import { sampleConsole } from '../support/console-source.ts';
import { paperSession } from '../support/console-session.ts';
import type { SessionAnswer } from '../support/console-session.ts';
import { sampleStandby, sampleStatus, sampleSync, unknownStatus } from '../support/relay-status.ts';

const GOLDEN = new URL('golden/console-show.txt', import.meta.url);

const NOTHING = { columns: [], isGrowing: false, rows: (): [] => [] };

const TYPES: ReadonlyMap<number, string> = new Map([
  [16, 'bool'],
  [19, 'name'],
  [20, 'int8'],
  [23, 'int4'],
  [25, 'text'],
  [26, 'oid'],
  [28, 'xid'],
  [869, 'inet'],
  [1009, 'text[]'],
  [1184, 'timestamptz'],
  [1186, 'interval'],
  [3220, 'pg_lsn'],
]);

/** Two standbys, the second over a Unix socket and silent; a lost slot; a policy. */
function picture(): ReturnType<typeof sampleStatus> {
  const { slots, ...rest } = sampleStatus();
  const [slot] = slots;
  return {
    ...rest,
    standbys: [
      sampleStandby({ tlsVersion: 'TLSv1.3', syncState: 'quorum', syncPriority: 1 }),
      sampleStandby({
        pid: 43,
        applicationName: 'größer, "b"',
        clientAddr: null,
        clientPort: null,
        slotName: null,
        state: 'catchup',
        replyTimeMs: null,
        writeLagSeconds: null,
        flushLagSeconds: null,
        applyLagSeconds: null,
        endToEndLag: { writeSeconds: null, flushSeconds: null, applySeconds: null },
      }),
    ],
    slots:
      slot === undefined
        ? []
        : [
            { ...slot, xmin: (1n << 32n) + 700n },
            {
              ...slot,
              name: 'slot_b',
              activePid: null,
              inactiveSinceMs: 1_700_000_000_000,
              restartLsn: rest.sync.confirmed.applyLsn,
              walStatus: 'lost',
              safeWalSize: null,
              invalidationReason: 'wal_removed',
            },
          ],
    sync: sampleSync({
      synchronousStandbyNames: 'ANY 1 (standby_a, *)',
      method: 'quorum',
      names: ['standby_a'],
      requiredStandbys: 1,
      eligibleStandbys: 1,
      alarms: ['one sentence, with "quotes"', 'another'],
    }),
  };
}

const STATEMENTS: readonly string[] = [
  ...[...REPORTS.keys()].map((name) => `SHOW ${name.toUpperCase()}`),
  ...[...VIEWS.keys()].map((name) => `SELECT * FROM ${name}`),
];

/** Without other words for the same. */
const GOLDEN_STATEMENTS: readonly string[] = STATEMENTS.filter((_, index, all) => {
  const views = [...REPORTS.values(), ...VIEWS.values()];
  return views.length === all.length && views.indexOf(views[index] ?? NOTHING) === index;
});

function described(sql: string, text: SessionAnswer, binary: SessionAnswer): string {
  // What is wrong is another room's to say.
  const rows = sql === 'SHOW FINDINGS' ? [] : text.rows;
  const lines = [`=== ${sql}: ${rows.length} rows, ${text.tag}`];
  const width = Math.max(...text.columns.map(({ name }) => name.length));
  const pad = (name: string): string => name.padEnd(width);
  for (const { name, typeOid, typeLength } of text.columns) {
    lines.push(`${pad(name)} ${TYPES.get(typeOid) ?? '?'} ${typeOid} ${typeLength}`);
  }
  for (const [index, row] of rows.entries()) {
    lines.push(`--- row ${index + 1}`);
    for (const [column, value] of row.entries()) {
      const bytes = binary.rows[index]?.[column]?.toString('hex') ?? 'NULL';
      const isText = bytes === value?.toString('hex');
      const shown = value === null ? 'NULL' : `${value.toString()}${isText ? '' : `  \\x${bytes}`}`;
      lines.push(`${pad(text.columns[column]?.name ?? '')} ${shown}`.trimEnd());
    }
  }
  return lines.join('\n');
}

it('answers each SHOW and each view as the golden file has it, by both protocols', () => {
  const session = paperSession(sampleConsole(picture));
  const text = GOLDEN_STATEMENTS.map((sql) => {
    const simple = session.ask(sql);
    const extended = session.prepare(sql);
    expect(extended.columns, sql).toEqual(simple.columns);
    expect(extended.rows, sql).toEqual(simple.rows);
    return described(sql, simple, session.prepare(sql, { binary: true }));
  }).join('\n\n');
  const wanted = `${text}\n`;
  if (process.env['WALCAST_TEST_UPDATE'] === '1') writeFileSync(GOLDEN, wanted);
  expect(readFileSync(GOLDEN, 'utf8')).toBe(wanted);
});

describe('each report', () => {
  it.each(STATEMENTS)(
    'has something to say of a relay of which nothing is known yet: %s',
    (sql) => {
      const empty = sampleConsole(unknownStatus, { history: () => null, hbaRules: () => [] });
      const { letters, columns, rows } = paperSession(empty).ask(sql);
      expect(letters).toMatch(/^TD?CZ$/);
      for (const row of rows) expect(row).toHaveLength(columns.length);
    },
  );

  it.each(STATEMENTS)('has values in binary of the length of their type: %s', (sql) => {
    const { columns, rows } = paperSession(sampleConsole(picture)).prepare(sql, { binary: true });
    for (const row of rows)
      for (const [index, value] of row.entries()) {
        const length = columns[index]?.typeLength ?? 0;
        // Of a name its letters are sent, not its room.
        if (length > 0 && length < 64 && value !== null) expect(value).toHaveLength(length);
      }
  });
});

it('says what the judge of the relay says, the worst first', () => {
  const status = sampleStatus({ state: 'draining', isDraining: true, isReady: false });
  const { rows, columns } = paperSession(sampleConsole(() => status)).ask('SHOW FINDINGS');
  const at = columns.findIndex(({ name }) => name === 'next_step');
  const wanted = findings(status, sampleConsole().nowMs());
  expect(rows.map((row) => row[at]?.toString())).toEqual(wanted.map(({ nextStep }) => nextStep));
});

it('calls a report also by the name that users of PgBouncer know, in any case, quoted or not', () => {
  const session = paperSession();
  const shown = (sql: string): unknown => session.ask(sql).rows;
  expect(shown('show clients')).toEqual(shown('SHOW STANDBYS;'));
  expect(shown('SHOW SERVERS')).toEqual(shown('SHOW "upstream"'));
  expect(shown('SHOW UPSTREAMS')).toEqual(shown('SHOW upstream'));
});

it('leads with HELP to every word that it understands, and to no other', () => {
  const { rows } = paperSession().ask('SHOW HELP');
  const commands = rows.map(([command]) => command?.toString() ?? '');
  const shown = commands.flatMap((command) =>
    command.startsWith('SHOW ') ? command.slice(5).toLowerCase().split('|') : [],
  );
  expect(shown.toSorted()).toEqual([...REPORTS.keys(), 'all', 'setting'].toSorted());
  const views = commands.flatMap((command) => / FROM (\w+)$/.exec(command)?.[1] ?? []);
  expect(views.toSorted()).toEqual([...VIEWS.keys()]);
  const admin = rows.filter(([, , isAdmin]) => isAdmin?.toString() === 't');
  expect(admin).toHaveLength(ADMIN_COMMANDS.length);
  for (const [command] of admin) {
    const words = (command?.toString() ?? '')
      .replace('pid', '42')
      .replaceAll(/[[\]]/g, '')
      .replace(' name', ' n');
    expect(() => parseStatements(words), words).not.toThrow();
  }
});

it('is described in the documentation, every word of it', () => {
  const page = readFileSync(new URL('../../docs/console.md', import.meta.url), 'utf8');
  for (const name of REPORTS.keys()) expect(page).toContain(`\`${name.toUpperCase()}\``);
  for (const name of VIEWS.keys()) expect(page).toContain(`\`${name}\``);
});

it('takes a report for no setting, and an unknown word for neither', () => {
  const session = paperSession();
  expect(session.ask('SHOW state').columns.length).toBeGreaterThan(1);
  expect(session.ask('SHOW TimeZone').rows).toEqual([[Buffer.from('UTC')]]);
  expect(session.ask('SHOW pools').error).toBe(
    '42704 unrecognized configuration parameter "pools"',
  );
});
