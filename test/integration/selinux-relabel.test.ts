// Relabelling writes the attribute in which SELinux keeps labels; a kernel without SELinux keeps it as it is given.
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { getXattr } from '../../src/host/files-ffi.ts';
import { mayBeRelabelled, relabel } from '../../src/host/selinux.ts';

const label = 'system_u:object_r:container_file_t:s0:c1,c2';
const labelOf = (path: string) =>
  getXattr(Buffer.from(path).toString('latin1'), 'security.selinux')?.toString('latin1').replace('\0', '');

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'cri-ts-selinux-'));
});
afterAll(() => rm(directory, { recursive: true }));

it('a volume gets the label with all that is in it, whatever it is called, and nothing beside it', async () => {
  const volume = join(directory, 'volume');
  await mkdir(join(volume, 'deep', 'er'), { recursive: true });
  const inside = [join(volume, 'file'), join(volume, 'deep', 'er', 'schön')];
  const beside = join(directory, 'beside');
  for (const file of [...inside, beside]) await writeFile(file, '');
  await symlink(beside, join(volume, 'link'));
  relabel(volume, label);
  for (const path of [volume, join(volume, 'deep'), ...inside, join(volume, 'link')]) {
    expect(labelOf(path), path).toBe(label);
  }
  expect(labelOf(beside)).not.toBe(label);
  relabel(inside[0] ?? '', `${label},c3`);
  expect(labelOf(inside[0] ?? '')).toBe(`${label},c3`);
});

it('a file system that keeps no labels is left as it is', () => {
  expect(() => relabel('/proc/self/status', label)).not.toThrow();
});

it.each(['/', '/etc', '/usr/', '/var/lib', '/tmp/../home'])('%s is never relabelled', path => {
  expect(mayBeRelabelled(path)).toBe(false);
});

it.each(['/srv/data', '/var/lib/kubelet/pods/x/volumes', '/etc/my-service'])('%s may be', path => {
  expect(mayBeRelabelled(path)).toBe(true);
});
