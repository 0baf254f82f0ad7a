// The node of hack/vm: cri-ts as its service manager runs it, seen as kubelet sees it. Pods stand in slices that are made
// for them beforehand, as kubelet does it with the systemd driver.
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { expect } from 'vitest';
import type { Loose } from '../../src/cri-api/contract.ts';
import type { ContainerConfig, ContainerStatus, PodSandboxConfig } from '../../src/cri-api/types.ts';
import { writeBusyboxLayout } from './busybox-image.ts';
import { type CriClient, connectCri } from './cri-client.ts';
import { type HostSnapshot, hostSnapshot } from './host-snapshot.ts';
import { until } from './node.ts';

export interface Pod {
  id: string;
  /** `kubepods-burstable-podUID.slice`. */
  slice: string;
  /** Its directory below /sys/fs/cgroup. */
  cgroup: string;
}

export interface InstalledNode {
  /** Of the daemon that runs now: `reconnect` after it was started anew. */
  cri: CriClient;
  reconnect(): void;
  /** A slice with these systemd properties (`MemoryMax=1G`), and RunPodSandbox in it. */
  runPod(over?: Loose<PodSandboxConfig>, options?: { handler?: string; properties?: string[] }): Promise<Pod>;
  createContainer(pod: Pod, script: string, over?: Loose<ContainerConfig>): Promise<string>;
  /** createContainer of busybox with a shell script, and StartContainer. */
  runContainer(pod: Pod, script: string, over?: Loose<ContainerConfig>): Promise<string>;
  /** Runs a script to its end; returns its log lines without their CRI heads, and its status. */
  output(
    pod: Pod,
    script: string,
    over?: Loose<ContainerConfig>,
  ): Promise<{ lines: string[]; status: ContainerStatus }>;
  /** ExecSync of a shell script; its standard output, trimmed. */
  exec(containerId: string, script: string): Promise<string>;
  status(containerId: string): Promise<ContainerStatus>;
  untilExited(containerId: string): Promise<ContainerStatus>;
  untilLogged(containerId: string, line: string): Promise<void>;
  logLines(containerId: string): Promise<string[]>;
  /** Trimmed text of a file in the container's own cgroup. */
  cgroupFile(pod: Pod, containerId: string, file: string): Promise<string>;
  /** Removes every pod, and the slices. */
  removeAll(): Promise<void>;
  /** removeAll, and asserts that the host is as it was when the node was taken over. */
  leave(): Promise<void>;
}

const image = 'test/busybox:latest';
const mark = 'kubepods';

/** Takes over the node, which has run one pod then, for what the first one leaves for good (a bridge). */
export async function installedNode(): Promise<InstalledNode> {
  const directory = await mkdtemp(join(tmpdir(), 'vm-'));
  const slices: string[] = [];
  let count = 0;

  const node: InstalledNode = {
    cri: connectCri('/run/cri-ts/cri-ts.sock'),
    reconnect() {
      node.cri.close();
      node.cri = connectCri('/run/cri-ts/cri-ts.sock');
    },
    async runPod(over = {}, { handler = '', properties = [] } = {}) {
      const name = `p${process.pid}n${count++}`;
      const slice = `kubepods-burstable-pod${name}.slice`;
      await execa('systemctl', ['start', slice]);
      slices.push(slice);
      if (properties.length > 0)
        await execa('systemctl', ['set-property', '--runtime', slice, ...properties]);
      const { metadata, linux, ...rest } = over;
      const { podSandboxId } = await node.cri.RunPodSandbox({
        runtimeHandler: handler,
        config: {
          logDirectory: join(directory, name),
          ...rest,
          metadata: { name, namespace: 'vm', uid: name, attempt: 0, ...metadata },
          linux: { cgroupParent: cgroupOf(slice), ...linux },
        },
      });
      return { id: podSandboxId, slice, cgroup: join('/sys/fs/cgroup', cgroupOf(slice)) };
    },
    async createContainer(pod, script, over = {}) {
      const name = `c${count++}`;
      const { containerId } = await node.cri.CreateContainer({
        podSandboxId: pod.id,
        config: {
          metadata: { name, attempt: 0 },
          image: { image },
          command: ['sh', '-c', script],
          logPath: `${name}.log`,
          ...over,
        },
      });
      return containerId;
    },
    async runContainer(pod, script, over) {
      const containerId = await node.createContainer(pod, script, over);
      await node.cri.StartContainer({ containerId });
      return containerId;
    },
    async output(pod, script, over) {
      const id = await node.runContainer(pod, script, over);
      const status = await node.untilExited(id);
      return { lines: await node.logLines(id), status };
    },
    async exec(containerId, script) {
      const { stdout } = await node.cri.ExecSync({ containerId, cmd: ['sh', '-c', script], timeout: 120 });
      return Buffer.from(stdout).toString().trim();
    },
    async status(containerId) {
      const { status } = await node.cri.ContainerStatus({ containerId });
      if (!status) throw new Error(`no status of ${containerId}`);
      return status;
    },
    untilExited: containerId =>
      until(`${containerId} has exited`, async () => {
        const status = await node.status(containerId);
        return status.state === 'CONTAINER_EXITED' ? status : undefined;
      }),
    untilLogged: (containerId, line) =>
      until(`${containerId} says ${line}`, async () =>
        (await node.logLines(containerId)).includes(line) ? true : undefined,
      ).then(() => {}),
    async logLines(containerId) {
      const { logPath } = await node.status(containerId);
      const text = await readFile(logPath, 'utf8');
      const lines = text.split('\n').filter(line => line !== '');
      return lines.map(line => line.replace(/^\S+ (stdout|stderr) [FP] ?/, ''));
    },
    async cgroupFile({ cgroup }, containerId, file) {
      return (await readFile(join(cgroup, `cri-ts-${containerId}.scope`, file), 'utf8')).trim();
    },
    async removeAll() {
      for (const { id } of (await node.cri.ListPodSandbox()).items) {
        await node.cri.StopPodSandbox({ podSandboxId: id });
        await node.cri.RemovePodSandbox({ podSandboxId: id });
      }
      if (slices.length > 0) await execa('systemctl', ['stop', ...slices.splice(0)]);
    },
    async leave() {
      await node.removeAll();
      node.cri.close();
      await rm(directory, { recursive: true, force: true });
      expect(comparable(hostSnapshot(mark))).toEqual(before);
    },
  };

  // The first of several test files finds none.
  if ((await node.cri.ListImages()).images.length === 0) {
    const layout = join(directory, 'busybox');
    await writeBusyboxLayout(layout);
    await execa('cri-ts', ['image', 'import', layout]);
    await node.output(await node.runPod(), 'true');
    await node.removeAll();
  }
  const before = comparable(hostSnapshot(mark));
  return node;
}

/** `a-b.slice` lies in `a.slice` (systemd.slice(5)). */
function cgroupOf(slice: string): string {
  const parts = slice.replace(/\.slice$/, '').split('-');
  return `/${parts.map((_, i) => `${parts.slice(0, i + 1).join('-')}.slice`).join('/')}`;
}

/** The slices above the pods' come and go as systemd likes. */
function comparable({ cgroups, ...rest }: HostSnapshot): HostSnapshot {
  return { ...rest, cgroups: cgroups.filter(path => path.includes('-pod')) };
}
