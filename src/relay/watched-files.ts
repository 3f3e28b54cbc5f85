// Which files of a running relay are looked at, and what is read again when they change? Secrets by what they hold, the others
// by where their names lead.
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import { ConfigFiles, watchedPlaces } from './config-files.ts';
import type { LiveConfiguration } from './reload.ts';
import { secretFileNames, SecretFiles } from './secret-files.ts';

/** Both watches over the files of one relay. */
export class WatchedFiles {
  readonly #secrets: SecretFiles;
  readonly #others: ConfigFiles;

  constructor(live: LiveConfiguration, { clock, log }: { clock: Clock; log: Log }) {
    this.#secrets = new SecretFiles({
      names: () => secretFileNames(live.current),
      places: () => live.current.places,
      onChanged: () => live.refreshSecrets(),
      clock,
    });
    this.#others = new ConfigFiles({
      places: () => watchedPlaces(live.current),
      isRefused: () => live.isRefused,
      onSwapped: () => live.followFiles(),
      clock,
      log,
    });
  }

  /** Begins, or goes on after a configuration has named other files. */
  watch(): void {
    this.#secrets.watch();
    this.#others.watch();
  }

  stop(): void {
    this.#secrets.stop();
    this.#others.stop();
  }
}
