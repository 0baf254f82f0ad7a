// Statistics and metrics of real containers, compared with what the containers do and what the kernel itself says.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type {
  ContainerStats,
  Int64,
  Metric,
  PodSandboxMetrics,
  PodSandboxStats,
  UInt64Value,
} from '../../src/cri-api/types.ts';
import { failureOf } from '../support/cri-client.ts';
import { startNode, type TestNode, until } from '../support/node.ts';

const mebibyte = 1024 * 1024;
const config = `
[plugins.'io.containerd.cri.v1.runtime']
stats_collect_period = '200ms'
[plugins.'io.containerd.cri.v1.images']
stats_collect_period = 1
`;

let node: TestNode;
beforeAll(async () => {
  node = await startNode({ config });
});
afterEach(() => node.removeAll());
afterAll(() => node.destroy());

const number = (value: UInt64Value | null | undefined) => Number(value?.value ?? Number.NaN);
const fromNow = (timestamp: Int64 | undefined) => Math.abs(Date.now() - Number(timestamp) / 1e6);
const minute = 60_000;

async function statsOf(containerId: string): Promise<ContainerStats> {
  const { stats } = await node.cri.ContainerStats({ containerId });
  if (!stats) throw new Error(`no statistics of ${containerId}`);
  return stats;
}

async function podStatsOf(podSandboxId: string): Promise<PodSandboxStats> {
  const { stats } = await node.cri.PodSandboxStats({ podSandboxId });
  if (!stats) throw new Error(`no statistics of ${podSandboxId}`);
  return stats;
}

async function collect<T>(messages: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const message of messages) all.push(message);
  return all;
}

describe('statistics of a container', () => {
  it('name the container, and say when they were taken', async () => {
    const pod = await node.runPod();
    const id = await node.runContainer(pod, 'sleep 1000', {
      metadata: { name: 'measured', attempt: 3 },
      labels: { app: 'web' },
      annotations: { note: 'x' },
    });
    const { attributes, cpu, memory, writableLayer } = await statsOf(id.slice(0, 20));
    expect(attributes).toEqual({
      id,
      metadata: { name: 'measured', attempt: 3 },
      labels: { app: 'web' },
      annotations: { note: 'x' },
    });
    for (const timestamp of [cpu?.timestamp, memory?.timestamp, writableLayer?.timestamp])
      expect(fromNow(timestamp)).toBeLessThan(minute);
  });

  it('show half a core as half a billion nano-cores at most, and its time adding up', async () => {
    const pod = await node.runPod();
    const busy = await node.runContainer(pod, 'while :; do :; done', {
      linux: { resources: { cpuPeriod: 100_000, cpuQuota: 50_000 } },
    });
    const first = number((await statsOf(busy)).cpu?.usageCoreNanoSeconds);
    await until('a rate near the quota', async () => {
      const rate = number((await statsOf(busy)).cpu?.usageNanoCores);
      return rate > 0.05e9 && rate < 0.75e9 ? rate : undefined;
    });
    expect(number((await statsOf(busy)).cpu?.usageCoreNanoSeconds)).toBeGreaterThan(first);
  });

  it('show an idle container as using next to no CPU', async () => {
    const pod = await node.runPod();
    const idle = await node.runContainer(pod, 'sleep 1000');
    await until('a rate near zero', async () =>
      number((await statsOf(idle)).cpu?.usageNanoCores) < 0.01e9 ? true : undefined,
    );
  });

  it('show memory in use, the page cache apart, and what is left of the limit', async () => {
    const pod = await node.runPod();
    const limit = 128 * mebibyte;
    // 40 MiB held as a shell variable are anonymous memory; 20 MiB written to the root file system are page cache.
    const id = await node.runContainer(
      pod,
      `dd if=/dev/zero of=/cache bs=1M count=20; sync; x=$(head -c ${40 * mebibyte} /dev/zero | tr '\\0' x); echo held; sleep 1000; true`,
      { linux: { resources: { memoryLimitInBytes: limit } } },
    );
    await until('the script holds its memory', async () =>
      (await node.logLines(id)).includes('held') ? true : undefined,
    );
    const { memory } = await statsOf(id);
    expect(number(memory?.rssBytes)).toBeGreaterThan(40 * mebibyte);
    expect(number(memory?.rssBytes)).toBeLessThan(limit);
    expect(number(memory?.usageBytes)).toBeGreaterThanOrEqual(number(memory?.rssBytes));
    expect(number(memory?.workingSetBytes)).toBeLessThanOrEqual(number(memory?.usageBytes));
    expect(number(memory?.availableBytes)).toBe(limit - number(memory?.workingSetBytes));
    expect(number(memory?.pageFaults)).toBeGreaterThan(0);
  });

  it('give no available memory where there is no limit', async () => {
    const pod = await node.runPod();
    const id = await node.runContainer(pod, 'sleep 1000');
    expect((await statsOf(id)).memory?.availableBytes).toBeNull();
  });

  it('show swap as the kernel accounts it', async () => {
    const pod = await node.runPod();
    const id = await node.runContainer(pod, 'sleep 1000', {
      linux: { resources: { memoryLimitInBytes: 64 * mebibyte, memorySwapLimitInBytes: 80 * mebibyte } },
    });
    const { swap } = await statsOf(id);
    expect(number(swap?.swapUsageBytes)).toBe(0);
    expect(number(swap?.swapAvailableBytes)).toBe(16 * mebibyte);
  });

  it('show pressure where the kernel accounts it', async () => {
    const pod = await node.runPod();
    const id = await node.runContainer(pod, 'while :; do :; done', {
      linux: { resources: { cpuPeriod: 10_000, cpuQuota: 2_000 } },
    });
    const stats = await until('pressure of a throttled container', async () => {
      const now = await statsOf(id);
      return Number(now.cpu?.psi?.Some?.Total ?? 0) > 0 ? now : undefined;
    });
    expect(stats.memory?.psi?.Full).toMatchObject({ Avg10: expect.any(Number), Avg300: expect.any(Number) });
    expect(stats.io?.psi?.Some).toBeTruthy();
  });

  it('show what it has written, in blocks and inodes, once that was measured', async () => {
    const pod = await node.runPod();
    const id = await node.runContainer(pod, 'sleep 1000');
    const before = (await statsOf(id)).writableLayer;
    expect(before?.fsId?.mountpoint).toBe(join(node.root, 'containers'));
    await node.exec(id, 'dd if=/dev/zero of=/written bs=1M count=8; mkdir /new; touch /new/a /new/b');
    await until('the layer is measured again', async () => {
      const now = (await statsOf(id)).writableLayer;
      const bytes = number(now?.usedBytes) - number(before?.usedBytes);
      const inodes = number(now?.inodesUsed) - number(before?.inodesUsed);
      return bytes >= 8 * mebibyte && inodes === 4 ? now : undefined;
    });
    const { containerFilesystems } = await node.cri.ImageFsInfo();
    expect(containerFilesystems[0]?.fsId?.mountpoint).toBe(before?.fsId?.mountpoint);
  });

  it('of one that has ended are what it has written, and no more', async () => {
    const pod = await node.runPod();
    const id = await node.runContainer(pod, 'true');
    await node.untilExited(id);
    expect(await statsOf(id)).toMatchObject({ attributes: { id }, cpu: null, memory: null, io: null });
  });

  it('of one that does not exist are NOT_FOUND, naming it', async () => {
    const failure = await failureOf(node.cri.ContainerStats({ containerId: 'nobody' }));
    expect(failure).toMatchObject({ code: 5, details: expect.stringContaining('nobody') });
  });
});

describe('a list of container statistics', () => {
  it('holds those that run and pass the filter by id, pod and labels', async () => {
    const [one, two] = [await node.runPod(), await node.runPod()];
    const web = await node.runContainer(one, 'sleep 1000', { labels: { app: 'web', tier: 'front' } });
    const db = await node.runContainer(two, 'sleep 1000', { labels: { app: 'db' } });
    const ended = await node.runContainer(two, 'true');
    await node.untilExited(ended);
    const created = await node.createContainer(two, 'sleep 1000');
    const list = async (filter?: Parameters<typeof node.cri.ListContainerStats>[0]) => {
      const { stats } = await node.cri.ListContainerStats(filter);
      return stats.map(({ attributes }) => attributes?.id);
    };
    expect(await list()).toEqual([web, db]);
    expect(await list({ filter: { id: web.slice(0, 30) } })).toEqual([web]);
    expect(await list({ filter: { podSandboxId: two } })).toEqual([db]);
    expect(await list({ filter: { labelSelector: { app: 'web' } } })).toEqual([web]);
    expect(await list({ filter: { labelSelector: { app: 'web', tier: 'back' } } })).toEqual([]);
    expect(await list({ filter: { id: created } })).toEqual([]);

    const streamed = await collect(node.cri.stream('StreamContainerStats', {}));
    expect(streamed.flatMap(({ containerStats }) => containerStats.map(s => s.attributes?.id))).toEqual([
      web,
      db,
    ]);
  });
});

describe('statistics of a pod', () => {
  it('count the traffic of its devices, the main one apart', async () => {
    const pod = await node.runPod();
    const id = await node.runContainer(pod, 'sleep 1000');
    const before = (await podStatsOf(pod)).linux?.network;
    expect(before?.defaultInterface?.name).toBe('eth0');
    expect(before?.interfaces).toEqual([]); // lo is none
    await node.exec(id, `ping -c 3 -s 1000 ${node.subnet}.1`);
    const after = (await podStatsOf(pod)).linux?.network;
    expect(
      number(after?.defaultInterface?.txBytes) - number(before?.defaultInterface?.txBytes),
    ).toBeGreaterThan(3000);
    expect(
      number(after?.defaultInterface?.rxBytes) - number(before?.defaultInterface?.rxBytes),
    ).toBeGreaterThan(3000);
    expect(number(after?.defaultInterface?.rxErrors)).toBe(0);
  });

  it('are those of the whole pod, with those of its running containers and its processes', async () => {
    const pod = await node.runPod({
      labels: { app: 'web' },
      linux: { cgroupParent: `${node.cgroupParent}/one` },
    });
    await node.runContainer(pod, 'sleep 1000 & sleep 1000 & wait');
    const second = await node.runContainer(pod, 'sleep 1000');
    const stats = await until('all processes are started', async () => {
      const now = await podStatsOf(pod);
      return number(now.linux?.process?.processCount) === 4 ? now : undefined;
    });
    expect(stats.attributes).toMatchObject({ id: pod, labels: { app: 'web' } });
    const own = stats.linux?.containers ?? [];
    expect(own).toHaveLength(2);
    const parts = own.map(({ cpu }) => number(cpu?.usageCoreNanoSeconds));
    expect(number(stats.linux?.cpu?.usageCoreNanoSeconds)).toBeGreaterThan(parts.reduce((a, b) => a + b, 0));
    const ofPod = `${node.cgroupParent}/one`;
    const [v1, v2] = [
      `/sys/fs/cgroup/memory${ofPod}/memory.max_usage_in_bytes`,
      `/sys/fs/cgroup${ofPod}/memory.peak`,
    ];
    const peak = existsSync(v1) ? v1 : v2;
    expect(number(stats.linux?.memory?.usageBytes)).toBeGreaterThan(0);
    expect(number(stats.linux?.memory?.usageBytes)).toBeLessThanOrEqual(Number(readFileSync(peak, 'utf8')));
    await node.cri.StopContainer({ containerId: second, timeout: 0 });
    expect((await podStatsOf(pod)).linux?.containers).toHaveLength(1);
    await until('the pod has a rate', async () =>
      (await podStatsOf(pod)).linux?.cpu?.usageNanoCores ? true : undefined,
    );
  });

  it('are the sum of its containers where the pod has no cgroup of its own', async () => {
    const pod = await node.runPod({ linux: { cgroupParent: '' } });
    await node.runContainer(pod, 'sleep 1000');
    const { linux } = await podStatsOf(pod);
    const [container] = linux?.containers ?? [];
    expect(number(linux?.cpu?.usageCoreNanoSeconds)).toBeGreaterThan(
      number(container?.cpu?.usageCoreNanoSeconds),
    );
    expect(number(linux?.memory?.usageBytes)).toBeGreaterThan(number(container?.memory?.usageBytes));
  });

  it("of the host's network have no network of their own", async () => {
    const pod = await node.runPod({ linux: { securityContext: { namespaceOptions: { network: 'NODE' } } } });
    expect((await podStatsOf(pod)).linux?.network).toBeNull();
  });

  it('that is not READY are refused, and left out of lists', async () => {
    const [stopped, ready] = [await node.runPod(), await node.runPod({ labels: { app: 'web' } })];
    await node.cri.StopPodSandbox({ podSandboxId: stopped });
    const failure = await failureOf(node.cri.PodSandboxStats({ podSandboxId: stopped }));
    expect(failure).toMatchObject({ code: 14, details: expect.stringContaining(stopped) });
    const list = async (filter?: Parameters<typeof node.cri.ListPodSandboxStats>[0]) => {
      const { stats } = await node.cri.ListPodSandboxStats(filter);
      return stats.map(({ attributes }) => attributes?.id);
    };
    expect(await list()).toEqual([ready]);
    expect(await list({ filter: { labelSelector: { app: 'web' } } })).toEqual([ready]);
    expect(await list({ filter: { labelSelector: { app: 'db' } } })).toEqual([]);
    expect(await list({ filter: { id: ready.slice(0, 12) } })).toEqual([ready]);
    const streamed = await collect(node.cri.stream('StreamPodSandboxStats', {}));
    expect(streamed.flatMap(({ podSandboxStats }) => podSandboxStats.map(s => s.attributes?.id))).toEqual([
      ready,
    ]);
  });
});

describe('metrics', () => {
  it('are announced once each, and every value fits its announcement', async () => {
    const pod = await node.runPod();
    await node.runContainer(pod, 'sleep 1000', {
      linux: { resources: { cpuPeriod: 100_000, cpuQuota: 50_000 } },
    });
    const { descriptors } = await node.cri.ListMetricDescriptors();
    const labelKeys = new Map(descriptors.map(({ name, labelKeys: keys }) => [name, keys]));
    expect(labelKeys.size).toBe(descriptors.length);
    for (const { name, help } of descriptors) expect(help, name).not.toBe('');
    for (const metric of await allMetrics())
      expect(metric.labelValues, metric.name).toHaveLength(labelKeys.get(metric.name)?.length ?? -1);
  });

  it('have the names that dashboards ask cAdvisor for', async () => {
    const pod = await node.runPod();
    await node.runContainer(pod, 'sleep 1000', {
      linux: {
        resources: {
          cpuPeriod: 100_000,
          cpuQuota: 50_000,
          cpuShares: 512,
          memoryLimitInBytes: 64 * mebibyte,
        },
      },
    });
    const names = new Set((await allMetrics()).map(({ name }) => name));
    for (const name of [
      'container_cpu_usage_seconds_total',
      'container_cpu_cfs_periods_total',
      'container_cpu_cfs_throttled_periods_total',
      'container_memory_working_set_bytes',
      'container_memory_usage_bytes',
      'container_memory_rss',
      'container_memory_cache',
      'container_memory_swap',
      'container_oom_events_total',
      'container_network_receive_bytes_total',
      'container_network_receive_packets_total',
      'container_network_receive_packets_dropped_total',
      'container_network_transmit_errors_total',
      'container_fs_limit_bytes',
      'container_processes',
      'container_threads',
      'container_file_descriptors',
      'container_sockets',
      'container_start_time_seconds',
      'container_last_seen',
      'container_spec_cpu_quota',
      'container_spec_memory_limit_bytes',
    ])
      expect(names, name).toContain(name);
  });

  it('are labelled with pod, namespace, container, image and cgroup', async () => {
    const pod = await node.runPod({ metadata: { name: 'web-0', namespace: 'shop', uid: 'u', attempt: 0 } });
    const id = await node.runContainer(pod, 'sleep 1000', { metadata: { name: 'nginx', attempt: 0 } });
    const { podMetrics } = await node.cri.ListPodSandboxMetrics();
    expect(podMetrics.map(({ podSandboxId }) => podSandboxId)).toEqual([pod]);
    expect(await labelled(podMetrics[0], 'container_memory_rss')).toEqual([
      { container: '', id: node.cgroupParent, image: '', name: '', namespace: 'shop', pod: 'web-0' },
      {
        container: 'nginx',
        id: `${node.cgroupParent}/${id}`,
        image: 'test/busybox:latest',
        name: id,
        namespace: 'shop',
        pod: 'web-0',
      },
    ]);
    expect(await labelled(podMetrics[0], 'container_network_receive_bytes_total')).toMatchObject([
      { container: '', pod: 'web-0', interface: 'eth0' },
    ]);
    const streamed = await collect(node.cri.stream('StreamPodSandboxMetrics', {}));
    expect(streamed.flatMap(({ podSandboxMetrics }) => podSandboxMetrics.map(p => p.podSandboxId))).toEqual([
      pod,
    ]);
  });

  it('tell of the writable layer of a container that has just started', async () => {
    const pod = await node.runPod();
    const id = await node.runContainer(pod, 'sleep 1000');
    const { podMetrics } = await node.cri.ListPodSandboxMetrics();
    const [labels] = await labelled(podMetrics[0], 'container_fs_usage_bytes');
    expect(labels).toMatchObject({ name: id });
  });

  it('say what is asked of the container, and what it does', async () => {
    const pod = await node.runPod();
    const id = await node.runContainer(pod, 'sleep 1000 & nc -l -p 80 & wait', {
      linux: { resources: { memoryLimitInBytes: 64 * mebibyte } },
    });
    const value = async (name: string) => {
      const found = (await allMetrics()).find(
        metric => metric.name === name && metric.labelValues.includes(id),
      );
      return number(found?.value);
    };
    await until('the socket is open', async () =>
      (await value('container_sockets')) === 1 ? true : undefined,
    );
    expect(await value('container_spec_memory_limit_bytes')).toBe(64 * mebibyte);
    expect(await value('container_processes')).toBe(3);
    expect(await value('container_threads')).toBe(3);
    expect(Math.abs((await value('container_start_time_seconds')) - Date.now() / 1000)).toBeLessThan(60);
  });

  async function allMetrics(): Promise<Metric[]> {
    const { podMetrics } = await node.cri.ListPodSandboxMetrics();
    return podMetrics.flatMap(metricsOf);
  }

  function metricsOf({ metrics, containerMetrics }: PodSandboxMetrics): Metric[] {
    return [...metrics, ...containerMetrics.flatMap(container => container.metrics)];
  }

  /** Labels of every value of a metric, by their names. */
  async function labelled(
    pod: PodSandboxMetrics | undefined,
    name: string,
  ): Promise<Record<string, string>[]> {
    const { descriptors } = await node.cri.ListMetricDescriptors();
    const keys = descriptors.find(descriptor => descriptor.name === name)?.labelKeys ?? [];
    return (pod ? metricsOf(pod) : [])
      .filter(metric => metric.name === name)
      .map(({ labelValues }) => Object.fromEntries(keys.map((key, i) => [key, labelValues[i] ?? ''])));
  }
});

describe('UpdatePodSandboxResources', () => {
  it('is remembered, also by the next daemon, and what it does not name stays', async () => {
    const pod = await node.runPod({ linux: { overhead: { memoryLimitInBytes: mebibyte } } });
    await node.cri.UpdatePodSandboxResources({
      podSandboxId: pod,
      resources: { cpuShares: 512, memoryLimitInBytes: 64 * mebibyte },
    });
    const linux = async () => {
      const { info } = await node.cri.PodSandboxStatus({ podSandboxId: pod, verbose: true });
      return JSON.parse(info.info ?? '{}').config.linux;
    };
    const expected = {
      cgroupParent: node.cgroupParent,
      overhead: { memoryLimitInBytes: String(mebibyte) },
      resources: { cpuShares: '512', memoryLimitInBytes: String(64 * mebibyte) },
    };
    expect(await linux()).toMatchObject(expected);
    await node.stop();
    await node.start();
    expect(await linux()).toMatchObject(expected);
  });

  it('of a sandbox that does not exist is NOT_FOUND', async () => {
    const failure = await failureOf(node.cri.UpdatePodSandboxResources({ podSandboxId: 'nobody' }));
    expect(failure.code).toBe(5);
  });
});
