// From the values of the keys to the configuration: what belongs together, what contradicts itself, what needs a warning.
import type { Conninfo } from '../pg/conninfo.ts';
import { parseTcpAddress } from './address.ts';
import { FORWARD_MODES, SWITCH_WORDS, VERIFY_MODES } from './config.ts';
import type { Config, TcpAddress, UpstreamConfig } from './config.ts';
import { resolveDiscovery } from './discovery.ts';
import { effectiveValues } from './effective.ts';
import { HTTP_TOKEN_LENGTH_GOOD } from './limits.ts';
import { checkConninfo, checkSyncNames } from './parsers.ts';
import { namedPlace } from './problem.ts';
import { resolveAuth } from './resolve-auth.ts';
import { resolveHttpTls, resolveListen } from './resolve-listen.ts';
import { resolveLog } from './resolve-log.ts';
import { resolveHba, unknownMaps } from './resolve-rules.ts';
import { APPLICATION_NAME, environmentName, SLOT_NAME } from './settings.ts';
import { textOf, wordsOf } from './values.ts';
import type { ConfigValues, FoundText } from './values.ts';

/** What a header can carry. */
const TOKEN = /^[\x21-\x7e]{1,1024}$/;

/** Puts the configuration together. `source` names what a missing key is missing from. */
export class ConfigResolver {
  readonly #values: ConfigValues;
  readonly #source: string;
  readonly #warnings: string[] = [];
  readonly #found: FoundText = {
    contents: new Map(),
    namedFiles: new Map(),
    warnings: this.#warnings,
  };
  readonly #derived = new Map<string, { text: string; from: string }>();

  constructor(values: ConfigValues, source: string) {
    this.#values = values;
    this.#source = source;
    values.dropOverruled('upstream.conninfo', 'upstream.conninfo_file');
    values.dropOverruled('auth.hba', 'auth.hba_file');
    values.dropOverruled('auth.ident', 'auth.ident_file');
    values.dropOverruled('auth.users', 'auth.users_file');
  }

  /** Null when there is no usable value for something that has no default; `errors` then says why. */
  config(): Config | null {
    const upstream = this.#upstream();
    const config = {
      listen: resolveListen(this.#values),
      hba: resolveHba(this.#values, this.#found),
      auth: resolveAuth(this.#values, this.#found),
      maxConnectionsPerAddress: this.#values.number('max_connections_per_address') || null,
      logConnections: this.#isOn('log_connections'),
      logDisconnections: this.#isOn('log_disconnections'),
      logReplicationCommands: this.#isOn('log_replication_commands'),
      storage: {
        directory: this.#values.path('storage.directory') ?? '',
        walKeepSizeBytes: this.#values.number('storage.wal_keep_size'),
        maxSlotWalKeepSizeBytes: this.#bound('storage.max_slot_wal_keep_size'),
        quotaBytes: this.#bound('storage.quota'),
        maxWalSenders: this.#values.number('storage.max_wal_senders'),
        maxReplicationSlots: this.#values.number('storage.max_replication_slots'),
        verify: this.#values.choice('storage.verify', VERIFY_MODES),
        forward: this.#values.choice('storage.forward', FORWARD_MODES),
      },
      syncPolicy: this.#syncPolicy(),
      walSenderTimeoutMs: this.#values.number('wal_sender_timeout'),
      idleReplicationSlotTimeoutMs: this.#values.number('idle_replication_slot_timeout'),
      slots: this.#slots(),
      maxFeedbackXminAge: this.#maxFeedbackXminAge(),
      autoCreateSlots: this.#isOn('auto_create_slots'),
      drainTimeoutMs: this.#values.number('drain_timeout'),
      http: {
        listen: this.#httpListen(),
        token: this.#httpToken('http.token_file'),
        walToken: this.#httpToken('http.wal_token_file'),
        tls: resolveHttpTls(this.#values),
      },
      log: resolveLog(this.#values),
    };
    if (config.storage.verify === 'off') {
      this.#warnings.push(
        'storage.verify is off: damaged WAL would be kept and sent to every standby',
      );
    }
    this.#warnings.push(...unknownMaps(config.hba, config.auth.identMaps));
    this.#compareSizes(config);
    if (upstream === null || this.#values.errors.length > 0) return null;
    return {
      upstream,
      ...config,
      values: this.#effectiveValues(),
      warnings: this.#warnings,
      namedFiles: this.#found.namedFiles,
      places: this.#values.places,
    };
  }

  #isOn(path: string): boolean {
    return this.#values.choice(path, SWITCH_WORDS) === 'on';
  }

  /** A size of which -1 says that there is none. */
  #bound(path: string): number | null {
    const bytes = this.#values.number(path);
    return bytes < 0 ? null : bytes;
  }

  #maxFeedbackXminAge(): bigint | null {
    const age = this.#values.number('max_feedback_xmin_age');
    return age < 0 ? null : BigInt(age);
  }

  /** What each value says is possible, but not together. */
  #compareSizes({ storage, slots }: Pick<Config, 'storage' | 'slots'>): void {
    if (slots.length > storage.maxReplicationSlots) {
      this.#values.report(
        this.#values.mustChoose('slots').place,
        `\`slots\` names ${slots.length} slots, more than \`storage.max_replication_slots\` = ${storage.maxReplicationSlots}`,
      );
    }
    if (storage.quotaBytes === 0) {
      this.#values.report(
        this.#values.mustChoose('storage.quota').place,
        '`storage.quota` is 0: every replication slot would be lost at once',
        'Write -1 for no bound of its own.',
      );
    }
    if (storage.quotaBytes !== null && storage.quotaBytes < storage.walKeepSizeBytes) {
      this.#warnings.push(
        'storage.quota is less than storage.wal_keep_size: the window is cut to what the quota leaves',
      );
    }
  }

  #slots(): readonly string[] {
    const { place, itemPlaces, ...value } = this.#values.mustChoose('slots');
    const names = wordsOf(value.text);
    for (const [index, name] of names.entries()) {
      const at = itemPlaces?.[index] ?? place;
      if (name === '' || !new RegExp(SLOT_NAME).test(name)) {
        this.#values.report(
          at,
          `\`slots\`: replication slot name "${name.slice(0, 100)}" is not valid`,
          'It may only contain lower case letters, numbers, and the underscore character, 63 at most.',
        );
      }
      if (names.indexOf(name) < index) {
        this.#values.report(at, `\`slots\`: "${name.slice(0, 100)}" is given twice`);
      }
    }
    return names;
  }

  #syncPolicy(): Config['syncPolicy'] {
    const check = checkSyncNames(this.#values.text('synchronous_standby_names'));
    if ('problem' in check) {
      const { place } = this.#values.mustChoose('synchronous_standby_names');
      this.#values.report(place, check.problem, check.detail ?? undefined);
      return null;
    }
    if (check.warning !== null) this.#warnings.push(check.warning);
    return check.policy;
  }

  #effectiveValues(): Config['values'] {
    const { contents } = this.#found;
    return effectiveValues(this.#values, { contents, derived: this.#derived });
  }

  #upstream(): UpstreamConfig | null {
    const conninfo = this.#conninfo();
    const parts = {
      slot: this.#slotName(),
      walReceiverTimeoutMs: this.#values.number('upstream.wal_receiver_timeout'),
      walReceiverStatusIntervalMs: this.#values.number('upstream.wal_receiver_status_interval'),
      hotStandbyFeedback: this.#isOn('upstream.hot_standby_feedback'),
    };
    const applicationName = this.#applicationName(conninfo?.server.applicationName ?? null);
    const { discovery, warnings } = resolveDiscovery(this.#values, conninfo?.server ?? null);
    this.#warnings.push(...warnings);
    return conninfo === null ? null : { ...conninfo, applicationName, discovery, ...parts };
  }

  #conninfo(): { conninfo: string; server: Conninfo } | null {
    const inline = this.#values.get('upstream.conninfo');
    const byFile = this.#values.get('upstream.conninfo_file');
    const given = inline ?? byFile;
    if (given === null) {
      if (this.#values.isComplainedAbout('upstream')) return null;
      this.#values.report(
        namedPlace(this.#source),
        '`upstream.conninfo` is required: the server that WAL comes from',
        `Give it in the file (-c FILE), as ${environmentName('upstream.conninfo')}, or as --upstream 'host=… user=…'.`,
      );
      return null;
    }
    const text = inline === null ? this.#secret('upstream.conninfo_file') : textOf(inline);
    if (text === null) return null;
    const check = checkConninfo(text);
    if ('problem' in check) {
      const path = inline === null ? 'upstream.conninfo_file' : 'upstream.conninfo';
      this.#values.report(given.place, `\`${path}\` ${check.problem}`);
      return null;
    }
    return { conninfo: text, server: check.server };
  }

  #secret(path: string): string | null {
    return this.#values.secretFile(path, this.#found)?.text ?? null;
  }

  #slotName(): string | null {
    const name = this.#values.text('upstream.slot');
    if (name === '') return null;
    if (!new RegExp(SLOT_NAME).test(name)) {
      this.#values.report(
        this.#values.mustChoose('upstream.slot').place,
        `replication slot name "${name.slice(0, 100)}" is not valid`,
        'It may only contain lower case letters, numbers, and the underscore character, 63 at most.',
      );
    }
    return name;
  }

  #applicationName(inConninfo: string | null): string {
    const chosen = this.#values.get('upstream.application_name');
    const isSet = chosen !== null && chosen.origin !== 'default';
    const isInConninfo = !isSet && inConninfo !== null && inConninfo !== '';
    const name = isInConninfo ? inConninfo : this.#values.text('upstream.application_name');
    if (isInConninfo) {
      const from = this.#values.get('upstream.conninfo') === null ? '_file' : '';
      this.#derived.set('upstream.application_name', {
        text: name,
        from: `upstream.conninfo${from}`,
      });
    }
    if (!new RegExp(APPLICATION_NAME).test(name)) {
      this.#values.report(
        this.#values.mustChoose('upstream.application_name').place,
        '`upstream.application_name` must be 1 to 63 printable ASCII characters',
      );
    }
    return name;
  }

  #httpListen(): TcpAddress | null {
    const text = this.#values.text('http.listen');
    if (text === '') return null;
    const parsed = parseTcpAddress(text);
    if ('address' in parsed) return parsed.address;
    this.#values.report(
      this.#values.mustChoose('http.listen').place,
      `\`http.listen\`: ${parsed.problem}`,
      'Use "" for no HTTP port.',
    );
    return null;
  }

  #httpToken(path: string): string | null {
    const file = this.#values.get(path);
    if (file === null) return null;
    const token = this.#secret(path)?.trim() ?? null;
    if (token === null) return null;
    if (TOKEN.test(token)) {
      if (token.length < HTTP_TOKEN_LENGTH_GOOD) {
        this.#warnings.push(
          `${path}: a token of less than ${HTTP_TOKEN_LENGTH_GOOD} characters can be guessed`,
        );
      }
      return token;
    }
    this.#values.report(
      file.place,
      `\`${path}\` must hold one token of at most 1024 printable ASCII characters without spaces`,
      'Make one with: openssl rand -hex 32',
    );
    return null;
  }
}
