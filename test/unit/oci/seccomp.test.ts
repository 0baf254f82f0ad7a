import { expect, test } from 'vitest';
import { buildSeccomp, type SeccompRequest } from '../../../src/oci/spec/seccomp.ts';
import { defaultProfile } from '../../../src/oci/spec/seccomp-default.ts';
import { expandProfile } from '../../../src/oci/spec/seccomp-profile.ts';
import type { Seccomp } from '../../../src/oci/spec/types.ts';
import { host, lookups } from './fixtures.ts';

function build(over: Partial<SeccompRequest> = {}) {
  return buildSeccomp({
    subject: 'container "c" (1)',
    asked: null,
    legacyPath: '',
    unset: { kind: 'unconfined' },
    privileged: false,
    capabilities: [],
    host,
    lookups: lookups(),
    ...over,
  });
}

function withFile(text: string) {
  return {
    asked: { profileType: 'Localhost', localhostRef: '/profiles/a.json' } as const,
    lookups: lookups({ readText: async file => (file === '/profiles/a.json' ? text : undefined) }),
  };
}

function allowed(seccomp: Seccomp | undefined, call: string): boolean {
  return (seccomp?.syscalls ?? []).some(
    ({ names, action, args }) => names.includes(call) && action === 'SCMP_ACT_ALLOW' && args === undefined,
  );
}

const runtimeDefault = { profileType: 'RuntimeDefault', localhostRef: '' } as const;

test('the default profile denies what it does not name', async () => {
  const seccomp = await build({ asked: runtimeDefault });
  expect(seccomp?.defaultAction).toBe('SCMP_ACT_ERRNO');
  expect(seccomp?.architectures).toEqual(['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32']);
  for (const call of ['read', 'openat2', 'ptrace', 'arch_prctl'])
    expect(allowed(seccomp, call), call).toBe(true);
  for (const call of [
    'mount',
    'bpf',
    'reboot',
    'keyctl',
    'io_uring_setup',
    'userfaultfd',
    'unshare',
    'clone3',
  ]) {
    expect(allowed(seccomp, call), call).toBe(false);
  }
});

test.each([
  ['CAP_SYS_ADMIN', 'mount'],
  ['CAP_SYS_BOOT', 'reboot'],
  ['CAP_BPF', 'bpf'],
  ['CAP_SYS_NICE', 'mbind'],
])('%s opens %s', async (capability, call) => {
  expect(allowed(await build({ asked: runtimeDefault, capabilities: [capability] }), call)).toBe(true);
});

test('clone may make no namespaces and clone3 does not exist, unless the container has CAP_SYS_ADMIN', async () => {
  const rules = (await build({ asked: runtimeDefault }))?.syscalls ?? [];
  expect(rules.filter(({ names }) => names[0] === 'clone')).toEqual([
    {
      names: ['clone'],
      action: 'SCMP_ACT_ALLOW',
      args: [{ index: 0, value: 0x7e020000, valueTwo: 0, op: 'SCMP_CMP_MASKED_EQ' }],
    },
  ]);
  expect(rules.filter(({ names }) => names[0] === 'clone3')).toEqual([
    { names: ['clone3'], action: 'SCMP_ACT_ERRNO', errnoRet: 38 },
  ]);
  const admin = await build({ asked: runtimeDefault, capabilities: ['CAP_SYS_ADMIN'] });
  expect(allowed(admin, 'clone3')).toBe(true);
});

test('on s390x the flags of clone are its second argument', () => {
  const rules =
    expandProfile(defaultProfile, { host: { ...host, arch: 's390x' }, capabilities: [] }).syscalls ?? [];
  expect(rules.filter(({ names }) => names[0] === 'clone').map(({ args }) => args?.[0]?.index)).toEqual([1]);
});

test('arm64 and an old kernel get their own calls', () => {
  const old = expandProfile(defaultProfile, {
    host: { arch: 'arm64', kernel: { major: 4, minor: 4 } },
    capabilities: [],
  });
  expect(old.architectures).toEqual(['SCMP_ARCH_AARCH64', 'SCMP_ARCH_ARM']);
  expect(allowed(old, 'cacheflush')).toBe(true);
  expect(allowed(old, 'arch_prctl')).toBe(false);
  expect(allowed(old, 'ptrace')).toBe(false);
});

test('a program known to be native has a filter for one ABI', async () => {
  expect((await build({ asked: runtimeDefault, nativeOnly: true }))?.architectures).toEqual([
    'SCMP_ARCH_X86_64',
  ]);
});

test('nothing asked for means the profile the configuration names for that', async () => {
  expect(await build()).toBeUndefined();
  expect(await build({ unset: { kind: 'runtime-default' } })).toBeDefined();
});

test('Unconfined and privileged have no filter', async () => {
  const unset = { kind: 'runtime-default' } as const;
  expect(await build({ unset, asked: { profileType: 'Unconfined', localhostRef: '' } })).toBeUndefined();
  expect(await build({ asked: runtimeDefault, privileged: true })).toBeUndefined();
});

test('the older field is understood', async () => {
  expect(await build({ legacyPath: 'runtime/default' })).toBeDefined();
  expect(await build({ legacyPath: 'unconfined', unset: { kind: 'runtime-default' } })).toBeUndefined();
  await expect(build({ legacyPath: 'some/other' })).rejects.toThrow('is not runtime/default');
});

test('a localhost profile is read, also in the form of Docker', async () => {
  const seccomp = await build({
    capabilities: ['CAP_SYS_TIME'],
    ...withFile(
      JSON.stringify({
        defaultAction: 'SCMP_ACT_ERRNO',
        archMap: [{ architecture: 'SCMP_ARCH_X86_64', subArchitectures: ['SCMP_ARCH_X86'] }],
        syscalls: [
          { name: 'read', action: 'SCMP_ACT_ALLOW', args: null },
          { names: ['stime'], action: 'SCMP_ACT_ALLOW', includes: { caps: ['CAP_SYS_TIME'] } },
          { names: ['mount'], action: 'SCMP_ACT_ALLOW', includes: { caps: ['CAP_SYS_ADMIN'] } },
          { names: ['mkdir'], action: 'SCMP_ACT_ALLOW', excludes: { arches: ['amd64'] } },
        ],
      }),
    ),
  });
  expect(seccomp).toEqual({
    defaultAction: 'SCMP_ACT_ERRNO',
    architectures: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86'],
    syscalls: [
      { names: ['read'], action: 'SCMP_ACT_ALLOW' },
      { names: ['stime'], action: 'SCMP_ACT_ALLOW' },
    ],
  });
});

test.each<[string, Partial<SeccompRequest>, string]>([
  [
    'missing',
    { asked: { profileType: 'Localhost', localhostRef: '/nowhere.json' } },
    'there is no file /nowhere.json',
  ],
  ['relative', { asked: { profileType: 'Localhost', localhostRef: 'a.json' } }, 'is not an absolute path'],
  ['no JSON', withFile('{'), 'is not JSON'],
  ['no profile', withFile('{"defaultAction":"DENY"}'), 'is not a seccomp profile'],
  [
    'of two kinds',
    { asked: { profileType: 'RuntimeDefault', localhostRef: 'x' } },
    'is given with profile type',
  ],
  [
    'on a kernel without seccomp',
    { asked: runtimeDefault, host: { ...host, seccompEnabled: false } },
    'has no seccomp',
  ],
])('a profile that is %s is refused', async (_, over, message) => {
  await expect(build(over)).rejects.toThrow(message);
  await expect(build(over)).rejects.toMatchObject({ kind: 'invalidArgument' });
});
