// Which lines of the log are written? Each component has a level: one that was set while the process runs, one of the
// configuration, or the one of all.

/** Level names as the configuration takes them, lowest first. */
export const LOG_LEVELS = ['debug', 'info', 'warn', 'error'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** Stands for every component that has no level of its own. No name of a component. */
export const DEFAULT_COMPONENT = 'default';

/** What the configuration says. */
export interface LevelSettings {
  readonly level: LogLevel;
  /** By component. */
  readonly levels: ReadonlyMap<string, LogLevel>;
}

/** Where a level comes from: set while the process runs; of the component, or of all, in the configuration. */
export type LevelOrigin = 'runtime' | 'configuration' | 'default';

/** The level of a component, or of {@link DEFAULT_COMPONENT}. */
export interface ComponentLevel {
  readonly component: string;
  readonly level: LogLevel;
  readonly origin: LevelOrigin;
}

/** What may be seen and changed while the process runs. */
export interface LogLevelControl {
  /** {@link DEFAULT_COMPONENT} first, then every component in the order of its name. */
  list(): readonly ComponentLevel[];
  /**
   * From the next line on, until the process ends; null: back to what the configuration says. False for a component that
   * is not known.
   */
  set(component: string, level: LogLevel | null): boolean;
}

/** The levels of one process. What is set at run time counts, whatever the configuration says afterwards. */
export class LogLevels implements LogLevelControl {
  readonly #components: readonly string[];
  readonly #overrides = new Map<string, LogLevel>();
  #settings: LevelSettings;
  /** Index in {@link LOG_LEVELS} of the lowest level that is written, by component; made anew when anything changes. */
  readonly #thresholds = new Map<string, number>();
  #defaultThreshold = 0;

  /** `components`: those that can have a level of their own. */
  constructor(settings: LevelSettings, components: readonly string[]) {
    this.#components = components.toSorted();
    this.#settings = settings;
    this.#decide();
  }

  /** The configuration says something else from now on. */
  adjust(settings: LevelSettings): void {
    this.#settings = settings;
    this.#decide();
  }

  set(component: string, level: LogLevel | null): boolean {
    if (component !== DEFAULT_COMPONENT && !this.#components.includes(component)) return false;
    if (level === null) this.#overrides.delete(component);
    else this.#overrides.set(component, level);
    this.#decide();
    return true;
  }

  list(): readonly ComponentLevel[] {
    return [this.#default(), ...this.#components.map((component) => this.#of(component))];
  }

  /** Whether a line of that component and level is written. Null: a line that names none. */
  isWritten(component: string | null, level: LogLevel): boolean {
    const own = component === null ? undefined : this.#thresholds.get(component);
    return LOG_LEVELS.indexOf(level) >= (own ?? this.#defaultThreshold);
  }

  #decide(): void {
    this.#defaultThreshold = LOG_LEVELS.indexOf(this.#default().level);
    for (const component of this.#components) {
      this.#thresholds.set(component, LOG_LEVELS.indexOf(this.#of(component).level));
    }
  }

  #default(): ComponentLevel {
    const set = this.#overrides.get(DEFAULT_COMPONENT);
    return {
      component: DEFAULT_COMPONENT,
      level: set ?? this.#settings.level,
      origin: set === undefined ? 'default' : 'runtime',
    };
  }

  #of(component: string): ComponentLevel {
    const set = this.#overrides.get(component);
    if (set !== undefined) return { component, level: set, origin: 'runtime' };
    const configured = this.#settings.levels.get(component);
    if (configured !== undefined) return { component, level: configured, origin: 'configuration' };
    return { ...this.#default(), component };
  }
}
