// Everything that is known of one standby, in words.
import type { AbsentStandbyJson, StandbyJson } from '../src/http/api-types.ts';
import { syncWord } from './standby-order.ts';
import { agoWord, bytesWord, lagWord, UNKNOWN } from './words.ts';
import type { Fact } from './words.ts';

/** Of one that is connected; `nowMs` by the clock of walcast, milliseconds since the Unix epoch. */
export function standbyFacts(standby: StandbyJson, nowMs: number): Fact[] {
  return [
    ['Sent', standby.sent_lsn ?? UNKNOWN],
    ['Written', positionAndLag(standby.write_lsn, standby.write_lag)],
    ['Flushed', positionAndLag(standby.flush_lsn, standby.flush_lag)],
    ['Replayed', positionAndLag(standby.replay_lsn, standby.replay_lag)],
    ['Behind the upstream', bytesWord(standby.lag_bytes)],
    ['Behind walcast', bytesWord(standby.hop_lag_bytes)],
    ['Replay lag from walcast', lagWord(standby.hop_replay_lag)],
    ['Age of last commit replayed', lagWord(standby.replayed_commit_age)],
    ['Sync', syncWord({ kind: 'here', key: '', standby })],
    ['Slot', standby.slot_name ?? 'none'],
    ['Timeline', String(standby.timeline ?? UNKNOWN)],
    ['Sent in this session', bytesWord(standby.sent_bytes)],
    ['Last reply, by its clock', replyTimeText(standby.reply_time)],
    ['Connected', agoWord(standby.connected_at, nowMs)],
    ['User', standby.user],
    ['Address', addressText(standby)],
    ['Encryption', standby.tls_version ?? 'none'],
    ['Process id', String(standby.pid)],
    ['Hot standby feedback', feedbackText(standby)],
    ...warnings(standby),
  ];
}

function warnings(standby: StandbyJson): Fact[] {
  const facts: Fact[] = [];
  if (standby.stalled) {
    facts.push(['Stalled', 'has confirmed nothing more for a minute', 'bad']);
  }
  if (standby.name_shared) {
    facts.push(['Name', 'other standbys stream under the same one', 'notice']);
  }
  if (standby.clamped_replies > 0) {
    facts.push(['Claims', `${standby.clamped_replies} beyond what it had been sent`, 'notice']);
  }
  return facts;
}

/** Two clocks are not compared: how long ago that was would be made up. */
function replyTimeText(time: string | null): string {
  return time === null ? UNKNOWN : time.replace('T', ' ').replace(/(\.\d+)?Z$/, ' UTC');
}

function positionAndLag(lsn: string | null, lag: number | null): string {
  if (lsn === null) return 'never reported';
  return lag === null ? lsn : `${lsn}, ${lagWord(lag)} behind`;
}

function addressText({ client_addr: address, client_port: port }: StandbyJson): string {
  if (address === null) return 'Unix socket';
  const host = address.includes(':') ? `[${address}]` : address;
  return port === null ? host : `${host}:${port}`;
}

function feedbackText({ feedback }: StandbyJson): string {
  if (feedback === null) return 'none';
  const age = feedback.xmin_age === null ? '' : `, ${feedback.xmin_age} transactions back`;
  return `${feedback.state.replaceAll('_', ' ')}${age}`;
}

const WAYS: Readonly<Record<string, string>> = {
  terminated: 'it said goodbye',
  closed: 'its connection was closed without a word',
  reset: 'its connection was reset',
  timeout: 'nothing was heard of it any more',
  ended: 'walcast ended its session',
};

/** Of one that has left. */
export function absentFacts(standby: AbsentStandbyJson, nowMs: number): Fact[] {
  return [
    ['Left', agoWord(standby.left_at, nowMs)],
    ['How', WAYS[standby.how] ?? standby.how],
    ['Reason', standby.reason.replaceAll('_', ' ')],
    ['Sent', standby.sent_lsn ?? UNKNOWN],
    ['Written', standby.write_lsn ?? UNKNOWN],
    ['Flushed', standby.flush_lsn ?? UNKNOWN],
    ['Replayed', standby.replay_lsn ?? UNKNOWN],
    ['Timeline', String(standby.timeline ?? UNKNOWN)],
    ['Slot', standby.slot_name ?? 'none'],
    ['User', standby.user],
    ['Address', standby.client_addr ?? 'Unix socket'],
  ];
}
