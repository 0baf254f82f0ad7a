// Trees that are removed with all that is in them, and what is mounted in them, which is not.
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { mountIdmapped, unmountIdmapped } from '../../src/host/idmap.ts';
import { mount, unmount } from '../../src/host/mount.ts';
import { removeTree } from '../../src/host/remove-tree.ts';
import { createUserNamespace } from '../../src/host/userns.ts';
import { removeSmall } from '../../src/image/remove-small.ts';

let base: string;
let tree: string;
let kept: string;
beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), 'cri-ts-removal-'));
  [tree, kept] = [join(base, 'tree'), join(base, 'kept')];
  mkdirSync(join(tree, 'a/mounted'), { recursive: true });
  mkdirSync(kept);
  writeFileSync(join(kept, 'file'), 'x');
});
afterEach(() => {
  for (const path of ['tree/a/mounted', 'tree', 'mapped']) unmount(join(base, path));
  rmSync(base, { recursive: true });
});

const removers = {
  'a worker': removeTree,
  'the daemon, which removes what is small,': (path: string) => void removeSmall(path),
};

describe.each(Object.entries(removers))('%s', (_, remove) => {
  it('removes nothing behind a mount of the same file system', () => {
    const target = join(tree, 'a/mounted');
    mount({ source: kept, target, flags: ['bind'] });
    expect(() => remove(tree)).toThrow(`${target} (something is mounted there`);
    expect(readdirSync(kept)).toEqual(['file']);
    expect(unmount(target)).toBe(true);
    remove(tree);
    expect(existsSync(tree)).toBe(false);
  });

  it('removes nothing behind a mount of another file system', () => {
    const target = join(tree, 'a/mounted');
    mount({ source: 'tmpfs', target, type: 'tmpfs' });
    writeFileSync(join(target, 'file'), 'x');
    expect(() => remove(tree)).toThrow(/unmount it and try again/);
    expect(readdirSync(target)).toEqual(['file']);
  });

  it('removes nothing when the tree itself is a mount', () => {
    mount({ source: kept, target: tree, flags: ['bind'] });
    expect(() => remove(tree)).toThrow(/something is mounted there/);
    expect(readdirSync(kept)).toEqual(['file']);
  });
});

it('a worker removes files, links and names that are not text, and takes what is gone for removed', () => {
  writeFileSync(Buffer.concat([Buffer.from(`${tree}/a/`), Buffer.of(0xe9)]), '');
  execFileSync('ln', ['-s', kept, join(tree, 'link')]);
  removeTree(tree);
  removeTree(tree);
  removeTree(join(kept, 'file'));
  expect([readdirSync(base), readdirSync(kept)]).toEqual([['kept'], []]);
});

it('layers with mapped owners cannot be changed by way of the mount that maps them', async () => {
  const [path, target] = [join(base, 'userns'), join(base, 'mapped')];
  const ids = [{ containerID: 0, hostID: 400_000, size: 65_536 }];
  await createUserNamespace(
    { path, uids: ids, gids: ids, netnsPath: join(base, 'netns') },
    new AbortController().signal,
  );
  mountIdmapped(kept, target, path, { withSubmounts: false, readonly: true });
  expect(() => rmSync(join(target, 'file'))).toThrow(/EROFS/);
  expect(readFileSync(join(target, 'file'), 'utf8')).toBe('x');
  unmountIdmapped(target);
  for (const name of ['userns', 'netns']) unmount(join(base, name));
});
