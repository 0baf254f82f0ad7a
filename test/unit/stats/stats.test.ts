// The parts of statistics that need no container: rates, usage, sums, devices, metric families.
import { link, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { deviceOfPath } from '../../../src/host/block-devices.ts';
import type { Cgroup } from '../../../src/host/cgroup/types.ts';
import { parseNetworkDevices } from '../../../src/host/network-devices.ts';
import { measureSmall } from '../../../src/image/measure-small.ts';
import { silentLogger } from '../../../src/log.ts';
import { createCpuRates } from '../../../src/stats/cpu-rate.ts';
import { createLayerUsage } from '../../../src/stats/layer-usage.ts';
import { metricDescriptors } from '../../../src/stats/metrics/descriptors.ts';
import { type MetricFamily, readAll } from '../../../src/stats/metrics/family.ts';
import { createStats, type StatsOptions } from '../../../src/stats/stats.ts';
import { readUsage, sumOf } from '../../../src/stats/usage.ts';

describe('CPU rates', () => {
  it('are nanoseconds a second between the last two samples', () => {
    const rates = createCpuRates();
    rates.sample('c', 1_000_000, 0);
    expect(rates.rate('c')).toBeUndefined();
    rates.sample('c', 501_000_000, 1000);
    expect(rates.rate('c')).toBe(500_000_000);
    rates.sample('c', 501_000_000, 2000);
    expect(rates.rate('c')).toBe(0);
  });

  it('are unknown when the counter fell or no time passed, and known again after', () => {
    const rates = createCpuRates();
    rates.sample('c', 500, 0);
    rates.sample('c', 100, 1000);
    expect(rates.rate('c')).toBeUndefined();
    rates.sample('c', 100, 1000);
    expect(rates.rate('c')).toBeUndefined();
    rates.sample('c', 1100, 2000);
    expect(rates.rate('c')).toBe(1000);
  });

  it('are forgotten when they are old', () => {
    const rates = createCpuRates();
    for (const at of [0, 1000]) rates.sample('old', at, at);
    for (const at of [0, 1000, 5000]) rates.sample('new', at, at);
    rates.forgetBefore(2000);
    expect([rates.rate('old'), rates.rate('new')]).toEqual([undefined, 1_000_000 / 1000]);
  });
});

describe('CPU samples', () => {
  afterEach(() => {
    vi.useRealTimers();
  });

  it('are taken each period, and each tenth when nobody has asked for a minute', () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance'] });
    let samples = 0;
    const options = {
      containers: { list: () => [] },
      sandboxes: {
        list() {
          samples++;
          return [];
        },
      },
      cgroups: { keep() {}, closeFiles() {} },
      config: { collectPeriodMs: 1000, retentionPeriodMs: 120_000, layerPeriodMs: 1e9 },
      log: silentLogger(),
    } as unknown as StatsOptions;
    const stats = createStats(options);
    const samplesIn = (seconds: number) => {
      samples = 0;
      vi.advanceTimersByTime(seconds * 1000);
      return samples;
    };
    expect(samplesIn(60)).toBe(60);
    samplesIn(10);
    expect(samplesIn(100)).toBe(10);
    stats.ofContainers([]);
    expect(samplesIn(60)).toBe(60);
    stats.close();
  });
});

const memory = {
  usage: 1000,
  limit: 4000,
  rss: 600,
  cache: 300,
  mappedFile: 0,
  activeFile: 100,
  inactiveFile: 200,
  pageFaults: 7,
  majorPageFaults: 3,
  swap: { usage: 1, limit: 2 },
};

function fakeCgroup(over: Partial<Cgroup> = {}): Cgroup {
  return {
    path: '/c',
    exists: () => true,
    cpuNs: () => 5,
    cpuTimes: () => undefined,
    memory: () => memory,
    memoryDetail: () => ({ kernel: undefined, peak: undefined, limitHits: undefined, oomKills: undefined }),
    oomKillsBelow: () => undefined,
    tasks: () => 2,
    taskLimit: () => undefined,
    close: () => {},
    processes: () => [],
    io: () => [],
    pressure: () => undefined,
    ...over,
  };
}

describe('usage', () => {
  it('counts the inactive file cache out of the working set, and the rest of the limit as available', () => {
    expect(readUsage(fakeCgroup(), 9)).toMatchObject({
      cpu: { ns: 5, rate: 9 },
      memory: { usage: 1000, workingSet: 800, available: 3200, rss: 600 },
      swap: { usage: 1, limit: 2 },
      tasks: 2,
    });
  });

  it('never gives less than nothing', () => {
    const tight = { ...memory, limit: 500, inactiveFile: 2000 };
    expect(readUsage(fakeCgroup({ memory: () => tight }), undefined).memory).toMatchObject({
      workingSet: 0,
      available: 500,
    });
    const over = { ...memory, limit: 500, inactiveFile: 0 };
    expect(readUsage(fakeCgroup({ memory: () => over }), undefined).memory?.available).toBe(0);
  });

  it('has no figures of a cgroup that has gone', () => {
    const gone = fakeCgroup({ cpuNs: () => undefined, memory: () => undefined, tasks: () => undefined });
    expect(readUsage(gone, undefined)).toMatchObject({ cpu: undefined, memory: undefined, swap: undefined });
  });

  it('of several adds up, where they have figures', () => {
    const one = readUsage(fakeCgroup(), 10);
    const young = readUsage(fakeCgroup(), undefined);
    expect(sumOf([one, young])).toMatchObject({
      cpu: { ns: 10, rate: 10 },
      memory: { usage: 2000, workingSet: 1600, available: undefined },
      tasks: 4,
    });
    expect(sumOf([])).toMatchObject({ cpu: undefined, memory: undefined });
  });
});

describe('network devices', () => {
  it('are read without lo, names with colons included', () => {
    const text = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0
  eth0:1234567890123  22    3    4    0     0          0         0      55      66   77   88    0     0       0          0
 eth0:1:       1       2    3    4    0     0          0         0        5       6    7    8    0     0       0          0
`;
    expect(parseNetworkDevices(text)).toEqual([
      {
        name: 'eth0',
        received: { bytes: 1234567890123, packets: 22, errors: 3, dropped: 4 },
        transmitted: { bytes: 55, packets: 66, errors: 77, dropped: 88 },
      },
      {
        name: 'eth0:1',
        received: { bytes: 1, packets: 2, errors: 3, dropped: 4 },
        transmitted: { bytes: 5, packets: 6, errors: 7, dropped: 8 },
      },
    ]);
  });
});

describe('the device of a path', () => {
  it('is the source of the mount that lies nearest', () => {
    const mounts = '/dev/vda / ext4 rw 0 0\n/dev/vdb /var/lib xfs rw 0 0\ntmpfs /var/libx tmpfs rw 0 0\n';
    expect(deviceOfPath('/var/lib/cri-ts', mounts)).toBe('/dev/vdb');
    expect(deviceOfPath('/home', mounts)).toBe('/dev/vda');
  });
});

describe('a writable layer', () => {
  it('is measured in blocks and inodes, a file of two names once', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'layer-'));
    await mkdir(join(directory, 'sub'));
    await writeFile(join(directory, 'sub', 'a'), Buffer.alloc(100_000));
    const before = await measureSmall(directory);
    await link(join(directory, 'sub', 'a'), join(directory, 'b'));
    expect(before?.inodes).toBe(3);
    expect(before?.bytes).toBeGreaterThanOrEqual(100_000);
    expect((await measureSmall(directory))?.inodes).toBe(3);
    expect(await measureSmall(directory, 2)).toBeUndefined(); // too many for here
    await rm(directory, { recursive: true });
    expect(await measureSmall(directory)).toEqual({ bytes: 0, inodes: 0 });
  });

  it('of many files is left to a worker, and a failure waits for the next time', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'layer-'));
    for (let i = 0; i < 600; i++) await writeFile(join(directory, String(i)), '');
    let fails = true;
    const layers = createLayerUsage({
      rootfs: {
        upperDirectory: () => directory,
        usage: async () => {
          if (fails) throw new Error('the worker is gone');
          return { bytes: 1, inodes: 601 };
        },
      },
      periodMs: 1_000_000,
      containers: () => ['c'],
      log: silentLogger(),
    });
    await layers.measureNew();
    expect(layers.of('c')).toBeUndefined();
    fails = false;
    await layers.measureNew();
    expect(layers.of('c')).toMatchObject({ bytes: 1, inodes: 601 });
    layers.close();
    await rm(directory, { recursive: true });
  });
});

describe('metric families', () => {
  it('give whole values that are not negative, and none where there is nothing to read', () => {
    const families: MetricFamily<number>[] = [
      { name: 'plain', help: 'h', type: 'GAUGE', read: n => n },
      { name: 'none', help: 'h', type: 'GAUGE', read: () => undefined },
      { name: 'by', help: 'h', type: 'COUNTER', labels: ['x'], read: n => [{ labels: ['y'], value: -n }] },
    ];
    expect(readAll(families, 1.9, ['base'])).toEqual([
      { name: 'plain', type: 'GAUGE', labels: ['base'], value: 1 },
      { name: 'by', type: 'COUNTER', labels: ['base', 'y'], value: 0 },
    ]);
  });

  it('have names of their own, and begin with the base labels', () => {
    const descriptors = metricDescriptors();
    expect(new Set(descriptors.map(({ name }) => name)).size).toBe(descriptors.length);
    for (const { labels } of descriptors) expect(labels.slice(0, 3)).toEqual(['container', 'id', 'image']);
  });
});
