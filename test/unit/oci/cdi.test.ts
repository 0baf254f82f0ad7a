import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { applyCdiEdits } from '../../../src/oci/cdi/apply.ts';
import { annotatedCdiDevices, findCdiEdits } from '../../../src/oci/cdi/registry.ts';
import type { RuntimeSpec } from '../../../src/oci/spec/types.ts';

let low: string;
let high: string;
beforeEach(async () => {
  [low, high] = await Promise.all([mkdtemp(join(tmpdir(), 'cdi-')), mkdtemp(join(tmpdir(), 'cdi-'))]);
});
afterEach(() => Promise.all([low, high].map(directory => rm(directory, { recursive: true }))));

const yaml = `
cdiVersion: "0.6.0"
kind: example.com/toy
containerEdits:
  env: [SHARED=yes]
devices:
  - name: one
    containerEdits:
      env: [TOY=one]
      deviceNodes: [{ path: /dev/toy, hostPath: /dev/null }]
      mounts: [{ hostPath: /tmp, containerPath: /toys, options: [ro, bind] }]
      hooks: [{ hookName: createContainer, path: /bin/true, args: ["true"] }]
      additionalGids: [0, 44]
  - name: two
    containerEdits: { env: [TOY=two] }
`;

const bareSpec = (): RuntimeSpec => ({
  ociVersion: '1.0.2',
  process: {
    terminal: false,
    user: { uid: 0, gid: 0, additionalGids: [10] },
    args: ['sh'],
    env: ['PATH=/bin', 'TOY=none'],
    cwd: '/',
    capabilities: { bounding: [], effective: [], permitted: [], inheritable: [], ambient: [] },
    noNewPrivileges: true,
  },
  root: { path: '/', readonly: true },
  mounts: [],
  annotations: {},
  linux: {
    namespaces: [],
    cgroupsPath: '/x',
    resources: { devices: [] },
    maskedPaths: [],
    readonlyPaths: [],
  },
});
const null_ = { type: 'c' as const, path: '/dev/null', major: 1, minor: 3, fileMode: 0o666, uid: 0, gid: 0 };
const lookups = { devices: async (path: string) => (path === '/dev/null' ? [null_] : undefined) };

describe('CDI devices', () => {
  it('edit the spec as their file says, what devices of one file share once', async () => {
    await writeFile(join(low, 'toy.yaml'), yaml);
    const spec = bareSpec();
    const names = ['example.com/toy=one', 'example.com/toy=two'];
    await applyCdiEdits(spec, await findCdiEdits(names, [low, high], 'container c'), lookups, 'container c');
    expect(spec.process.env).toEqual(['PATH=/bin', 'SHARED=yes', 'TOY=two']);
    expect(spec.linux.devices).toEqual([{ ...null_, path: '/dev/toy' }]);
    expect(spec.linux.resources.devices).toEqual([
      { allow: true, type: 'c', major: 1, minor: 3, access: 'rwm' },
    ]);
    expect(spec.mounts).toEqual([
      { destination: '/toys', source: '/tmp', type: 'bind', options: ['ro', 'bind'] },
    ]);
    expect(spec.hooks?.createContainer).toEqual([{ path: '/bin/true', args: ['true'] }]);
    expect(spec.process.user.additionalGids).toEqual([10, 44]);
  });

  it('of a later directory win over those of an earlier one', async () => {
    await writeFile(join(low, 'toy.yaml'), yaml);
    const other = {
      cdiVersion: '0.6.0',
      kind: 'example.com/toy',
      devices: [{ name: 'one', containerEdits: { env: ['TOY=high'] } }],
    };
    await writeFile(join(high, 'toy.json'), JSON.stringify(other));
    const edits = await findCdiEdits(['example.com/toy=one'], [low, high], 'container c');
    expect(edits.flatMap(({ env }) => env)).toEqual(['TOY=high']);
  });

  it('that are defined nowhere are refused, naming the files that cannot be read', async () => {
    await writeFile(join(low, 'broken.json'), '{');
    const found = findCdiEdits(['example.com/toy=none'], [low], 'container c');
    await expect(found).rejects.toThrow(/container c: no CDI device example.com\/toy=none .*broken.json/);
  });

  it('whose device node is not on the host are refused', async () => {
    await writeFile(join(low, 'toy.yaml'), yaml.replace('/dev/null', '/dev/nothing'));
    const edits = await findCdiEdits(['example.com/toy=one'], [low], 'container c');
    await expect(applyCdiEdits(bareSpec(), edits, lookups, 'container c')).rejects.toThrow(
      /\/dev\/nothing is not on this host/,
    );
  });

  it('are also named by annotations', () => {
    expect(annotatedCdiDevices({ 'cdi.k8s.io/a': 'x/y=1, x/y=2', other: 'x/y=3' })).toEqual([
      'x/y=1',
      'x/y=2',
    ]);
  });
});
