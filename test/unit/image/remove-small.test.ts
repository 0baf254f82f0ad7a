import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { removeSmall } from '../../../src/image/remove-small.ts';

let parent: string;
beforeEach(() => {
  parent = mkdtempSync(join(tmpdir(), 'cri-ts-remove-'));
});
afterEach(() => rmSync(parent, { recursive: true, force: true }));

const limit = { entries: 5, bytes: 1000 };
const tree = () => join(parent, 'tree');
const fill = (...files: [name: string | Buffer, content: string][]) => {
  mkdirSync(join(tree(), 'below'), { recursive: true });
  for (const [name, content] of files)
    writeFileSync(Buffer.concat([Buffer.from(`${tree()}/`), Buffer.from(name)]), content);
};

describe('removing a small tree', () => {
  it('removes it whole, and not what its links point to', () => {
    fill(['a', 'x'], ['below/b', 'y']);
    writeFileSync(join(parent, 'kept'), '');
    mkdirSync(join(parent, 'directory'));
    symlinkSync(join(parent, 'kept'), join(tree(), 'to-file'));
    symlinkSync(join(parent, 'directory'), join(tree(), 'to-directory'));
    expect(removeSmall(tree(), limit)).toBe(true);
    expect(readdirSync(parent).sort()).toEqual(['directory', 'kept']);
  });

  it('takes one that is gone for removed', () => {
    expect(removeSmall(tree(), limit)).toBe(true);
  });

  it('leaves to others what has many files, large ones, or names that are not text', () => {
    fill(...Array.from({ length: 6 }, (_, i): [string, string] => [`below/${i}`, '']));
    expect(removeSmall(tree(), limit)).toBe(false);
    rmSync(tree(), { recursive: true });
    fill(['large', 'x'.repeat(1001)]);
    expect(removeSmall(tree(), limit)).toBe(false);
    rmSync(tree(), { recursive: true });
    fill([Buffer.from([0xe9]), '']);
    expect(removeSmall(tree(), limit)).toBe(false);
    expect(existsSync(tree())).toBe(true);
  });
});
