import { mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { type LoadedNetworks, watchNetworks } from '../../../src/cni-invoker/index.ts';
import { type Bench, bench } from './fake-plugins.ts';

async function watched(made: Bench, confDir = made.confDir) {
  const seen: LoadedNetworks[] = [];
  const watching = await watchNetworks({ confDir, binDirs: [made.binDir], debounceMs: 20 }, loaded =>
    seen.push(loaded),
  );
  onTestFinished(() => watching.close());
  const names = () => watching.current.networks.map(({ network }) => network.name);
  const becomes = (...expected: string[]) =>
    vi.waitFor(
      () =>
        expect({ names: names(), usable: watching.current.usable }).toEqual({
          names: expected,
          usable: expected.length > 0,
        }),
      60_000,
    );
  return { watching, seen, names, becomes };
}

async function withPlugin(): Promise<Bench> {
  const made = await bench();
  await made.plugin('bridge');
  return made;
}

const conf = (name: string): string => JSON.stringify({ cniVersion: '1.0.0', name, type: 'bridge' });

describe('watchNetworks', () => {
  it('loads at once, and again when a file comes, changes and goes', async () => {
    const made = await withPlugin();
    const { watching, seen, becomes } = await watched(made);
    expect(watching.current.usable).toBe(false);
    await writeFile(join(made.confDir, '1.conf'), conf('a'));
    await becomes('a');
    await writeFile(join(made.confDir, '1.conf'), conf('b'));
    await becomes('b');
    await rm(join(made.confDir, '1.conf'));
    await becomes();
    expect(seen.at(-1)).toBe(watching.current);
  });

  it('waits for a directory that does not exist yet, with those that lead to it', async () => {
    const made = await withPlugin();
    const confDir = join(made.dir, 'etc', 'cni', 'net.d');
    const { becomes } = await watched(made, confDir);
    await mkdir(confDir, { recursive: true });
    await writeFile(join(confDir, '1.conf'), conf('a'));
    await becomes('a');
  });

  it('follows a directory that is made again', async () => {
    const made = await withPlugin();
    await writeFile(join(made.confDir, '1.conf'), conf('a'));
    const { becomes } = await watched(made);
    await rm(made.confDir, { recursive: true });
    await becomes();
    await mkdir(made.confDir);
    await writeFile(join(made.confDir, '1.conf'), conf('b'));
    await becomes('b');
  });

  it('follows a directory that another takes the place of', async () => {
    const made = await withPlugin();
    await writeFile(join(made.confDir, '1.conf'), conf('a'));
    const { becomes } = await watched(made);
    const fresh = join(made.dir, 'fresh');
    await mkdir(fresh);
    await writeFile(join(fresh, '1.conf'), conf('b'));
    await rename(made.confDir, join(made.dir, 'old'));
    await rename(fresh, made.confDir);
    await becomes('b');
    await writeFile(join(made.confDir, '1.conf'), conf('c'));
    await becomes('c');
  });

  it('follows a symbolic link that is pointed elsewhere', async () => {
    const made = await withPlugin();
    for (const name of ['a', 'b']) {
      await mkdir(join(made.dir, name));
      await writeFile(join(made.dir, name, '1.conf'), conf(name));
    }
    const link = join(made.dir, 'link');
    await symlink('a', link);
    const { becomes } = await watched(made, link);
    await symlink('b', `${link}.new`);
    await rename(`${link}.new`, link);
    await becomes('b');
  });

  it('sees a plugin that is installed later', async () => {
    const made = await bench();
    await writeFile(join(made.confDir, '1.conf'), conf('a'));
    const { watching, becomes } = await watched(made);
    expect(watching.current.problems).toMatchObject([{ kind: 'plugin-not-found' }]);
    await made.plugin('bridge');
    await becomes('a');
  });

  it('sees the files of the folder of a network', async () => {
    const made = await withPlugin();
    await mkdir(join(made.confDir, 'net'));
    await writeFile(join(made.confDir, '1.conflist'), '{"name": "net"}');
    const { watching, becomes } = await watched(made);
    expect(watching.current.problems).toMatchObject([{ kind: 'no-plugins' }]);
    await writeFile(join(made.confDir, 'net', '1.conf'), '{"type": "bridge"}');
    await becomes('net');
  });

  it('does not call for what changes nothing, nor after it was closed', async () => {
    const made = await withPlugin();
    await writeFile(join(made.confDir, '1.conf'), conf('a'));
    const { watching, seen } = await watched(made);
    await writeFile(join(made.confDir, 'README'), 'x');
    await writeFile(join(made.confDir, '1.conf'), conf('a'));
    await watching.reload();
    expect(seen).toEqual([]);
    watching.close();
    await writeFile(join(made.confDir, '1.conf'), conf('b'));
    await watching.reload();
    expect(seen).toEqual([]);
    expect(watching.current.networks[0]?.network.name).toBe('a');
  });
});
