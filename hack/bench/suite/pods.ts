// One pod with one container, through each call of its life, as kubelet would make them.
import { execFileSync } from 'node:child_process';
import type { CriClient } from '../../../test/support/cri-client.ts';
import { timed } from './numbers.ts';
import { image, type Runtime } from './runtimes.ts';

/** The calls of a pod's life, in their order, and the time of each in milliseconds. */
export const calls = [
  'RunPodSandbox',
  'CreateContainer',
  'StartContainer',
  'ExecSync',
  'StopContainer',
  'RemoveContainer',
  'StopPodSandbox',
  'RemovePodSandbox',
] as const;
export type Call = (typeof calls)[number];

/** The cgroup of every pod of the bench: a mark by which they are found. */
export const cgroupParent = '/cri-ts-bench';

let count = 0;

export function podConfig(privileged = false) {
  const name = `pod-${count++}`;
  return {
    metadata: { name, namespace: 'bench', uid: name, attempt: 0 },
    hostname: name,
    logDirectory: `/tmp/cri-ts-bench-logs-${process.pid}/${name}`,
    dnsConfig: { servers: ['192.0.2.1'], searches: ['bench.svc.cluster.local'], options: ['ndots:5'] },
    labels: { 'io.kubernetes.pod.name': name, 'io.kubernetes.pod.namespace': 'bench' },
    linux: { cgroupParent, securityContext: { privileged } },
  };
}

export const logDirectory = `/tmp/cri-ts-bench-logs-${process.pid}`;

type PodConfig = ReturnType<typeof podConfig>;

/** Ends at once at SIGTERM. */
const untilTold = ['sh', '-c', 'trap "exit 0" TERM; sleep 100000 & wait'];

export async function create(
  cri: CriClient,
  podSandboxId: string,
  sandboxConfig: PodConfig,
  command = untilTold,
) {
  const { privileged } = sandboxConfig.linux.securityContext;
  const { containerId } = await cri.CreateContainer({
    podSandboxId,
    sandboxConfig,
    config: {
      metadata: { name: 'main', attempt: 0 },
      image: { image },
      command,
      logPath: 'main.log',
      labels: { 'io.kubernetes.container.name': 'main' },
      linux: {
        // Where crun runs, in a hierarchy of cgroup v2 beside one of v1, there are no controllers to set limits by.
        ...(privileged ? {} : { resources: { cpuShares: 100, memoryLimitInBytes: 100 << 20 } }),
        securityContext: { privileged },
      },
    },
  });
  return containerId;
}

/** RunPodSandbox, CreateContainer, StartContainer. */
export async function bringUp(
  { cri }: Runtime,
  command?: string[],
): Promise<{ pod: string; container: string }> {
  const config = podConfig();
  const { podSandboxId: pod } = await cri.RunPodSandbox({ config });
  const container = await create(cri, pod, config, command);
  await cri.StartContainer({ containerId: container });
  return { pod, container };
}

export async function takeDown({ cri }: Pick<Runtime, 'cri'>, podSandboxId: string): Promise<void> {
  await cri.StopPodSandbox({ podSandboxId });
  await cri.RemovePodSandbox({ podSandboxId });
}

/** A whole life, each call timed. StopPodSandbox meets a pod whose container has been stopped and removed, as kubelet's. */
export async function live({ cri, privileged }: Runtime): Promise<Record<Call, number>> {
  const times = {} as Record<Call, number>;
  const call = async <T>(name: Call, act: () => Promise<T>): Promise<T> => {
    const { ms, result } = await timed(act);
    times[name] = ms;
    return result;
  };
  const config = podConfig(privileged);
  const { podSandboxId } = await call('RunPodSandbox', () => cri.RunPodSandbox({ config }));
  const containerId = await call('CreateContainer', () => create(cri, podSandboxId, config));
  await call('StartContainer', () => cri.StartContainer({ containerId }));
  await call('ExecSync', () => cri.ExecSync({ containerId, cmd: ['true'], timeout: 10 }));
  await call('StopContainer', () => cri.StopContainer({ containerId, timeout: 10 }));
  await call('RemoveContainer', () => cri.RemoveContainer({ containerId }));
  await call('StopPodSandbox', () => cri.StopPodSandbox({ podSandboxId }));
  await call('RemovePodSandbox', () => cri.RemovePodSandbox({ podSandboxId }));
  return times;
}

/** The pods' parent cgroups are the bench's own; runtimes leave them, as they would leave kubelet's. */
export function removeCgroups(): void {
  const words = ['-depth', '-type', 'd', '-path', `*${cgroupParent}*`, '-exec', 'rmdir', '{}', ';'];
  execFileSync('find', ['/sys/fs/cgroup', ...words], { stdio: 'ignore' });
}
