// Do our readers of startup packets, messages and commands say what real servers say to the same bytes?
import { createHash, createHmac, pbkdf2Sync } from 'node:crypto';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createPrimary } from '../../src/demo/postgres-cluster.ts';
import type { PostgresCluster } from '../../src/demo/postgres-cluster.ts';
import { serverUser } from '../../src/demo/postgres-user.ts';
import { openWorkspace } from '../../src/demo/postgres-workspace.ts';
import type { Workspace } from '../../src/demo/postgres-workspace.ts';
import { sanitizeApplicationName } from '../../src/pg/application-name.ts';
import { versionFacts } from '../../src/pg/server-version.ts';
import { decodeFrontendMessage } from '../../src/wire/frontend-messages.ts';
import { parseReplicationCommand } from '../../src/wire/replication-command.ts';
import { decodeStandbyStatusUpdate } from '../../src/wire/replication-messages.ts';
import { saslprep } from '../../src/wire/saslprep.ts';
import {
  parseReplicationParameter,
  parseStartupOptions,
} from '../../src/wire/startup-parameters.ts';
import { decodeInitialMessage } from '../../src/wire/startup.ts';
import { COMMAND_SAMPLES } from '../support/command-samples.ts';
import { cstr, i32, message, packet, raw } from '../support/naive-writer.ts';
import { openRawSession, rawFields, startup } from '../support/raw-session.ts';
import type { RawMessage, RawSession } from '../support/raw-session.ts';
import { installedMajors } from '../support/requirements.ts';
import { violation } from '../support/violation.ts';

/** What reading can refuse; whatever else a server answers comes from doing what was read. */
const READING_ERRORS = /^(42601|0A000 cannot execute SQL|XX000 unrecognized option|22023 unrec)/;

function said(messages: readonly RawMessage[], type: 'E' | 'N'): string[] {
  return messages
    .filter((each) => each.type === type)
    .map((each) => rawFields(each.body))
    .map((fields) => `${fields['C']} ${fields['M']}`);
}

describe.each(installedMajors())('PostgreSQL %i', (major) => {
  const facts = versionFacts(major);
  let workspace: Workspace;
  let primary: PostgresCluster;
  let session: RawSession;

  beforeAll(async () => {
    workspace = await openWorkspace(await serverUser());
    primary = await createPrimary(workspace, { major, name: 'primary' });
    await primary.start();
    session = await login({ replication: 'true' });
  });

  afterAll(async () => {
    session.close();
    await workspace.close();
  });

  async function login(parameters: Record<string, string>): Promise<RawSession> {
    const opened = await openRawSession(primary.target());
    opened.send(startup({ user: primary.target().user, database: 'postgres', ...parameters }));
    expect((await opened.until('ZE')).at(-1)?.type).toBe('Z');
    return opened;
  }

  /** The server's refusal of a first packet, null when it goes on. */
  async function startupRefusal(bytes: Uint8Array): Promise<string | null> {
    const opened = await openRawSession(primary.target());
    opened.send(bytes);
    const answer = await opened.until('ZE');
    opened.close();
    return said(answer, 'E')[0] ?? null;
  }

  async function serverAnswer(sql: string): Promise<RawMessage[]> {
    session.send(message('Q', cstr(sql)));
    return session.until('Z');
  }

  async function compare(sql: string): Promise<void> {
    const own = parseReplicationCommand(sql, facts);
    const answer = await serverAnswer(sql);
    const [theirs = ''] = said(answer, 'E');
    const ours = 'error' in own ? `${own.error.sqlstate} ${own.error.message}` : null;
    const theirRefusal = READING_ERRORS.test(theirs) ? theirs : null;
    expect({ sql, refusal: ours }).toEqual({ sql, refusal: theirRefusal });
    const notices = own.notices.map((notice) => `${notice.sqlstate} ${notice.message}`);
    expect({ sql, notices }).toEqual({ sql, notices: said(answer, 'N') });
  }

  it('refuses the same commands with the same words', async () => {
    for (const sql of COMMAND_SAMPLES) await compare(sql);
  });

  it('refuses the same random sequences of words', async () => {
    const word = fc.constantFrom(
      ...`TIMELINE_HISTORY SHOW CREATE_REPLICATION_SLOT DROP_REPLICATION_SLOT READ_REPLICATION_SLOT
      ALTER_REPLICATION_SLOT SLOT PHYSICAL LOGICAL TEMPORARY RESERVE_WAL TIMELINE WAIT TWO_PHASE
      ( ) , ; . x "Q" 's' 0 1 7 0/0 - FAILOVER snapshot 'use' 'open "open`.split(/\s+/),
    );
    const words = fc.array(word, { minLength: 1, maxLength: 8 }).map((list) => list.join(' '));
    await fc.assert(fc.asyncProperty(words, compare), { numRuns: 400 });
  });

  it('reads a query without NUL, or with one inside, as the same error', async () => {
    for (const body of [raw('SHOW x'), raw(), raw('a', 0, 'b', 0)]) {
      session.send(message('Q', body));
      const theirs = said(await session.until('Z'), 'E');
      expect(theirs).toEqual([violation(() => decodeFrontendMessage(0x51, body))]);
    }
  });

  it('ends the session with the same words for an unknown message type', async () => {
    for (const type of [0, 63, 255]) {
      const opened = await login({ replication: 'true' });
      opened.send(type, i32(4));
      const answer = await opened.until('Z');
      expect(said(answer, 'E')).toEqual([violation(() => decodeFrontendMessage(type, raw()))]);
      opened.close();
    }
  });

  it('complains alike about a standby status update that is cut', async () => {
    const update = raw('r', new Uint8Array(33));
    const [start] = (await primary.value('SELECT pg_current_wal_lsn()')).split('\n');
    for (const length of [1, 8, 20, 32, 33]) {
      const body = update.slice(0, length);
      session.send(message('Q', cstr(`START_REPLICATION ${start}`)), message('d', body));
      const theirs = said(await session.until('Z'), 'E');
      expect(theirs).toEqual([violation(() => decodeStandbyStatusUpdate(body))]);
    }
  });

  it('refuses the same startup packets with the same words', async () => {
    const user = raw(cstr('user'), cstr(primary.target().user));
    const packets: [code: number, body: Uint8Array][] = [
      [0x30000, raw()],
      [0x30000, user],
      [0x30000, raw(user, cstr('x'))],
      [0x30000, raw(user, cstr('x'), 'y')],
      [0x30000, raw(user, 0, 0)],
      [0x30000, raw(user, 0, 'x', 0)],
      [0x40000, raw(user, 0)],
      [0x70008, raw()],
    ];
    for (const [code, body] of packets) {
      const ours = violation(() => decodeInitialMessage({ code, body }, facts.protocolMinorMax));
      const theirs = await startupRefusal(packet(code, body));
      // 13 still speaks protocol 2 and says so.
      expect(theirs).toBe(
        major === 13 ? (ours?.replace('supports 3.0', 'supports 2.0') ?? null) : ours,
      );
    }
  });

  it('reads the same meaning into replication=', async () => {
    const { user } = primary.target();
    const values = `true false t f TRUE yes y no n on of off o 1 0 10 database Database data maybe
      truee`.split(/\s+/);
    for (const replication of ['', ...values]) {
      const theirs = await startupRefusal(startup({ user, database: 'postgres', replication }));
      expect(violation(() => parseReplicationParameter(replication))).toBe(theirs);
    }
  });

  it('reads the same settings out of options=', async () => {
    const samples = [
      '-c application_name=a',
      '-capplication_name=a',
      '--application-name=a',
      '-c  application_name=x\\ y\\\\z\t--application_name=b',
      '-c application_name=',
      '-c application_name=b=c',
      '-c application_name=b\\',
      '-c application_name',
      '--application_name',
      'application_name=a',
    ];
    for (const options of samples) {
      const opened = await openRawSession(primary.target());
      opened.send(startup({ user: primary.target().user, database: 'postgres', options }));
      const answer = await opened.until('ZE');
      opened.close();
      const [theirs = null] = said(answer, 'E');
      expect({ options, refusal: violation(() => parseStartupOptions(options)) }).toEqual({
        options,
        refusal: theirs,
      });
      if (theirs !== null) continue;
      const own = new Map(parseStartupOptions(options)).get('application_name');
      const status = answer.find((each) => each.body.toString().startsWith('application_name\0'));
      expect({ options, name: own }).toEqual({
        options,
        name: status?.body.toString().split('\0')[1],
      });
    }
  });

  it('cleans the application names of walsenders alike', async () => {
    const names = [
      'plain',
      'tab\tand\nmore',
      'ümläut',
      'x'.repeat(70),
      `${'x'.repeat(62)}ü`,
      '\x7f',
    ];
    for (const name of [...names, 'ü'.repeat(40)]) {
      const opened = await openRawSession(primary.target());
      const { user } = primary.target();
      opened.send(startup({ user, replication: 'true', application_name: name }));
      const answer = await opened.until('Z');
      const pid = answer.find((each) => each.type === 'K')?.body.readInt32BE(0);
      const shown = await primary.value(
        `SELECT application_name FROM pg_stat_activity WHERE pid = ${pid}`,
      );
      expect(sanitizeApplicationName(name, facts)).toBe(shown);
      opened.close();
    }
  });

  it('prepares passwords alike', async () => {
    const passwords = [
      'plain text',
      'I\u00adX',
      '\u2168\u00aa',
      'a\u3000b\u00a0c\u200bd',
      'u\u0308 \ufb01',
      'ü\u0007',
      '\u0627\u0628',
      '\u06271',
      'a\u0627\u0628',
      '1\u05d0',
      '\u05d0\u00aa\u05d0',
      '\u00ad',
      '\ue000\u00aa',
      '\u{e0001}\u00aa',
      '\u2028\u00aa',
      '\u{1f600}',
      '\u0378\u00aa',
    ];
    for (const password of passwords) {
      await primary.query(
        `SET password_encryption = 'scram-sha-256'; DROP ROLE IF EXISTS r; CREATE ROLE r PASSWORD '${password}'`,
      );
      const secret = await primary.value("SELECT rolpassword FROM pg_authid WHERE rolname = 'r'");
      const [, iterations, salt = '', storedKey] = secret?.split(/[$:]/) ?? [];
      const salted = pbkdf2Sync(
        saslprep(password),
        Buffer.from(salt, 'base64'),
        Number(iterations),
        32,
        'sha256',
      );
      const clientKey = createHmac('sha256', salted).update('Client Key').digest();
      const own = createHash('sha256').update(clientKey).digest('base64');
      expect({ password, storedKey: own }).toEqual({ password, storedKey });
    }
  });
});
