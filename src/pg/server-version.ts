// What differs between PostgreSQL majors, as data. Every other file asks this table and never compares majors itself.
// Sources: repl_gram.y, walsender.c, xlog_internal.h, xlogrecord.h, protocol.h, guc.c and auth.c of each major; what a
// server can be asked is asked in test/pg/server-facts.test.ts.
import { OperationalError } from '../base/errors.ts';

/** The facts of one major that walcast depends on. */
export interface VersionFacts {
  readonly major: number;
  /** False for a major that was read about but not run against: walcast follows it, with a warning. */
  readonly isVerified: boolean;
  /** XLOG_PAGE_MAGIC, first two bytes of every WAL page. */
  readonly walPageMagic: number;
  /** XLP_ALL_FLAGS: page header bits that may be set. */
  readonly walPageFlagsMask: number;
  /** XLP_FIRST_IS_OVERWRITE_CONTRECORD. */
  readonly walPageOverwriteFlag: number;
  /** Highest built-in resource manager id (RM_MAX_BUILTIN_ID). */
  readonly rmgrIdMax: number;
  /** True where extensions may register resource managers 128 … 255. */
  readonly hasCustomRmgrs: boolean;
  /** Offset of nextXid (a FullTransactionId) in the CheckPoint struct. */
  readonly checkpointNextXidOffset: number;
  /** LSN text is `%X/%08X`. */
  readonly padsLsnText: boolean;
  /** Type of IDENTIFY_SYSTEM's timeline column: int4 (23) or int8 (20). */
  readonly identifyTimelineTypeOid: number;
  /** Type of TIMELINE_HISTORY's content column: bytea (17) or text (25). */
  readonly historyContentTypeOid: number;
  /** Type modifier in TIMELINE_HISTORY's row description. */
  readonly historyTypeModifier: number;
  /** READ_REPLICATION_SLOT is a command. */
  readonly hasReadReplicationSlot: boolean;
  /** ALTER_REPLICATION_SLOT is a command, and FAILOVER an option of logical slots. */
  readonly hasAlterReplicationSlot: boolean;
  /** ALTER_REPLICATION_SLOT takes TWO_PHASE, too. */
  readonly altersTwoPhase: boolean;
  /** UPLOAD_MANIFEST is a command. */
  readonly hasUploadManifest: boolean;
  /** CREATE_REPLICATION_SLOT and BASE_BACKUP take options in parentheses. */
  readonly hasParenthesizedOptions: boolean;
  /** `\v` counts as white space in the replication grammar. */
  readonly hasVerticalTabAsSpace: boolean;
  /** Highest protocol minor the server speaks: 0 for 3.0, 2 for 3.2. */
  readonly protocolMinorMax: number;
  /** START_REPLICATION on an invalidated physical slot fails at once (55000). */
  readonly refusesInvalidatedPhysicalSlot: boolean;
  /** Messages quote setting names: `"max_wal_senders"`. */
  readonly quotesSettingNames: boolean;
  /** Limits in messages about a setting out of range have its unit: `(0 ms .. 2147483647 ms)`. */
  readonly saysUnitsOfLimits: boolean;
  /** `pg_hba.conf` refusals say `no encryption` / `SSL encryption` instead of `SSL off` / `SSL on`. */
  readonly saysEncryptionInHbaErrors: boolean;
  /** A role without REPLICATION is told which roles may start a walsender. */
  readonly explainsMissingReplication: boolean;
  /** Bytes outside printable ASCII in application_name become `\xNN`; before, `?`. */
  readonly escapesApplicationName: boolean;
  /** Names of the parameters that are reported at login (GUC_REPORT), in the order of the alphabet without its cases. */
  readonly reportedParameters: readonly string[];
}

const REPORTED_SINCE_EVER = [
  'application_name',
  'client_encoding',
  'DateStyle',
  'integer_datetimes',
  'IntervalStyle',
  'is_superuser',
  'server_encoding',
  'server_version',
  'session_authorization',
  'standard_conforming_strings',
  'TimeZone',
];

const V13: VersionFacts = {
  major: 13,
  isVerified: true,
  walPageMagic: 0xd106,
  walPageFlagsMask: 0x000f,
  walPageOverwriteFlag: 0x0008,
  rmgrIdMax: 21,
  hasCustomRmgrs: false,
  checkpointNextXidOffset: 24,
  padsLsnText: false,
  identifyTimelineTypeOid: 23,
  historyContentTypeOid: 17,
  historyTypeModifier: 0,
  hasReadReplicationSlot: false,
  hasAlterReplicationSlot: false,
  altersTwoPhase: false,
  hasUploadManifest: false,
  hasParenthesizedOptions: false,
  hasVerticalTabAsSpace: false,
  protocolMinorMax: 0,
  refusesInvalidatedPhysicalSlot: false,
  quotesSettingNames: false,
  saysUnitsOfLimits: false,
  saysEncryptionInHbaErrors: false,
  explainsMissingReplication: false,
  escapesApplicationName: false,
  reportedParameters: REPORTED_SINCE_EVER,
};

const V14: VersionFacts = {
  ...V13,
  major: 14,
  walPageMagic: 0xd10d,
  historyContentTypeOid: 25,
  saysEncryptionInHbaErrors: true,
  reportedParameters: alsoReporting(V13, 'default_transaction_read_only', 'in_hot_standby'),
};

const V15: VersionFacts = {
  ...V14,
  major: 15,
  walPageMagic: 0xd110,
  hasCustomRmgrs: true,
  hasReadReplicationSlot: true,
  hasParenthesizedOptions: true,
};

const V16: VersionFacts = {
  ...V15,
  major: 16,
  walPageMagic: 0xd113,
  identifyTimelineTypeOid: 20,
  historyTypeModifier: -1,
  explainsMissingReplication: true,
  escapesApplicationName: true,
  reportedParameters: alsoReporting(V15, 'scram_iterations'),
};

const V17: VersionFacts = {
  ...V16,
  major: 17,
  walPageMagic: 0xd116,
  hasAlterReplicationSlot: true,
  hasUploadManifest: true,
  hasVerticalTabAsSpace: true,
  quotesSettingNames: true,
  saysUnitsOfLimits: true,
};

const V18: VersionFacts = {
  ...V17,
  major: 18,
  walPageMagic: 0xd118,
  protocolMinorMax: 2,
  refusesInvalidatedPhysicalSlot: true,
  altersTwoPhase: true,
  reportedParameters: alsoReporting(V17, 'search_path'),
};

// From the sources of its betas; nothing of it was run against.
const V19: VersionFacts = {
  ...V18,
  major: 19,
  isVerified: false,
  walPageMagic: 0xd121,
  walPageFlagsMask: 0x0007,
  walPageOverwriteFlag: 0x0004,
  rmgrIdMax: 22,
  checkpointNextXidOffset: 32,
  padsLsnText: true,
};

const FACTS: readonly VersionFacts[] = [V13, V14, V15, V16, V17, V18, V19];

function alsoReporting(before: VersionFacts, ...names: readonly string[]): readonly string[] {
  const all = [...before.reportedParameters, ...names];
  return all.toSorted((one, other) => (one.toLowerCase() < other.toLowerCase() ? -1 : 1));
}

/** Majors of the table, lowest first. */
export const SUPPORTED_MAJORS: readonly number[] = FACTS.map((facts) => facts.major);

/** The facts of `major`. Throws {@link OperationalError} for a major outside the table. */
export function versionFacts(major: number): VersionFacts {
  const facts = FACTS.find((entry) => entry.major === major);
  if (facts !== undefined) return facts;
  const [oldest, newest] = [SUPPORTED_MAJORS[0], SUPPORTED_MAJORS.at(-1)];
  throw new OperationalError(
    'UNSUPPORTED_SERVER_VERSION',
    `the upstream server is PostgreSQL ${major}; this walcast speaks ${oldest} to ${newest}`,
    {
      hint:
        major < (oldest ?? 0)
          ? 'Upgrade the server, or point upstream.conninfo at a newer one.'
          : 'Upgrade walcast.',
    },
  );
}

/** Major out of the server_version parameter: `15.18 (Debian …)`, `19beta2`, `20devel`. Null when it starts with no number. */
export function majorOfServerVersion(serverVersion: string): number | null {
  const match = /^(\d{1,4})/.exec(serverVersion);
  return match === null ? null : Number(match[1]);
}
