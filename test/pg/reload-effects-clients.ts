// What do clients see of the keys that say who may come in, how many, and what is written down about them?
import { connect } from 'node:net';
import { once } from 'node:events';
import { openSqlSession } from '../../src/demo/sql-session.ts';
import { RawClient, query } from '../support/raw-client.ts';
import type { Effect, Effects } from './reload-effect.ts';
import { OTHER_TOKEN, PASSWORD, RULES, TOKEN } from './reload-rig.ts';
import type { Keys, ReloadRig } from './reload-rig.ts';

const REFUSING = RULES.replace('postgres,ops 127.0.0.1/32 trust', 'postgres 127.0.0.1/32 trust');

const ASKING: Keys = { auth: { auth_query: 'SELECT * FROM asked($1)' } };

/** A role that the primary alone knows, and a function there that counts how often it is asked. */
async function askedRole(rig: ReloadRig): Promise<void> {
  await rig.primary.query(`
    CREATE TABLE IF NOT EXISTS asking (name text);
    CREATE OR REPLACE FUNCTION asked(who text, OUT name text, OUT secret text) RETURNS SETOF record
      LANGUAGE sql AS $$ INSERT INTO asking VALUES (who);
      SELECT rolname::text, rolpassword FROM pg_authid WHERE rolname = who $$;
    DROP ROLE IF EXISTS q;
    CREATE ROLE q LOGIN REPLICATION PASSWORD '${PASSWORD}';`);
}

async function questions(rig: ReloadRig): Promise<number> {
  return Number(await rig.primary.value('SELECT count(*) FROM asking'));
}

/** How often the primary is asked about somebody who has just logged in. */
async function askedAgain(rig: ReloadRig): Promise<unknown> {
  const first = await rig.login('q', PASSWORD);
  const before = await questions(rig);
  const again = [await rig.login('q', PASSWORD), await rig.login('q', PASSWORD)];
  return [first, ...again, (await questions(rig)) - before];
}

async function otherDatabase(rig: ReloadRig): Promise<void> {
  await askedRole(rig);
  const isThere = "SELECT count(*) FROM pg_database WHERE datname = 'other'";
  if ((await rig.primary.value(isThere)) === '0') {
    await rig.primary.query('CREATE DATABASE other');
  }
}

/** Whether a second one from here gets in; it is turned away before it has said who it is. */
async function second(rig: ReloadRig): Promise<boolean> {
  const { pg: port } = rig.ports;
  const target = { host: '127.0.0.1', port, user: 'postgres', database: 'walcast' };
  await using first = await openSqlSession(target);
  await first.query('SHOW VERSION');
  return (await rig.login('ops')) === 'in';
}

async function secondStandby(rig: ReloadRig): Promise<string> {
  const { client } = await RawClient.standby(rig.ports.pg, { user: 'postgres' });
  client.send(query(`START_REPLICATION ${(await rig.status()).store.flushed_lsn}`));
  await client.until('W');
  const answer = await rig.replication('IDENTIFY_SYSTEM');
  client.close();
  return answer.startsWith('[') ? 'in' : answer;
}

/** How long somebody is let in who says nothing. */
async function silent(rig: ReloadRig): Promise<string> {
  const startMs = performance.now();
  const socket = connect(rig.ports.pg, '127.0.0.1');
  socket.resume();
  await once(socket, 'close');
  return performance.now() - startMs < 15_000 ? 'soon' : 'late';
}

/** How a standby ends that never answers. */
async function speechless(rig: ReloadRig): Promise<string> {
  const startMs = performance.now();
  const { client } = await RawClient.standby(rig.ports.pg, { user: 'postgres' });
  client.send(query(`START_REPLICATION ${(await rig.status()).store.flushed_lsn}`));
  await client.closed();
  return performance.now() - startMs < 15_000 ? 'soon' : 'late';
}

/** Whether such a line is written while somebody logs in and goes. */
function written(pattern: RegExp): Effect['observe'] {
  return async (rig) => {
    const from = rig.process.log.length;
    const login = (): Promise<string> => rig.replication('IDENTIFY_SYSTEM');
    return pattern.test(`${await rig.said(login)}\n${rig.process.log.slice(from).join('\n')}`);
  };
}

const COMMAND = /received replication command: IDENTIFY_SYSTEM/;

/** Whether a line below `error` is written: one at `error` comes behind it. */
async function isInfoWritten(rig: ReloadRig): Promise<boolean> {
  const from = rig.process.log.length;
  await rig.request('POST', '/api/v1/resume', TOKEN);
  const good = rig.text({ log: { level: 'error' } });
  await rig.put('walcast.yaml', 'no: configuration\n');
  await rig.request('POST', '/api/v1/reload', TOKEN);
  await rig.put('walcast.yaml', good);
  await rig.process.waitForLog(/nothing was changed/, { from });
  return rig.process.log.slice(from).some((line) => /"level":"info"/.test(line));
}

async function withToken(rig: ReloadRig, path: string, token: string): Promise<number> {
  const method = path.startsWith('/wal') ? 'GET' : 'POST';
  return (await rig.request(method, path, token)).status;
}

export const CLIENT_EFFECTS: Effects = {
  'auth.hba': {
    after: { auth: { hba: REFUSING } },
    observe: (rig) => rig.login('ops'),
    old: 'in',
    now: '28000',
  },
  'auth.hba_file': {
    prepare: async (rig) => {
      await rig.put('hba-a', RULES);
      await rig.put('hba-b', REFUSING);
    },
    before: { auth: { hba: null, hba_file: 'hba-a' } },
    after: { auth: { hba_file: 'hba-b' } },
    observe: (rig) => rig.login('ops'),
    old: 'in',
    now: '28000',
  },
  'auth.ident': {
    before: { auth: { ident: 'm person another' } },
    after: { auth: { ident: 'm person mapped' } },
    observe: (rig) => rig.certificateLogin(),
    old: 'out',
    now: 'in',
  },
  'auth.ident_file': {
    prepare: async (rig) => {
      await rig.put('ident-a', 'm person another\n');
      await rig.put('ident-b', 'm person mapped\n');
    },
    before: { auth: { ident_file: 'ident-a' } },
    after: { auth: { ident_file: 'ident-b' } },
    observe: (rig) => rig.certificateLogin(),
    old: 'out',
    now: 'in',
  },
  'auth.users': {
    before: { auth: { users: { pw: 'another password' } } },
    after: { auth: { users: { pw: PASSWORD } } },
    observe: (rig) => rig.login('pw', PASSWORD),
    old: '28P01',
    now: 'in',
  },
  'auth.users_file': {
    prepare: async (rig) => {
      await rig.put('users-a', '"pw" "another password"\n');
      await rig.put('users-b', `"pw" "${PASSWORD}"\n`);
    },
    before: { auth: { users_file: 'users-a' } },
    after: { auth: { users_file: 'users-b' } },
    observe: (rig) => rig.login('pw', PASSWORD),
    old: '28P01',
    now: 'in',
  },
  'auth.auth_query': {
    prepare: askedRole,
    after: ASKING,
    observe: (rig) => rig.login('q', PASSWORD),
    old: '28P01',
    now: 'in',
  },
  'auth.auth_dbname': {
    prepare: otherDatabase,
    before: { ...ASKING, auth: { ...(ASKING['auth'] as Keys), auth_dbname: 'other' } },
    after: { auth: { auth_dbname: 'postgres' } },
    observe: (rig) => rig.login('q', PASSWORD),
    old: '28P01',
    now: 'in',
  },
  'auth.auth_cache_time': {
    prepare: askedRole,
    before: ASKING,
    after: { auth: { auth_cache_time: '0' } },
    observe: askedAgain,
    old: ['in', 'in', 'in', 0],
    now: ['in', 'in', 'in', 2],
  },
  'auth.admin_users': {
    after: { auth: { admin_users: ['postgres'] } },
    observe: (rig) => rig.login('ops', undefined, 'RESUME'),
    old: 'in',
    now: '42501',
  },
  authentication_timeout: {
    after: { authentication_timeout: '1s' },
    observe: silent,
    now: 'soon',
  },
  max_connections_per_address: {
    after: { max_connections_per_address: 1 },
    observe: second,
    old: true,
    now: false,
  },
  'storage.max_wal_senders': {
    after: { storage: { max_wal_senders: 1 } },
    observe: secondStandby,
    old: 'in',
    now: '53300',
  },
  wal_sender_timeout: {
    after: { wal_sender_timeout: '500ms' },
    observe: speechless,
    now: 'soon',
  },
  log_connections: {
    before: { log_connections: 'off' },
    after: { log_connections: 'on' },
    observe: written(/connection authorized/),
    old: false,
    now: true,
  },
  log_disconnections: {
    after: { log_disconnections: 'on' },
    observe: written(/disconnection: /),
    old: false,
    now: true,
  },
  log_replication_commands: {
    after: { log_replication_commands: 'on' },
    observe: written(COMMAND),
    old: false,
    now: true,
  },
  'log.levels': {
    after: { log: { levels: { walsender: 'debug' } } },
    observe: written(COMMAND),
    old: false,
    now: true,
  },
  'log.level': {
    after: { log: { level: 'error' } },
    observe: isInfoWritten,
    old: true,
    now: false,
  },
  'log.format': {
    after: { log: { format: 'text' } },
    observe: async (rig) => /^\{/m.test(await rig.said(async () => {})),
    old: true,
    now: false,
  },
  'http.token_file': {
    prepare: async (rig) => {
      await rig.put('token-b', OTHER_TOKEN);
    },
    after: { http: { token_file: 'token-b' } },
    observe: async (rig) => [
      await withToken(rig, '/api/v1/resume', TOKEN),
      await withToken(rig, '/api/v1/resume', OTHER_TOKEN),
    ],
    old: [200, 401],
    now: [401, 200],
  },
  'http.wal_token_file': {
    prepare: async (rig) => {
      await rig.put('wal-token-a', 'a-token-for-wal-of-the-tests');
      await rig.put('wal-token-b', OTHER_TOKEN);
    },
    before: { http: { wal_token_file: 'wal-token-a' } },
    after: { http: { wal_token_file: 'wal-token-b' } },
    observe: async (rig) => (await withToken(rig, '/wal/00000001.history', OTHER_TOKEN)) === 401,
    old: true,
    now: false,
  },
};
