// walcast slots: lists, creates and drops the replication slots of a running walcast.
import { Value } from 'typebox/value';
import type { SlotJson, SlotRequestJson } from '../http/api-types.ts';
import { SCHEMAS } from '../http/schemas.ts';
import { EXIT, isSet } from './command.ts';
import type { Command, CommandContext } from './command.ts';
import { commandGroup } from './group.ts';
import { printable } from './plain-text.ts';
import {
  askRemote,
  badAnswer,
  JSON_OPTION,
  refusalOf,
  REMOTE_OPTIONS,
  remoteOf,
  urlOf,
} from './remote.ts';
import type { Remote } from './remote.ts';
import { sizeText } from '../base/human-text.ts';
import { textTable } from './text-table.ts';

const SLOTS_PATH = 'api/v1/slots';

const listCommand: Command = {
  name: 'slots list',
  summary: 'List the replication slots.',
  options: [...REMOTE_OPTIONS, JSON_OPTION],
  help: `
The columns are those of pg_replication_slots. wal_status says whether the WAL that the slot needs is there: reserved,
extended, unreserved or lost; safe_wal_size how much may still be written before it is lost; invalidation_reason why it
was.

Exit code 1 when no walcast answers.

Examples:
  walcast slots list
  walcast slots list --url http://relay-a:9188 --json
`,
  async run(context): Promise<number> {
    const remote = slotRemote(context, 0);
    if (typeof remote === 'number') return remote;
    const answer = await askRemote(remote, SLOTS_PATH);
    if (answer.status !== 200) throw refusalOf(answer);
    const slots: unknown = Value.Clean(SCHEMAS.slots, answer.body);
    if (!isSlots(slots)) throw badAnswer(urlOf(remote, SLOTS_PATH), 'a list of slots');
    const isJson = isSet(context.input, 'json');
    context.print(isJson ? `${JSON.stringify(slots)}\n` : slotTable(slots));
    return EXIT.ok;
  },
};

const createCommand: Command = {
  name: 'slots create',
  summary: 'Create a physical replication slot.',
  operands: 'NAME',
  options: [
    {
      name: 'reserve-wal',
      description:
        'Keep WAL for it from now on. Without, it keeps WAL from the first time a standby uses it.',
    },
    ...REMOTE_OPTIONS,
    JSON_OPTION,
  ],
  help: `
Names have lower-case letters, digits and underscores, 63 at most, as in PostgreSQL. The slot is on the disk of walcast
when the command returns.

Exit code 1 when walcast refuses; the message says why.

Examples:
  walcast slots create standby_a --token-file /etc/walcast/token
  walcast slots create standby_b --reserve-wal --url http://relay-a:9188
`,
  async run(context): Promise<number> {
    const remote = slotRemote(context, 1);
    if (typeof remote === 'number') return remote;
    const name = context.input.positionals[0] ?? '';
    const isReserved = isSet(context.input, 'reserve-wal');
    const body: SlotRequestJson = { name, reserve_wal: isReserved };
    const answer = await askRemote(remote, SLOTS_PATH, { method: 'POST', body });
    if (answer.status < 200 || answer.status > 299) throw refusalOf(answer);
    report(context, { slot_name: name, created: true }, `slot ${name} was created`);
    return EXIT.ok;
  },
};

const dropCommand: Command = {
  name: 'slots drop',
  summary: 'Drop a replication slot that nobody uses; the WAL it kept may go then.',
  operands: 'NAME',
  options: [...REMOTE_OPTIONS, JSON_OPTION],
  help: `
A slot in use is refused: end its standby, or its session, first.

Exit code 1 when walcast refuses; the message says why.

Examples:
  walcast slots drop standby_a --token-file /etc/walcast/token
  walcast slots drop standby_b --url http://relay-a:9188
`,
  async run(context): Promise<number> {
    const remote = slotRemote(context, 1);
    if (typeof remote === 'number') return remote;
    const name = context.input.positionals[0] ?? '';
    const path = `${SLOTS_PATH}/${encodeURIComponent(name)}`;
    const answer = await askRemote(remote, path, { method: 'DELETE' });
    if (answer.status < 200 || answer.status > 299) throw refusalOf(answer);
    report(context, { slot_name: name, dropped: true }, `slot ${name} was dropped`);
    return EXIT.ok;
  },
};

/** The command. */
export const slotsCommand: Command = commandGroup({
  name: 'slots',
  summary: 'List, create and drop the replication slots of a running walcast.',
  help: `
Examples:
  walcast slots list
  walcast slots create standby_a --token-file /etc/walcast/token
`,
  subcommands: [listCommand, createCommand, dropCommand],
});

/** The walcast to ask; or the exit code, when what was typed cannot be meant. */
function slotRemote(context: CommandContext, operands: 0 | 1): Remote | number {
  const remote = remoteOf(context);
  const problem = operandProblem(context.input.positionals, operands);
  if (problem === null && !('problem' in remote)) return remote;
  const text = problem ?? ('problem' in remote ? remote.problem : '');
  context.printError(`walcast slots: ${text}\n`);
  return EXIT.usage;
}

function operandProblem(words: readonly string[], wanted: 0 | 1): string | null {
  if (words.length === wanted && words[0] !== '') return null;
  return wanted === 1 ? 'give one slot name' : `"${words[0] ?? ''}" is not expected here`;
}

function report(context: CommandContext, fields: object, sentence: string): void {
  const isJson = isSet(context.input, 'json');
  context.print(`${isJson ? JSON.stringify(fields) : printable(sentence)}\n`);
}

function isSlots(value: unknown): value is SlotJson[] {
  return Value.Check(SCHEMAS.slots, value);
}

const HEADER = [
  'slot_name',
  'slot_type',
  'temporary',
  'active_pid',
  'restart_lsn',
  'wal_status',
  'safe_wal_size',
  'invalidation_reason',
  'inactive_since',
  'retained',
];

/** Below zero: the slot may be lost at any time. */
function signedSizeText(bytes: number): string {
  return bytes < 0 ? `-${sizeText(-bytes)}` : sizeText(bytes);
}

function slotTable(slots: readonly SlotJson[]): string {
  if (slots.length === 0) return 'there are no slots\n';
  const rows = slots.map((slot) => [
    slot.slot_name,
    slot.slot_type,
    slot.temporary ? 'yes' : 'no',
    slot.active_pid === null ? '-' : String(slot.active_pid),
    slot.restart_lsn ?? '-',
    slot.wal_status ?? '-',
    slot.safe_wal_size === null ? '-' : signedSizeText(slot.safe_wal_size),
    slot.invalidation_reason ?? '-',
    slot.inactive_since ?? '-',
    sizeText(slot.retained_bytes),
  ]);
  const cells = rows.map((row) => row.map(printable));
  return `${textTable(HEADER, cells, new Set(['active_pid', 'safe_wal_size', 'retained']))}\n`;
}
