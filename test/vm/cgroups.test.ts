// The systemd cgroup driver on cgroup v2: where pods stand, every limit seen in force, OOM kills, statistics, pressure.
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ContainerStats } from '../../src/cri-api/types.ts';
import { limited } from '../support/containers.ts';
import { type InstalledNode, installedNode, type Pod } from '../support/installed-node.ts';
import { until } from '../support/node.ts';

const MiB = 1024 * 1024;
const swapFile = '/var/tmp/swap';
let node: InstalledNode;
let pod: Pod;
beforeAll(async () => {
  await execa('dd', ['if=/dev/zero', `of=${swapFile}`, 'bs=1M', 'count=128']);
  await execa('chmod', ['600', swapFile]);
  await execa('mkswap', [swapFile]);
  await execa('swapon', [swapFile]);
  await execa('sysctl', ['vm.nr_hugepages=8']);
  node = await installedNode();
  pod = await node.runPod();
});
afterAll(async () => {
  await node.leave();
  await execa('swapoff', [swapFile]);
  await execa('rm', [swapFile]);
  await execa('sysctl', ['vm.nr_hugepages=0']);
});

/** Values of a flat keyed file, such as memory.events. */
const keyed = (text: string) =>
  Object.fromEntries(text.split('\n').map(line => line.split(' ') as [string, string]));
const counter = async (id: string, file: string, key: string) =>
  Number(keyed(await node.cgroupFile(pod, id, file))[key]);

describe.each(['runc', 'crun'])('with %s', handler => {
  let own: Pod;
  beforeAll(async () => {
    own = await node.runPod({}, { handler });
  });

  it('pods and containers are scopes in the slice that kubelet has made, and go from it when they go', async () => {
    const id = await node.runContainer(own, 'exec sleep 1000');
    const scopes = [own.id, id].map(name => `cri-ts-${name}.scope`);
    for (const scope of scopes) {
      expect(existsSync(join(own.cgroup, scope, 'cgroup.procs'))).toBe(true);
      const { stdout } = await execa('systemctl', ['show', '--property=Slice,ActiveState', scope]);
      expect(stdout.split('\n').sort()).toEqual(['ActiveState=active', `Slice=${own.slice}`]);
    }
    // The program sees its own cgroup as the root, and is in no other.
    expect(await node.exec(id, 'cat /proc/self/cgroup')).toBe('0::/');
    await node.cri.RemoveContainer({ containerId: id });
    expect(existsSync(join(own.cgroup, scopes[1] ?? ''))).toBe(false);
    await node.cri.StopPodSandbox({ podSandboxId: own.id });
    expect(existsSync(own.cgroup)).toBe(true);
    await until('systemd has let go of the scopes', async () => {
      const { stdout } = await execa('systemctl', [
        'list-units',
        '--all',
        '--plain',
        '--no-legend',
        ...scopes,
      ]);
      return stdout === '' ? true : undefined;
    });
  });
});

describe('limits', () => {
  it('are the kernel’s, each in its file, and stay so through a daemon-reload', async () => {
    const { dev } = statSync('/var/lib/cri-ts');
    const device = `${(dev >> 8) & 0xfff}:${dev & 0xff}`;
    const id = await node.runContainer(
      pod,
      'exec sleep 1000',
      limited({
        cpuShares: 512,
        cpuQuota: 25_000,
        cpuPeriod: 50_000,
        cpusetCpus: '1',
        memoryLimitInBytes: 64 * MiB,
        memorySwapLimitInBytes: 96 * MiB,
        hugepageLimits: [{ pageSize: '2MB', limit: 4 * MiB }],
        unified: {
          'memory.min': String(8 * MiB),
          'memory.high': String(48 * MiB),
          'io.max': `${device} wbps=1048576`,
        },
      }),
    );
    const expected = {
      'cpu.max': '25000 50000',
      'cpuset.cpus.effective': '1',
      'memory.max': String(64 * MiB),
      'memory.swap.max': String(32 * MiB),
      'memory.min': String(8 * MiB),
      'memory.high': String(48 * MiB),
      'hugetlb.2MB.max': String(4 * MiB),
      'io.max': `${device} rbps=max wbps=1048576 riops=max wiops=max`,
    };
    const inForce = async () => {
      const files = Object.keys(expected);
      const texts = await Promise.all(files.map(file => node.cgroupFile(pod, id, file)));
      return Object.fromEntries(files.map((file, i) => [file, texts[i]]));
    };
    expect(await inForce()).toEqual(expected);
    // 512 of 1024 shares is about a fifth of the way to the default weight of 100
    const weight = Number(await node.cgroupFile(pod, id, 'cpu.weight'));
    expect(weight).toBeGreaterThan(1);
    expect(weight).toBeLessThan(100);
    await execa('systemctl', ['daemon-reload']);
    expect(await inForce()).toEqual(expected);
  });

  it('bind: CPU time, CPUs, processes, huge pages, memory.high', async () => {
    const throttled = await node.runContainer(
      pod,
      'while :; do :; done',
      limited({ cpuQuota: 5_000, cpuPeriod: 50_000 }),
    );
    await until('it is throttled', async () =>
      (await counter(throttled, 'cpu.stat', 'nr_throttled')) > 2 ? true : undefined,
    );
    await node.cri.RemoveContainer({ containerId: throttled });
    expect((await node.output(pod, 'nproc', limited({ cpusetCpus: '0' }))).lines).toEqual(['1']);

    const few = await node.runPod({}, { properties: ['TasksMax=12'] });
    const forks = 'for i in $(seq 20); do sleep 1000 & done; echo all';
    const { lines } = await node.output(few, `(${forks}) 2>&1`);
    expect(lines.join('\n')).toContain("can't fork");

    const mounts = [{ hostPath: '/dev/hugepages', containerPath: '/huge' }];
    const huge = await node.output(
      pod,
      'for n in 4 6; do fallocate -l $((n))M /huge/$n 2>/dev/null && echo $n fits; rm -f /huge/$n; done',
      { mounts, linux: { resources: { hugepageLimits: [{ pageSize: '2MB', limit: 4 * MiB }] } } },
    );
    expect(huge.lines).toEqual(['4 fits']);

    // Without swap there is nothing to reclaim, and the kernel holds the writer back more and more: it is not waited for.
    const high = await node.runContainer(
      pod,
      `exec head -c ${24 * MiB} /dev/zero > /dev/shm/x`,
      limited({ memoryLimitInBytes: 64 * MiB, unified: { 'memory.high': String(12 * MiB) } }),
    );
    await until('it is held back', async () =>
      (await counter(high, 'memory.events', 'high')) > 0 ? true : undefined,
    );
    await node.cri.RemoveContainer({ containerId: high });
  });

  it('change under a running container, and survive what systemd rewrites', async () => {
    const id = await node.runContainer(
      pod,
      'exec sleep 1000',
      limited({ cpuShares: 512, cpuQuota: 20_000, cpuPeriod: 100_000, memoryLimitInBytes: 64 * MiB }),
    );
    await node.cri.UpdateContainerResources({
      containerId: id,
      linux: {
        cpuQuota: 30_000,
        memoryLimitInBytes: 128 * MiB,
        unified: { 'memory.high': String(100 * MiB) },
      },
    });
    await execa('systemctl', ['daemon-reload']);
    expect(await node.cgroupFile(pod, id, 'cpu.max')).toBe('30000 100000');
    expect(await node.cgroupFile(pod, id, 'memory.max')).toBe(String(128 * MiB));
    expect(await node.cgroupFile(pod, id, 'memory.high')).toBe(String(100 * MiB));
  });
});

describe('out of memory', () => {
  const hungry = 'tail /dev/zero; echo "child $?"; sleep 2';

  it('the first process is killed: the container was OOMKilled', async () => {
    const { status } = await node.output(
      pod,
      'exec tail /dev/zero',
      limited({ memoryLimitInBytes: 24 * MiB }),
    );
    expect(status).toMatchObject({ exitCode: 137, reason: 'OOMKilled' });
  });

  it('one process of several is killed: the others go on', async () => {
    const { lines } = await node.output(pod, hungry, limited({ memoryLimitInBytes: 24 * MiB }));
    expect(lines).toContain('child 137');
  });

  it('with memory.oom.group, which kubelet sets, all are killed together', async () => {
    const { lines, status } = await node.output(
      pod,
      hungry,
      limited({ memoryLimitInBytes: 24 * MiB, unified: { 'memory.oom.group': '1' } }),
    );
    expect(lines).not.toContain('child 137');
    expect(status).toMatchObject({ exitCode: 137, reason: 'OOMKilled' });
  });

  it('is told even when systemd has removed the cgroup before conmon looks, and of no other container', async () => {
    const waiting = 'until [ -e /go ]; do sleep 1; done; tail /dev/zero';
    const limits = limited({ memoryLimitInBytes: 24 * MiB, unified: { 'memory.oom.group': '1' } });
    const neighbour = await node.runContainer(pod, 'sleep 1000', limits);
    const id = await node.runContainer(pod, waiting, limits);
    const { stdout: conmon } = await execa('pgrep', ['--full', `conmon .*--cid ${id} `]);
    await execa('kill', ['-STOP', conmon]);
    await node.exec(id, 'touch /go');
    await until('the cgroup is gone', async () =>
      existsSync(join(pod.cgroup, `cri-ts-${id}.scope`)) ? undefined : true,
    );
    await execa('kill', ['-CONT', conmon]);
    expect(await node.untilExited(id)).toMatchObject({ exitCode: 137, reason: 'OOMKilled' });
    await node.cri.StopContainer({ containerId: neighbour, timeout: 0 });
    expect(await node.status(neighbour)).toMatchObject({ exitCode: 137, reason: 'Error' });
  });
});

describe('statistics', () => {
  const statsOf = async (containerId: string): Promise<ContainerStats> => {
    const { stats } = await node.cri.ContainerStats({ containerId });
    if (!stats) throw new Error(`no statistics of ${containerId}`);
    return stats;
  };

  it('are what the controllers say', async () => {
    const id = await node.runContainer(
      pod,
      `head -c ${20 * MiB} /dev/zero > /dev/shm/x; echo written; exec sleep 1000`,
      limited({ memoryLimitInBytes: 64 * MiB }),
    );
    await node.untilLogged(id, 'written');
    const used = (await counter(id, 'cpu.stat', 'usage_usec')) * 1000;
    const stats = await until('statistics newer than that', async () => {
      const now = await statsOf(id);
      return Number(now.cpu?.usageCoreNanoSeconds?.value) >= used ? now : undefined;
    });
    expect(Number(stats.cpu?.usageCoreNanoSeconds?.value)).toBeLessThanOrEqual(
      (await counter(id, 'cpu.stat', 'usage_usec')) * 1000,
    );
    const current = Number(await node.cgroupFile(pod, id, 'memory.current'));
    const usage = Number(stats.memory?.usageBytes?.value);
    expect(Math.abs(usage - current)).toBeLessThan(4 * MiB);
    expect(usage).toBeGreaterThan(20 * MiB);
    const { stats: ofPod } = await node.cri.PodSandboxStats({ podSandboxId: pod.id });
    expect(Number(ofPod?.linux?.memory?.usageBytes?.value)).toBeGreaterThanOrEqual(usage);
    expect(Number(ofPod?.linux?.process?.processCount?.value)).toBeGreaterThan(1);
  });

  it('show pressure that grows where there is some', async () => {
    const id = await node.runContainer(
      pod,
      'while :; do :; done',
      limited({ cpuQuota: 5_000, cpuPeriod: 50_000 }),
    );
    await until('pressure', async () => {
      const { cpu } = await statsOf(id);
      return Number(cpu?.psi?.Some?.Total ?? 0) > 0 ? true : undefined;
    });
    expect(readFileSync(join(pod.cgroup, 'cpu.pressure'), 'utf8')).toMatch(/^some .*total=[1-9]/);
    await node.cri.RemoveContainer({ containerId: id });
  });
});
