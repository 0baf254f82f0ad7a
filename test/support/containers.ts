// What tests of containers ask of a node beyond the CRI: its images, and the kernel's own view of a container.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Loose } from '../../src/cri-api/contract.ts';
import type {
  ContainerConfig,
  LinuxContainerResources,
  LinuxContainerSecurityContext,
} from '../../src/cri-api/types.ts';
import { importLayout, writeBusyboxLayout } from './busybox-image.ts';
import type { Entry } from './image/make-image.ts';
import type { TestNode } from './node.ts';

/** Gives the node another image: busybox with this run configuration and these entries more. The daemon is stopped meanwhile. */
export async function addImage(
  node: TestNode,
  name: string,
  config: Record<string, unknown>,
  extra: readonly Entry[] = [],
): Promise<void> {
  const layout = join(node.directory, `layout-${name.replaceAll(/[^a-z0-9]/g, '-')}`);
  await writeBusyboxLayout(layout, config, name, extra);
  await node.stop();
  await importLayout(node, layout);
  await node.start();
}

/** What `crictl inspect` shows, as far as tests look at it. */
export interface ContainerInfo {
  sandboxID: string;
  pid: number;
  monitorPid: number;
  runtimeHandler: string;
  config: Loose<ContainerConfig>;
  runtimeSpec: {
    process: { args: string[]; noNewPrivileges: boolean };
    mounts: { destination: string; options: string[] }[];
    linux: { cgroupsPath: string };
  };
}

export async function inspect(node: TestNode, containerId: string): Promise<ContainerInfo> {
  const { info } = await node.cri.ContainerStatus({ containerId, verbose: true });
  return JSON.parse(info.info ?? '') as ContainerInfo;
}

/** Pid of a sandbox's pause process. */
export async function pausePid(node: TestNode, podSandboxId: string): Promise<number> {
  const { info } = await node.cri.PodSandboxStatus({ podSandboxId, verbose: true });
  return (JSON.parse(info.info ?? '') as { pid: number }).pid;
}

/** A container configuration that is only a security context. */
export function secured(securityContext: Loose<LinuxContainerSecurityContext>): Loose<ContainerConfig> {
  return { linux: { securityContext } };
}

/** A container configuration that is only resources. */
export function limited(resources: Loose<LinuxContainerResources>): Loose<ContainerConfig> {
  return { linux: { resources } };
}

/** Text of a file in the cgroup of a process, trimmed; v2 has one for all controllers. */
export function cgroupFile(pid: number, controller: string, file: string): string {
  return readFileSync(join(cgroupDirectory(pid, controller), file), 'utf8').trim();
}

export function cgroupDirectory(pid: number, controller: string): string {
  const line = readFileSync(`/proc/${pid}/cgroup`, 'utf8')
    .split('\n')
    .find(candidate => candidate.split(':')[1]?.split(',').includes(controller));
  const path = line?.split(':').slice(2).join(':');
  if (path !== undefined) return join('/sys/fs/cgroup', controller, path);
  const unified = /^0::(.*)$/m.exec(readFileSync(`/proc/${pid}/cgroup`, 'utf8'))?.[1];
  if (unified === undefined) throw new Error(`process ${pid} is in no ${controller} cgroup`);
  return join('/sys/fs/cgroup', unified);
}

/** Values of /proc/PID/status by name. */
export function procStatus(pid: number): ReadonlyMap<string, string> {
  const lines = readFileSync(`/proc/${pid}/status`, 'utf8').trim().split('\n');
  return new Map(
    lines.map(line => {
      const colon = line.indexOf(':');
      return [line.slice(0, colon), line.slice(colon + 1).trim()] as const;
    }),
  );
}

/** What the node keeps of its containers on disk: writable layers, bundles, exit files, the OCI runtime's state. */
export function keptOfContainers(node: TestNode): string[] {
  return [
    join(node.root, 'containers'),
    join(node.state, 'containers'),
    join(node.state, 'exits'),
    join(node.state, 'oci', 'runc'),
  ].flatMap(directory =>
    existsSync(directory) ? readdirSync(directory).map(name => join(directory, name)) : [],
  );
}

/** One line of a CRI log. */
export interface LogLine {
  time: string;
  stream: string;
  tag: string;
  text: string;
}

export function parseLog(text: string): LogLine[] {
  return text
    .split('\n')
    .filter(line => line !== '')
    .map(line => {
      const [, time = '', stream = '', tag = '', rest = ''] = /^(\S+) (\S+) (\S+) (.*)$/s.exec(line) ?? [];
      return { time, stream, tag, text: rest };
    });
}
