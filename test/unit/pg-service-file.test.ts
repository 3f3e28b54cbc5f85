// Does a service file mean what libpq takes it to mean?
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readServiceFile } from '../../src/pg/service-file.ts';

function read(text: string, service = 's'): unknown {
  const found = readServiceFile(text, { service, path: '/f' });
  if (found === null) return null;
  return 'error' in found ? found.error : Object.fromEntries(found);
}

describe('a service file', () => {
  it.each([
    ['[s]\nhost=a\nport=1\n', { host: 'a', port: '1' }],
    ['[s]\r\nhost=a\r\n', { host: 'a' }],
    ['  [s]  \n\thost=a  \n# c\n\nuser=a b=c', { host: 'a', user: 'a b=c' }],
    ['[s]\nhost=a\nhost=b', { host: 'a' }],
    ['[s]\nhost= a', { host: ' a' }],
    ['[s]\nhost=', { host: '' }],
    ['[s]', {}],
    ['[s] anything', {}],
    ['[t]\nnonsense\n[s]\nhost=a\n[t]\nnonsense', { host: 'a' }],
    ['[s]\nhost=a\n[s]\nport=1', { host: 'a' }],
    ['nonsense\n[S]\nhost=a', null],
    ['[ss]\nhost=a', null],
    ['', null],
    ['[s]\nhost', 'syntax error in service file "/f", line 2'],
    ['[s]\nhost =a', 'syntax error in service file "/f", line 2'],
    ['[s]\n\nbogus=a', 'syntax error in service file "/f", line 3'],
    ['[s]\nldap://h/x', 'syntax error in service file "/f", line 2'],
    ['[s]\nservice=t', 'nested service specifications not supported in service file "/f", line 2'],
    [`#${'x'.repeat(1_022)}\n[s]`, 'line 1 too long in service file "/f"'],
    [`#${'x'.repeat(1_020)}\n[s]`, {}],
    [`[s]\nuser=${'ü'.repeat(509)}`, 'line 2 too long in service file "/f"'],
  ])('%j means %j', (text, expected) => {
    expect(read(text)).toEqual(expected);
  });

  it('may name the service by nothing', () => {
    expect(read('[]\nhost=a', '')).toEqual({ host: 'a' });
  });

  it('is read or complained about, whatever stands in it', () => {
    const piece = fc.constantFrom('[s]', '[', ']', '\n', '=', 'host', 'service', '#', ' ', 'ü');
    fc.assert(
      fc.property(fc.array(piece), (pieces) => {
        expect(() => read(pieces.join(''))).not.toThrow();
      }),
    );
  });
});
