// Limits of a container, as the kernel has them (files of cgroup v1 or v2, /proc), when it is made and when they change.
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { status as grpc } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Loose } from '../../src/cri-api/contract.ts';
import type { LinuxContainerResources } from '../../src/cri-api/types.ts';
import { cgroupDirectory, cgroupFile, inspect, limited, procStatus } from '../support/containers.ts';
import { failureOf } from '../support/cri-client.ts';
import { startNode, type TestNode } from '../support/node.ts';

const MiB = 1024 * 1024;
let node: TestNode;
let pod: string;
beforeAll(async () => {
  node = await startNode();
  pod = await node.runPod();
});
afterAll(() => node.destroy());

const isV2 = existsSync('/sys/fs/cgroup/cgroup.controllers');
const hasSwapAccounting = isV2 || existsSync('/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes');

interface Limits {
  shares?: number;
  /** Microseconds; -1 is no quota. */
  quota?: number;
  period?: number;
  memory?: number | 'none';
  /** Of memory and swap together, as CRI counts. */
  swap?: number;
  cpus?: string;
  mems?: string;
}

const present = (files: Record<string, string | undefined>) =>
  Object.fromEntries(Object.entries(files).filter(([, text]) => text !== undefined)) as Record<
    string,
    string
  >;
const text = (value: number | undefined) => (value === undefined ? undefined : String(value));

function filesOfV1({ shares, quota, period, memory, swap, cpus, mems }: Limits): Record<string, string> {
  return present({
    'cpu.shares': text(shares),
    'cpu.cfs_quota_us': text(quota),
    'cpu.cfs_period_us': text(period),
    'memory.limit_in_bytes': memory === 'none' ? '9223372036854771712' : text(memory),
    'memory.memsw.limit_in_bytes': text(swap),
    'cpuset.cpus': cpus,
    'cpuset.mems': mems,
  });
}

function filesOfV2({
  shares,
  quota,
  period = 100_000,
  memory,
  swap,
  cpus,
  mems,
}: Limits): Record<string, string> {
  // As runc 1.1 converts them (libcontainer, ConvertCPUSharesToCgroupV2Value).
  const weight = shares === undefined ? undefined : 1 + Math.floor(((shares - 2) * 9999) / 262_142);
  return present({
    'cpu.weight': shares === 1024 ? '100' : text(weight),
    'cpu.max': quota === undefined ? undefined : `${quota === -1 ? 'max' : quota} ${period}`,
    'memory.max': memory === 'none' ? 'max' : text(memory),
    'memory.swap.max': swap === undefined ? undefined : String(swap - Number(memory)),
    'cpuset.cpus': cpus,
    'cpuset.mems': mems,
  });
}

/** Asserts the kernel's values for a running container. */
async function expectLimits(id: string, expected: Limits): Promise<void> {
  const { pid } = await inspect(node, id);
  const files = isV2 ? filesOfV2(expected) : filesOfV1(expected);
  const found = Object.keys(files).map(name => [name, cgroupFile(pid, name.split('.')[0] ?? '', name)]);
  expect(Object.fromEntries(found)).toEqual(files);
}
const runWith = (resources: Loose<LinuxContainerResources>, inPod = pod) =>
  node.runContainer(inPod, 'exec sleep 1000', limited(resources));
const reported = async (id: string) => (await node.status(id)).resources?.linux;
const update = (containerId: string, linux: Loose<LinuxContainerResources>) =>
  node.cri.UpdateContainerResources({ containerId, linux });

describe('limits of a container', () => {
  it('of CPU are the kernel’s: shares, quota, period', async () => {
    const id = await runWith({ cpuShares: 512, cpuQuota: 25_000, cpuPeriod: 50_000 });
    await expectLimits(id, { shares: 512, quota: 25_000, period: 50_000 });
    expect(await reported(id)).toMatchObject({ cpuShares: '512', cpuQuota: '25000', cpuPeriod: '50000' });
  });

  it('of memory are the kernel’s, without swap beside it unless some is asked for', async () => {
    const id = await runWith({ memoryLimitInBytes: 64 * MiB });
    await expectLimits(id, { memory: 64 * MiB });
    expect(await reported(id)).toMatchObject({ memoryLimitInBytes: String(64 * MiB) });
    if (!hasSwapAccounting) return;
    await expectLimits(id, { memory: 64 * MiB, swap: 64 * MiB });
    const swapping = await runWith({ memoryLimitInBytes: 64 * MiB, memorySwapLimitInBytes: 96 * MiB });
    await expectLimits(swapping, { memory: 64 * MiB, swap: 96 * MiB });
    expect(await reported(swapping)).toMatchObject({ memorySwapLimitInBytes: String(96 * MiB) });
  });

  it('of CPUs and memory nodes are the kernel’s, and the program sees them', async () => {
    const id = await runWith({ cpusetCpus: '1', cpusetMems: '0' });
    await expectLimits(id, { cpus: '1', mems: '0' });
    expect(await node.exec(id, 'grep Cpus_allowed_list /proc/self/status')).toBe('Cpus_allowed_list:\t1');
    expect(await reported(id)).toMatchObject({ cpusetCpus: '1', cpusetMems: '0' });
  });

  it('of processes are those of its pod’s cgroup', async () => {
    const parent = join(isV2 ? '/sys/fs/cgroup' : '/sys/fs/cgroup/pids', node.cgroupParent, 'few');
    mkdirSync(parent, { recursive: true });
    writeFileSync(join(parent, 'pids.max'), '10');
    const small = await node.runPod({ linux: { cgroupParent: `${node.cgroupParent}/few` } });
    const script = 'for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 100 & done; echo all';
    const { lines, status } = await node.output(small, `(${script}) 2>&1`);
    expect(lines.join('\n')).toContain("can't fork");
    expect(status.exitCode).not.toBe(0);
    await node.cri.RemovePodSandbox({ podSandboxId: small });
    rmdirSync(parent);
  });

  it('are none when none are asked for', async () => {
    const id = await node.runContainer(pod, 'exec sleep 1000');
    await expectLimits(id, { shares: 1024, quota: -1, memory: 'none' });
  });

  it('bind: the program gets no more', async () => {
    const { status } = await node.output(
      pod,
      'exec tail /dev/zero',
      limited({ memoryLimitInBytes: 16 * MiB }),
    );
    expect(status.reason).toBe('OOMKilled');
    const { lines } = await node.output(pod, 'nproc', limited({ cpusetCpus: '0' }));
    expect(lines).toEqual(['1']);
  });

  it('hold for the cgroup that the pod’s parent names, and that goes with the container', async () => {
    const id = await runWith({ cpuShares: 99 });
    const { pid } = await inspect(node, id);
    const directory = cgroupDirectory(pid, 'cpu');
    expect(directory).toBe(`/sys/fs/cgroup${isV2 ? '' : '/cpu'}${node.cgroupParent}/${id}`);
    await node.cri.RemoveContainer({ containerId: id });
    expect(existsSync(directory)).toBe(false);
  });

  it('of huge pages are left out where the kernel has none to limit', async () => {
    const id = await runWith({ hugepageLimits: [{ pageSize: '2MB', limit: 2 * MiB }] });
    expect((await node.status(id)).state).toBe('CONTAINER_RUNNING');
  });
});

describe('limits that cannot be had', () => {
  const refused: [name: string, resources: Loose<LinuxContainerResources>, words: string][] = [
    ['negative shares', { cpuShares: -1 }, 'cpu_shares'],
    ['a negative period', { cpuPeriod: -1 }, 'cpu_period'],
    [
      'swap below memory',
      { memoryLimitInBytes: 64 * MiB, memorySwapLimitInBytes: 32 * MiB },
      'memory_swap_limit',
    ],
    ['an OOM score out of range', { oomScoreAdj: 1001 }, 'oom_score_adj'],
  ];
  if (!isV2) refused.push(['a file of cgroup v2', { unified: { 'memory.high': '1' } }, 'memory.high']);
  it.each(refused)('are refused: %s', async (_, resources, words) => {
    const { code, details } = await failureOf(node.createContainer(pod, 'true', limited(resources)));
    expect(code).toBe(grpc.INVALID_ARGUMENT);
    expect(details).toContain(words);
  });

  it('for the kernel make the start fail, in its words', async () => {
    const id = await node.createContainer(pod, 'true', limited({ cpusetCpus: '4095' }));
    const { details } = await failureOf(node.cri.StartContainer({ containerId: id }));
    expect(details).toContain('cpuset');
    expect(await node.status(id)).toMatchObject({ reason: 'StartError', exitCode: 128 });
  });
});

describe('UpdateContainerResources', () => {
  it('puts a whole spec in place of the old one, which a kill would leave as it was', async () => {
    const id = await runWith({ cpuShares: 512 });
    const bundle = join(node.state, 'containers', id);
    const [file, old] = [join(bundle, 'config.json'), join(node.directory, 'old.json')];
    linkSync(file, old);
    const before = readFileSync(old, 'utf8');
    await update(id, { cpuShares: 256 });
    expect(readFileSync(old, 'utf8')).toBe(before);
    expect(JSON.parse(readFileSync(file, 'utf8'))).toMatchObject({
      linux: { resources: { cpu: { shares: 256 } } },
    });
    expect(readdirSync(bundle).filter(name => name.startsWith('config.json'))).toEqual(['config.json']);
    rmSync(old);
  });

  it('changes a running container, and what is told of it', async () => {
    const id = await runWith({
      cpuShares: 512,
      memoryLimitInBytes: 64 * MiB,
      cpuQuota: 20_000,
      cpuPeriod: 100_000,
    });
    await update(id, { cpuShares: 256, memoryLimitInBytes: 128 * MiB, cpuQuota: 30_000, cpusetCpus: '0' });
    await expectLimits(id, { shares: 256, quota: 30_000, period: 100_000, memory: 128 * MiB, cpus: '0' });
    expect(await reported(id)).toMatchObject({
      cpuShares: '256',
      cpuQuota: '30000',
      cpuPeriod: '100000',
      memoryLimitInBytes: String(128 * MiB),
      cpusetCpus: '0',
    });
  });

  it('leaves what it does not name', async () => {
    const id = await runWith({
      cpuShares: 512,
      memoryLimitInBytes: 64 * MiB,
      cpuQuota: 20_000,
      cpuPeriod: 100_000,
    });
    await update(id, { cpuShares: 128 });
    await expectLimits(id, { shares: 128, quota: 20_000, memory: 64 * MiB });
    await update(id, { cpuQuota: -1 });
    await expectLimits(id, { shares: 128, quota: -1, memory: 64 * MiB });
  });

  it('lowers memory too', async () => {
    const id = await runWith({ memoryLimitInBytes: 128 * MiB });
    await update(id, { memoryLimitInBytes: 64 * MiB });
    await expectLimits(id, { memory: 64 * MiB, ...(hasSwapAccounting && { swap: 64 * MiB }) });
  });

  it('of a created container holds when it starts', async () => {
    const id = await node.createContainer(pod, 'exec sleep 1000', limited({ cpuShares: 512 }));
    await update(id, { cpuShares: 256, memoryLimitInBytes: 64 * MiB });
    expect(await reported(id)).toMatchObject({ cpuShares: '256', memoryLimitInBytes: String(64 * MiB) });
    await node.cri.StartContainer({ containerId: id });
    await expectLimits(id, { shares: 256, memory: 64 * MiB });
  });

  it('does not open devices that are shut', async () => {
    const id = await runWith({ cpuShares: 512 });
    await update(id, { cpuShares: 256 });
    const { pid } = await inspect(node, id);
    // cgroup v2 has a program of the kernel's instead of a list.
    if (!isV2) expect(cgroupFile(pid, 'devices', 'devices.list')).not.toMatch(/^a \*:\* rwm/m);
    expect(await node.exec(id, 'mknod /kmsg c 1 11; head -c 1 /kmsg 2>&1')).toContain(
      'Operation not permitted',
    );
    expect(await node.exec(id, 'head -c 1 /dev/zero | wc -c')).toBe('1');
  });

  it('takes many at once', async () => {
    const id = await runWith({ cpuShares: 512 });
    await Promise.all(Array.from({ length: 10 }, (_, i) => update(id, { cpuShares: 100 + i })));
    const shares = Number((await reported(id))?.cpuShares);
    expect(shares).toBeGreaterThanOrEqual(100);
    await expectLimits(id, { shares });
  });

  it('changes nothing when it cannot be done', async () => {
    const id = await runWith({ cpuShares: 512, memoryLimitInBytes: 64 * MiB });
    const before = await reported(id);
    const onV1 = isV2 ? [] : [{ unified: { 'memory.high': '1' } }];
    for (const bad of [{ cpuShares: -5 }, { cpusetCpus: '4095' }, ...onV1]) {
      const { details } = await failureOf(update(id, { memoryLimitInBytes: 128 * MiB, ...bad }));
      expect(details).toContain(id);
    }
    expect(await reported(id)).toEqual(before);
    await expectLimits(id, { shares: 512, memory: 64 * MiB });

    const free = await runWith({ cpuShares: 512 });
    const { pid } = await inspect(node, free);
    const limit = () => cgroupFile(pid, 'memory', isV2 ? 'memory.max' : 'memory.limit_in_bytes');
    const none = limit();
    await failureOf(update(free, { memoryLimitInBytes: 128 * MiB, cpusetCpus: '4095' }));
    expect(limit()).toBe(none);
  });

  it('survives a restart of the daemon', async () => {
    const id = await runWith({ cpuShares: 512 });
    await update(id, { cpuShares: 256 });
    await node.stop();
    await node.start();
    expect(await reported(id)).toMatchObject({ cpuShares: '256' });
    await update(id, { memoryLimitInBytes: 64 * MiB });
    await expectLimits(id, { shares: 256, memory: 64 * MiB });
  });

  it('is refused for what has exited, does not exist, or is not said', async () => {
    const { status } = await node.output(pod, 'true');
    expect((await failureOf(update(status.id, { cpuShares: 5 }))).code).toBe(grpc.FAILED_PRECONDITION);
    expect((await failureOf(update('f'.repeat(64), { cpuShares: 5 }))).code).toBe(grpc.NOT_FOUND);
    const id = await runWith({});
    const { code, details } = await failureOf(node.cri.UpdateContainerResources({ containerId: id }));
    expect(code).toBe(grpc.INVALID_ARGUMENT);
    expect(details).toContain(id);
  });
});

describe('the OOM score', () => {
  const scoreOf = async (id: string) => {
    const { pid } = await inspect(node, id);
    return Number(readFileSync(`/proc/${pid}/oom_score_adj`, 'utf8'));
  };
  const own = Number(readFileSync('/proc/self/oom_score_adj', 'utf8'));
  const mayLower = (BigInt(`0x${procStatus(process.pid).get('CapEff')}`) >> 24n) & 1n; // CAP_SYS_RESOURCE

  it('is raised as asked', async () => {
    const id = await runWith({ oomScoreAdj: 700 });
    expect(await scoreOf(id)).toBe(700);
    expect(await reported(id)).toMatchObject({ oomScoreAdj: '700' });
  });

  it('is lowered as far as allowed, with a warning when that is not far enough', async () => {
    const id = await runWith({ oomScoreAdj: -900 });
    const expected = mayLower ? -900 : own;
    expect(await scoreOf(id)).toBe(expected);
    expect(await reported(id)).toMatchObject({ oomScoreAdj: String(expected) });
    if (mayLower) return;
    const log = await node.log();
    expect(log).toContain('CAP_SYS_RESOURCE');
    expect(log).toContain(id);
  });

  it('is that of the daemon when nothing is said', async () => {
    const id = await node.runContainer(pod, 'exec sleep 1000');
    expect(await scoreOf(id)).toBe(own);
  });
});

describe('resource limits of processes', () => {
  it('are those of the daemon', async () => {
    const id = await node.runContainer(pod, 'exec sleep 1000');
    const { pid } = await inspect(node, id);
    const limitsOf = (process: number) =>
      readFileSync(`/proc/${process}/limits`, 'utf8')
        .split('\n')
        .filter(line => !line.startsWith('Max open files')) // node raises its own soft limit to the hard one
        .join('\n');
    expect(limitsOf(pid)).toBe(limitsOf(node.pid()));
    expect(await node.exec(id, 'ulimit -H -n')).toBe(
      execFileSync('sh', ['-c', 'ulimit -H -n'], { encoding: 'utf8' }).trim(),
    );
  });
});
