// What does one line of pg_hba.conf say, or what is wrong with it? In PostgreSQL's words. (hba.c:parse_hba_line)
import { readAddress } from './hba-address.ts';
import { readOptions } from './hba-options.ts';
import type { HbaField, HbaLine } from './hba-tokens.ts';
import { isKeyword, readWords } from './hba-words.ts';
import type { HbaWord } from './hba-words.ts';
import { HBA_METHODS } from './hba-rule.ts';
import type { HbaAddress, HbaConnectionType, HbaMethod, HbaRule } from './hba-rule.ts';

const CONNECTION_TYPES: readonly HbaConnectionType[] = ['local', 'host', 'hostssl', 'hostnossl'];

/** Methods that PostgreSQL knows and walcast does not carry out, with what to do instead. */
const OTHER_METHODS: ReadonlyMap<string, string> = new Map([
  ['password', 'it sends the password in clear text; write scram-sha-256'],
  ['gss', 'GSSAPI is not offered'],
  ['sspi', 'SSPI is not offered'],
  ['ident', 'no ident server is asked; write scram-sha-256 or cert'],
  ['peer', 'users of the operating system are not looked up; write scram-sha-256'],
  ['ldap', 'no directory is asked; write scram-sha-256 or cert'],
  ['radius', 'no RADIUS server is asked; write scram-sha-256 or cert'],
  ['pam', 'PAM is not offered; write scram-sha-256 or cert'],
  ['bsd', 'BSD authentication is not offered; write scram-sha-256 or cert'],
  ['oauth', 'OAuth is not offered; write scram-sha-256 or cert'],
]);

/** Reads one line. */
export function parseHbaLine(line: HbaLine): HbaRule | { readonly problem: string } {
  if (line.problem !== null) return { problem: line.problem };
  const fields = line.fields.slice();
  const type = readConnectionType(fields.shift());
  if ('problem' in type) return type;
  const names = readNames(fields);
  if ('problem' in names) return names;
  let address: HbaAddress | null = null;
  if (type.type !== 'local') {
    const read = readAddress(fields);
    if (typeof read === 'string') return { problem: read };
    address = read;
  }
  const method = readMethod(fields, type.type);
  if ('problem' in method) return method;
  const options = readOptions(fields, { type: type.type, method: method.method });
  if ('problem' in options) return options;
  return {
    source: line.source,
    line: line.number,
    text: line.text,
    type: type.type,
    ...names,
    address,
    method: method.method,
    ...options,
  };
}

function readConnectionType(
  field: HbaField | undefined,
): { type: HbaConnectionType } | { problem: string } {
  const word = field?.[0]?.text ?? '';
  if (field !== undefined && field.length > 1) {
    return { problem: 'multiple values specified for connection type' };
  }
  const type = CONNECTION_TYPES.find((known) => known === word);
  if (type !== undefined) return { type };
  if (word === 'hostgssenc' || word === 'hostnogssenc') {
    return {
      problem: `connection type "${word}" cannot be used: GSSAPI encryption is not offered`,
    };
  }
  return { problem: `invalid connection type "${word}"` };
}

function readNames(
  fields: HbaField[],
): { databases: readonly HbaWord[]; users: readonly HbaWord[] } | { problem: string } {
  const databaseField = fields.shift();
  if (databaseField === undefined) {
    return { problem: 'end-of-line before database specification' };
  }
  const databases = readWords(databaseField);
  if ('problem' in databases) return databases;
  const group = databases.words.find(
    (word) => isKeyword(word, 'samerole') || isKeyword(word, 'samegroup'),
  );
  if (group !== undefined) return { problem: noMembers(group.text) };
  const userField = fields.shift();
  if (userField === undefined) return { problem: 'end-of-line before role specification' };
  const users = readWords(userField);
  if ('problem' in users) return users;
  const role = users.words.find((word) => !word.isQuoted && word.text.startsWith('+'));
  if (role !== undefined) return { problem: noMembers(role.text) };
  return { databases: databases.words, users: users.words };
}

function noMembers(word: string): string {
  return `"${word}" cannot be used: walcast knows no role members; write the names, or a regular expression`;
}

function readMethod(
  fields: HbaField[],
  type: HbaConnectionType,
): { method: HbaMethod } | { problem: string } {
  const field = fields.shift();
  if (field === undefined) return { problem: 'end-of-line before authentication method' };
  if (field.length > 1) return { problem: 'multiple values specified for authentication type' };
  const word = field[0]?.text ?? '';
  const other = OTHER_METHODS.get(word);
  if (other !== undefined) {
    return { problem: `authentication method "${word}" cannot be used: ${other}` };
  }
  const method = HBA_METHODS.find((known) => known === word);
  if (method === undefined) return { problem: `invalid authentication method "${word}"` };
  if (method === 'cert' && type !== 'hostssl') {
    return { problem: 'cert authentication is only supported on hostssl connections' };
  }
  return { method };
}
