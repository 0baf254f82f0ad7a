// Statistics as CRI messages.

import type { Container } from '../../container/container.ts';
import type { Loose } from '../../cri-api/contract.ts';
import type {
  ContainerStats,
  ContainerStatsFilter,
  CpuUsage,
  IoUsage,
  MemoryUsage,
  NetworkInterfaceUsage,
  NetworkUsage,
  PodSandboxStats,
  PodSandboxStatsFilter,
  PsiData,
  PsiStats,
  SwapUsage,
} from '../../cri-api/types.ts';
import type { Sandbox } from '../../sandbox/sandbox.ts';
import type { ContainerUsage, NetworkDevice, PodUsage, Stats } from '../../stats/stats.ts';
import type { Pressure, PressureLine, Usage } from '../../stats/usage.ts';
import { matchesLabels } from './sandbox.ts';

/** What kubelet takes for the pod's main network device when there is one of this name. */
const mainDevice = 'eth0';

export function toContainerStats(
  { container, usage, layer }: ContainerUsage,
  { layerDirectory }: Pick<Stats, 'layerDirectory'>,
): Loose<ContainerStats> {
  const { id, config } = container;
  const { metadata, labels, annotations } = config;
  return {
    attributes: { id, metadata, labels, annotations },
    ...(usage ? usageFields(usage) : {}),
    ...(usage?.swap ? { swap: swap(usage.at, usage.swap) } : {}),
    ...(layer
      ? {
          writableLayer: {
            timestamp: layer.at,
            fsId: { mountpoint: layerDirectory },
            usedBytes: { value: layer.bytes },
            inodesUsed: { value: layer.inodes },
          },
        }
      : {}),
  };
}

export function toPodSandboxStats(
  { sandbox, usage, network, containers }: PodUsage,
  stats: Pick<Stats, 'layerDirectory'>,
): Loose<PodSandboxStats> {
  const { id, config } = sandbox;
  const { metadata, labels, annotations } = config;
  const tasks = containers.reduce((sum, { usage: own }) => sum + (own?.tasks ?? 0), 0);
  return {
    attributes: { id, metadata, labels, annotations },
    linux: {
      ...usageFields(usage),
      ...(network ? { network: networkUsage(network) } : {}),
      process: { timestamp: usage.at, processCount: { value: tasks } },
      containers: containers.map(container => toContainerStats(container, stats)),
    },
  };
}

function usageFields({ at, cpu, memory, ioPressure }: Usage): {
  cpu?: Loose<CpuUsage>;
  memory?: Loose<MemoryUsage>;
  io?: Loose<IoUsage>;
} {
  return {
    ...(cpu
      ? {
          cpu: {
            timestamp: at,
            usageCoreNanoSeconds: { value: cpu.ns },
            ...optional('usageNanoCores', cpu.rate),
            ...psi(cpu.pressure),
          },
        }
      : {}),
    ...(memory
      ? {
          memory: {
            timestamp: at,
            workingSetBytes: { value: memory.workingSet },
            ...optional('availableBytes', memory.available),
            usageBytes: { value: memory.usage },
            rssBytes: { value: memory.rss },
            pageFaults: { value: memory.pageFaults },
            majorPageFaults: { value: memory.majorPageFaults },
            ...psi(memory.pressure),
          },
        }
      : {}),
    ...(ioPressure ? { io: { timestamp: at, ...psi(ioPressure) } } : {}),
  };
}

function swap(at: string, { usage, limit }: NonNullable<Usage['swap']>): Loose<SwapUsage> {
  return {
    timestamp: at,
    swapUsageBytes: { value: usage },
    ...optional('swapAvailableBytes', limit === undefined ? undefined : Math.max(0, limit - usage)),
  };
}

function optional<Key extends string>(
  key: Key,
  value: number | undefined,
): { [K in Key]?: { value: number } } {
  return value === undefined ? {} : ({ [key]: { value } } as { [K in Key]: { value: number } });
}

function psi(pressure: Pressure | undefined): { psi?: Loose<PsiStats> } {
  if (!pressure) return {};
  const { full, some } = pressure;
  return { psi: { ...(full ? { Full: psiData(full) } : {}), ...(some ? { Some: psiData(some) } : {}) } };
}

function psiData({ totalNs, avg10, avg60, avg300 }: PressureLine): Loose<PsiData> {
  return { Total: totalNs, Avg10: avg10, Avg60: avg60, Avg300: avg300 };
}

function networkUsage({ at, devices }: NonNullable<PodUsage['network']>): Loose<NetworkUsage> {
  const main = devices.find(({ name }) => name === mainDevice) ?? devices[0];
  return {
    timestamp: at,
    ...(main ? { defaultInterface: interfaceUsage(main) } : {}),
    interfaces: devices.filter(device => device !== main).map(interfaceUsage),
  };
}

function interfaceUsage({ name, received, transmitted }: NetworkDevice): Loose<NetworkInterfaceUsage> {
  return {
    name,
    rxBytes: { value: received.bytes },
    rxErrors: { value: received.errors },
    txBytes: { value: transmitted.bytes },
    txErrors: { value: transmitted.errors },
  };
}

/** Whether a container's statistics are asked for: it runs, and passes the filter. Ids may be prefixes. */
export function wantsContainerStats(container: Container, filter: ContainerStatsFilter | null): boolean {
  if (container.phase !== 'running') return false;
  if (!filter) return true;
  return (
    container.id.startsWith(filter.id) &&
    container.sandboxId.startsWith(filter.podSandboxId) &&
    matchesLabels(container.config.labels, filter.labelSelector)
  );
}

/** Whether a sandbox's statistics are asked for. An id may be a prefix. */
export function wantsSandboxStats(sandbox: Sandbox, filter: PodSandboxStatsFilter | null): boolean {
  if (!filter) return true;
  return sandbox.id.startsWith(filter.id) && matchesLabels(sandbox.config.labels, filter.labelSelector);
}
