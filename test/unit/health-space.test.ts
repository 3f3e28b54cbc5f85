// Is a disk that fills told before it is full, and a disk with room not at all?
import { expect, test } from 'vitest';
import { findings } from '../../src/health/findings.ts';
import type { Finding } from '../../src/health/finding.ts';
import type { RelayStatus } from '../../src/status/status.ts';
import { sampleStatus } from '../support/relay-status.ts';

const MB = 1024 * 1024;
const GB = 1024 * MB;
const { store: STORE, retention: RETENTION } = sampleStatus();

/** Those of the disk. */
function of(overrides: Partial<RelayStatus>): readonly Finding[] {
  const all = findings(sampleStatus(overrides), 1_700_000_100_000);
  return all.filter(({ code }) => code === 'disk_filling');
}

/** `code severity subject` of each. */
function words(found: readonly Finding[]): string[] {
  return found.map(({ code, severity, subject }) => `${code} ${severity} ${subject ?? '-'}`);
}

test('a disk that fills is told before it is full', () => {
  const disk = (freeBytes: number, limitBytes = 0, sizeBytes = 100 * GB) => ({
    filesystem: { freeBytes, sizeBytes },
    retention: { ...RETENTION, limitBytes },
  });
  const found = of(disk(10 * GB - 1));
  expect(words(found)).toEqual(['disk_filling warning -']);
  expect(found[0]?.message).toBe(
    'the disk of the store is filling: 10.0 GB of 100 GB are free (9 %)',
  );
  expect(found[0]?.alert).toBe('WalcastStoreFilling');
  expect(words(of(disk(10 * GB)))).toEqual([]);
  expect(words(of({ filesystem: null }))).toEqual([]);
  // Segments are of 16 MB here: four of them have room, or not.
  expect(words(of(disk(64 * MB)))).toEqual(['disk_filling warning -']);
  expect(words(of(disk(64 * MB - 1)))).toEqual(['disk_filling critical -']);
  expect(words(of(disk(64 * MB - 1, 0, 80 * MB)))).toEqual(['disk_filling critical -']);
  expect(words(of({ ...disk(0), state: 'full' }))).not.toContain('disk_filling critical -');
});

test('limits that let the store take more than is free are told when that gets little', () => {
  const disk = (freeBytes: number, limitBytes: number) => ({
    filesystem: { freeBytes, sizeBytes: 100 * GB },
    retention: { ...RETENTION, limitBytes },
  });
  const limitBytes = 21 * GB + STORE.sizeBytes;
  const found = of(disk(20 * GB, limitBytes));
  expect(words(found)).toEqual(['disk_filling warning -']);
  expect(found[0]?.message).toMatch(/\(20 %\); the limits let the store take 21\.0 GB more$/);
  expect(words(of(disk(21 * GB, limitBytes)))).toEqual([]);
  expect(words(of(disk(25 * GB, 60 * GB)))).toEqual([]);
});
