// Reading cgroups of v1, v2 and the hybrid layout, from made-up trees with the kernel's own formats.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseCgroupMounts, readCgroupLayout } from '../../../src/host/cgroup/layout.ts';
import { createCgroups } from '../../../src/host/cgroup/open.ts';
import { pathOfCgroupsPath, pathOfSlice, pathsOfProcess } from '../../../src/host/cgroup/paths.ts';
import type { Cgroup } from '../../../src/host/cgroup/types.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'cgroup-'));
});
afterEach(() => rmSync(root, { recursive: true }));

const openAt = (path: string): Cgroup => createCgroups(readCgroupLayout(root)).open(path);

function write(files: Record<string, string>): void {
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), content);
  }
}

const mount = (point: string, type: string, options: string) =>
  `31 23 0:28 / ${point} rw,nosuid shared:9 - ${type} ${type} rw,${options}\n`;
const v2Mounts = mount('/sys/fs/cgroup', 'cgroup2', 'nsdelegate');
const v1Mounts = [
  mount('/sys/fs/cgroup', 'tmpfs', 'mode=755'),
  mount('/sys/fs/cgroup/cpu,cpuacct', 'cgroup', 'cpu,cpuacct'),
  mount('/sys/fs/cgroup/memory', 'cgroup', 'memory'),
  mount('/sys/fs/cgroup/pids', 'cgroup', 'pids'),
  mount('/sys/fs/cgroup/blkio', 'cgroup', 'blkio'),
  mount('/sys/fs/cgroup/systemd', 'cgroup', 'xattr,name=systemd'),
].join('');
const hybridMounts = v1Mounts + mount('/sys/fs/cgroup/unified', 'cgroup2', 'nsdelegate');
const pressure = (some: number, full: number) =>
  `some avg10=1.50 avg60=0.25 avg300=0.01 total=${some}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=${full}\n`;

describe('the layout of cgroups', () => {
  it('is v2 with one hierarchy for everything', () => {
    expect(parseCgroupMounts(v2Mounts)).toMatchObject({ version: 2, unified: '/sys/fs/cgroup' });
  });

  it('is v1 with controllers of their own, also two at one mount', () => {
    const { version, controllers, unified } = parseCgroupMounts(v1Mounts);
    expect({ version, unified }).toEqual({ version: 1, unified: undefined });
    expect(controllers.get('cpuacct')).toBe('/sys/fs/cgroup/cpu,cpuacct');
    expect(controllers.get('memory')).toBe('/sys/fs/cgroup/memory');
  });

  it('is v1 too where a v2 hierarchy without controllers stands beside', () => {
    expect(parseCgroupMounts(hybridMounts)).toMatchObject({ version: 1, unified: '/sys/fs/cgroup/unified' });
  });

  it("is v2 where systemd's named hierarchy is all that is left of v1", () => {
    const mounts = v2Mounts + mount('/sys/fs/cgroup/systemd', 'cgroup', 'name=systemd');
    expect(parseCgroupMounts(mounts).version).toBe(2);
  });

  it('has pressure only where the kernel accounts it', () => {
    write({ 'proc/self/mountinfo': v2Mounts });
    expect(readCgroupLayout(root).pressure).toBe(false);
    write({ 'proc/pressure/memory': pressure(0, 0) });
    expect(readCgroupLayout(root).pressure).toBe(true);
  });
});

describe('a cgroup v2', () => {
  const path = 'sys/fs/cgroup/kubepods/pod1/c1';
  const open = () => openAt('/kubepods/pod1/c1');
  beforeEach(() => {
    write({
      'proc/self/mountinfo': v2Mounts,
      'proc/pressure/memory': pressure(0, 0),
      [`${path}/cpu.stat`]:
        'usage_usec 1500000\nuser_usec 1000000\nsystem_usec 500000\nnr_periods 10\nnr_throttled 4\nthrottled_usec 250\n',
      [`${path}/memory.current`]: '1000000\n',
      [`${path}/memory.max`]: '4000000\n',
      [`${path}/memory.peak`]: '2000000\n',
      [`${path}/memory.swap.current`]: '4096\n',
      [`${path}/memory.swap.max`]: 'max\n',
      [`${path}/memory.events`]: 'low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\noom_group_kill 0\n',
      [`${path}/memory.stat`]:
        'anon 600000\nfile 300000\nkernel 50000\nkernel_stack 16384\nfile_mapped 20000\ninactive_anon 5\nactive_anon 6\ninactive_file 200000\nactive_file 100000\npgfault 77\npgmajfault 3\n',
      [`${path}/pids.current`]: '5\n',
      [`${path}/pids.max`]: '100\n',
      [`${path}/cgroup.procs`]: '11\n12\n',
      [`${path}/inner/cgroup.procs`]: '13\n',
      [`${path}/io.stat`]:
        '8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n253:1 rbytes=5 wbytes=0 rios=1 wios=0 dbytes=0 dios=0\n',
      [`${path}/cpu.pressure`]: pressure(1234, 5),
    });
  });

  it('gives CPU time in nanoseconds', () => {
    expect(open().cpuNs()).toBe(1.5e9);
    expect(open().cpuTimes()).toEqual({
      userNs: 1e9,
      systemNs: 0.5e9,
      periods: 10,
      throttledPeriods: 4,
      throttledNs: 250_000,
    });
  });

  it('gives memory, its limit, and swap without one', () => {
    expect(open().memory()).toEqual({
      usage: 1_000_000,
      limit: 4_000_000,
      rss: 600_000,
      cache: 300_000,
      mappedFile: 20_000,
      activeFile: 100_000,
      inactiveFile: 200_000,
      pageFaults: 77,
      majorPageFaults: 3,
      swap: { usage: 4096, limit: undefined },
    });
    expect(open().memoryDetail()).toEqual({ kernel: 50_000, peak: 2_000_000, limitHits: 7, oomKills: 1 });
    expect(open().oomKillsBelow()).toBe(1);
  });

  it('knows no swap where it is not accounted, and no limit where it says max', () => {
    rmSync(join(root, path, 'memory.swap.current'));
    write({ [`${path}/memory.max`]: 'max\n' });
    expect(open().memory()).toMatchObject({ limit: undefined, swap: undefined });
  });

  it('gives tasks, and the processes below it too', () => {
    expect([open().tasks(), open().taskLimit()]).toEqual([5, 100]);
    expect(open().processes()).toEqual([11, 12, 13]);
  });

  it('gives I/O by device', () => {
    expect(open().io()).toEqual([
      { major: 8, minor: 0, readBytes: 4096, writeBytes: 8192, reads: 1, writes: 2 },
      { major: 253, minor: 1, readBytes: 5, writeBytes: 0, reads: 1, writes: 0 },
    ]);
  });

  it('gives pressure, its totals in nanoseconds', () => {
    expect(open().pressure('cpu')).toEqual({
      some: { avg10: 1.5, avg60: 0.25, avg300: 0.01, totalNs: 1_234_000 },
      full: { avg10: 0, avg60: 0, avg300: 0, totalNs: 5000 },
    });
    expect(open().pressure('io')).toBeUndefined();
  });

  it('is read anew each time, also when it was removed and made again', () => {
    const cgroup = open();
    expect(cgroup.memory()?.usage).toBe(1_000_000);
    write({ [`${path}/memory.current`]: '7\n' });
    expect(cgroup.memory()?.usage).toBe(7);
    cgroup.close();
    rmSync(join(root, path), { recursive: true });
    expect(cgroup.cpuNs()).toBeUndefined();
    write({ [`${path}/cpu.stat`]: 'usage_usec 3\n' });
    expect(cgroup.cpuNs()).toBe(3000);
    cgroup.close();
  });

  it('that went away has nothing to tell, and is no error', () => {
    const gone = openAt('/kubepods/pod1/gone');
    expect(gone.exists()).toBe(false);
    expect([gone.cpuNs(), gone.cpuTimes(), gone.memory(), gone.tasks(), gone.pressure('cpu')]).toEqual(
      Array(5).fill(undefined),
    );
    expect([gone.processes(), gone.io()]).toEqual([[], []]);
  });
});

describe('a cgroup v1', () => {
  const at = (controller: string, file: string) => `sys/fs/cgroup/${controller}/kubepods/c1/${file}`;
  const open = () => openAt('/kubepods/c1');
  const unlimited = '9223372036854771712';
  beforeEach(() => {
    write({
      'proc/self/mountinfo': hybridMounts,
      'proc/pressure/memory': pressure(0, 0),
      [at('cpu,cpuacct', 'cpuacct.usage')]: '1500\n',
      [at('cpu,cpuacct', 'cpuacct.usage_user')]: '1000\n',
      [at('cpu,cpuacct', 'cpuacct.usage_sys')]: '500\n',
      [at('cpu,cpuacct', 'cpu.stat')]: 'nr_periods 10\nnr_throttled 4\nthrottled_time 250\nnr_bursts 0\n',
      [at('memory', 'memory.usage_in_bytes')]: '1000000\n',
      [at('memory', 'memory.limit_in_bytes')]: '4000000\n',
      [at('memory', 'memory.stat')]:
        'cache 1\nrss 2\ninactive_file 3\nhierarchical_memory_limit 4000000\nhierarchical_memsw_limit 5000000\ntotal_cache 300000\ntotal_rss 600000\ntotal_mapped_file 20000\ntotal_swap 4096\ntotal_pgfault 77\ntotal_pgmajfault 3\ntotal_inactive_file 200000\ntotal_active_file 100000\n',
      [at('memory', 'memory.kmem.usage_in_bytes')]: '50000\n',
      [at('memory', 'memory.max_usage_in_bytes')]: '2000000\n',
      [at('memory', 'memory.failcnt')]: '7\n',
      [at('memory', 'memory.oom_control')]: 'oom_kill_disable 0\nunder_oom 0\noom_kill 1\n',
      [at('memory', 'cgroup.procs')]: '11\n',
      [at('pids', 'pids.current')]: '5\n',
      [at('pids', 'pids.max')]: 'max\n',
      [at('blkio', 'blkio.throttle.io_service_bytes_recursive')]:
        '8:0 Read 4096\n8:0 Write 8192\n8:0 Sync 12288\n8:0 Async 0\n8:0 Discard 0\n8:0 Total 12288\nTotal 12288\n',
      [at('blkio', 'blkio.throttle.io_serviced_recursive')]: '8:0 Read 1\n8:0 Write 2\nTotal 3\n',
      [at('unified', 'memory.pressure')]: pressure(8, 4),
    });
  });

  it('gives CPU time of all below it too', () => {
    expect(open().cpuNs()).toBe(1500);
    expect(open().cpuTimes()).toEqual({
      userNs: 1000,
      systemNs: 500,
      periods: 10,
      throttledPeriods: 4,
      throttledNs: 250,
    });
  });

  it("gives memory of all below it too, and swap's share of the common limit", () => {
    expect(open().memory()).toEqual({
      usage: 1_000_000,
      limit: 4_000_000,
      rss: 600_000,
      cache: 300_000,
      mappedFile: 20_000,
      activeFile: 100_000,
      inactiveFile: 200_000,
      pageFaults: 77,
      majorPageFaults: 3,
      swap: { usage: 4096, limit: 1_000_000 },
    });
    expect(open().memoryDetail()).toEqual({ kernel: 50_000, peak: 2_000_000, limitHits: 7, oomKills: 1 });
    expect(open().oomKillsBelow()).toBe(undefined);
  });

  it("takes the kernel's largest number for no limit", () => {
    write({
      [at('memory', 'memory.limit_in_bytes')]: `${unlimited}\n`,
      [at('memory', 'memory.stat')]:
        `hierarchical_memory_limit ${unlimited}\nhierarchical_memsw_limit ${unlimited}\ntotal_swap 0\n`,
    });
    expect(open().memory()).toMatchObject({ limit: undefined, swap: { usage: 0, limit: undefined } });
  });

  it('gives tasks without a limit, and processes', () => {
    expect([open().tasks(), open().taskLimit()]).toEqual([5, undefined]);
    expect(open().processes()).toEqual([11]);
  });

  it('gives I/O by device', () => {
    expect(open().io()).toEqual([
      { major: 8, minor: 0, readBytes: 4096, writeBytes: 8192, reads: 1, writes: 2 },
    ]);
  });

  it('has its pressure in the v2 hierarchy beside', () => {
    expect(open().pressure('memory')?.some?.totalNs).toBe(8000);
  });

  it('has no pressure without a v2 hierarchy', () => {
    write({ 'proc/self/mountinfo': v1Mounts });
    expect(open().pressure('memory')).toBeUndefined();
  });
});

describe('the path of a cgroup', () => {
  it('is what cgroupfs runtimes make of cgroupsPath', () => {
    expect(pathOfCgroupsPath('/kubepods/pod1/c1')).toBe('/kubepods/pod1/c1');
  });

  it('is a scope in nested slices with systemd', () => {
    expect(pathOfCgroupsPath('kubepods-besteffort-pod1.slice:cri-ts:c1')).toBe(
      '/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1.slice/cri-ts-c1.scope',
    );
    expect(pathOfCgroupsPath('system.slice:cri-ts:c1')).toBe('/system.slice/cri-ts-c1.scope');
  });

  it('of a slice lies in the slices that its name begins with', () => {
    expect(pathOfSlice('/kubepods.slice/kubepods-pod1.slice')).toBe('/kubepods.slice/kubepods-pod1.slice');
    expect(pathOfSlice('kubepods-pod1.slice')).toBe('/kubepods.slice/kubepods-pod1.slice');
    expect(pathOfSlice('-.slice')).toBe('/');
  });

  it('of a process is told by controller', () => {
    write({ 'proc/9/cgroup': '8:pids:/\n4:memory:/a:b\n2:cpu,cpuacct:/x\n1:name=systemd:/y\n0::/z\n' });
    const paths = pathsOfProcess(9, root);
    expect(['memory', 'cpuacct', 'name=systemd', ''].map(name => paths.get(name))).toEqual([
      '/a:b',
      '/x',
      '/y',
      '/z',
    ]);
    expect(pathsOfProcess(10, root).size).toBe(0);
  });
});
