// What do walsenders go by, and what do they answer to SHOW where walcast is meant, not the server it stands for?
import { readBuildInfo } from '../config/build-info.ts';
import type { Config } from '../config/config.ts';
import { RELAY_PATH_SETTING } from '../walreceiver/relay-path.ts';
import type { WalSenderSettings } from '../walsender/session-host.ts';
import { SYNC_NAMES_SETTING } from './upstream-names.ts';

/** How long a start beyond our end is held when no wal_receiver_timeout says it; that setting's own default. */
export const HOLD_AHEAD_DEFAULT_MS: number = 60_000;

/**
 * What walsenders go by, from the configuration of the moment. `relayPath`: what SHOW walcast_relay_path answers, asked for when
 * somebody asks.
 */
export function senderSettings(config: Config, relayPath: () => string): WalSenderSettings {
  const { storage, upstream, syncPolicy } = config;
  return {
    maxWalSenders: storage.maxWalSenders,
    reserved: {
      slots: config.slots,
      standbys: syncPolicy?.names.filter((name) => name !== '*') ?? [],
    },
    authenticationTimeoutMs: config.auth.timeoutMs,
    connectionsPerNetworkMax: config.maxConnectionsPerAddress,
    logConnections: config.logConnections,
    logDisconnections: config.logDisconnections,
    logReplicationCommands: config.logReplicationCommands,
    get ownSettings() {
      return ownSettings(storage, {
        [RELAY_PATH_SETTING]: relayPath(),
        [SYNC_NAMES_SETTING]: syncPolicy?.text ?? '',
      });
    },
    walSenderTimeoutMs: config.walSenderTimeoutMs,
    holdAheadMs: upstream.walReceiverTimeoutMs || HOLD_AHEAD_DEFAULT_MS,
    drainTimeoutMs: config.drainTimeoutMs,
    version: readBuildInfo().version,
  };
}

/** What SHOW answers for settings that mean walcast, not the server it stands for; PostgreSQL's units. */
function ownSettings(
  storage: Config['storage'],
  others: Readonly<Record<string, string>>,
): ReadonlyMap<string, string> {
  return new Map([
    ...Object.entries(others),
    ['max_replication_slots', String(storage.maxReplicationSlots)],
    ['wal_keep_size', formatMegabytes(storage.walKeepSizeBytes)],
    ['max_slot_wal_keep_size', formatMegabytes(storage.maxSlotWalKeepSizeBytes)],
  ]);
}

/** As guc.c shows a size: in the largest unit that divides it. */
function formatMegabytes(bytes: number | null): string {
  if (bytes === null) return '-1';
  const megabytes = Math.floor(bytes / (1024 * 1024));
  if (megabytes === 0) return '0';
  return megabytes % 1024 === 0 ? `${megabytes / 1024}GB` : `${megabytes}MB`;
}
