import { chmod, mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type LoadedNetworks, loadNetworks } from '../../../src/cni-invoker/index.ts';
import { type Bench, bench } from './fake-plugins.ts';

async function benchWith(
  files: Record<string, unknown>,
  plugins = ['bridge', 'loopback', 'portmap'],
): Promise<Bench> {
  const made = await bench();
  for (const name of plugins) await made.plugin(name);
  for (const [name, content] of Object.entries(files)) {
    const path = join(made.confDir, name);
    await mkdir(join(path, '..'), { recursive: true });
    await writeFile(path, typeof content === 'string' ? content : JSON.stringify(content));
  }
  return made;
}

const load = ({ confDir, binDir }: Bench, maxConfNum?: number): Promise<LoadedNetworks> =>
  loadNetworks({ confDir, binDirs: [binDir], maxConfNum });

const bridge = (name: string): object => ({ cniVersion: '1.0.0', name, type: 'bridge' });
const summary = (loaded: LoadedNetworks): string[] =>
  loaded.networks.map(({ network, ifName }) => `${ifName}=${network.name}`);

describe('loadNetworks', () => {
  it('takes .conf, .conflist and .json files in the order of their names and numbers the interfaces', async () => {
    const made = await benchWith({
      '20-b.json': bridge('b'),
      '9-c.conf': bridge('c'),
      '10-a.conflist': { cniVersion: '1.0.0', name: 'a', plugins: [{ type: 'bridge' }, { type: 'portmap' }] },
      'README.md': 'not CNI',
      '10-a.conf.bak': '{',
    });
    const loaded = await load(made);
    expect(summary(loaded)).toEqual(['eth0=a', 'eth1=b', 'eth2=c']);
    expect(loaded).toMatchObject({ usable: true, problems: [], warnings: [] });
    expect(loaded.networks[0]?.file).toBe(join(made.confDir, '10-a.conflist'));
  });

  it('orders names by their bytes, upper case before lower', async () => {
    const made = await benchWith({ 'b.conf': bridge('b'), 'A.conf': bridge('a'), 'ä.conf': bridge('c') });
    expect(summary(await load(made))).toEqual(['eth0=a', 'eth1=b', 'eth2=c']);
  });

  it('gives loopback the interface lo without using up an ethernet number', async () => {
    const made = await benchWith({
      '00-lo.conf': { name: 'lo', type: 'loopback' },
      '10-a.conf': bridge('a'),
      '20-lo.conflist': { name: 'lo2', plugins: [{ type: 'loopback' }] },
      '30-b.conf': bridge('b'),
    });
    expect(summary(await load(made))).toEqual(['lo=lo', 'eth0=a', 'lo=lo2', 'eth1=b']);
  });

  it('counts loopback inside of a list with others as any other network', async () => {
    const made = await benchWith({
      '1.conflist': { name: 'x', plugins: [{ type: 'loopback' }, { type: 'bridge' }] },
    });
    expect(summary(await load(made))).toEqual(['eth0=x']);
  });

  it('uses the first files only when their number is limited, and says which are left out', async () => {
    const made = await benchWith({ '1.conf': bridge('a'), '2.conf': bridge('b'), '3.conf': '{ broken' });
    const loaded = await load(made, 2);
    expect(summary(loaded)).toEqual(['eth0=a', 'eth1=b']);
    expect(loaded.usable).toBe(true);
    expect(loaded.warnings.map(warning => warning.file)).toEqual([join(made.confDir, '3.conf')]);
  });

  it('passes over hidden files and says so', async () => {
    const made = await benchWith({ '1.conf': bridge('a'), '.#1.conf': '' });
    const loaded = await load(made);
    expect(loaded.usable).toBe(true);
    expect(loaded.warnings[0]?.reason).toContain('hidden');
  });

  it('warns when only loopback is configured and when a reserved key is set', async () => {
    const made = await benchWith({ '1.conf': { name: 'lo', type: 'loopback', runtimeConfig: {} } });
    const loaded = await load(made);
    expect(loaded.usable).toBe(true);
    expect(loaded.warnings.map(warning => warning.reason).join()).toMatch(/runtimeConfig.*loopback alone/);
  });

  it('is not usable without a directory, or without a file in it', async () => {
    const made = await bench();
    const empty = await load(made);
    expect(empty).toMatchObject({
      usable: false,
      problems: [{ kind: 'no-configuration', file: made.confDir }],
    });
    const absent = await loadNetworks({ confDir: join(made.dir, 'absent'), binDirs: [] });
    expect(absent).toMatchObject({ usable: false, problems: [{ kind: 'no-configuration' }] });
    expect(absent.problems[0]?.reason).toContain('does not exist');
  });

  it.each([
    ['JSON that is none', '10.conf', '{"name": ', 'invalid-json', 'not valid JSON'],
    ['an empty file', '10.conf', '', 'invalid-json', 'not valid JSON'],
    ['JSON that is no object', '10.conflist', '[]', 'invalid-json', 'JSON object'],
    ['no name', '10.conf', { type: 'bridge' }, 'no-name', 'no `name`'],
    ['a name that climbs out', '10.conf', { name: '../x', type: 'bridge' }, 'invalid-name', '../x'],
    ['a name that is a number', '10.conf', { name: 7, type: 'bridge' }, 'invalid-name', '7'],
    ['no type', '10.conf', { name: 'a' }, 'no-type', 'no `type`'],
    ['a plugin of a list without type', '10.conflist', { name: 'a', plugins: [{}] }, 'no-type', 'plugins[0]'],
    ['a type with a slash', '10.conf', { name: 'a', type: '../evil' }, 'invalid-type', '../evil'],
    ['a type with a backslash', '10.conf', { name: 'a', type: 'a\\b' }, 'invalid-type', 'file name'],
    ['a type that is a number', '10.conf', { name: 'a', type: 3 }, 'invalid-type', '3'],
    [
      'a plugin that is not installed',
      '10.conf',
      { name: 'a', type: 'absent' },
      'plugin-not-found',
      '"absent"',
    ],
    [
      'an unknown version',
      '10.conf',
      { name: 'a', type: 'bridge', cniVersion: '0.5.0' },
      'unsupported-version',
      '0.5.0',
    ],
    [
      'a version that is none',
      '10.conf',
      { name: 'a', type: 'bridge', cniVersion: 'new' },
      'unsupported-version',
      'new',
    ],
    [
      'a version that is a number',
      '10.conf',
      { name: 'a', type: 'bridge', cniVersion: 1 },
      'invalid-config',
      'cniVersion',
    ],
    ['no plugins at all', '10.conflist', { name: 'a' }, 'no-plugins', 'a/*.conf'],
    ['an empty list', '10.conflist', { name: 'a', plugins: [] }, 'no-plugins', 'empty'],
    ['plugins that are no list', '10.conflist', { name: 'a', plugins: {} }, 'invalid-config', 'plugins'],
    [
      'a plugin that is no object',
      '10.conflist',
      { name: 'a', plugins: ['bridge'] },
      'invalid-config',
      'plugins[0]',
    ],
    ['a list under .conf', '10.conf', { name: 'a', plugins: [] }, 'no-type', 'name it .conflist'],
    ['a single plugin under .conflist', '10.conflist', bridge('a'), 'no-plugins', 'name it .conf'],
    [
      'a flag that is none',
      '10.conflist',
      { name: 'a', disableCheck: 'x', plugins: [] },
      'invalid-config',
      'disableCheck',
    ],
    [
      'a capability that is no flag',
      '10.conf',
      { ...bridge('a'), capabilities: { ips: 1 } },
      'invalid-config',
      'ips',
    ],
  ])(
    'reports %s as a problem that names the file, and is not usable',
    async (_what, name, content, kind, words) => {
      const made = await benchWith({ [name]: content, '20-good.conf': bridge('good') });
      const loaded = await load(made);
      const file = join(made.confDir, name);
      expect(loaded.usable).toBe(false);
      expect(loaded.problems).toMatchObject([{ file, kind }]);
      expect(loaded.problems[0]?.reason).toContain(file);
      expect(loaded.problems[0]?.reason).toContain(words);
      expect(loaded.networks.some(({ network }) => network.name === 'good')).toBe(true);
    },
  );

  it('reports a name that two files have', async () => {
    const made = await benchWith({ '1.conf': bridge('a'), '2.conf': bridge('a') });
    const loaded = await load(made);
    expect(loaded.problems).toMatchObject([{ file: join(made.confDir, '2.conf'), kind: 'duplicate-name' }]);
    expect(summary(loaded)).toEqual(['eth0=a']);
  });

  it('reports a plugin that is not executable', async () => {
    const made = await benchWith({ '1.conf': bridge('a') });
    await chmod(join(made.binDir, 'bridge'), 0o644);
    expect((await load(made)).problems).toMatchObject([{ kind: 'plugin-not-executable' }]);
  });

  it('reports what cannot be read, and does not wait on what is no file', async () => {
    const made = await benchWith({ '1.conf': bridge('a') });
    await symlink('/nonexistent', join(made.confDir, '2.conf'));
    await symlink('/dev/zero', join(made.confDir, '3.conf'));
    await mkdir(join(made.confDir, '4.conf'));
    const loaded = await load(made);
    expect(loaded.problems.map(({ kind }) => kind)).toEqual(['unreadable-config', 'unreadable-config']);
    const notDir = await loadNetworks({ confDir: join(made.confDir, '1.conf'), binDirs: [] });
    expect(notDir.problems).toMatchObject([{ kind: 'unreadable-config' }]);
  });

  it('chooses the highest known version of cniVersion and cniVersions', async () => {
    const made = await benchWith({
      '1.conflist': {
        name: 'a',
        cniVersion: '0.4.0',
        cniVersions: ['1.0.0', '1.2.0'],
        plugins: [{ type: 'bridge' }],
      },
      '2.conf': { name: 'b', type: 'bridge' },
    });
    const [a, b] = (await load(made)).networks;
    expect(a?.network).toMatchObject({ cniVersion: '1.0.0', cniVersions: ['1.0.0', '0.4.0'] });
    expect(b?.network.cniVersion).toBe('0.1.0');
  });

  it('takes a plugin whose ipam section is empty', async () => {
    const made = await benchWith({ '1.conf': { ...bridge('a'), ipam: {} } });
    expect((await load(made)).problems).toEqual([]);
  });

  it('reads the flags of a list as booleans or words', async () => {
    const list = { name: 'a', disableCheck: 'TRUE', disableGC: true, plugins: [{ type: 'bridge' }] };
    const made = await benchWith({ '1.conflist': list });
    expect((await load(made)).networks[0]?.network).toMatchObject({
      disableCheck: true,
      disableGC: true,
      loadOnlyInlinedPlugins: false,
    });
  });

  describe('with a folder of the name of the network', () => {
    const folder = {
      'a/20-portmap.conf': { type: 'portmap', capabilities: { portMappings: true } },
      'a/10-loopback.conf': { type: 'loopback' },
      'a/ignored.json': '{',
    };
    const types = (loaded: LoadedNetworks) => loaded.networks[0]?.network.plugins.map(plugin => plugin.type);

    it('appends the plugins of its .conf files, in order', async () => {
      const made = await benchWith({ '1.conflist': { name: 'a', plugins: [{ type: 'bridge' }] }, ...folder });
      const loaded = await load(made);
      expect(loaded.problems).toEqual([]);
      expect(types(loaded)).toEqual(['bridge', 'loopback', 'portmap']);
      expect(loaded.networks[0]?.network.raw.plugins).toHaveLength(3);
    });

    it('takes all plugins from it when the file has none', async () => {
      expect(types(await load(await benchWith({ '1.conflist': { name: 'a' }, ...folder })))).toEqual([
        'loopback',
        'portmap',
      ]);
    });

    it('leaves it aside under loadOnlyInlinedPlugins', async () => {
      const list = { name: 'a', loadOnlyInlinedPlugins: true, plugins: [{ type: 'bridge' }] };
      expect(types(await load(await benchWith({ '1.conflist': list, ...folder })))).toEqual(['bridge']);
      const none = await load(
        await benchWith({ '1.conflist': { name: 'a', loadOnlyInlinedPlugins: true }, ...folder }),
      );
      expect(none.problems).toMatchObject([{ kind: 'no-plugins' }]);
    });

    it('leaves it aside for a single plugin, which is no list', async () => {
      expect(types(await load(await benchWith({ '1.conf': bridge('a'), ...folder })))).toEqual(['bridge']);
    });

    it('reports a broken file in it', async () => {
      const made = await benchWith({ '1.conflist': { name: 'a' }, 'a/10.conf': '{"type": "x/y"}' });
      const loaded = await load(made);
      expect(loaded.problems).toMatchObject([{ kind: 'invalid-type' }]);
      expect(loaded.problems[0]?.reason).toContain('a/10.conf');
    });
  });
});
