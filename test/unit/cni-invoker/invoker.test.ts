import { mkdir, readdir, readFile, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  type LoadedNetworks,
  loadNetworks,
  type NetworkAttachmentConfig,
  type NetworkConfigList,
  type PluginRun,
} from '../../../src/cni-invoker/index.ts';
import { type Bench, bench, fails, networkOf, ownNetns, plainResult, runtime, says } from './fake-plugins.ts';

const stdinOf = (run: PluginRun | undefined): Record<string, unknown> => JSON.parse(run?.stdin ?? 'null');
const runsOf = (made: Bench, verb: string): PluginRun[] => made.runs.filter(run => run.verb === verb);

async function benchWith(...names: string[]): Promise<Bench> {
  const made = await bench();
  for (const name of names) await made.plugin(name);
  return made;
}

const attachmentsOf = (...networks: NetworkConfigList[]): NetworkAttachmentConfig[] =>
  networks.map((network, i) => ({ file: `/conf/${network.name}`, ifName: `eth${i}`, network }));

const container = { containerId: 'c1', netns: ownNetns };

describe('add', () => {
  it('runs the plugins in order, each with the result of the one before, and returns the last', async () => {
    const made = await benchWith('first');
    await made.plugin('second', { ADD: says({ ...plainResult, ips: [{ address: '10.9.0.6/24' }] }) });
    await made.plugin('third', { ADD: says({ ...plainResult, ips: [{ address: '10.9.0.7/24' }] }) });
    const result = await made.invoker().add(networkOf(['first', 'second', 'third']), runtime);
    expect(made.calls()).toEqual(['ADD first', 'ADD second', 'ADD third']);
    const [first, second, third] = runsOf(made, 'ADD').map(stdinOf);
    expect(first).not.toHaveProperty('prevResult');
    expect(second?.prevResult).toEqual({ ...plainResult, cniVersion: '1.1.0' });
    expect(third).toMatchObject({ prevResult: { ips: [{ address: '10.9.0.6/24' }] } });
    expect(result).toMatchObject({ cniVersion: '1.1.0', ips: [{ address: '10.9.0.7/24' }] });
  });

  it('runs DEL over the whole list when a plugin in the middle fails, those not reached included', async () => {
    const made = await benchWith('first', 'third');
    await made.plugin('second', { ADD: fails(7, 'no') });
    const invoker = made.invoker();
    await expect(invoker.add(networkOf(['first', 'second', 'third']), runtime)).rejects.toMatchObject({
      kind: 'plugin-failed',
      details: { pluginError: { code: 7 } },
    });
    expect(made.calls()).toEqual(['ADD first', 'ADD second', 'DEL third', 'DEL second', 'DEL first']);
    expect((await invoker.cachedAttachments()).attachments).toEqual([]);
  });

  it('goes on undoing past a plugin that fails, tells of it, and leaves the rest to a later DEL', async () => {
    const made = await benchWith('first');
    await made.plugin('second', { ADD: fails(7, 'cannot add'), DEL: fails(8, 'cannot delete') });
    const invoker = made.invoker();
    const list = networkOf(['first', 'second']);
    await expect(invoker.add(list, runtime)).rejects.toMatchObject({
      kind: 'plugin-failed',
      message: expect.stringMatching(/cannot add.*undoing it failed too.*cannot delete/),
      details: { pluginError: { code: 7 }, others: [{ details: { verb: 'DEL', pluginError: { code: 8 } } }] },
    });
    expect(made.calls()).toEqual(['ADD first', 'ADD second', 'DEL second', 'DEL first']);
    const { attachments } = await invoker.cachedAttachments('c1');
    expect(attachments).toMatchObject([{ network: 'testnet', ifName: 'eth0', result: undefined }]);

    // The later DEL does not halt at it either: nothing of an unfinished ADD is to wait for the rest.
    await expect(made.invoker().delAll(container)).rejects.toThrow('cannot delete');
    expect(made.calls().slice(4)).toEqual(['DEL second', 'DEL first']);
    await made.plugin('second');
    await made.invoker().delAll(container);
    expect(made.calls().slice(6)).toEqual(['DEL second', 'DEL first']);
    expect((await invoker.cachedAttachments()).attachments).toEqual([]);
  });

  it('records the attachment before the first plugin runs, so that a killed ADD is found', async () => {
    const made = await bench();
    await made.plugin('looks', {
      ADD: `cp ${join(made.cacheDir, 'results')}/* ${made.dir}; ${says(plainResult)}`,
    });
    await made.invoker().add(networkOf(['looks']), runtime);
    const during: unknown = JSON.parse(await readFile(join(made.dir, 'testnet-c1-eth0'), 'utf8'));
    expect(during).toMatchObject({ kind: 'cniCacheV1', containerId: 'c1' });
    expect(during).not.toHaveProperty('result');
  });

  it('refuses a second ADD of the same interface and leaves the first as it is', async () => {
    const made = await benchWith('first');
    const invoker = made.invoker();
    await invoker.add(networkOf(['first']), runtime);
    await expect(invoker.add(networkOf(['first']), runtime)).rejects.toMatchObject({
      kind: 'already-attached',
    });
    const other = networkOf(['first'], { name: 'other' });
    await expect(invoker.add(other, runtime)).rejects.toMatchObject({ kind: 'already-attached' });
    await invoker.add(other, { ...runtime, ifName: 'eth1' });
    await invoker.add(other, { ...runtime, containerId: 'c2' });
    expect(made.calls()).toEqual(['ADD first', 'ADD first', 'ADD first']);
  });

  it('lets two loopback networks share lo, which neither creates', async () => {
    const made = await benchWith('loopback');
    const invoker = made.invoker();
    for (const name of ['lo1', 'lo2']) {
      await invoker.add(networkOf(['loopback'], { name }), { ...runtime, ifName: 'lo' });
    }
    expect(made.calls()).toHaveLength(2);
  });

  it('does nothing when the record cannot be written', async () => {
    const made = await benchWith('first');
    await writeFile(made.cacheDir, 'a file in the way');
    await expect(made.invoker().add(networkOf(['first']), runtime)).rejects.toMatchObject({
      kind: 'cache-failed',
    });
    expect(made.calls()).toEqual([]);
  });

  it('runs operations of one container one after the other', async () => {
    const made = await bench();
    const log = join(made.dir, 'log');
    await made.plugin('slow', {
      ADD: `echo "begin $CNI_CONTAINERID" >> ${log}; sleep 0.1; echo "end $CNI_CONTAINERID" >> ${log}; ${says(plainResult)}`,
    });
    const invoker = made.invoker();
    const list = networkOf(['slow']);
    await Promise.all(['eth0', 'eth1', 'eth2'].map(ifName => invoker.add(list, { ...runtime, ifName })));
    const lines = (await readFile(log, 'utf8')).trim().split('\n');
    expect(lines).toEqual(Array(3).fill(['begin c1', 'end c1']).flat());
  });
});

describe('del', () => {
  it('runs the plugins in reverse order, each with the final result of ADD, with the arguments of ADD', async () => {
    const made = await benchWith('first', 'second');
    const invoker = made.invoker();
    const list = networkOf(['first', { type: 'second', capabilities: { mac: true } }]);
    await invoker.add(list, { ...runtime, args: [['A', 'b']], capabilityArgs: { mac: 'x' } });
    await invoker.del(list, runtime);
    const dels = runsOf(made, 'DEL');
    expect(dels.map(run => run.plugin)).toEqual(['second', 'first']);
    for (const run of dels) {
      expect(stdinOf(run).prevResult).toEqual({ ...plainResult, cniVersion: '1.1.0' });
      expect(run.environment.CNI_ARGS).toBe('A=b');
    }
    expect(stdinOf(dels[0]).runtimeConfig).toEqual({ mac: 'x' });
    expect((await invoker.cachedAttachments()).attachments).toEqual([]);
  });

  it('may be repeated, and runs also for what was never added', async () => {
    const made = await benchWith('first');
    const invoker = made.invoker();
    await invoker.add(networkOf(['first']), runtime);
    for (let i = 0; i < 2; i++) await invoker.del(networkOf(['first']), runtime);
    expect(made.calls()).toEqual(['ADD first', 'DEL first', 'DEL first']);
    expect(stdinOf(runsOf(made, 'DEL')[1])).not.toHaveProperty('prevResult');
  });

  it('uses the configuration that ADD used though it has changed since', async () => {
    const made = await benchWith('old', 'new');
    await made.invoker().add(networkOf([{ type: 'old', key: 'then' }]), runtime);
    await made.invoker().del(networkOf([{ type: 'new', key: 'now' }]), runtime);
    expect(made.calls()).toEqual(['ADD old', 'DEL old']);
    expect(stdinOf(runsOf(made, 'DEL')[0]).key).toBe('then');
  });

  it.each([
    ['there is none', ''],
    ['its path is gone', '/nonexistent/netns'],
    ['its path is an ordinary file that the unmounted namespace left', '/etc/hostname'],
  ])('passes an empty CNI_NETNS when %s', async (_what, netns) => {
    const made = await benchWith('first');
    const invoker = made.invoker();
    await invoker.add(networkOf(['first']), runtime);
    await invoker.del(networkOf(['first']), { ...runtime, netns });
    expect(runsOf(made, 'DEL')[0]?.environment.CNI_NETNS).toBe('');
  });

  it('passes the path of a namespace that lives, and what is no path at all', async () => {
    const made = await benchWith('first');
    const invoker = made.invoker();
    for (const netns of [ownNetns, 'vm:7']) await invoker.del(networkOf(['first']), { ...runtime, netns });
    expect(runsOf(made, 'DEL').map(run => run.environment.CNI_NETNS)).toEqual([ownNetns, 'vm:7']);
  });

  it('halts at the first failure and keeps the record, so that it can be repeated', async () => {
    const made = await benchWith('first');
    await made.plugin('second', { DEL: fails(11, 'try again later') });
    const invoker = made.invoker();
    const list = networkOf(['first', 'second']);
    await invoker.add(list, runtime);
    await expect(invoker.del(list, runtime)).rejects.toMatchObject({
      details: { pluginError: { code: 11 } },
    });
    expect(runsOf(made, 'DEL').map(run => run.plugin)).toEqual(['second']);
    await made.plugin('second');
    await invoker.del(list, runtime);
    expect(runsOf(made, 'DEL').map(run => run.plugin)).toEqual(['second', 'second', 'first']);
    expect(stdinOf(runsOf(made, 'DEL')[2])).toHaveProperty('prevResult');
  });

  it('passes no previous result before version 0.4.0', async () => {
    const made = await benchWith('first');
    const list = networkOf(['first'], { cniVersion: '0.3.1' });
    await made.invoker().add(list, runtime);
    await made.invoker().del(list, runtime);
    expect(stdinOf(runsOf(made, 'DEL')[0])).not.toHaveProperty('prevResult');
  });
});

describe('addAll and delAll', () => {
  const networks = attachmentsOf(
    networkOf(['first'], { name: 'a' }),
    networkOf(['second'], { name: 'b', cniVersion: '0.2.0' }),
    networkOf(['third'], { name: 'c' }),
  );

  it('add every network in order and delete them in reverse', async () => {
    const made = await benchWith('first', 'second', 'third');
    const attachments = await made.invoker().addAll(networks, container);
    expect(attachments).toMatchObject([
      { network: 'a', ifName: 'eth0', file: '/conf/a', result: { ips: [{ address: '10.9.0.5/24' }] } },
      { network: 'b', ifName: 'eth1', result: { ips: [{ address: '10.9.0.5/24' }] } },
      { network: 'c', ifName: 'eth2' },
    ]);
    expect(runsOf(made, 'ADD').map(run => stdinOf(run).prevResult)).toEqual([
      undefined,
      undefined,
      undefined,
    ]);
    // Another process, which knows the container's id and nothing else.
    await made.invoker().delAll({ containerId: 'c1', netns: '' });
    expect(made.calls().slice(3)).toEqual(['DEL third', 'DEL second', 'DEL first']);
    await made.invoker().delAll({ containerId: 'c1', netns: '' });
    expect(made.calls()).toHaveLength(6);
  });

  it('keep the order of ADD whatever the names', async () => {
    const made = await benchWith('p0', 'p1', 'p2', 'p3', 'p4', 'p5');
    const names = ['m', 'z', 'a', 'q', 'c', 'k'];
    const lists = names.map((name, i) => networkOf([`p${i}`], { name }));
    await made.invoker().addAll(attachmentsOf(...lists), container);
    const { attachments } = await made.invoker().cachedAttachments('c1');
    expect(attachments.map(({ network }) => network)).toEqual(names);
    await made.invoker().delAll(container);
    expect(runsOf(made, 'DEL').map(run => run.plugin)).toEqual(['p5', 'p4', 'p3', 'p2', 'p1', 'p0']);
  });

  it('undo the earlier networks when a later one fails', async () => {
    const made = await benchWith('first', 'second');
    await made.plugin('third', { ADD: fails(7, 'no') });
    const invoker = made.invoker();
    await expect(invoker.addAll(networks, container)).rejects.toMatchObject({ details: { network: 'c' } });
    expect(made.calls().slice(3)).toEqual(['DEL third', 'DEL second', 'DEL first']);
    expect((await invoker.cachedAttachments()).attachments).toEqual([]);
  });

  it('change nothing when a plugin of a later network is missing', async () => {
    const made = await benchWith('first', 'second');
    await expect(made.invoker().addAll(networks, container)).rejects.toMatchObject({
      kind: 'plugin-not-found',
    });
    expect(made.calls()).toEqual([]);
  });

  it('leave other containers alone, also one whose id is a part of the name', async () => {
    const made = await benchWith('first');
    const invoker = made.invoker();
    const [network] = networks;
    if (network === undefined) throw new Error('no network');
    for (const containerId of ['c1', 'c1-b', 'x-c1'])
      await invoker.addAll([network], { ...container, containerId });
    await invoker.delAll(container);
    const { attachments } = await invoker.cachedAttachments();
    expect(attachments.map(({ containerId }) => containerId).sort()).toEqual(['c1-b', 'x-c1']);
  });

  it('go on deleting after a failure and report it', async () => {
    const made = await benchWith('first', 'third');
    await made.plugin('second', { DEL: fails(11, 'later') });
    const invoker = made.invoker();
    await invoker.addAll(networks, container);
    await expect(invoker.delAll(container)).rejects.toMatchObject({ details: { network: 'b' } });
    expect(made.calls().slice(3)).toEqual(['DEL third', 'DEL second', 'DEL first']);
    expect((await invoker.cachedAttachments()).attachments).toMatchObject([{ network: 'b' }]);
  });

  it('delete by the present configuration what has no record', async () => {
    const made = await benchWith('first', 'second', 'third');
    await made.invoker().delAll(container, networks);
    expect(made.calls()).toEqual(['DEL third', 'DEL second', 'DEL first']);
  });

  it('report a damaged record, and get rid of it when there is a configuration to delete by', async () => {
    const made = await benchWith('first', 'second', 'third');
    const invoker = made.invoker();
    await invoker.addAll(networks, container);
    const record = join(made.cacheDir, 'results', 'b-c1-eth1');
    await writeFile(record, '');
    expect(await invoker.cachedAttachments()).toMatchObject({
      attachments: [{ network: 'a' }, { network: 'c' }],
      damaged: [{ kind: 'cache-failed', details: { file: record } }],
    });
    await expect(invoker.delAll(container)).rejects.toMatchObject({
      message: expect.stringContaining(record),
    });
    expect(made.calls().slice(3)).toEqual(['DEL third', 'DEL first']);
    await invoker.delAll(container, networks);
    expect(made.calls().slice(5)).toEqual(['DEL third', 'DEL second', 'DEL first']);
    expect(await readdir(join(made.cacheDir, 'results'))).toEqual([]);
  });
});

describe('the version that is spoken', () => {
  const added = (made: Bench) => stdinOf(runsOf(made, 'ADD')[0]).cniVersion;
  const upTo1 = ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0'];

  it('is the declared one when the plugins support it', async () => {
    const made = await benchWith('first');
    await made.invoker().add(networkOf(['first'], { cniVersion: '0.4.0' }), runtime);
    expect(added(made)).toBe('0.4.0');
  });

  it('is the highest that all plugins and their IPAM plugins support, of what is declared', async () => {
    const made = await bench();
    await made.plugin('first');
    await made.plugin('ipam', { versions: ['0.3.1', '0.4.0', '1.0.0'] });
    const list = networkOf([{ type: 'first', ipam: { type: 'ipam' } }], { cniVersions: ['0.4.0', '1.0.0'] });
    await made.invoker().add(list, runtime);
    expect(added(made)).toBe('1.0.0');
  });

  it('goes down below what is declared rather than fail, and the record keeps the declared version', async () => {
    const made = await bench();
    const refuse = fails(1, 'incompatible CNI versions');
    await made.plugin('old', {
      versions: upTo1,
      ADD: `case $config in *'"cniVersion":"1.0.0"'*) ${says(plainResult)};; *) ${refuse};; esac`,
    });
    const invoker = made.invoker();
    expect(await invoker.prepare(networkOf(['old']))).toBe('1.0.0');
    await invoker.add(networkOf(['old']), runtime);
    const record: unknown = JSON.parse(
      await readFile(join(made.cacheDir, 'results', 'testnet-c1-eth0'), 'utf8'),
    );
    expect(record).toMatchObject({ result: { cniVersion: '1.1.0' } });
    await invoker.check(networkOf(['old']), runtime);
    await invoker.del(networkOf(['old']), runtime);
    for (const verb of ['CHECK', 'DEL']) {
      expect(stdinOf(runsOf(made, verb)[0])).toMatchObject({
        cniVersion: '1.0.0',
        prevResult: { cniVersion: '1.0.0' },
      });
    }
  });

  it('fails with the versions of every plugin when they share none', async () => {
    const made = await bench();
    await made.plugin('old', { versions: ['0.1.0', '0.2.0'] });
    await made.plugin('new', { versions: ['1.0.0'] });
    await expect(made.invoker().add(networkOf(['old', 'new']), runtime)).rejects.toMatchObject({
      kind: 'incompatible-version',
      message: expect.stringMatching(/old supports 0\.1\.0, 0\.2\.0; new supports 1\.0\.0/),
    });
    expect(made.calls()).toEqual([]);
  });

  it('is asked once for each executable, and again when the file changes', async () => {
    const made = await benchWith('first', 'second');
    const invoker = made.invoker();
    const list = networkOf(['first', 'second', 'first']);
    const asked = () => runsOf(made, 'VERSION').map(run => run.plugin);
    await Promise.all([invoker.prepare(list), invoker.prepare(list)]);
    for (const ifName of ['eth0', 'eth1']) await invoker.add(list, { ...runtime, ifName });
    expect(asked().sort()).toEqual(['first', 'second']);
    await utimes(join(made.binDir, 'first'), 1, 1);
    await invoker.prepare(list);
    expect(asked().sort()).toEqual(['first', 'first', 'second']);
  });

  it.each([
    ['does not know VERSION', fails(4, 'unknown CNI_COMMAND: VERSION'), '0.1.0'],
    ['answers VERSION as 0.2.0 had it', says({ cniVersion: '0.2.0' }), '0.2.0'],
    ['answers VERSION with garbage', 'echo what', '1.1.0'],
    ['fails at VERSION', 'exit 1', '1.1.0'],
  ])('for a plugin that %s', async (_what, VERSION, version) => {
    const made = await bench();
    await made.plugin('odd', { VERSION });
    const invoker = made.invoker();
    await invoker.add(networkOf(['odd']), runtime);
    expect(added(made)).toBe(version);
    await invoker.del(networkOf(['odd']), runtime);
    expect(runsOf(made, 'VERSION')).toHaveLength(1);
  });

  it('is told by version()', async () => {
    const made = await bench();
    await made.plugin('old', { versions: ['0.3.1'] });
    expect(await made.invoker().version('old')).toEqual({
      path: join(made.binDir, 'old'),
      supportedVersions: ['0.3.1'],
    });
    await expect(made.invoker().version('absent')).rejects.toMatchObject({ kind: 'plugin-not-found' });
  });

  it('is converted for a previous result of another version', async () => {
    const made = await bench();
    await made.plugin('first', {
      ADD: says({ cniVersion: '0.2.0', ip4: { ip: '10.0.0.2/8', gateway: '10.0.0.1' } }),
    });
    await made.plugin('second');
    await made.invoker().add(networkOf(['first', 'second'], { cniVersion: '0.4.0' }), runtime);
    expect(stdinOf(runsOf(made, 'ADD')[1]).prevResult).toEqual({
      cniVersion: '0.4.0',
      ips: [{ version: '4', address: '10.0.0.2/8', gateway: '10.0.0.1' }],
    });
  });
});

describe('check', () => {
  it('asks every plugin in order with the result and the parameters of ADD', async () => {
    const made = await benchWith('first', 'second');
    const list = networkOf(['first', { type: 'second', capabilities: { mac: true } }]);
    await made.invoker().add(list, { ...runtime, args: [['A', 'b']], capabilityArgs: { mac: 'x' } });
    expect(await made.invoker().check(list, runtime)).toBe('checked');
    const checks = runsOf(made, 'CHECK');
    expect(checks.map(run => run.plugin)).toEqual(['first', 'second']);
    expect(checks.map(run => stdinOf(run).prevResult)).toEqual(
      Array(2).fill({ ...plainResult, cniVersion: '1.1.0' }),
    );
    expect(stdinOf(checks[1]).runtimeConfig).toEqual({ mac: 'x' });
    expect(checks[0]?.environment).toMatchObject({ CNI_ARGS: 'A=b', CNI_NETNS: ownNetns });
    expect(await made.invoker().checkAll('c1')).toEqual([
      { network: 'testnet', ifName: 'eth0', outcome: 'checked' },
    ]);
  });

  it('fails as the plugin does', async () => {
    const made = await bench();
    await made.plugin('first', { CHECK: fails(999, 'the address is gone') });
    await made.invoker().add(networkOf(['first']), runtime);
    await expect(made.invoker().check(networkOf(['first']), runtime)).rejects.toThrow('the address is gone');
  });

  it('is not run under disableCheck, nor before 0.4.0', async () => {
    const made = await benchWith('first');
    const invoker = made.invoker();
    const disabled = networkOf(['first'], { disableCheck: true });
    const old = networkOf(['first'], { name: 'old', cniVersion: '0.3.1' });
    await invoker.add(disabled, runtime);
    await invoker.add(old, { ...runtime, ifName: 'eth1' });
    expect(await invoker.check(disabled, runtime)).toBe('disabled');
    expect(await invoker.check(old, { ...runtime, ifName: 'eth1' })).toBe('unsupported');
    expect(runsOf(made, 'CHECK')).toEqual([]);
  });

  it('refuses what was not added', async () => {
    const made = await benchWith('first');
    await expect(made.invoker().check(networkOf(['first']), runtime)).rejects.toMatchObject({
      kind: 'not-attached',
    });
  });
});

describe('gc', () => {
  const list = networkOf(['first', 'second']);
  const valid = [{ containerId: 'keep', ifName: 'eth0' }];

  async function populated(...lists: NetworkConfigList[]) {
    const made = await benchWith('first', 'second');
    const invoker = made.invoker();
    for (const one of lists) {
      for (const containerId of ['keep', 'stale']) await invoker.add(one, { ...runtime, containerId });
      await invoker.add(one, { ...runtime, containerId: 'keep', ifName: 'eth9' }).catch(() => {});
    }
    made.runs.length = 0;
    return { made, invoker };
  }

  it('deletes the recorded attachments that are not valid, then runs GC with those that are', async () => {
    const { made, invoker } = await populated(list);
    await invoker.gc(list, valid);
    expect(made.calls().filter(call => call.startsWith('DEL'))).toHaveLength(4);
    expect(made.calls().slice(4)).toEqual(['GC first', 'GC second']);
    const [gc] = runsOf(made, 'GC');
    expect(stdinOf(gc)).toEqual({
      type: 'first',
      name: 'testnet',
      cniVersion: '1.1.0',
      'cni.dev/valid-attachments': [{ containerID: 'keep', ifname: 'eth0' }],
      'cni.dev/attachments': [{ containerID: 'keep', ifname: 'eth0' }],
    });
    expect(gc?.environment).toMatchObject({ CNI_CONTAINERID: '', CNI_NETNS: '', CNI_IFNAME: '' });
    const { attachments } = await invoker.cachedAttachments();
    expect(attachments).toMatchObject([{ containerId: 'keep', ifName: 'eth0' }]);
  });

  it('goes on after failures and reports them all', async () => {
    const { made, invoker } = await populated(list);
    await made.plugin('first', { GC: fails(1, 'first is sick') });
    await made.plugin('second', { GC: fails(1, 'second is sick'), DEL: fails(2, 'stays') });
    await expect(invoker.gc(list, valid)).rejects.toMatchObject({
      message: expect.stringMatching(/stays.*first is sick.*second is sick/),
      details: { others: expect.arrayContaining([expect.anything()]) },
    });
  });

  it('only deletes when the plugins do not know GC', async () => {
    const old = networkOf(['first', 'second'], { cniVersion: '1.0.0' });
    const { made, invoker } = await populated(old);
    await invoker.gc(old, valid);
    expect(new Set(made.calls())).toEqual(new Set(['DEL second', 'DEL first']));
  });

  it('does nothing under disableGC', async () => {
    const disabled = networkOf(['first'], { disableGC: true });
    const { made, invoker } = await populated(disabled);
    await invoker.gc(disabled, []);
    await invoker.gcAll([], []);
    expect(made.calls()).toEqual([]);
  });

  it('leaves the attachments of other networks to gcAll, which knows also those that are configured no more', async () => {
    const other = networkOf(['first'], { name: 'gone' });
    const made = await benchWith('first', 'second');
    const invoker = made.invoker();
    await invoker.add(other, { ...runtime, containerId: 'stale' });
    await invoker.gc(list, valid);
    expect((await invoker.cachedAttachments()).attachments).toHaveLength(1);
    await invoker.gcAll(attachmentsOf(list), valid);
    expect(made.calls()).toEqual([
      'ADD first',
      'GC first',
      'GC second',
      'DEL first',
      'GC first',
      'GC second',
    ]);
    expect((await invoker.cachedAttachments()).attachments).toEqual([]);
  });

  it('runs alone: after the operations under way, before those that come later', async () => {
    const made = await bench();
    const log = join(made.dir, 'log');
    const logging = (verb: string) =>
      `echo "begin ${verb}" >> ${log}; sleep 0.1; echo "end ${verb}" >> ${log}`;
    await made.plugin('slow', { ADD: `${logging('ADD')}; ${says(plainResult)}`, GC: logging('GC') });
    const invoker = made.invoker();
    const slow = networkOf(['slow']);
    await invoker.prepare(slow);
    await Promise.all([
      invoker.add(slow, { ...runtime, containerId: 'before' }),
      invoker.gc(slow, [{ containerId: 'before', ifName: 'eth0' }]),
      invoker.add(slow, { ...runtime, containerId: 'after' }),
    ]);
    const lines = (await readFile(log, 'utf8')).trim().split('\n');
    expect(lines).toEqual(['begin ADD', 'end ADD', 'begin GC', 'end GC', 'begin ADD', 'end ADD']);
  });
});

describe('status', () => {
  it('asks every plugin and fails as the first that is not ready', async () => {
    const made = await benchWith('first');
    await made.plugin('second', { STATUS: fails(50, 'the agent is not running') });
    const invoker = made.invoker();
    await invoker.status(networkOf(['first']));
    expect(made.calls()).toEqual(['STATUS first']);
    expect(stdinOf(runsOf(made, 'STATUS')[0])).toEqual({
      type: 'first',
      name: 'testnet',
      cniVersion: '1.1.0',
    });
    await expect(invoker.status(networkOf(['second', 'first']))).rejects.toMatchObject({
      details: { verb: 'STATUS', pluginError: { code: 50 } },
    });
    const failures = await invoker.statusAll(attachmentsOf(networkOf(['first']), networkOf(['second'])));
    expect(failures.map(error => error.details.pluginError?.msg)).toEqual(['the agent is not running']);
  });

  it('looks only for the plugins before 1.1.0', async () => {
    const made = await benchWith('first');
    const invoker = made.invoker();
    await invoker.status(networkOf(['first'], { cniVersion: '1.0.0' }));
    expect(made.calls()).toEqual([]);
    const [failure] = await invoker.statusAll(attachmentsOf(networkOf(['absent'])));
    expect(failure?.kind).toBe('plugin-not-found');
  });
});

describe('the record of an attachment', () => {
  it('that was being written when the daemon was killed goes with the DEL of its container', async () => {
    const made = await benchWith('first');
    const drafts = join(made.cacheDir, 'drafts');
    await mkdir(drafts, { recursive: true });
    for (const name of ['testnet-c1-eth0', 'testnet-c2-eth0']) await writeFile(join(drafts, name), '{"ki');
    await made.invoker().delAll({ containerId: 'c1', netns: '' });
    expect(await readdir(drafts)).toEqual(['testnet-c2-eth0']);
  });

  it("has libcni's file name, fields and modes", async () => {
    const made = await benchWith('first');
    const list = networkOf(['first'], { disableCheck: false, extra: 'kept' });
    await made.invoker().add(list, { ...runtime, args: [['A', 'b']], capabilityArgs: { ips: ['1.2.3.4'] } });
    expect(await readdir(join(made.cacheDir, 'results'))).toEqual(['testnet-c1-eth0']);
    expect(await readdir(join(made.cacheDir, 'drafts'))).toEqual([]);
    const record = JSON.parse(await readFile(join(made.cacheDir, 'results', 'testnet-c1-eth0'), 'utf8'));
    expect(record).toMatchObject({
      kind: 'cniCacheV1',
      containerId: 'c1',
      ifName: 'eth0',
      networkName: 'testnet',
      netns: ownNetns,
      cniArgs: [['A', 'b']],
      capabilityArgs: { ips: ['1.2.3.4'] },
      result: { ...plainResult, cniVersion: '1.1.0' },
    });
    expect(JSON.parse(Buffer.from(record.config, 'base64').toString())).toEqual(list.raw);
  });

  it("is read as libcni writes it, also with a single plugin's configuration", async () => {
    const made = await benchWith('first');
    await made.invoker().add(networkOf(['first']), runtime);
    const config = Buffer.from(JSON.stringify({ cniVersion: '0.4.0', name: 'single', type: 'first' }));
    const record = {
      kind: 'cniCacheV1',
      containerId: 'c1',
      config: config.toString('base64'),
      ifName: 'eth5',
      networkName: 'single',
      result: { cniVersion: '0.4.0', ips: [{ version: '4', address: '10.0.0.3/8' }] },
    };
    await writeFile(join(made.cacheDir, 'results', 'single-c1-eth5'), JSON.stringify(record));
    await made.invoker().delAll({ containerId: 'c1', netns: '' });
    expect(made.calls()).toEqual(['ADD first', 'DEL first', 'DEL first']);
    const del = runsOf(made, 'DEL').find(run => run.network === 'single');
    expect(stdinOf(del)).toMatchObject({ cniVersion: '0.4.0', prevResult: record.result });
  });

  it('tells apart attachments whose names run together', async () => {
    const made = await benchWith('first');
    const invoker = made.invoker();
    await invoker.add(networkOf(['first'], { name: 'a-b' }), { ...runtime, containerId: 'c' });
    expect((await invoker.cachedAttachments('b-c')).attachments).toEqual([]);
    await expect(
      invoker.add(networkOf(['first'], { name: 'a' }), { ...runtime, containerId: 'b-c' }),
    ).rejects.toMatchObject({ kind: 'cache-failed' });
    expect((await invoker.cachedAttachments('c')).attachments).toMatchObject([{ network: 'a-b' }]);
  });

  it('holds the plugins that came from the folder of the network', async () => {
    const made = await benchWith('first', 'second');
    await mkdir(join(made.confDir, 'net'));
    const list = { cniVersion: '1.0.0', name: 'net', plugins: [{ type: 'first' }] };
    await writeFile(join(made.confDir, '1.conflist'), JSON.stringify(list));
    await writeFile(join(made.confDir, 'net', '1.conf'), '{"type": "second"}');
    const loaded: LoadedNetworks = await loadNetworks({ confDir: made.confDir, binDirs: [made.binDir] });
    await made.invoker().addAll(loaded.networks, container);
    await made.invoker().delAll(container);
    expect(made.calls()).toEqual(['ADD first', 'ADD second', 'DEL second', 'DEL first']);
  });
});
