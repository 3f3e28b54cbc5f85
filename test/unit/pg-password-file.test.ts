// Is the password found that libpq would find in ~/.pgpass?
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { findPassword, passwordFileHosts } from '../../src/pg/password-file.ts';

const KEY = { hosts: ['h'], port: 5432, database: 'replication', user: 'u' };

describe('a password file', () => {
  it.each([
    ['h:5432:replication:u:secret', 'secret'],
    ['h:5432:replication:u:secret\r\n', 'secret'],
    ['*:*:*:*:secret', 'secret'],
    ['h:5432:*:u:a:b', 'a'],
    ['h:5432:*:u:a\\:b\\\\c\\', 'a:b\\c\\'],
    ['\\h:54\\32:*:u:secret', 'secret'],
    ['other:*:*:*:no\nh:*:*:*:first\nh:*:*:*:second', 'first'],
    ['# h:*:*:*:no\n\nh:*:*:*:yes', 'yes'],
    ['h:*:*:*:', null],
    ['h:*:*:*:\n*:*:*:*:later', null],
    ['h:5432:postgres:u:no', null],
    ['h:5433:*:u:no', null],
    ['h:*:*:U:no', null],
    ['hh:*:*:*:no', null],
    [':*:*:*:no', null],
    ['h\\:*:*:*:no', null],
    ['h:*:*:no', null],
    ['h', null],
    [' h:*:*:*:no', null],
    ['**:*:*:*:no', null],
    [' # no comment\n*:*:*:*:yes', 'yes'],
    ['', null],
  ])('%j holds %j', (text, password) => {
    expect(findPassword(text, KEY)).toBe(password);
  });

  it('has the passwords of the default socket directories under localhost', () => {
    const key = { ...KEY, hosts: passwordFileHosts('/var/run/postgresql') };
    expect(findPassword('localhost:*:*:*:yes', key)).toBe('yes');
    expect(findPassword('/var/run/postgresql:*:*:*:yes', key)).toBe('yes');
    expect(findPassword('localhost:*:*:*:no', { ...KEY, hosts: passwordFileHosts('/run') })).toBe(
      null,
    );
  });

  it('ends a line at its last carriage returns, however many stand elsewhere', () => {
    const returns = '\r'.repeat(1 << 20);
    expect(findPassword(`${returns}x\nh:*:*:*:a\rb${returns}`, { ...KEY, hosts: ['h'] })).toBe(
      'a\rb',
    );
  });

  it('gives back whatever was written by the rules', () => {
    const field = fc.string({ minLength: 1 }).filter((text) => !/[\0\r\n]/.test(text));
    const escape = (text: string): string => text.replaceAll(/[\\:]/g, '\\$&');
    fc.assert(
      fc.property(field, field, field, (host, user, password) => {
        const line = `${escape(host)}:5432:*:${escape(user)}:${escape(password)}\n`;
        // A line that begins with a number sign is a comment, and a lone star is any host.
        if (line.startsWith('#') || host === '*' || user === '*') return;
        expect(findPassword(line, { ...KEY, hosts: [host], user })).toBe(password);
        expect(findPassword(line, { ...KEY, hosts: [`${host}x`], user })).toBeNull();
      }),
    );
  });
});
