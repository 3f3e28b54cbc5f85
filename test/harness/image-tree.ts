// What is in the image, and how does it start? Executes the instructions of the Dockerfile where no container engine runs.

/** How a container of the image starts, as `docker inspect` would say it. */
export interface ImageConfig {
  readonly entrypoint: readonly string[];
  readonly cmd: readonly string[];
  /** As the file has it: `10001:10001`. */
  readonly user: string;
  readonly env: Readonly<Record<string, string>>;
  readonly workdir: string;
  readonly stopSignal: string;
  readonly labels: Readonly<Record<string, string>>;
  /** As the file exposes them, without a protocol. */
  readonly ports: readonly number[];
}

/** An image that was built. */
export interface ImageTree {
  /** The files that the final stage adds to its base, as a tree from `/`, with their owners and modes. Read it only. */
  readonly root: string;
  /** Absolute paths of the base that the final stage takes away. */
  readonly removed: readonly string[];
  /**
   * The whole root file system of a container, as `lowerdir` of an overlay mount wants it: the topmost first, the machine's own
   * `/` last (it stands in for Debian's files of the base; its data and its programs in /usr/local are hidden).
   */
  readonly lowers: readonly string[];
  readonly config: ImageConfig;
}

/**
 * Builds the image of the Dockerfile in `directory`, in clean folders. What did not change since another build is taken from
 * there, as a container engine does. Needs root (mounts). Throws for an instruction that it does not know, and with the output
 * of a RUN that fails.
 */
export async function imageTree(directory: string): Promise<ImageTree> {
  throw new Error(`${directory}: not built yet`);
}
