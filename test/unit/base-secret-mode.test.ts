// Which files may hold a secret?
import { describe, expect, test } from 'vitest';
import { secretFileProblem } from '../../src/base/secret-mode.ts';

const US = 999;

function problem(mode: number, uid: number, { ownUid = US, isPlain = true } = {}): string | null {
  return secretFileProblem({ mode: 0o100000 | mode, uid, isFile: () => isPlain }, ownUid);
}

describe('a file of our own', () => {
  test.each([0o600, 0o400, 0o700])('may be ours alone: %o', (mode) => {
    expect(problem(mode, US)).toBeNull();
  });

  test.each([0o640, 0o604, 0o660, 0o610, 0o601, 0o620, 0o602, 0o777])(
    "may be nobody else's, not even the group's: %o",
    (mode) => {
      expect(problem(mode, US)).toMatch(/^has group or world access; .*0600.*0640/);
    },
  );
});

describe('a file of root', () => {
  test.each([0o640, 0o440, 0o400, 0o600])('may be read by its group: %o', (mode) => {
    expect(problem(mode, 0)).toBeNull();
    expect(problem(mode, 0, { ownUid: 0 })).toBeNull();
  });

  test.each([0o660, 0o650, 0o644, 0o604, 0o641, 0o642])('may not be more: %o', (mode) => {
    expect(problem(mode, 0)).toContain('has group or world access');
  });
});

test('a file of anybody else is refused, however closed it is', () => {
  expect(problem(0o600, 1000)).toBe('must be owned by the user walcast runs as, or by root');
  expect(problem(0o600, 1000, { ownUid: 0 })).toContain('must be owned');
});

test('a pipe has no permissions to look at', () => {
  expect(problem(0o666, 1000, { isPlain: false })).toBeNull();
});
