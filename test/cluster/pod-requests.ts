// What does a pod answer to who is inside of the cluster: on its HTTP port, and to a shell in its container?
import { execFile } from 'node:child_process';
import { request } from 'node:https';
import { connect } from 'node:tls';
import type { Pod } from '../harness/kubelet-pod.ts';
import type { ClusterRig } from './cluster-rig.ts';
import { API_TOKEN } from './cluster-parts.ts';

const HTTP_PORT = 9188;
const TIMEOUT_MS = 10_000;

/** Text of `GET path`, with the token and a checked certificate. Rejects where the answer is not 200. */
export function podText(rig: ClusterRig, podName: string, path: string): Promise<string> {
  const name = `${podName}.walcast-headless.walcast.svc`;
  return new Promise((resolve, reject) => {
    const asked = request(
      {
        host: rig.cluster.pod(podName).address,
        port: HTTP_PORT,
        path,
        servername: name,
        headers: { host: name, authorization: `Bearer ${API_TOKEN}` },
        ca: rig.ca,
        agent: false,
        timeout: TIMEOUT_MS,
      },
      (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
        response.on('end', () => {
          if (response.statusCode === 200) resolve(text);
          else reject(new Error(`${podName} ${path}: ${response.statusCode} ${text}`));
        });
      },
    );
    asked.on('timeout', () => asked.destroy(new Error(`${podName} ${path}: no answer`)));
    asked.on('error', reject);
    asked.end();
  });
}

/** Serial number of the certificate that a pod shows on its HTTP port. */
export function podCertificate({ cluster, ca }: ClusterRig, podName: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({
      host: cluster.pod(podName).address,
      port: HTTP_PORT,
      servername: `${podName}.walcast-headless.walcast.svc`,
      ca,
    });
    socket.on('error', reject);
    socket.on('secureConnect', () => {
      resolve(socket.getPeerCertificate().serialNumber);
      socket.destroy();
    });
  });
}

/** A metric without labels, as `/metrics` has it. */
export async function podMetric(rig: ClusterRig, podName: string, name: string): Promise<number> {
  const text = await podText(rig, podName, '/metrics');
  return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1] ?? Number.NaN);
}

/** `kubectl exec`: what a shell in the pod's container, as its user, says to `script` on both outputs. */
export function podShell(pod: Pod, script: string): Promise<string> {
  const { pid } = pod.container().process;
  const { runAsUser, runAsGroup } = pod.options.spec.securityContext ?? {};
  const space = [
    `--target=${pid}`,
    '--mount',
    '--pid',
    '--net',
    '--uts',
    '--ipc',
    '--root',
    '--wd',
  ];
  const become = ['setpriv', `--reuid=${runAsUser}`, `--regid=${runAsGroup}`];
  const more = ['--groups=10001', '--bounding-set=-all', '--inh-caps=-all', '--no-new-privs'];
  const args = [...space, '--', ...become, ...more, 'sh', '-c', `{ ${script}; } 2>&1`];
  const env = { PATH: '/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' };
  return new Promise((resolve, reject) => {
    execFile('nsenter', args, { env }, (error, stdout, stderr) => {
      if (error !== null && typeof error.code !== 'number') reject(error);
      else if (stderr === '') resolve(stdout);
      else reject(new Error(stderr));
    });
  });
}
