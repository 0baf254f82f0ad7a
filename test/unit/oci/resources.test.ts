import { expect, test } from 'vitest';
import type { LinuxContainerResources } from '../../../src/cri-api/types.ts';
import {
  applyResources,
  reportedResources,
  undoDocument,
  updateDocument,
} from '../../../src/oci/spec/resources.ts';
import type { Resources } from '../../../src/oci/spec/types.ts';
import * as fixtures from './fixtures.ts';

function apply(
  change: Partial<LinuxContainerResources>,
  {
    base = {} as Resources,
    cgroup = {} as Partial<typeof fixtures.host.cgroup>,
    disableHugetlbController = false,
    tolerateMissingHugetlbController = true,
  } = {},
) {
  const warnings: string[] = [];
  const resources = applyResources(base, fixtures.resources(change), {
    subject: 'container "c" (1)',
    host: { cgroup: { ...fixtures.host.cgroup, ...cgroup } },
    disableHugetlbController,
    tolerateMissingHugetlbController,
    warn: message => warnings.push(message),
  });
  return { resources, warnings };
}

test('values not said are absent, not zero', () => {
  expect(apply({}).resources).toEqual({});
});

test('cpu and memory limits are numbers, whether they came as numbers or as text', () => {
  expect(
    apply({
      cpuPeriod: '100000',
      cpuQuota: -1,
      cpuShares: 2,
      cpusetCpus: '0-1',
      cpusetMems: '0',
      memoryLimitInBytes: '4096',
    }).resources,
  ).toEqual({
    cpu: { period: 100000, quota: -1, shares: 2, cpus: '0-1', mems: '0' },
    memory: { limit: 4096, swap: 4096 },
  });
});

test('a memory limit alone means no swap, where swap can be limited', () => {
  expect(apply({ memoryLimitInBytes: 4096 }, { cgroup: { swap: false } }).resources.memory).toEqual({
    limit: 4096,
  });
  expect(apply({ memoryLimitInBytes: 4096, memorySwapLimitInBytes: 8192 }).resources.memory).toEqual({
    limit: 4096,
    swap: 8192,
  });
  expect(apply({ memoryLimitInBytes: 4096, memorySwapLimitInBytes: -1 }).resources.memory?.swap).toBe(-1);
});

test('less memory and swap together than memory is refused', () => {
  expect(() => apply({ memoryLimitInBytes: 4096, memorySwapLimitInBytes: 1 })).toThrow(
    'is below the memory limit 4096',
  );
});

test('a change keeps what it does not name, and touches neither argument', () => {
  const base: Resources = {
    devices: [{ allow: false, access: 'rwm' }],
    cpu: { shares: 10, period: 5 },
    memory: { limit: 100, swap: 100 },
    pids: { limit: 7 },
    hugepageLimits: [{ pageSize: '2MB', limit: 1 }],
    unified: { 'memory.high': '5' },
  };
  const before = structuredClone(base);
  const { resources } = apply(
    { cpuShares: 20, hugepageLimits: [{ pageSize: '1GB', limit: '2' }], unified: { 'memory.min': '1' } },
    { base },
  );
  expect(base).toEqual(before);
  expect(resources).toEqual({
    ...before,
    cpu: { shares: 20, period: 5 },
    hugepageLimits: [
      { pageSize: '2MB', limit: 1 },
      { pageSize: '1GB', limit: 2 },
    ],
    unified: { 'memory.high': '5', 'memory.min': '1' },
  });
});

test('huge page limits without their controller are dropped with a warning, or refused', () => {
  const hugepageLimits = [{ pageSize: '2MB', limit: '4096' }];
  const cgroup = { hugetlb: false };
  expect(apply({ hugepageLimits }, { cgroup })).toEqual({
    resources: {},
    warnings: [expect.stringContaining('hugetlb')],
  });
  expect(() => apply({ hugepageLimits }, { cgroup, tolerateMissingHugetlbController: false })).toThrow(
    'resources.hugepage_limits: this host has no hugetlb',
  );
  // kubelet sends a zero for each page size of the node; that is nothing to warn of.
  expect(apply({ hugepageLimits: [{ pageSize: '2MB', limit: '0' }] }, { cgroup }).warnings).toEqual([]);
});

test('huge page limits are left out where the configuration turns them off', () => {
  const hugepageLimits = [{ pageSize: '2MB', limit: '4096' }];
  expect(apply({ hugepageLimits }, { disableHugetlbController: true })).toEqual({
    resources: {},
    warnings: [],
  });
});

test('unified files need cgroup v2 and must be names, not paths', () => {
  expect(() => apply({ unified: { 'memory.max': '1' } }, { cgroup: { version: 1 } })).toThrow(
    'needs cgroup v2',
  );
  expect(() => apply({ unified: { '../memory.max': '1' } })).toThrow('is not the name of a cgroup file');
});

test('a number that JSON cannot carry is refused', () => {
  expect(() => apply({ memoryLimitInBytes: '9223372036854775807' })).toThrow('is not an integer below 2^53');
});

test('the update document has all limits, and nothing that cannot be updated', () => {
  const document: unknown = JSON.parse(
    updateDocument({
      devices: [{ allow: false, access: 'rwm' }],
      memory: { limit: 1 },
      cpu: { shares: 2 },
      pids: { limit: 3 },
      hugepageLimits: [{ pageSize: '2MB', limit: 1 }],
    }),
  );
  expect(document).toEqual({ memory: { limit: 1 }, cpu: { shares: 2 }, pids: { limit: 3 } });
});

test('the way back from a failed update has the old limits, and lifts those that there were not', () => {
  const changed = { memory: { limit: 2, swap: 2 }, cpu: { shares: 2, quota: 5, cpus: '7' } };
  const document = (before: Resources): unknown => JSON.parse(undoDocument(before, changed));
  expect(document({ memory: { limit: 1, swap: 1 }, cpu: { shares: 1 }, pids: { limit: 3 } })).toEqual({
    memory: { limit: 1, swap: 1 },
    cpu: { shares: 1, quota: -1 },
    pids: { limit: 3 },
  });
  expect(document({})).toEqual({ memory: { limit: -1, swap: -1 }, cpu: { quota: -1 } });
});

test('what is reported of a container is what was asked for it', () => {
  const asked = fixtures.resources({
    cpuShares: 5,
    memoryLimitInBytes: 10,
    memorySwapLimitInBytes: 10,
    cpusetCpus: '0',
  });
  const { resources } = apply(asked);
  expect(reportedResources(resources, -5)).toMatchObject({
    cpuShares: 5,
    memoryLimitInBytes: 10,
    memorySwapLimitInBytes: 10,
    cpusetCpus: '0',
    oomScoreAdj: -5,
    cpuQuota: 0,
  });
});
