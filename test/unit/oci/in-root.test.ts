import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { readTextInRoot, resolveInRoot } from '../../../src/oci/spec/in-root.ts';

let dir: string;
let root: string;

beforeEach(() => {
  dir = mkdtempSync(path.join(tmpdir(), 'cri-ts-in-root-'));
  root = path.join(dir, 'root');
  mkdirSync(path.join(root, 'etc'), { recursive: true });
  writeFileSync(path.join(dir, 'secret'), 'of the host');
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

test('a plain file is read', async () => {
  writeFileSync(path.join(root, 'etc/passwd'), 'inside');
  expect(await readTextInRoot(root, 'etc/passwd')).toBe('inside');
});

test('a file that does not exist is undefined, so is one below a file', async () => {
  writeFileSync(path.join(root, 'file'), '');
  expect(await readTextInRoot(root, 'etc/group')).toBeUndefined();
  expect(await readTextInRoot(root, 'file/group')).toBeUndefined();
  expect(await readTextInRoot(root, 'nowhere/group')).toBeUndefined();
});

test('an absolute link counts from the root of the container', async () => {
  mkdirSync(path.join(root, 'nix'));
  writeFileSync(path.join(root, 'nix/passwd'), 'of the store');
  symlinkSync('/nix/passwd', path.join(root, 'etc/passwd'));
  expect(await readTextInRoot(root, 'etc/passwd')).toBe('of the store');
});

test.each([
  ['a relative link that climbs', '../../../../../../secret'],
  ['an absolute link to the host', 'ABSOLUTE'],
])('%s does not lead out', async (_, target) => {
  symlinkSync(target === 'ABSOLUTE' ? path.join(dir, 'secret') : target, path.join(root, 'etc/passwd'));
  expect(await readTextInRoot(root, 'etc/passwd')).toBeUndefined();
});

test('a linked directory on the way does not lead out', async () => {
  rmSync(path.join(root, 'etc'), { recursive: true });
  symlinkSync(dir, path.join(root, 'etc'));
  expect(await readTextInRoot(root, 'etc/secret')).toBeUndefined();
});

test('a circle of links is an error, not an endless loop', async () => {
  symlinkSync('b', path.join(root, 'a'));
  symlinkSync('a', path.join(root, 'b'));
  await expect(resolveInRoot(root, 'a')).rejects.toMatchObject({ code: 'ELOOP' });
});

test('a FIFO is refused without waiting for a writer', async () => {
  execFileSync('mkfifo', [path.join(root, 'etc/passwd')]);
  await expect(readTextInRoot(root, 'etc/passwd')).rejects.toThrow('not a regular file');
});

test('a file of absurd size is refused without reading it', async () => {
  writeFileSync(path.join(root, 'etc/passwd'), '');
  truncateSync(path.join(root, 'etc/passwd'), 11 * 1024 * 1024);
  await expect(readTextInRoot(root, 'etc/passwd')).rejects.toThrow('bytes long');
});
