import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseLsn } from '../../src/pg/lsn.ts';
import { SUPPORTED_MAJORS, versionFacts } from '../../src/pg/server-version.ts';
import { parseReplicationCommand } from '../../src/wire/replication-command.ts';
import type { ParsedCommand, ReplicationCommand } from '../../src/wire/replication-command.ts';

const NO_COMMAND = '0A000 cannot execute SQL commands in WAL sender for physical replication';
const SYNTAX = '42601 syntax error';

function parse(sql: string, major = 15): ParsedCommand {
  return parseReplicationCommand(sql, versionFacts(major));
}

function command(sql: string, major = 15): ReplicationCommand | string {
  const parsed = parse(sql, major);
  return 'command' in parsed ? parsed.command : `${parsed.error.sqlstate} ${parsed.error.message}`;
}

describe('parseReplicationCommand', () => {
  it('reads the commands without arguments', () => {
    expect(command('IDENTIFY_SYSTEM')).toEqual({ type: 'IDENTIFY_SYSTEM' });
    expect(command(' \t\n\r\fIDENTIFY_SYSTEM ; ')).toEqual({ type: 'IDENTIFY_SYSTEM' });
    expect(command('BASE_BACKUP')).toEqual({ type: 'BASE_BACKUP' });
    expect(command('UPLOAD_MANIFEST', 17)).toEqual({ type: 'UPLOAD_MANIFEST' });
  });

  it('reads names folded, quoted, and joined by dots', () => {
    expect(command('SHOW Data_Directory_MODE')).toEqual({
      type: 'SHOW',
      name: 'data_directory_mode',
    });
    expect(command('SHOW "Mixed Case".b$1')).toEqual({ type: 'SHOW', name: 'Mixed Case.b$1' });
    expect(command('SHOW a . b')).toEqual({ type: 'SHOW', name: 'a.b' });
    expect(command('SHOW ÄÖ')).toEqual({ type: 'SHOW', name: 'ÄÖ' });
    expect(command('READ_REPLICATION_SLOT s')).toEqual({
      type: 'READ_REPLICATION_SLOT',
      slot: 's',
    });
    expect(command('SHOW')).toBe(SYNTAX);
    expect(command('SHOW a.')).toBe(SYNTAX);
    expect(command('SHOW SLOT')).toBe(SYNTAX);
  });

  it('reads TIMELINE_HISTORY', () => {
    expect(command('TIMELINE_HISTORY 4294967295')).toEqual({
      type: 'TIMELINE_HISTORY',
      timeline: 4294967295,
    });
    expect(command('TIMELINE_HISTORY 007')).toMatchObject({ timeline: 7 });
    expect(command('TIMELINE_HISTORY 0')).toBe('42601 invalid timeline 0');
    expect(command("TIMELINE_HISTORY 0 'open")).toBe('42601 invalid timeline 0');
    expect(command('TIMELINE_HISTORY -1')).toBe(SYNTAX);
    expect(command('TIMELINE_HISTORY x')).toBe(SYNTAX);
    expect(command('TIMELINE_HISTORY 4294967297')).toBe(SYNTAX);
  });

  it('reads physical START_REPLICATION', () => {
    const start = (slot: string | null, lsn: string, timeline: number | null): unknown => ({
      type: 'START_REPLICATION',
      kind: 'physical',
      slot,
      startLsn: parseLsn(lsn),
      timeline,
    });
    expect(command('START_REPLICATION 0/0')).toEqual(start(null, '0/0', null));
    expect(command('START_REPLICATION PHYSICAL fF/aB TIMELINE 3')).toEqual(start(null, 'FF/AB', 3));
    expect(command('START_REPLICATION SLOT "S x" PHYSICAL 1/00000000')).toEqual(
      start('S x', '1/0', null),
    );
    expect(command('START_REPLICATION SLOT s FFFFFFFF/FFFFFFFF TIMELINE 1')).toEqual(
      start('s', 'FFFFFFFF/FFFFFFFF', 1),
    );
  });

  it.each([
    'START_REPLICATION',
    'START_REPLICATION ZZ/1',
    'START_REPLICATION 1/',
    'START_REPLICATION /1',
    'START_REPLICATION 0 / 0',
    'START_REPLICATION 123456789/0',
    'START_REPLICATION 0/123456789',
    'START_REPLICATION 0/0 TIMELINE',
    'START_REPLICATION 0/0 TIMELINE 4294967297',
    'START_REPLICATION 0/0 TIMELINE 1/1',
    'START_REPLICATION SLOT 0/0',
    'START_REPLICATION LOGICAL 0/0',
    'START_REPLICATION TIMELINE 1 0/0',
    'START_REPLICATION SLOT s LOGICAL 0/0 TIMELINE 1',
    'START_REPLICATION SLOT s LOGICAL 0/0 ()',
    'START_REPLICATION SLOT s LOGICAL 0/0 (a b)',
    'START_REPLICATION SLOT s PHYSICAL LOGICAL 0/0',
  ])('refuses %s', (sql) => {
    expect(command(sql)).toBe(SYNTAX);
  });

  it('reads logical START_REPLICATION, options included', () => {
    const logical = { type: 'START_REPLICATION', kind: 'logical', slot: 's' };
    expect(command('START_REPLICATION SLOT s LOGICAL 0/0')).toEqual(logical);
    expect(
      command(`START_REPLICATION SLOT "s" LOGICAL 0/0 ("proto_version" '4', b, "c" 'it''s')`),
    ).toEqual(logical);
  });

  it('reads CREATE_REPLICATION_SLOT in its old form on every version', () => {
    for (const major of SUPPORTED_MAJORS) {
      expect(command('CREATE_REPLICATION_SLOT s TEMPORARY PHYSICAL RESERVE_WAL', major)).toEqual({
        type: 'CREATE_REPLICATION_SLOT',
        slot: 's',
        temporary: true,
        kind: 'physical',
        reserveWal: true,
      });
      expect(command('CREATE_REPLICATION_SLOT s LOGICAL p NOEXPORT_SNAPSHOT', major)).toEqual({
        type: 'CREATE_REPLICATION_SLOT',
        slot: 's',
        temporary: false,
        kind: 'logical',
        plugin: 'p',
      });
    }
    expect(command('CREATE_REPLICATION_SLOT s LOGICAL p TWO_PHASE', 15)).toMatchObject({
      kind: 'logical',
    });
    expect(command('CREATE_REPLICATION_SLOT s LOGICAL p TWO_PHASE', 14)).toBe(SYNTAX);
  });

  it('reads CREATE_REPLICATION_SLOT with options in parentheses from 15 on', () => {
    const reserve = (options: string, major = 15): unknown => {
      const parsed = command(`CREATE_REPLICATION_SLOT s PHYSICAL ${options}`, major);
      return typeof parsed === 'object' && 'reserveWal' in parsed ? parsed.reserveWal : parsed;
    };
    expect(reserve('')).toBe(false);
    expect(reserve('(RESERVE_WAL)')).toBe(true);
    expect(reserve('( reserve_wal )')).toBe(true);
    expect(reserve('(RESERVE_WAL true)')).toBe(true);
    expect(reserve("(RESERVE_WAL 'ON')")).toBe(true);
    expect(reserve('(RESERVE_WAL 1)')).toBe(true);
    expect(reserve('(RESERVE_WAL false)')).toBe(false);
    expect(reserve('(RESERVE_WAL off)')).toBe(false);
    expect(reserve('(RESERVE_WAL 0)')).toBe(false);
    expect(reserve('(RESERVE_WAL 2)')).toBe('42601 reserve_wal requires a Boolean value');
    expect(reserve('(RESERVE_WAL yes)')).toBe('42601 reserve_wal requires a Boolean value');
    expect(reserve('(RESERVE_WAL, RESERVE_WAL)')).toBe('42601 conflicting or redundant options');
    expect(reserve('RESERVE_WAL RESERVE_WAL')).toBe('42601 conflicting or redundant options');
    expect(reserve('(TWO_PHASE)')).toBe('42601 conflicting or redundant options');
    expect(reserve('EXPORT_SNAPSHOT')).toBe('42601 conflicting or redundant options');
    expect(reserve('(bogus)')).toBe('XX000 unrecognized option: bogus');
    expect(reserve('(BASE_BACKUP)')).toBe('XX000 unrecognized option: base_backup');
    expect(reserve('(FAILOVER)', 16)).toBe('XX000 unrecognized option: failover');
    expect(reserve('(FAILOVER)', 17)).toBe('42601 conflicting or redundant options');
    expect(reserve('(bogus)', 14)).toBe(SYNTAX);
    expect(reserve('()')).toBe(SYNTAX);
    expect(reserve('(RESERVE_WAL RESERVE_WAL)')).toBe(SYNTAX);
    expect(reserve('(RESERVE_WAL')).toBe(SYNTAX);
    expect(reserve('(RESERVE_WAL,)')).toBe(SYNTAX);
    expect(reserve('(bogus) x')).toBe(SYNTAX);
  });

  it('checks the options of logical slots as the server would', () => {
    const create = (options: string, major = 15): ReplicationCommand | string =>
      command(`CREATE_REPLICATION_SLOT s LOGICAL p ${options}`, major);
    expect(create("(SNAPSHOT 'export', TWO_PHASE)")).toMatchObject({ kind: 'logical' });
    expect(create('(SNAPSHOT use)')).toMatchObject({ kind: 'logical' });
    expect(create("(FAILOVER, SNAPSHOT 'nothing')", 17)).toMatchObject({ kind: 'logical' });
    expect(create("(SNAPSHOT 'maybe')")).toBe(
      '22023 unrecognized value for CREATE_REPLICATION_SLOT option "snapshot": "maybe"',
    );
    expect(create('(SNAPSHOT 7)')).toBe(
      '22023 unrecognized value for CREATE_REPLICATION_SLOT option "snapshot": "7"',
    );
    expect(create('(SNAPSHOT)')).toBe('42601 snapshot requires a parameter');
    expect(create('RESERVE_WAL')).toBe('42601 conflicting or redundant options');
  });

  it.each([
    'CREATE_REPLICATION_SLOT',
    'CREATE_REPLICATION_SLOT s',
    'CREATE_REPLICATION_SLOT PHYSICAL',
    'CREATE_REPLICATION_SLOT s PHYSICAL TEMPORARY',
    'CREATE_REPLICATION_SLOT s LOGICAL',
    "CREATE_REPLICATION_SLOT 's' PHYSICAL",
    'DROP_REPLICATION_SLOT',
    'DROP_REPLICATION_SLOT s now',
    'DROP_REPLICATION_SLOT WAIT',
  ])('refuses %s', (sql) => {
    expect(command(sql)).toBe(SYNTAX);
  });

  it('reads DROP_REPLICATION_SLOT', () => {
    expect(command('DROP_REPLICATION_SLOT s')).toEqual({
      type: 'DROP_REPLICATION_SLOT',
      slot: 's',
      wait: false,
    });
    expect(command('DROP_REPLICATION_SLOT "A b" WAIT;')).toEqual({
      type: 'DROP_REPLICATION_SLOT',
      slot: 'A b',
      wait: true,
    });
  });

  it('reads ALTER_REPLICATION_SLOT', () => {
    const alter = (options: string): ReplicationCommand | string =>
      command(`ALTER_REPLICATION_SLOT s ${options}`, 18);
    expect(alter('(FAILOVER false, TWO_PHASE)')).toEqual({
      type: 'ALTER_REPLICATION_SLOT',
      slot: 's',
    });
    expect(alter('(bogus)')).toBe('XX000 unrecognized option: bogus');
    expect(alter('(FAILOVER, FAILOVER)')).toBe('42601 conflicting or redundant options');
    expect(alter('(FAILOVER maybe)')).toBe('42601 failover requires a Boolean value');
    expect(alter('')).toBe(SYNTAX);
    expect(command('ALTER_REPLICATION_SLOT s (FAILOVER, TWO_PHASE)', 17)).toBe(
      'XX000 unrecognized option: two_phase',
    );
  });

  it('reads BASE_BACKUP in the form of the version, and refuses the other', () => {
    const old = "BASE_BACKUP LABEL 'it''s' PROGRESS FAST WAL NOWAIT MAX_RATE 32 MANIFEST 'yes'";
    const parenthesized =
      "BASE_BACKUP ( INCREMENTAL, LABEL 'b',  PROGRESS,  WAIT 0,  TARGET 'client')";
    for (const major of SUPPORTED_MAJORS) {
      const [right, wrong] = major < 15 ? [old, parenthesized] : [parenthesized, old];
      expect(command(right, major)).toEqual({ type: 'BASE_BACKUP' });
      expect(command(wrong, major)).toBe(SYNTAX);
    }
    expect(command('BASE_BACKUP LABEL 5', 13)).toBe(SYNTAX);
    expect(command('BASE_BACKUP ()')).toBe(SYNTAX);
  });

  it.each([
    '',
    ';',
    '   ',
    'SELECT 1',
    'FOO',
    'identify_system',
    'Identify_System',
    'IDENTIFY_SYSTEMS',
    '"IDENTIFY_SYSTEM"',
    'ALTER_REPLICATION_SLOT s (FAILOVER)',
    'UPLOAD_MANIFEST',
    '/* IDENTIFY_SYSTEM */',
    '1',
    '1/1',
    "'text'",
    'SLOT',
    '\vIDENTIFY_SYSTEM',
  ])('takes %j for SQL, which a physical connection does not execute', (sql) => {
    expect(command(sql)).toBe(NO_COMMAND);
  });

  it('knows each command from the version that brought it', () => {
    expect(command('READ_REPLICATION_SLOT s', 14)).toBe(NO_COMMAND);
    expect(command('UPLOAD_MANIFEST', 16)).toBe(NO_COMMAND);
    expect(command('ALTER_REPLICATION_SLOT s (failover)', 16)).toBe(NO_COMMAND);
    expect(command('ALTER_REPLICATION_SLOT s (failover)', 17)).toMatchObject({ slot: 's' });
    expect(command('\vIDENTIFY_SYSTEM', 17)).toEqual({ type: 'IDENTIFY_SYSTEM' });
    expect(command('SHOW LABEL', 14)).toBe(SYNTAX);
    expect(command('SHOW LABEL', 15)).toEqual({ type: 'SHOW', name: 'label' });
  });

  it.each([
    'IDENTIFY_SYSTEM; IDENTIFY_SYSTEM',
    'IDENTIFY_SYSTEM;;',
    'IDENTIFY_SYSTEM now',
    'IDENTIFY_SYSTEM -- now',
    'IDENTIFY_SYSTEM /* now */',
    "IDENTIFY_SYSTEM now 'open",
  ])('allows one command and nothing behind it: %s', (sql) => {
    expect(command(sql)).toBe(SYNTAX);
  });

  it.each(["'open", '"open', "IDENTIFY_SYSTEM 'open", 'SHOW "open', `SHOW "a""b`])(
    'names the quote that is never closed in %s',
    (sql) => {
      expect(command(sql)).toBe('42601 unterminated quoted string');
    },
  );

  it('knows no escape in quoted identifiers, on any version', () => {
    for (const major of SUPPORTED_MAJORS) {
      expect(command('SHOW "a""b"', major)).toBe(SYNTAX);
    }
  });

  it('cuts names to 63 bytes and says so, error or not', () => {
    const long = 'A'.repeat(70);
    const notice = {
      severity: 'NOTICE',
      sqlstate: '42622',
      message: `identifier "${long}" will be truncated to "${'A'.repeat(63)}"`,
    };
    expect(parse(`DROP_REPLICATION_SLOT "${long}"`)).toMatchObject({
      command: { slot: 'A'.repeat(63) },
      notices: [notice],
    });
    expect(parse(`DROP_REPLICATION_SLOT ${long}`)).toMatchObject({
      command: { slot: 'a'.repeat(63) },
      notices: [{ message: notice.message.toLowerCase() }],
    });
    expect(parse(`"${long}"`)).toMatchObject({
      error: { sqlstate: '0A000' },
      notices: [notice],
    });
    expect(parse(`DROP_REPLICATION_SLOT "${'A'.repeat(63)}"`)).toMatchObject({ notices: [] });
  });

  it('cuts names between characters', () => {
    expect(command(`DROP_REPLICATION_SLOT "${'a'.repeat(62)}üx"`)).toMatchObject({
      slot: 'a'.repeat(62),
    });
  });

  it('answers every text with a command or an error, in time proportional to its length', () => {
    const word = fc.constantFrom(
      ...'START_REPLICATION SLOT PHYSICAL LOGICAL TIMELINE CREATE_REPLICATION_SLOT ( ) , ; . \' "'.split(
        ' ',
      ),
      '0/0',
      '1',
      'x',
      'SHOW',
      'RESERVE_WAL',
      "'s'",
      '"q"',
      '\u00e4',
      '-',
    );
    const text = fc.oneof(
      fc.string(),
      fc.array(word).map((words) => words.join(' ')),
    );
    fc.assert(
      fc.property(text, fc.constantFrom(...SUPPORTED_MAJORS), (sql, major) => {
        const parsed = parse(sql, major);
        expect('command' in parsed ? '' : parsed.error.sqlstate).toMatch(
          /^(|42601|0A000|XX000|22023)$/,
        );
      }),
      { numRuns: 500 },
    );
    const started = performance.now();
    expect(command(`SHOW ${'a'.repeat(65_000)}`)).toMatchObject({ type: 'SHOW' });
    expect(command(`BASE_BACKUP (LABEL '${"''".repeat(32_000)}')`)).toMatchObject({
      type: 'BASE_BACKUP',
    });
    expect(command(`SHOW ${'a.'.repeat(32_000)}`)).toBe(SYNTAX);
    expect(command(`SHOW ${'f'.repeat(32_000)}/${'-'.repeat(32_000)}`)).toBe(SYNTAX);
    expect(performance.now() - started).toBeLessThan(2000);
  });
});
