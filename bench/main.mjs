// `npm run bench -- COMMAND`: which measurement is wanted, and how its figures are printed.
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { benchFdatasync } from './fdatasync.mjs';
import { benchHandoff } from './handoff.mjs';
import { machineFacts, printFacts, printTable } from './report.mjs';
import { benchTls } from './tls.mjs';

const HELP = `Usage: npm run bench -- COMMAND [OPTIONS]

Measures on this machine, over the loopback interface only, and removes what it made.

  commit      latency of commits that wait for a standby, attached directly and behind walcast in turns
  fanout      CPU seconds per GB delivered: walcast beside the primary's own walsenders in the same run
  tls         CPU seconds per GB sent to receivers with and without TLS, by bytes per call (a bare loop)
  handoff     CPU seconds per GB to get WAL into a sender process: over a Unix socket, or from the segment files
  scrape      longest turn of walcast's event loop while it answers /metrics, the JSON API and events with many standbys
  sizing      memory, descriptors, room on disk and bytes on the network, by what walcast has to do
  walk        CPU seconds per GB of WAL checked: headers alone, every checksum, and checksums in each way there is
  fdatasync   latency of write + fdatasync from an own thread and through libuv's pool, pool idle and busy

Options:
  --receivers LIST    fanout, tls: numbers of receivers, one after the other (default 1,8; each 1 to 64)
  --gigabytes N       fanout: WAL to generate (default 1); tls, handoff, walk: bytes in total (default 2); at most 20
  --runs N            repetitions; medians are printed (default 1 for fanout, 10 for commit and scrape, 3 otherwise; at most 20)
  --workloads LIST    fanout: of message, insert, catchup (default all three)
  --levels LIST       commit: of local, remote_write, on, remote_apply (default all four)
  --clients LIST      commit: sessions that commit at the same time (default 1; each 1 to 64)
  --verify LIST       fanout, commit: of page, record: how walcast checks what it receives (default record)
  --standbys N        scrape: standbys that stream (default 1000; at most 5000)
  --slots N           scrape: slots besides (default 200; at most 5000)
  --postgres MAJOR    commit, fanout, scrape, sizing, walk: server to use (default 18)
  --node-options=STR  commit, fanout, scrape, sizing: options of Node.js for walcast, for example "--cpu-prof --cpu-prof-dir=/tmp/prof"
  --rate MB           fanout: megabytes of WAL a second (default 0: as fast as the primary makes it)
  --warm N            fanout: gigabytes sent before each figure, so that code is compiled (default 0.25)
  --keep MB           fanout: wal_keep_size of walcast (default 0: enough for everything)
  --dist DIR          commit, fanout, scrape, sizing, walk: the compiled walcast to measure (default dist)
  --ciphers NAME      tls: TLS 1.3 suite (default TLS_AES_256_GCM_SHA384, which Node.js prefers)
  --count N           fdatasync: syncs per figure; commit: commits per session, figure and run (default 200; at most 10000)
  --directory DIR     fdatasync: where to put the file; commit: where walcast keeps its WAL (default: the temporary directory)
  --json              print one JSON object instead of tables
  --help              this text
`;

/** As synchronous_commit has them; `local` waits for no standby. */
const COMMIT_LEVELS = ['local', 'remote_write', 'on', 'remote_apply'];

const FRACTIONS = ['--gigabytes', '--warm', '--rate'];
const COMMANDS = ['commit', 'fanout', 'tls', 'handoff', 'scrape', 'sizing', 'walk', 'fdatasync'];

/** Commands that start a primary and walcast. */
const WITH_SERVERS = ['commit', 'fanout', 'scrape', 'sizing'];

/** @typedef {{ title: string, rows: readonly Record<string, string | number | null>[] }} Section */

process.exitCode = await main(process.argv.slice(2));

/** @param {string[]} argv @returns {Promise<number>} */
async function main(argv) {
  /** @type {ReturnType<typeof readOptions>} */
  let options;
  try {
    options = readOptions(argv);
  } catch (error) {
    console.error(`bench: ${error instanceof Error ? error.message : String(error)}\n\n${HELP}`);
    return 2;
  }
  if (options.command === 'help') {
    console.log(HELP);
    return 0;
  }
  const facts = machineFacts();
  if (!options.isJson) printFacts(facts);
  // Those with servers end them first; elsewhere an exit is enough: helpers end with us, directories are removed.
  if (!WITH_SERVERS.includes(options.command)) exitOnInterrupt();
  const sections = await measure(options, facts);
  if (options.isJson) {
    console.log(JSON.stringify({ command: argv.join(' '), machine: facts, sections }, null, 2));
    return 0;
  }
  for (const { title, rows } of sections) {
    console.log(`\n${title}`);
    printTable(rows);
  }
  return 0;
}

function exitOnInterrupt() {
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(130));
}

/**
 * @param {ReturnType<typeof readOptions>} options
 * @param {Record<string, string | number>} facts
 * @returns {Promise<Section[]>}
 */
async function measure(options, facts) {
  const progress = (/** @type {string} */ text) => {
    console.error(`bench: ${text}`);
  };
  switch (options.command) {
    case 'tls': {
      const rows = await benchTls({
        receivers: options.receivers,
        gigabytes: options.gigabytes ?? 2,
        runs: options.runs ?? 3,
        ciphers: options.ciphers,
        progress,
      });
      return [{ title: `sending process, CPU seconds per GB delivered, ${options.ciphers}`, rows }];
    }
    case 'handoff': {
      const rows = await benchHandoff({
        gigabytes: options.gigabytes ?? 2,
        runs: options.runs ?? 3,
        progress,
      });
      return [{ title: 'CPU seconds per GB in the giving and in the taking process', rows }];
    }
    case 'walk': {
      const { benchWalk } = await import('./walk.mjs');
      const rows = await benchWalk({
        ...options,
        gigabytes: options.gigabytes ?? 2,
        runs: options.runs ?? 3,
        progress,
      });
      return [{ title: 'CPU seconds per GB of WAL', rows }];
    }
    case 'commit': {
      const { benchCommit } = await import('./commit.mjs');
      const [verify = 'record'] = options.verify;
      const result = await benchCommit({ ...options, verify, runs: options.runs ?? 10, progress });
      Object.assign(facts, result.facts);
      return result.sections;
    }
    case 'scrape': {
      const { benchScrape } = await import('./scrape.mjs');
      return benchScrape({ ...options, runs: options.runs ?? 10, progress });
    }
    case 'sizing': {
      const { benchSizing } = await import('./sizing.mjs');
      return benchSizing({ ...options, progress });
    }
    case 'fdatasync': {
      const rows = await benchFdatasync({ ...options, progress });
      return [{ title: 'write of 64 KiB + fdatasync', rows }];
    }
    default: {
      const { benchFanout } = await import('./fanout.mjs');
      const result = await benchFanout({
        ...options,
        gigabytes: options.gigabytes ?? 1,
        runs: options.runs ?? 1,
        progress,
      });
      Object.assign(facts, result.facts);
      return result.sections;
    }
  }
}

/** @param {string[]} argv */
function readOptions(argv) {
  const { values, positionals } = parseArgs({
    args: argv,
    allowPositionals: true,
    options: {
      receivers: { type: 'string', default: '1,8' },
      gigabytes: { type: 'string' },
      runs: { type: 'string' },
      workloads: { type: 'string', default: 'message,insert,catchup' },
      levels: { type: 'string', default: COMMIT_LEVELS.join(',') },
      clients: { type: 'string', default: '1' },
      verify: { type: 'string', default: 'record' },
      standbys: { type: 'string', default: '1000' },
      slots: { type: 'string', default: '200' },
      postgres: { type: 'string', default: '18' },
      'node-options': { type: 'string', default: '' },
      rate: { type: 'string', default: '0' },
      warm: { type: 'string', default: '0.25' },
      keep: { type: 'string', default: '0' },
      dist: { type: 'string', default: fileURLToPath(new URL('../dist', import.meta.url)) },
      ciphers: { type: 'string', default: 'TLS_AES_256_GCM_SHA384' },
      count: { type: 'string', default: '200' },
      directory: { type: 'string', default: '' },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  const [command, ...more] = positionals;
  const isHelp = values.help || command === undefined || command === 'help';
  if (!isHelp && (!COMMANDS.includes(command) || more.length > 0)) {
    throw new RangeError(`unknown command "${positionals.join(' ')}"`);
  }
  return {
    command: isHelp ? 'help' : command,
    receivers: values.receivers.split(',').map((text) => number('--receivers', text, [1, 64])),
    gigabytes: optional('--gigabytes', values.gigabytes, [0.01, 20]),
    runs: optional('--runs', values.runs, [1, 20]),
    workloads: values.workloads.split(',').map(workload),
    levels: values.levels.split(',').map(commitLevel),
    clients: values.clients.split(',').map((text) => number('--clients', text, [1, 64])),
    verify: values.verify.split(',').map(verifyMode),
    standbys: number('--standbys', values.standbys, [1, 5_000]),
    slots: number('--slots', values.slots, [0, 5_000]),
    postgres: number('--postgres', values.postgres, [13, 99]),
    nodeOptions: values['node-options'],
    megabytesPerSecond: number('--rate', values.rate, [0, 100_000]),
    warmGigabytes: number('--warm', values.warm, [0, 5]),
    keepMegabytes: number('--keep', values.keep, [0, 100_000]),
    dist: resolve(values.dist),
    ciphers: values.ciphers,
    count: number('--count', values.count, [1, 10_000]),
    directory: values.directory,
    isJson: values.json,
  };
}

/** @param {string} text */
function verifyMode(text) {
  if (text === 'page' || text === 'record') return text;
  throw new RangeError(`--verify: "${text}" is neither page nor record`);
}

/** @param {string} text */
function commitLevel(text) {
  if (COMMIT_LEVELS.includes(text)) return text;
  throw new RangeError(`--levels: "${text}" is none of ${COMMIT_LEVELS.join(', ')}`);
}

/** @param {string} text */
function workload(text) {
  if (text === 'message' || text === 'insert' || text === 'catchup') return text;
  throw new RangeError(`--workloads: "${text}" is none of message, insert, catchup`);
}

/** @param {string} name @param {string | undefined} text @param {[number, number]} bounds */
function optional(name, text, bounds) {
  return text === undefined ? null : number(name, text, bounds);
}

/** @param {string} name @param {string} text @param {[number, number]} bounds */
function number(name, text, [minimum, maximum]) {
  const value = Number(text);
  const isWhole = FRACTIONS.includes(name) || Number.isInteger(value);
  if (text.trim() !== '' && isWhole && value >= minimum && value <= maximum) return value;
  throw new RangeError(`${name}: "${text}" is no number from ${minimum} to ${maximum}`);
}
