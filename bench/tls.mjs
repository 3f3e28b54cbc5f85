// What TLS towards receivers costs: a bare loop that sends the same batch to N connections, with and without TLS.
import { execFile } from 'node:child_process';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { HelperProcess } from './child.mjs';
import { medianRow, round } from './report.mjs';
import { makeTemporaryDirectory } from './temporary.mjs';

/** Bytes per batch: one message of a walsender, and what a walsender hands over in one call at most. */
const BATCH_BYTES = [128 << 10, 512 << 10, 1 << 20];
const FRAME_OVERHEAD = 1 + 30 / (128 << 10);

/**
 * @typedef {object} TlsOptions
 * @property {readonly number[]} receivers
 * @property {number} gigabytes delivered in total per figure
 * @property {number} runs
 * @property {string} ciphers OpenSSL names of TLS 1.3 suites
 * @property {(text: string) => void} progress
 */

/**
 * Measures every combination. Rows: CPU seconds of the sending process per GB delivered.
 * @param {TlsOptions} options
 */
export async function benchTls(options) {
  const certificate = await makeCertificate();
  const rows = [];
  for (const receivers of options.receivers) {
    for (const batchBytes of BATCH_BYTES) {
      for (const isEncrypted of [false, true]) {
        const results = [];
        for (let run = 0; run < options.runs; run += 1) {
          results.push(await measure({ receivers, batchBytes, isEncrypted }, certificate, options));
        }
        const row = medianRow(results, 3);
        options.progress(
          `${receivers} receivers, ${batchBytes >> 10} KiB, ${row.transport}: ${row.cpu_s_per_gb} s/GB`,
        );
        rows.push(row);
      }
    }
  }
  return rows;
}

/**
 * @param {{ receivers: number, batchBytes: number, isEncrypted: boolean }} shape
 * @param {{ cert: string, key: string }} certificate
 * @param {TlsOptions} options
 */
async function measure({ receivers, batchBytes, isEncrypted }, { cert, key }, options) {
  const sender = new HelperProcess('./tls-sender.mjs');
  const receiver = new HelperProcess('./tls-receiver.mjs');
  try {
    const port = await sender.ask('listen', { isEncrypted, cert, key, ciphers: options.ciphers });
    await receiver.ask('connect', { port, receivers, isEncrypted, cert });
    const bytesEach = (options.gigabytes * 1e9) / receivers;
    const rounds = Math.ceil(bytesEach / batchBytes);
    const all = receiver.ask(
      'received',
      Math.floor(rounds * batchBytes * receivers * FRAME_OVERHEAD),
    );
    const result = await sender.ask('send', { receivers, batchBytes, bytesEach });
    await all;
    const gigabytes = result.bytes / 1e9;
    return {
      receivers,
      batch_kib: batchBytes >> 10,
      transport: isEncrypted ? 'tls' : 'plain',
      cpu_s_per_gb: round((result.cpuUser + result.cpuSystem) / gigabytes, 3),
      user: round(result.cpuUser / gigabytes, 3),
      system: round(result.cpuSystem / gigabytes, 3),
      mb_per_s: round(result.bytes / 1e6 / result.seconds, 0),
      loop_late_max_ms: round(result.loopDelayMaxMs, 1),
      rss_mib: round(result.rssBytes / 2 ** 20, 0),
    };
  } finally {
    await Promise.all([sender.close(), receiver.close()]);
  }
}

/** A self-signed certificate for localhost, made with the openssl command. @returns {Promise<{cert: string, key: string}>} */
async function makeCertificate() {
  const directory = makeTemporaryDirectory('tls');
  const [certFile, keyFile] = [join(directory, 'cert.pem'), join(directory, 'key.pem')];
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost'];
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  try {
    const files = ['-keyout', keyFile, '-out', certFile];
    const args = ['req', '-x509', '-days', '2', ...curve, ...subject, ...files];
    await promisify(execFile)('openssl', args);
    return { cert: await readFile(certFile, 'utf8'), key: await readFile(keyFile, 'utf8') };
  } catch (error) {
    throw new Error('the openssl command is needed to make a certificate', { cause: error });
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
