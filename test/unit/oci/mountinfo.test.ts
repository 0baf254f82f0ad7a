import { expect, test } from 'vitest';
import { isShared, isSlave, mountOf, parseMountInfo } from '../../../src/oci/spec/mountinfo.ts';

const table = parseMountInfo(`22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
30 22 0:5 / /mnt rw master:4 propagate_from:1 - tmpfs none rw
31 30 0:6 / /mnt/with\\040space rw - tmpfs none rw
32 22 0:7 / /mnt rw - tmpfs none rw
33 22 0:8 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
not a line
`);

test('fields are read, and escaped spaces too', () => {
  expect(table).toHaveLength(5);
  expect(table[2]?.mountPoint).toBe('/mnt/with space');
  expect(table[4]).toMatchObject({
    fsType: 'cgroup2',
    superOptions: ['rw', 'nsdelegate', 'memory_recursiveprot'],
  });
});

test('shared and slave mounts are told apart', () => {
  const [root, slave, neither] = table;
  expect(root && isShared(root)).toBe(true);
  expect(root && isSlave(root)).toBe(false);
  expect(slave && isSlave(slave)).toBe(true);
  expect(neither && (isShared(neither) || isSlave(neither))).toBe(false);
});

test('a path is on the deepest mount above it, and on the last of those stacked there', () => {
  expect(mountOf(table, '/etc')?.mountPoint).toBe('/');
  expect(mountOf(table, '/mntx')?.mountPoint).toBe('/');
  expect(mountOf(table, '/mnt/with space/x')?.mountPoint).toBe('/mnt/with space');
  expect(mountOf(table, '/mnt/y')?.optionalFields).toEqual([]);
});
