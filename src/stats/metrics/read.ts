// Gathers what the metrics of pods and their containers are read from, and reads them: the names and labels under which
// cAdvisor gives them, which is what dashboards and alerts ask for. Of a pod as a whole there are CPU, memory and
// network, with empty labels `container`, `image` and `name`.
import { statfs } from 'node:fs/promises';
import { setImmediate as breathe } from 'node:timers/promises';
import type { Container } from '../../container/container.ts';
import { blockDeviceName, deviceOfPath } from '../../host/block-devices.ts';
import type { Cgroup } from '../../host/cgroup/types.ts';
import { readNetworkDevices } from '../../host/network-devices.ts';
import { countDescriptors, openFilesLimit } from '../../host/process-files.ts';
import type { Sandbox } from '../../sandbox/sandbox.ts';
import { bySandbox } from '../by-sandbox.ts';
import type { CgroupFinder } from '../cgroups.ts';
import type { LayerUsage } from '../layer-usage.ts';
import { cpuMetrics } from './cpu.ts';
import { diskMetrics, type FileSystem } from './disk.ts';
import { type MetricValue, readAll } from './family.ts';
import { memoryMetrics } from './memory.ts';
import { networkMetrics } from './network.ts';
import { pressureMetrics } from './pressure.ts';
import { processMetrics } from './process.ts';
import { specMetrics } from './spec.ts';

export interface PodMetrics {
  sandboxId: string;
  /** Of the pod as a whole. */
  values: MetricValue[];
  containers: { containerId: string; values: MetricValue[] }[];
}

export interface MetricsReader {
  read(sandboxes: readonly Sandbox[], containers: readonly Container[]): Promise<PodMetrics[]>;
}

export interface MetricsParts {
  cgroups: CgroupFinder;
  layers: Pick<LayerUsage, 'of'>;
  layerDirectory: string;
}

export function createMetricsReader({ cgroups, layers, layerDirectory }: MetricsParts): MetricsReader {
  return {
    async read(sandboxes, containers) {
      const inPods = bySandbox(containers);
      const fileSystem = await fileSystemOf(layerDirectory);
      const pods: PodMetrics[] = [];
      for (const sandbox of sandboxes) {
        await breathe(); // counting descriptors is no trifle, and requests wait meanwhile
        if (sandbox.phase !== 'ready') continue;
        const own = (inPods.get(sandbox.id) ?? []).flatMap(container => {
          const cgroup = container.phase === 'running' ? cgroups.ofContainer(container, sandbox) : undefined;
          return cgroup
            ? [{ containerId: container.id, values: containerValues(container, sandbox, cgroup, fileSystem) }]
            : [];
        });
        pods.push({ sandboxId: sandbox.id, values: podValues(sandbox), containers: own });
      }
      return pods;
    },
  };

  function podValues(sandbox: Sandbox): MetricValue[] {
    const cgroup = cgroups.ofPod(sandbox);
    const base = ['', cgroup?.path ?? '', '', '', ...podLabels(sandbox)];
    const devices =
      sandbox.netnsPath === null || !sandbox.pause ? [] : (readNetworkDevices(sandbox.pause.pid) ?? []);
    return [...(cgroup ? cgroupValues(cgroup, base) : []), ...readAll(networkMetrics, { devices }, base)];
  }

  function containerValues(
    container: Container,
    sandbox: Sandbox,
    cgroup: Cgroup,
    fileSystem: FileSystem | undefined,
  ): MetricValue[] {
    const { metadata, image } = container.config;
    const imageName = image?.userSpecifiedImage || image?.image || container.imageRef;
    const base = [metadata?.name ?? '', cgroup.path, imageName, container.id, ...podLabels(sandbox)];
    const pids = cgroup.processes();
    return [
      ...cgroupValues(cgroup, base),
      ...readAll(
        diskMetrics,
        {
          io: cgroup.io().map(io => ({ ...io, device: blockDeviceName(io.major, io.minor) })),
          layer: layers.of(container.id),
          fileSystem,
        },
        base,
      ),
      ...readAll(
        processMetrics,
        {
          processes: pids.length,
          tasks: cgroup.tasks(),
          taskLimit: cgroup.taskLimit(),
          descriptors: countDescriptors(pids),
          openFilesLimit: container.init ? openFilesLimit(container.init.pid) : undefined,
          startedAt: Number(container.startedAt) / 1e9,
          seenAt: Date.now() / 1000,
        },
        base,
      ),
      ...readAll(specMetrics, { resources: container.resources ?? {} }, base),
    ];
  }
}

function podLabels({ config: { metadata } }: Sandbox): [string, string] {
  return [metadata?.namespace ?? '', metadata?.name ?? ''];
}

function cgroupValues(cgroup: Cgroup, base: readonly string[]): MetricValue[] {
  const [cpu, memory, io] = (['cpu', 'memory', 'io'] as const).map(cgroup.pressure);
  return [
    ...readAll(cpuMetrics, { cpuNs: cgroup.cpuNs(), cpuTimes: cgroup.cpuTimes() }, base),
    ...readAll(memoryMetrics, { memory: cgroup.memory(), memoryDetail: cgroup.memoryDetail() }, base),
    ...readAll(pressureMetrics, { pressure: { cpu, memory, io } }, base),
  ];
}

async function fileSystemOf(directory: string): Promise<FileSystem | undefined> {
  const found = await statfs(directory).catch(() => undefined);
  if (!found) return undefined;
  const { blocks, bsize, files, ffree } = found;
  return { device: deviceOfPath(directory), bytes: blocks * bsize, inodes: files, inodesFree: ffree };
}
