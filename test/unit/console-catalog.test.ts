// What do psql's own questions to the system catalogue come to? The questions are as psql 15 and 18 send them.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readCatalogSelect } from '../../src/console/catalog-syntax.ts';
import { tokenizeStatements } from '../../src/console/tokens.ts';
import type { Token } from '../../src/console/tokens.ts';
import { VIEWS } from '../../src/console/views.ts';
import { paperSession } from '../support/console-session.ts';

const NAMES = [...VIEWS.keys()];

function rows(sql: string): (string | null)[][] {
  const { rows: answered, error } = paperSession().ask(sql);
  expect(error).toBeNull();
  return answered.map((row) => row.map((value) => value?.toString() ?? null));
}

const LIST = `SELECT n.nspname as "Schema",
  c.relname as "Name",
  CASE c.relkind WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' END as "Type",
  pg_catalog.pg_get_userbyid(c.relowner) as "Owner"
FROM pg_catalog.pg_class c
     LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam
WHERE c.relkind IN (KINDS)
      AND n.nspname <> 'pg_catalog'
      AND n.nspname !~ '^pg_toast'
      AND n.nspname <> 'information_schema'
  AND pg_catalog.pg_table_is_visible(c.oid)
ORDER BY 1,2;`;

const LOOKUP = `SELECT c.oid,
  n.nspname,
  c.relname
FROM pg_catalog.pg_class c
     LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname OPERATOR(pg_catalog.~) PATTERN COLLATE pg_catalog.default
  AND pg_catalog.pg_table_is_visible(c.oid)
ORDER BY 2, 3;`;

const COMPLETION = `SELECT c.relname, NULL::pg_catalog.text FROM pg_catalog.pg_class c WHERE c.relkind IN ('r', 'S', 'v', 'm', 'f', 'p') AND (c.relname) LIKE PATTERN AND pg_catalog.pg_table_is_visible(c.oid)
UNION ALL
SELECT NULL::pg_catalog.text, n.nspname FROM pg_catalog.pg_namespace n WHERE n.nspname LIKE 'x%' AND n.nspname NOT LIKE E'pg\\\\_%'
LIMIT 1000`;

describe('\\d', () => {
  it('lists the views, and as nothing else', () => {
    const views = NAMES.map((name) => ['pg_catalog', name, 'view', null]);
    expect(rows(LIST.replace('KINDS', "'r','p','v','m','S','f',''"))).toEqual(views);
    expect(rows(LIST.replace('KINDS', "'v',''"))).toEqual(views);
    expect(rows(LIST.replace('KINDS', "'r','p',''"))).toEqual([]);
  });

  it('of a name finds it, by pattern, and all of its columns', () => {
    const found = rows(LOOKUP.replace('PATTERN', () => "'^(pg_stat.*)$'"));
    expect(found.map(([, , name]) => name)).toEqual([
      'pg_stat_replication',
      'pg_stat_wal_receiver',
    ]);
    expect(rows(LOOKUP.replace('PATTERN', () => "'^(nothing)$'"))).toEqual([]);
    const oid = found[1]?.[0] ?? '';
    const [details] = rows(`SELECT c.relchecks, c.relkind, c.relhasindex, false AS relhasoids, '',
      CASE WHEN c.reloftype = 0 THEN '' ELSE c.reloftype::pg_catalog.regtype::pg_catalog.text END, c.relpersistence, am.amname
      FROM pg_catalog.pg_class c
       LEFT JOIN pg_catalog.pg_class tc ON (c.reltoastrelid = tc.oid)
      LEFT JOIN pg_catalog.pg_am am ON (c.relam = am.oid)
      WHERE c.oid = '${oid}';`);
    expect(details).toEqual(['0', 'v', 'f', 'f', null, null, 'p', null]);
    const columns = rows(`SELECT a.attname,
      pg_catalog.format_type(a.atttypid, a.atttypmod),
      (SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid, true)
       FROM pg_catalog.pg_attrdef d
       WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.atthasdef),
      a.attnotnull,
      (SELECT c.collname FROM pg_catalog.pg_collation c, pg_catalog.pg_type t
       WHERE c.oid = a.attcollation AND t.oid = a.atttypid) AS attcollation,
      a.attidentity,
      a.attgenerated
    FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = '${oid}' AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attnum;`);
    expect(columns).toHaveLength(15);
    expect(columns[0]).toEqual(['pid', 'integer', null, 'f', null, '', '']);
    expect(columns[7]?.slice(0, 2)).toEqual(['last_msg_send_time', 'timestamp with time zone']);
  });
});

describe('completion', () => {
  it.each([
    ["'pg\\_stat\\_w%'", ['pg_stat_wal_receiver']],
    ["'pg\\_%'", NAMES],
    ["E'pg\\\\_stat\\\\_r%'", ['pg_stat_replication']],
    ["'x%'", []],
  ])('of a relation that begins with %s', (pattern, wanted) => {
    // A replacement of its own meaning may stand in a pattern.
    const sql = COMPLETION.replace('PATTERN', () => pattern);
    expect(rows(sql)).toEqual(wanted.map((name) => [name, null]));
  });

  it('of a column, of the relation that was named', () => {
    const sql = `SELECT a.attname, NULL::pg_catalog.text FROM pg_catalog.pg_attribute a, pg_catalog.pg_class c WHERE c.oid = a.attrelid and a.attnum > 0 and not a.attisdropped AND (a.attname) LIKE 'active%' AND c.relname = 'pg_replication_slots' AND pg_catalog.pg_table_is_visible(c.oid)
	LIMIT 1000`;
    expect(rows(sql).map(([name]) => name)).toEqual(['active', 'active_pid']);
  });

  it('of SHOW, of reports and settings alike', () => {
    const sql = (beginning: string): string =>
      `SELECT pg_catalog.lower(name) FROM pg_catalog.pg_settings  WHERE pg_catalog.lower(name) LIKE pg_catalog.lower('${beginning}%')
	LIMIT 1000`;
    expect(rows(sql('sta'))).toEqual([
      ['standard_conforming_strings'],
      ['standbys'],
      ['state'],
      ['stats'],
    ]);
    expect(rows(sql('timez'))).toEqual([['timezone']]);
    const set = sql('').replace('WHERE', "WHERE context IN ('user', 'superuser') AND");
    expect(rows(set).flat()).not.toContain('state');
  });

  it('of parameters has settings alone', () => {
    const sql = `SELECT s.name AS "Parameter", pg_catalog.current_setting(s.name) AS "Value"
FROM pg_catalog.pg_settings s
WHERE pg_catalog.lower(s.name) OPERATOR(pg_catalog.~) '^(.*sty.*)$' COLLATE pg_catalog.default
ORDER BY 1;`;
    expect(rows(sql)).toEqual([
      ['datestyle', 'ISO, MDY'],
      ['intervalstyle', 'postgres'],
    ]);
  });
});

it('names the types of a result to \\gdesc', () => {
  const sql = `SELECT name AS "Column", pg_catalog.format_type(tp, tpm) AS "Type"
FROM (VALUES ('pid','23'::pg_catalog.oid,-1),
  ('it''s','1009'::pg_catalog.oid,-1),
  ('?','999'::pg_catalog.oid,-1)) s(name, tp, tpm)`;
  expect(rows(sql)).toEqual([
    ['pid', 'integer'],
    ["it's", 'text[]'],
    ['?', '???'],
  ]);
});

it('has the array type of its columns for a driver that asks for array types', () => {
  const sql = `
    select b.oid, b.typarray
    from pg_catalog.pg_type a
    left join pg_catalog.pg_type b on b.oid = a.typelem
    where a.typcategory = 'A'
    group by b.oid, b.typarray
    order by b.oid
  `;
  expect(rows(sql)).toEqual([['25', '1009']]);
  const { rows: binary } = paperSession().prepare(sql, { binary: true });
  expect(binary).toEqual([[Buffer.from('00000019', 'hex'), Buffer.from('000003f1', 'hex')]]);
});

it.each([
  'SELECT * FROM pg_class',
  'SELECT relname FROM pg_class',
  'SELECT count(*) FROM pg_catalog.pg_class',
  'SELECT rolname FROM pg_catalog.pg_roles',
  'SELECT datname FROM pg_stat_database',
  'SELECT pg_catalog.pg_get_userbyid(10)',
  "SELECT relname FROM pg_catalog.pg_class WHERE relname ~ 'a' AND relname ~ 'b' AND relname ~ 'c' AND relname ~ 'd' AND relname ~ 'e' AND relname ~ 'f' AND relname ~ 'g' AND relname ~ 'h' AND relname ~ 'i'",
  "SELECT relname FROM pg_catalog.pg_class WHERE relname ~ 'a' AND relname ~ 'b' AND relname ~ 'c'",
  `SELECT relname FROM pg_catalog.pg_class WHERE relname ~ '${'a'.repeat(101)}'`,
  "SELECT relname FROM pg_catalog.pg_class WHERE relname ~ '(([a-z_]{1,9}){1,9}){1,9}'",
  'SELECT relname FROM pg_catalog.pg_class WHERE relname = $1',
  "SELECT relname FROM pg_catalog.pg_class WHERE relname LIKE '%replication%'",
  "SELECT relname FROM pg_catalog.pg_class WHERE relname LIKE 'pg_stat%'",
  "SELECT relname FROM pg_catalog.pg_class WHERE relname = 'pg_stat_replication' OR oid = '10001'",
])('is not answered with what would look like an answer: %s', (sql) => {
  const { letters, error } = paperSession().ask(sql);
  expect(letters).toBe('EZ');
  expect(error).toMatch(/^0A000 /);
});

it('lists the one database that there is to \\l, whatever letters are escaped in the question', () => {
  const sql = `SELECT d.datname as "Name",
       pg_catalog.pg_get_userbyid(d.datdba) as "Owner",
       pg_catalog.pg_encoding_to_char(d.encoding) as "Encoding",
       pg_catalog.array_to_string(d.datacl, E'\\n') AS "Access privileges"
FROM pg_catalog.pg_database d
ORDER BY 1;`;
  expect(rows(sql)).toEqual([['walcast', null, 'UTF8', null]]);
  expect(rows("SELECT E'a\\\\b\\n\\'''\\%'")).toEqual([["a\\b\n''%"]]);
});

it('refuses to meet every setting with one pattern after the other', () => {
  const pattern = `^(${'.*.*'.repeat(23)}x)$`;
  const one = `SELECT lower(name) FROM pg_catalog.pg_settings WHERE name ~ '${pattern}' AND name ~ '${pattern}'`;
  const session = paperSession();
  expect(session.ask(one).error).toBeNull();
  const { letters, error } = session.ask(Array(8).fill(one).join(';'));
  expect(letters).toMatch(/^(?:TC){1,7}EZ$/);
  expect(error).toMatch(/^54000 /);
});

it('looks at each word of a long question a bounded number of times', () => {
  let looks = 0;
  const counted = (token: Token): Token => ({
    kind: token.kind,
    get text() {
      looks += 1;
      return token.text;
    },
  });
  for (const operator of ['=', 'IN (', '~', 'LIKE', 'OPERATOR(pg_catalog.~)', ') =']) {
    const condition = `oid ${operator} `;
    const sql = `a.relname FROM pg_catalog.pg_class WHERE ${condition.repeat(140)}`;
    const [words = []] = tokenizeStatements(sql);
    looks = 0;
    readCatalogSelect(words.map(counted));
    expect(looks / words.length, operator).toBeLessThan(150);
  }
});

describe('a question that only begins like one of psql', () => {
  const words = fc.constantFrom(
    ...`WHERE AND OR NOT ( ) , ; . = <> ~ LIKE OPERATOR(pg_catalog.~) IN UNION SELECT FROM JOIN ON c.oid relname relkind attrelid nspname name context 'v' '^(a|b)*$' '[' 'pg\\_%' E'\\\\' 10001 1e9 ''`.split(
      ' ',
    ),
  );
  const beginnings = fc.constantFrom(
    'SELECT c.relname FROM pg_catalog.pg_class c WHERE',
    'SELECT a.attname, pg_catalog.format_type(a.atttypid) FROM pg_catalog.pg_attribute a WHERE',
    'SELECT pg_catalog.lower(name) FROM pg_catalog.pg_settings WHERE',
    'SELECT name AS "Column", 1 AS "Type" FROM (VALUES (',
    'SELECT c.relchecks,',
  );

  it('is answered with rows, or with one error', () => {
    const session = paperSession();
    fc.assert(
      fc.property(beginnings, fc.array(words, { maxLength: 20 }), (beginning, rest) => {
        const sql = `${beginning} ${rest.join(' ')}`;
        expect(session.ask(sql).letters).toMatch(/^(?:TD?C)*E?Z$/);
        expect(session.prepare(sql, { binary: true }).letters).toMatch(/^(?:1tT2D?C|1?t?2?E)Z$/);
      }),
      { numRuns: 300 },
    );
  });
});
