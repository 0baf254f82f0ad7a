import { expect, test } from 'vitest';
import type { Capability } from '../../../src/cri-api/types.ts';
import { capabilitiesOfMask, capabilityNames } from '../../../src/host/capabilities.ts';
import { buildCapabilities, defaultCapabilities } from '../../../src/oci/spec/capabilities.ts';

function build(asked: Partial<Capability> | null, { privileged = false, without = [] as string[] } = {}) {
  const warnings: string[] = [];
  const sets = buildCapabilities({
    subject: 'container "c" (1)',
    asked:
      asked === null
        ? null
        : { addCapabilities: [], dropCapabilities: [], addAmbientCapabilities: [], ...asked },
    privileged,
    available: capabilityNames.filter(name => !without.includes(name)),
    warn: message => warnings.push(message),
  });
  return { ...sets, warnings };
}

test('nothing asked for gives the default set, and none of it inheritable or ambient', () => {
  const sets = build(null);
  expect([...sets.bounding].sort()).toEqual([...defaultCapabilities].sort());
  expect(sets.effective).toEqual(sets.bounding);
  expect(sets.permitted).toEqual(sets.bounding);
  expect(sets.inheritable).toEqual([]);
  expect(sets.ambient).toEqual([]);
});

test('names are taken in any case, with and without CAP_', () => {
  const { bounding } = build({
    addCapabilities: ['net_admin', 'CAP_SYS_TIME'],
    dropCapabilities: ['cap_chown'],
  });
  expect(bounding).toContain('CAP_NET_ADMIN');
  expect(bounding).toContain('CAP_SYS_TIME');
  expect(bounding).not.toContain('CAP_CHOWN');
});

test('ALL comes before single names, in both lists', () => {
  expect(build({ addCapabilities: ['ALL'], dropCapabilities: ['CHOWN'] }).bounding).toEqual(
    capabilityNames.filter(name => name !== 'CAP_CHOWN'),
  );
  expect(build({ addCapabilities: ['KILL'], dropCapabilities: ['all'] }).bounding).toEqual(['CAP_KILL']);
  expect(build({ addCapabilities: ['ALL'], dropCapabilities: ['ALL'] }).bounding).toEqual([]);
});

test('a privileged container has all the daemon has, whatever is dropped', () => {
  const { bounding } = build(
    { dropCapabilities: ['ALL'] },
    { privileged: true, without: ['CAP_SYS_RESOURCE'] },
  );
  expect(bounding).toEqual(capabilityNames.filter(name => name !== 'CAP_SYS_RESOURCE'));
});

test('an ambient capability is in all five sets', () => {
  const sets = build({ dropCapabilities: ['ALL'], addAmbientCapabilities: ['NET_RAW'] });
  for (const set of ['bounding', 'effective', 'permitted', 'inheritable', 'ambient'] as const) {
    expect(sets[set]).toEqual(['CAP_NET_RAW']);
  }
});

test('what the daemon does not have is left out, and said when it was asked for by name', () => {
  const asked = build({ addCapabilities: ['SYS_RESOURCE'] }, { without: ['CAP_SYS_RESOURCE', 'CAP_MKNOD'] });
  expect(asked.bounding).not.toContain('CAP_SYS_RESOURCE');
  expect(asked.bounding).not.toContain('CAP_MKNOD');
  expect(asked.warnings).toEqual([expect.stringContaining('CAP_SYS_RESOURCE left out')]);
});

test('an unknown capability is refused by name', () => {
  expect(() => build({ addCapabilities: ['FLY'] })).toThrow(
    'add_capabilities: CAP_FLY is not a Linux capability',
  );
  expect(() => build({ dropCapabilities: [''] })).toThrow('drop_capabilities');
});

test('a mask of /proc is read from its lowest bit', () => {
  expect(capabilitiesOfMask('0000000000000021')).toEqual(['CAP_CHOWN', 'CAP_KILL']);
  expect(capabilitiesOfMask('000001ffffffffff')).toHaveLength(41);
});
