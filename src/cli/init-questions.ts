// What is still open of a first configuration? Asked on a terminal, each question with a default, each answer checked at once.
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Clock } from '../base/clock.ts';
import { OperationalError } from '../base/errors.ts';
import { certificateFindings } from '../check/certificate-findings.ts';
import { checkUpstreams } from '../check/deep-check.ts';
import type { DeepCheck } from '../check/deep-check.ts';
import { formatFinding } from '../check/finding.ts';
import type { Finding } from '../check/finding.ts';
import { primaryInstructions } from '../check/init-lines.ts';
import { portFindings } from '../check/port-findings.ts';
import { conninfoValue } from '../check/quoting.ts';
import { checkStorage } from '../check/storage-check.ts';
import type { Config } from '../config/config.ts';
import { parseConninfoOptions } from '../pg/conninfo-syntax.ts';
import { isConninfoUri } from '../pg/conninfo-uri.ts';
import type { CommandContext } from './command.ts';
import type { Dialogue } from './dialogue.ts';
import {
  defaultConninfo,
  defaultDirectory,
  defaultListen,
  findStandbyUserProblem,
  has,
  loadDraft,
  needsSecret,
  networkProblem,
  setValue,
  standbyUser,
  UPSTREAM_PASSWORD_FILE,
} from './init-draft.ts';
import type { InitDraft, InitPlaces } from './init-draft.ts';
import { findPasswordProblem } from './scram.ts';

/** Around the questions. */
export interface QuestionWorld {
  readonly env: CommandContext['env'];
  readonly clock: Clock;
  readonly places: InitPlaces;
  readonly dialogue: Dialogue;
  /** The password for standbys is known. */
  readonly isPasswordGiven: boolean;
  /** Shows a line. */
  readonly tell: (line: string) => void;
}

/** What is wrong with an answer. */
interface Verdict {
  /** It cannot be. */
  readonly refusals: readonly string[];
  /** It can, if the person says so. */
  readonly doubts: readonly string[];
}

const FINE: Verdict = { refusals: [], doubts: [] };

/**
 * Asks for what `draft` leaves open and puts the answers into it. Resolves to the password for standbys that was typed, null
 * where one is to be made up or none is needed. Rejects with OperationalError when the person leaves.
 */
export async function askQuestions(draft: InitDraft, world: QuestionWorld): Promise<string | null> {
  return await new Questions(draft, world).ask();
}

class Questions {
  readonly #draft: InitDraft;
  readonly #world: QuestionWorld;

  constructor(draft: InitDraft, world: QuestionWorld) {
    this.#draft = draft;
    this.#world = world;
  }

  async ask(): Promise<string | null> {
    const draft = this.#draft;
    this.#world.tell(
      'Enter takes what is in brackets; Control-C ends this, and nothing is written.',
    );
    if (!has(draft, 'upstream.conninfo', 'upstream.conninfo_file')) await this.#askUpstream();
    if (!has(draft, 'upstream.slot')) await this.#askSlot();
    await this.#tryUpstream();
    if (!has(draft, 'auth.hba', 'auth.hba_file')) await this.#askNetworks();
    await this.#askListen();
    if (!has(draft, 'storage.directory')) await this.#askDirectory();
    return await this.#askStandbyUser();
  }

  async #askUpstream(): Promise<void> {
    const { env } = this.#world;
    await this.#until('Primary: its host name, or a connection string', {
      fallback: defaultConninfo({ PGHOST: env['PGHOST'], PGPORT: env['PGPORT'] }),
      take: async (answer) => {
        const isConninfo = /=|:\/\//.test(answer);
        const host = isConninfo ? answer : `host=${conninfoValue(answer)}`;
        setValue(this.#draft, 'upstream.conninfo', host);
        return this.#refusals();
      },
    });
    const given = parseConninfoOptions(this.#conninfo());
    if ('error' in given || given.has('service') || isConninfoUri(this.#conninfo())) return;
    for (const [keyword, question, fallback] of [
      ['port', 'Its port', '5432'],
      ['user', 'Role to log in as there, with REPLICATION', env['PGUSER'] ?? 'replicator'],
    ] as const) {
      if (given.has(keyword)) continue;
      const base = this.#conninfo();
      await this.#until(question, {
        fallback,
        take: async (answer) => {
          setValue(this.#draft, 'upstream.conninfo', `${base} ${keyword}=${conninfoValue(answer)}`);
          return this.#refusals();
        },
      });
    }
  }

  async #askSlot(): Promise<void> {
    await this.#until('Replication slot there, made when it is missing ("-" for none)', {
      fallback: 'walcast',
      take: async (answer) => {
        setValue(this.#draft, 'upstream.slot', answer === '-' ? '' : answer);
        return this.#refusals();
      },
    });
  }

  /** Until the servers are as they have to be, or the person goes on all the same. */
  async #tryUpstream(): Promise<void> {
    const { dialogue, tell } = this.#world;
    for (;;) {
      const found = await this.#checkUpstream();
      for (const finding of found.findings) tell(formatFinding(finding));
      const errors = found.findings.filter(({ severity }) => severity === 'error');
      if (errors.length === 0) return;
      if (await this.#askUpstreamPassword(errors)) continue;
      for (const { heading, lines } of primaryInstructions(found.probes, found.findings)) {
        tell(heading);
        for (const line of lines) tell(`  ${line}`);
      }
      const question =
        'Enter looks again; or type another connection string, or "go" to go on all the same: ';
      const answer = present(await dialogue.ask(question)).trim();
      if (answer === 'go') return;
      if (answer !== '') this.#changeConninfo(answer);
    }
  }

  #changeConninfo(answer: string): void {
    const before = this.#draft.values.get('upstream.conninfo');
    setValue(this.#draft, 'upstream.conninfo', answer);
    const { refusals } = this.#refusals();
    for (const line of refusals) this.#world.tell(line);
    if (refusals.length > 0 && before !== undefined) {
      this.#draft.values.set('upstream.conninfo', before);
    }
  }

  /** True when one was typed, so that it is worth another look. */
  async #askUpstreamPassword(errors: readonly Finding[]): Promise<boolean> {
    const { dialogue, places } = this.#world;
    const isMissing = errors.some(({ code }) => code === 'upstream.password_missing');
    const isWrong = errors.some(({ code }) => code === 'upstream.password');
    if (!isMissing && !(isWrong && this.#draft.upstreamPassword !== null)) return false;
    // There is nowhere to keep it.
    if (places.output === null || has(this.#draft, 'upstream.conninfo_file')) return false;
    const question = `Password for the primary (kept in ${UPSTREAM_PASSWORD_FILE}; Enter for none): `;
    const typed = present(await dialogue.askSecret(question));
    this.#draft.upstreamPassword = typed === '' ? null : typed;
    return typed !== '';
  }

  async #checkUpstream(): Promise<DeepCheck> {
    const { env, clock } = this.#world;
    const config = this.#config();
    const password = this.#draft.upstreamPassword;
    const known = password === null ? env : { ...env, PGPASSWORD: password };
    if (config === null) return { findings: [], probes: [] };
    return await checkUpstreams(config, { clock, env: known, isRunning: false });
  }

  async #askNetworks(): Promise<void> {
    const draft = this.#draft;
    if (draft.networks.length === 0) {
      await this.#until('Standbys on other machines are in (networks like 10.0.0.0/8; "-": none)', {
        fallback: '-',
        take: async (answer) => {
          draft.networks = answer === '-' ? [] : answer.split(/[\s,]+/);
          const problems = draft.networks.map(networkProblem);
          return { ...FINE, refusals: problems.filter((problem) => problem !== null) };
        },
      });
    }
    if (draft.networks.length > 0 && draft.tls === null) await this.#askTls();
  }

  async #askTls(): Promise<void> {
    const draft = this.#draft;
    const without = 'without one they are refused until "listen" names it';
    let cert = '-';
    await this.#until(`Certificate file that walcast shows them ("-": none yet; ${without})`, {
      fallback: '-',
      take: async (answer) => {
        cert = answer;
        const file = resolve(this.#world.places.workingDirectory, answer);
        const isThere = answer === '-' || existsSync(file);
        return { ...FINE, doubts: isThere ? [] : [`there is no file ${file}`] };
      },
    });
    if (cert === '-') return;
    await this.#until('Its key', {
      fallback: cert.replace(/\.(crt|pem)$/, '.key'),
      take: async (key) => {
        draft.tls = { cert, key };
        const config = this.#config();
        return this.#doubts(
          config === null ? [] : await certificateFindings(config, this.#world.clock),
        );
      },
    });
  }

  async #askListen(): Promise<void> {
    const draft = this.#draft;
    if (!has(draft, 'listen')) {
      await this.#until('Address that standbys connect to', {
        fallback: defaultListen(draft),
        take: async (answer) => {
          setValue(draft, 'listen', answer);
          return await this.#portVerdict('listen.address');
        },
      });
    }
    if (has(draft, 'http.listen')) return;
    const { doubts } = await this.#portVerdict('http.address');
    if (doubts.length === 0) return;
    for (const line of doubts) this.#world.tell(line);
    await this.#until('Address for the status page, metrics and API', {
      fallback: '127.0.0.1:9189',
      take: async (answer) => {
        setValue(draft, 'http.listen', answer);
        return await this.#portVerdict('http.address');
      },
    });
  }

  async #portVerdict(code: Finding['code']): Promise<Verdict> {
    const refused = this.#refusals();
    const config = this.#config();
    if (refused.refusals.length > 0 || config === null) return refused;
    const findings = await portFindings(config, { owner: null });
    return this.#doubts(findings.filter((finding) => finding.code === code));
  }

  async #askDirectory(): Promise<void> {
    await this.#until('Directory for WAL and state', {
      fallback: defaultDirectory(this.#world.places),
      take: async (answer) => {
        setValue(this.#draft, 'storage.directory', answer);
        const config = this.#config();
        if (config === null) return this.#refusals();
        return this.#doubts((await checkStorage(config)).findings);
      },
    });
  }

  async #askStandbyUser(): Promise<string | null> {
    const draft = this.#draft;
    const { env, places, dialogue, isPasswordGiven, tell } = this.#world;
    if (!needsSecret(draft)) return null;
    if (draft.user === null) {
      await this.#until('Standbys log in at walcast as', {
        fallback: standbyUser(draft, env),
        take: async (answer) => {
          const problem = findStandbyUserProblem(answer);
          if (problem === null) draft.user = answer;
          return { ...FINE, refusals: problem === null ? [] : [problem] };
        },
      });
    }
    if (places.output === null || isPasswordGiven) return null;
    for (;;) {
      const user = standbyUser(draft, env);
      const first = present(
        await dialogue.askSecret(`With the password (Enter: one is made up for ${user}): `),
      );
      if (first === '') return null;
      const problem = findPasswordProblem(first);
      const isSame = problem !== null || first === (await dialogue.askSecret('Once more: '));
      if (problem === null && isSame) return first;
      tell(problem ?? 'the two passwords are not the same');
    }
  }

  /** Asks until the answer can be, and is in order or was given twice. */
  async #until(
    question: string,
    { fallback, take }: { fallback: string; take: (answer: string) => Promise<Verdict> },
  ): Promise<void> {
    const { dialogue, tell } = this.#world;
    let offered = fallback;
    let doubted: string | null = null;
    for (;;) {
      const typed = present(await dialogue.ask(`${question} [${offered}]: `)).trim();
      const answer = typed === '' ? offered : typed;
      const { refusals, doubts } = await take(answer);
      if (refusals.length === 0 && (doubts.length === 0 || answer === doubted)) return;
      for (const line of [...refusals, ...doubts]) tell(line);
      if (refusals.length > 0) continue;
      tell('Another answer, or Enter to go on with this one all the same.');
      offered = answer;
      doubted = answer;
    }
  }

  /** What the configuration as far as it goes does not allow. */
  #refusals(): Verdict {
    const loaded = this.#load();
    // It was no flag that was typed.
    const problems = 'errors' in loaded ? loaded.errors : [];
    const refusals = problems.map(({ message, hint }) => [message, hint ?? ''].join(' ').trim());
    return { ...FINE, refusals };
  }

  #doubts(findings: readonly Finding[]): Verdict {
    const doubts = findings.filter(({ severity }) => severity !== 'ok').map(formatFinding);
    return { ...FINE, doubts };
  }

  /** Null while something in it cannot be. */
  #config(): Config | null {
    const loaded = this.#load();
    return 'errors' in loaded ? null : loaded.config;
  }

  #load(): ReturnType<typeof loadDraft> {
    const { env, places } = this.#world;
    const { workingDirectory } = places;
    const draft = { ...this.#draft, values: new Map(this.#draft.values) };
    if (!has(draft, 'listen')) setValue(draft, 'listen', defaultListen(draft));
    return loadDraft(draft, { env, workingDirectory, users: null });
  }

  #conninfo(): string {
    return this.#draft.values.get('upstream.conninfo')?.at(-1)?.text ?? '';
  }
}

/** Leaving is no answer. */
function present(answer: string | null): string {
  if (answer !== null) return answer;
  throw new OperationalError('LEFT', 'it was left before the last question; nothing was written', {
    hint: 'With --yes nothing is asked.',
  });
}
