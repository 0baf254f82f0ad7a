// Statistics of containers and pods: CPU, memory, swap, pressure and tasks from their cgroups, traffic from the pod's
// network devices, writable layers from the last measurement. Reading is synchronous and cheap, so that a list of a
// hundred containers is answered in milliseconds; what takes longer runs in periods of its own.
import { setTimeout as sleep } from 'node:timers/promises';
import type { StatsConfig } from '../config/types.ts';
import { type Container, nowNs } from '../container/container.ts';
import type { Containers } from '../container/containers.ts';
import { type NetworkDevice, readNetworkDevices } from '../host/network-devices.ts';
import type { RootFilesystems } from '../image/rootfs.ts';
import type { Logger } from '../log.ts';
import type { Sandbox } from '../sandbox/sandbox.ts';
import type { Sandboxes } from '../sandbox/sandboxes.ts';
import { bySandbox } from './by-sandbox.ts';
import type { CgroupFinder } from './cgroups.ts';
import { createCpuRates } from './cpu-rate.ts';
import { createLayerUsage, type MeasuredLayer } from './layer-usage.ts';
import { createMetricsReader, type PodMetrics } from './metrics/read.ts';
import { readUsage, sumOf, type Usage } from './usage.ts';

export type { NetworkDevice } from '../host/network-devices.ts';

export interface ContainerUsage {
  container: Container;
  /** undefined unless it runs. */
  usage: Usage | undefined;
  /** undefined until it was measured. */
  layer: MeasuredLayer | undefined;
}

export interface PodUsage {
  sandbox: Sandbox;
  /** Of the pod as a whole: its own cgroup, or the sum of its containers where it has none. */
  usage: Usage;
  /** Nanoseconds since the epoch, decimal, and the devices; undefined for pods of the host's network. */
  network: { at: string; devices: NetworkDevice[] } | undefined;
  /** Those that run. */
  containers: ContainerUsage[];
}

export interface Stats {
  ofContainers(containers: readonly Container[]): ContainerUsage[];
  /** Those of the pods that are READY. */
  ofPods(sandboxes: readonly Sandbox[]): PodUsage[];
  /** cAdvisor's metrics of every READY pod and its running containers. */
  metrics(): Promise<PodMetrics[]>;
  /** Where writable layers are kept, as ImageFsInfo names it. */
  readonly layerDirectory: string;
  /** Measures the writable layers of containers that were never measured. */
  measureNewLayers(): Promise<void>;
  close(): void;
}

export interface StatsOptions {
  containers: Pick<Containers, 'list'>;
  sandboxes: Pick<Sandboxes, 'list'>;
  rootfs: Pick<RootFilesystems, 'usage' | 'upperDirectory'>;
  layerDirectory: string;
  cgroups: CgroupFinder;
  config: StatsConfig;
  log: Logger;
}

/** When nobody has asked for so long, the files that are kept open for the next time are closed, and samples become rarer. */
const restMs = 60_000;
/** Periods from one sample to the next, then. */
const periodsAtRest = 10;

/** How long metrics wait for layers that were never measured. */
const newLayersWaitMs = 500;

export function createStats(options: StatsOptions): Stats {
  const { config, layerDirectory, cgroups } = options;
  const rates = createCpuRates();
  const running = () => options.containers.list().filter(({ phase }) => phase === 'running');
  const ready = () => options.sandboxes.list().filter(({ phase }) => phase === 'ready');
  const layers = createLayerUsage({
    rootfs: options.rootfs,
    periodMs: config.layerPeriodMs,
    containers: () => running().map(({ id }) => id),
    log: options.log,
  });
  const metricsReader = createMetricsReader({ cgroups, layers, layerDirectory });

  let askedAt = performance.now();
  let periodsLeft = 0;
  const isAtRest = () => performance.now() - askedAt > restMs;

  function sampleAll(): void {
    const [sandboxes, containers] = [ready(), running()];
    const bySandboxId = new Map(sandboxes.map(sandbox => [sandbox.id, sandbox]));
    for (const sandbox of sandboxes) sample(sandbox.id, cgroups.ofPod(sandbox)?.cpuNs());
    for (const container of containers) {
      const sandbox = bySandboxId.get(container.sandboxId);
      if (sandbox) sample(container.id, cgroups.ofContainer(container, sandbox)?.cpuNs());
    }
    rates.forgetBefore(performance.now() - config.retentionPeriodMs);
    cgroups.keep(new Set([...sandboxes, ...containers].map(({ id }) => id)));
    if (isAtRest()) cgroups.closeFiles();
  }

  function sample(id: string, cpuNs: number | undefined): void {
    if (cpuNs !== undefined) rates.sample(id, cpuNs, performance.now());
  }

  const timer = setInterval(() => {
    if (isAtRest() && periodsLeft-- > 0) return;
    periodsLeft = periodsAtRest - 1;
    try {
      sampleAll();
    } catch (error) {
      options.log.warn({ err: error }, 'taking CPU samples failed');
    }
  }, config.collectPeriodMs);
  timer.unref();

  function ofContainer(container: Container, sandbox: Sandbox | undefined): ContainerUsage {
    const runs = container.phase === 'running' && sandbox !== undefined;
    const cgroup = runs ? cgroups.ofContainer(container, sandbox) : undefined;
    return {
      container,
      usage: cgroup && readUsage(cgroup, rates.rate(container.id)),
      layer: layers.of(container.id),
    };
  }

  function ofPod(sandbox: Sandbox, containers: ContainerUsage[]): PodUsage {
    const devices =
      sandbox.netnsPath === null || !sandbox.pause ? undefined : readNetworkDevices(sandbox.pause.pid);
    const network = devices && { at: nowNs(), devices };
    return { sandbox, usage: usageOfPod(sandbox, containers), network, containers };
  }

  function usageOfPod(sandbox: Sandbox, containers: readonly ContainerUsage[]): Usage {
    const own = cgroups.ofPod(sandbox);
    if (own) return readUsage(own, rates.rate(sandbox.id));
    const pause = cgroups.ofPause(sandbox);
    const usages = containers.flatMap(({ usage }) => usage ?? []);
    return sumOf(pause ? [readUsage(pause, undefined), ...usages] : usages);
  }

  return {
    ofContainers(containers) {
      askedAt = performance.now();
      if (containers.some(({ id, phase }) => phase === 'running' && !layers.of(id))) void layers.measureNew();
      const sandboxes = new Map(options.sandboxes.list().map(sandbox => [sandbox.id, sandbox]));
      return containers.map(container => ofContainer(container, sandboxes.get(container.sandboxId)));
    },
    ofPods(sandboxes) {
      askedAt = performance.now();
      const inPods = bySandbox(running());
      return sandboxes
        .filter(({ phase }) => phase === 'ready')
        .map(sandbox => {
          const containers = inPods.get(sandbox.id) ?? [];
          return ofPod(
            sandbox,
            containers.map(container => ofContainer(container, sandbox)),
          );
        });
    },
    async metrics() {
      // A large layer is in the next answer.
      await Promise.race([layers.measureNew(), sleep(newLayersWaitMs, undefined, { ref: false })]);
      return metricsReader.read(ready(), running());
    },
    layerDirectory,
    measureNewLayers: () => layers.measureNew(),
    close() {
      clearInterval(timer);
      layers.close();
      cgroups.closeFiles();
    },
  };
}
