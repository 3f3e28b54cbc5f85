// SHOW STATE, SHOW FINDINGS, SHOW VERSION and SHOW LOG: how it is, what is wrong, which walcast this is, what it writes down.
import type { ComponentLevel } from '../base/log-levels.ts';
import { findings } from '../health/findings.ts';
import type { Finding } from '../health/finding.ts';
import type { RelayStatus } from '../status/status.ts';
import type { ConsoleSource } from './source.ts';
import { bool, int8, seconds, text, texts, time } from './view-columns.ts';
import { viewOf } from './view.ts';
import type { View } from './view.ts';

interface StateRow {
  readonly status: RelayStatus;
  readonly nowMs: number;
}

/** One row. */
export const SHOW_STATE: View = viewOf<StateRow>(
  (inside) => [{ status: inside.status(), nowMs: inside.nowMs() }],
  [
    text('state', ({ status }) => status.state),
    text('detail', ({ status }) => status.detail),
    bool('ready', ({ status }) => status.isReady),
    bool('paused', ({ status }) => status.isPaused),
    bool('draining', ({ status }) => status.isDraining),
    time('started_at', ({ status }) => status.startedAtMs),
    // A clock that was set back does not make it negative.
    seconds('uptime', ({ status, nowMs }) => Math.max(0, nowMs - status.startedAtMs) / 1000),
    text('system_identifier', ({ status }) => status.systemIdentifier),
    text('server_version', ({ status }) => status.serverVersion),
    int8('timeline', ({ status }) => status.timeline),
    bool('last_reload_good', ({ status }) => status.configuration.isLastReloadGood),
    time('config_loaded_at', ({ status }) => status.configuration.loadedAtMs),
    texts('pending_restart', ({ status }) => status.configuration.pendingRestart),
    time('reload_refused_at', ({ status }) => status.configuration.refusedAtMs),
    texts('reload_problems', ({ status }) => status.configuration.problems),
  ],
);

/** One row for each thing that somebody should know, the worst first; none when all is well. */
export const SHOW_FINDINGS: View = viewOf<Finding>(
  (inside) => findings(inside.status(), inside.nowMs()),
  [
    text('severity', ({ severity }) => severity),
    text('code', ({ code }) => code),
    text('subject', ({ subject }) => subject),
    text('message', ({ message }) => message),
    text('next_step', ({ nextStep }) => nextStep),
    text('alert', ({ alert }) => alert),
  ],
);

/** One row for each component of the log; what counts for those without a level of their own comes first. */
export const SHOW_LOG: View = viewOf<ComponentLevel>(
  (inside) => inside.logLevels(),
  [
    text('component', ({ component }) => component),
    text('level', ({ level }) => level),
    text('source', ({ origin }) => origin),
  ],
);

/** One row. */
export const SHOW_VERSION: View = viewOf<ConsoleSource>(
  (inside) => [inside],
  [
    text('version', ({ build }) => `walcast ${build.version}`),
    text('revision', ({ build }) => build.revision),
    text('node_version', ({ build }) => build.nodeVersion),
    texts('postgresql_majors', ({ build }) => build.postgresqlMajors.map(String)),
    text('server_version', (inside) => inside.status().serverVersion),
  ],
);
