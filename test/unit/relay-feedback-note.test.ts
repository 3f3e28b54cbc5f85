// The note of what was fed back upstream: over restarts, beside a disk that takes nothing, and when it cannot be read.
import { mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { encodeStateFile } from '../../src/base/state-file.ts';
import { FeedbackNote, NOTHING_NOTED } from '../../src/relay/feedback-note.ts';
import type { FeedbackNoted } from '../../src/relay/feedback-note.ts';
import { prepareDataDirectory } from '../../src/wal/data-directory.ts';
import { LogRecord } from '../support/wal-senders-fixture.ts';

let directory: string;
let log: LogRecord;

const NOTED: FeedbackNoted = {
  xmins: { xmin: 3n * (1n << 32n) + 700n, catalogXmin: null },
  standbys: ['a', 'b'],
};

beforeEach(async () => {
  directory = join(await mkdtemp(join(tmpdir(), 'walcast-note-')), 'data');
  await prepareDataDirectory(directory);
  log = new LogRecord();
});

afterEach(async () => {
  await rm(join(directory, '..'), { recursive: true });
});

it('says after a restart what was saved, in a directory that is still ours', async () => {
  const note = new FeedbackNote(directory, log);
  expect(await note.load()).toEqual(NOTHING_NOTED);
  await note.save(NOTED);
  expect(note.saved).toEqual(NOTED);
  await prepareDataDirectory(directory);
  const again = new FeedbackNote(directory, log);
  expect(await again.load()).toEqual(NOTED);
  expect(again.saved).toEqual(NOTED);
  expect(log.lines).toEqual([]);
});

it('saves the last of many, and nothing after it was closed', async () => {
  const note = new FeedbackNote(directory, log);
  await note.load();
  const saves = Array.from({ length: 50 }, (_, index) =>
    note.save({ xmins: { xmin: BigInt(index + 3), catalogXmin: 5n }, standbys: null }),
  );
  await Promise.all(saves);
  const last = { xmins: { xmin: 52n, catalogXmin: 5n }, standbys: null };
  expect(note.saved).toEqual(last);
  await note.close();
  await note.save(NOTED);
  expect(await new FeedbackNote(directory, log).load()).toEqual(last);
  expect(await readdir(directory)).not.toContain('walcast.feedback.tmp');
});

it('saves on after it was told what it knows already', async () => {
  const note = new FeedbackNote(directory, log);
  await note.load();
  await note.save(NOTHING_NOTED);
  await note.save(NOTED);
  expect(note.saved).toEqual(NOTED);
  expect(await new FeedbackNote(directory, log).load()).toEqual(NOTED);
});

it.each([
  ['nonsense', Buffer.from('nonsense')],
  ['another version', encodeStateFile({ magic: 'walcast-feedback', version: 9 }, {})],
])('of %s says that there was something, and by whom is not known', async (_what, bytes) => {
  await writeFile(join(directory, 'walcast.feedback'), bytes);
  const note = new FeedbackNote(directory, log);
  expect(await note.load()).toEqual({ xmins: { xmin: null, catalogXmin: null }, standbys: null });
  expect(log.lines).toEqual([expect.stringContaining('is not known')]);
  await note.save(NOTED);
  expect(await readFile(join(directory, 'walcast.feedback'), 'utf8')).toContain('"xmin": "128849');
});

it('takes ids that are none for none', async () => {
  const body = { xmin: 'seven', catalog_xmin: -5, standbys: [1, 2] };
  const bytes = encodeStateFile({ magic: 'walcast-feedback', version: 1 }, body);
  await writeFile(join(directory, 'walcast.feedback'), bytes);
  expect(await new FeedbackNote(directory, log).load()).toEqual({
    xmins: { xmin: null, catalogXmin: null },
    standbys: null,
  });
});

it('is told of once when the disk takes nothing, and saved again when it does', async () => {
  const note = new FeedbackNote(directory, log);
  await note.load();
  await rm(directory, { recursive: true });
  await note.save(NOTED);
  await note.save({ ...NOTED, standbys: null });
  expect(note.saved).toEqual(NOTHING_NOTED);
  expect(log.lines).toEqual([expect.stringContaining('could not be noted')]);
  await prepareDataDirectory(directory);
  await note.save(NOTED);
  expect(note.saved).toEqual(NOTED);
});
