// Answers of probes and actions, and what is said when something is refused, as schemas.
import { Type } from 'typebox';
import type { Static, TSchema, TUnsafe } from 'typebox';
import { LOG_LEVELS } from '../base/log-levels.ts';
import { RELAY_STATES } from '../status/status.ts';
import type {
  ConfigEntryJson,
  DrainJson,
  LogLevelJson,
  PauseJson,
  ProbeJson,
  ProblemJson,
  ReloadJson,
  StandbyCheckJson,
  VersionJson,
} from './api-types.ts';
import { flag, integer, list, nullableText, object, oneOf, text } from './schema-words.ts';

const entryFields = object(
  {
    key: text('Its path, as in docs/configuration.md.'),
    value: nullableText('The one in effect, secrets masked; null = not set.'),
    default: nullableText('What it is where nobody sets it.'),
    origin: oneOf(['flag', 'environment', 'file', 'default'], 'Who set it.'),
    place: nullableText('walcast.yaml:12:3, WALCAST_LISTEN, --listen; null for a default.'),
    reloadable: flag('A reload takes another value into effect.'),
    pending_restart: flag('There is another value, which waits for a restart.'),
  },
  'One key of the configuration.',
);

const reloadFields = object(
  {
    changed: list(text('Path of a key.'), 'Keys that have another value now.'),
    pending_restart: list(text('Path of a key.'), 'Keys whose other value waits for a restart.'),
  },
  'What a reload came to.',
);

const levelFields = object(
  {
    component: text('Of the log; `default` stands for those without a level of their own.'),
    level: oneOf(LOG_LEVELS, 'Lines below it are left out.'),
    origin: oneOf(
      ['runtime', 'configuration', 'default'],
      'Set until the restart; of the component, or of all, in the configuration.',
    ),
  },
  'What a component of the log writes.',
);

const drainFields = object(
  { state: Type.Literal('draining', { description: 'It has begun.' }) },
  'walcast ends once every standby has everything.',
);

const pauseFields = object({ paused: flag('No new replication is started.') }, 'As it is now.');

const versionFields = object(
  {
    version: text('Of walcast.'),
    revision: nullableText('Of its sources.'),
    node_version: text('Of Node.js.'),
    postgresql_majors: list(integer('A major.'), 'Versions of PostgreSQL that are spoken.'),
  },
  'Which walcast this is.',
);

const probe = {
  status: oneOf(['ok', 'unavailable'], 'As the status code says it.'),
  state: oneOf(RELAY_STATES, 'State of the relay.'),
  reason: nullableText('Why it is unavailable, one sentence.'),
};

const probeFields = object(probe, 'Answer of a probe.');

const checkFields = object(
  {
    ...probe,
    min: integer('How many have to qualify.'),
    qualifying: integer('How many do.'),
    standbys: list(
      text('Its application_name.'),
      'Those that do, the least behind first, as far as the list goes.',
    ),
  },
  'Whether enough standbys stream and are near enough.',
);

const problemFields = object(
  {
    type: text('urn:walcast:problem:CODE: what kind of problem, for programs.'),
    title: text('The kind, in words.'),
    status: integer('The status code of the answer.'),
    detail: text('What happened this time, to whom.'),
    hint: text('What to do next.'),
    sqlstate: Type.Optional(text('Where PostgreSQL has one for it.')),
    problems: Type.Optional(
      list(text('file:line:column, and what is wrong there.'), 'Mistakes of a configuration.'),
    ),
  },
  'Every answer that is no success (RFC 9457).',
);

/** One key. */
export const configEntry: TUnsafe<ConfigEntryJson> = Type.Unsafe<ConfigEntryJson>(entryFields);
/** Answer of `/api/v1/config`. */
export const configuration: TUnsafe<ConfigEntryJson[]> = Type.Unsafe<ConfigEntryJson[]>(
  list(configEntry, 'Every key, in the order of the documentation.'),
);
/** Answer of `/api/v1/reload`. */
export const reload: TUnsafe<ReloadJson> = Type.Unsafe<ReloadJson>(reloadFields);
/** Answer of `/api/v1/drain`. */
export const logLevel: TUnsafe<LogLevelJson> = Type.Unsafe<LogLevelJson>(levelFields);

export const logLevels: TUnsafe<LogLevelJson[]> = Type.Unsafe<LogLevelJson[]>(
  list(levelFields, 'Levels of the log: `default` first, then every component.'),
);

export const logLevelRequest: TSchema = Type.Object(
  {
    component: Type.String({
      minLength: 1,
      maxLength: 63,
      description: 'Of the log; `default` stands for those without a level of their own.',
    }),
    level: oneOf([...LOG_LEVELS, 'reset'], 'reset: as the configuration says.'),
  },
  { additionalProperties: false, description: 'A level until the next restart.' },
);

export const drain: TUnsafe<DrainJson> = Type.Unsafe<DrainJson>(drainFields);
/** Answer of `/api/v1/pause` and `/resume`. */
export const pause: TUnsafe<PauseJson> = Type.Unsafe<PauseJson>(pauseFields);
/** Answer of `/api/v1/version`. */
export const version: TUnsafe<VersionJson> = Type.Unsafe<VersionJson>(versionFields);
/** Answer of `/livez`, `/startupz`, `/readyz`. */
export const probeAnswer: TUnsafe<ProbeJson> = Type.Unsafe<ProbeJson>(probeFields);
/** Answer of `/standbys`. */
export const standbyCheck: TUnsafe<StandbyCheckJson> = Type.Unsafe<StandbyCheckJson>(checkFields);
/** What is refused. */
export const problem: TUnsafe<ProblemJson> = Type.Unsafe<ProblemJson>(problemFields);

// The compiler checks that the interfaces say the same as the schemas.
const agreement: readonly [
  Static<typeof entryFields> extends ConfigEntryJson ? true : never,
  Static<typeof reloadFields> extends ReloadJson ? true : never,
  Static<typeof drainFields> extends DrainJson ? true : never,
  Static<typeof pauseFields> extends PauseJson ? true : never,
  Static<typeof versionFields> extends VersionJson ? true : never,
  Static<typeof probeFields> extends ProbeJson ? true : never,
  Static<typeof checkFields> extends StandbyCheckJson ? true : never,
  Static<typeof problemFields> extends ProblemJson ? true : never,
] = [true, true, true, true, true, true, true, true];
void agreement;
