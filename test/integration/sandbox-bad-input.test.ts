// What sandboxes get that cannot be run or stopped: a bad request, a bad network, plugins that fail in every way, a client
// that goes away. Each time a status with a sentence that names the object, and a host as it was.
import { mkdir, readdir, rename, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { status as grpc } from '@grpc/grpc-js';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Loose } from '../../src/cri-api/contract.ts';
import type { DNSConfig, PodSandboxConfig } from '../../src/cri-api/types.ts';
import { failureOf } from '../support/cri-client.ts';
import {
  type FakePlugin,
  fails,
  fakePluginCalls,
  givesAddress,
  passesOn,
  prints,
  writeFakePlugin,
} from '../support/fake-plugins.ts';
import { expectUnchanged, type Traces, tracesAfterAPod } from '../support/leftovers.ts';
import { startNode, type TestNode, until } from '../support/node.ts';

/** Hangs in a process that carries the node's mark, so that it is seen when it is left. */
const hang = 'tail -f "$0"';

describe('a request that cannot be had', () => {
  let node: TestNode;
  let before: Traces;
  beforeAll(async () => {
    node = await startNode({ busybox: false });
    before = await tracesAfterAPod(node);
  });
  afterAll(() => node.destroy());

  it('for lack of a config, of metadata or of a name is refused', async () => {
    const namespace = 'test';
    for (const [request, words] of [
      [{}, 'config'],
      [{ config: {} }, 'metadata'],
      [{ config: { metadata: { namespace } } }, 'name'],
    ] as const) {
      const { code, details } = await failureOf(node.cri.RunPodSandbox(request));
      expect(code).toBe(grpc.INVALID_ARGUMENT);
      expect(details).toContain(words);
    }
    await expectUnchanged(node, before);
  });

  const annotated = (key: string, value: string) => ({ annotations: { [`kubernetes.io/${key}`]: value } });
  const dns = (dnsConfig: Loose<DNSConfig>) => ({ dnsConfig });
  const refused: [about: string, over: Loose<PodSandboxConfig>, words: string[]][] = [
    ['a name that CNI arguments cannot hold', { metadata: { name: 'bad;K8S=x' } }, ['metadata.name', ';']],
    [
      'a namespace that CNI arguments cannot hold',
      { metadata: { namespace: 'a;b' } },
      ['metadata.namespace'],
    ],
    ['a uid that CNI arguments cannot hold', { metadata: { uid: 'a=b' } }, ['metadata.uid', '=']],
    ['a log directory that is not absolute', { logDirectory: 'logs/pod' }, ['log_directory', 'logs/pod']],
    ['a name server with a line break', dns({ servers: ['10.0.0.1\nsearch evil'] }), ['dns_config', 'evil']],
    ['an empty name server', dns({ servers: [''] }), ['dns_config', '""']],
    ['a search domain with a blank', dns({ searches: ['a b'] }), ['dns_config', 'a b']],
    ['a DNS option with a blank', dns({ options: ['ndots: 5'] }), ['dns_config', 'ndots: 5']],
    ['33 search domains', dns({ searches: Array(33).fill('a.example') }), ['dns_config', '33']],
    ['a bandwidth that is no number', annotated('ingress-bandwidth', 'fast'), ['ingress-bandwidth', 'fast']],
    ['a bandwidth below 1k', annotated('egress-bandwidth', '999'), ['egress-bandwidth', '999']],
    ['a bandwidth above 1P', annotated('egress-bandwidth', '2P'), ['egress-bandwidth', '2P']],
    ['a hostname of 65 bytes', { hostname: 'h'.repeat(65) }, ['hostname']],
    [
      'a cgroup parent that climbs',
      { linux: { cgroupParent: '/a/../../b' } },
      ['cgroup_parent', '/a/../../b'],
    ],
    [
      'a systemd slice without systemd',
      { linux: { cgroupParent: '/a.slice' } },
      ['cgroup_parent', 'SystemdCgroup'],
    ],
    ['a sysctl of the whole host', { linux: { sysctls: { 'kernel.panic': '1' } } }, ['kernel.panic']],
    ['a sysctl that is a path', { linux: { sysctls: { '../../etc/passwd': '1' } } }, ['../../etc/passwd']],
    [
      'a seccomp profile that is not there',
      { linux: { securityContext: { seccomp: { profileType: 'Localhost', localhostRef: '/none.json' } } } },
      ['/none.json'],
    ],
  ];
  it.each(refused)('for %s is refused, naming pod and field', async (_, over, words) => {
    const config = node.podConfig(over);
    const { code, details } = await failureOf(node.cri.RunPodSandbox({ config }));
    expect({ code, details }).toMatchObject({ code: grpc.INVALID_ARGUMENT });
    for (const word of [config.metadata.name, ...words]) expect(details).toContain(word);
    await expectUnchanged(node, before);
  });

  it('for a NUL character, which could not even be cleaned up after, is refused, naming the field', async () => {
    for (const [over, field] of [
      [{ linux: { cgroupParent: '/a\0b' } }, 'cgroupParent'],
      [{ labels: { 'a\0b': '' } }, 'labels'],
      [dns({ servers: ['\0'] }), 'dnsConfig.servers.0'],
    ] as const) {
      const { code, details } = await failureOf(node.cri.RunPodSandbox({ config: node.podConfig(over) }));
      expect(code).toBe(grpc.INVALID_ARGUMENT);
      expect(details).toContain(field);
    }
    await expectUnchanged(node, before);
  });

  it('gives its name back', async () => {
    const metadata = { name: 'second-try', namespace: 'test', uid: 'uid-second-try', attempt: 0 };
    await failureOf(node.runPod({ metadata, hostname: 'h'.repeat(65) }));
    await failureOf(node.runPod({ metadata, linux: { sysctls: { 'net.no.such': '1' } } }));
    await node.runPod({ metadata });
    await node.removeAll();
    await expectUnchanged(node, before);
  });

  it('for a sysctl that the kernel does not know fails with the runtime’s words', async () => {
    const { code, details } = await failureOf(node.runPod({ linux: { sysctls: { 'net.no.such': '1' } } }));
    expect(code).toBe(grpc.UNKNOWN);
    expect(details).toContain('/proc/sys/net/no/such');
    await expectUnchanged(node, before);
  });

  it('for a log directory that cannot be made fails, naming it', async () => {
    const logDirectory = join(node.directory, 'config.toml', 'logs');
    const { details } = await failureOf(node.runPod({ logDirectory }));
    expect(details).toContain(logDirectory);
    await expectUnchanged(node, before);
  });
});

describe('a plugin that fails', () => {
  const first: FakePlugin = {};
  const second: FakePlugin = { ADD: passesOn };
  let node: TestNode;
  let before: Traces;
  beforeAll(async () => {
    node = await startNode({
      busybox: false,
      config: '[plugins."io.cri-ts"]\n  cni_timeout = "3s"\n',
      plugins: { first, second, third: { ADD: givesAddress } },
      cni: {
        '10-chain.conflist': {
          cniVersion: '1.0.0',
          name: 'chain',
          plugins: [{ type: 'first' }, { type: 'second' }],
        },
        '20-third.conf': { cniVersion: '1.0.0', name: 'single', type: 'third' },
      },
    });
    before = await tracesAfterAPod(node);
  });
  beforeEach(async () => {
    await rm(join(node.pluginDir, 'calls.jsonl'));
    await writeFakePlugin(node.pluginDir, 'first', first);
    await writeFakePlugin(node.pluginDir, 'second', second);
    await writeFakePlugin(node.pluginDir, 'third', { ADD: givesAddress });
  });
  afterEach(async () => {
    await node.removeAll();
    await expectUnchanged(node, before);
  });
  afterAll(() => node.destroy());

  const calls = async () =>
    (await fakePluginCalls(node.pluginDir)).map(({ verb, plugin }) => `${verb} ${plugin}`);
  const wholeChain = ['ADD first', 'ADD second', 'DEL second', 'DEL first'];

  const ways: [how: string, text: string, words: string[]][] = [
    [
      'exits with a CNI error',
      fails(11, 'no addresses left', 'ask again'),
      ['no addresses left', 'ask again', '11'],
    ],
    ['exits without a word', 'exit 3', ['code 3']],
    ['exits with words on stderr', 'echo boom >&2; exit 2', ['code 2', 'boom']],
    ['exits with garbage', 'echo "<html>"; exit 1', ['<html>']],
    ['prints garbage', 'echo "<html>"', ['<html>']],
    ['prints nothing', ':', ['output']],
    ['prints half a result', `printf '{"cniVersion": "1.0.0", "ips": ['`, ['output']],
    [
      'prints a result that is none',
      prints({ cniVersion: '1.0.0', ips: [{ address: 'nowhere' }] }),
      ['ips.0.address'],
    ],
    ['prints 100 MB', 'head -c 104857600 /dev/zero', ['bytes']],
    ['is killed', 'kill -9 $$', ['SIGKILL']],
    ['hangs', hang, ['3000 ms']],
    ['hangs in a child that keeps its output open', `${hang} & ${hang}`, ['3000 ms']],
  ];
  it.each(ways)('at ADD since it %s: DEL runs over the whole chain', async (_, ADD, words) => {
    await writeFakePlugin(node.pluginDir, 'second', { ADD });
    const { code, details } = await failureOf(node.runPod());
    expect(code).toBe(grpc.UNKNOWN);
    for (const word of ['CNI ADD', join(node.pluginDir, 'second'), '"chain"', ...words])
      expect(details).toContain(word);
    expect(await calls()).toEqual(wholeChain);
    await expectUnchanged(node, before);
  });

  it('at ADD of a second network: the first is deleted too', async () => {
    await writeFakePlugin(node.pluginDir, 'third', { ADD: fails(7, 'not today') });
    const { details } = await failureOf(node.runPod());
    expect(details).toContain('not today');
    expect(await calls()).toEqual([
      'ADD first',
      'ADD second',
      'ADD third',
      'DEL third',
      'DEL second',
      'DEL first',
    ]);
  });

  it('to give any address: the pod is refused', async () => {
    for (const name of ['first', 'third'])
      await writeFakePlugin(node.pluginDir, name, { ADD: prints({ cniVersion: '1.0.0' }) });
    const { code, details } = await failureOf(node.runPod());
    expect(code).toBe(grpc.UNKNOWN);
    expect(details).toContain('no address');
    expect(details).toContain('10-chain.conflist');
    expect((await calls()).slice(3)).toEqual(['DEL third', 'DEL second', 'DEL first']);
  });

  it('at DEL of a stop: the sandbox stays listed, NOTREADY, and the next stop finishes', async () => {
    const metadata = { name: 'sticky', namespace: 'test', uid: 'uid-sticky', attempt: 0 };
    const pod = await node.runPod({ metadata });
    await writeFakePlugin(node.pluginDir, 'second', { DEL: fails(11, 'backend away') });
    for (const end of [
      () => node.cri.StopPodSandbox({ podSandboxId: pod }),
      () => node.cri.RemovePodSandbox({ podSandboxId: pod }),
    ]) {
      const { code, details } = await failureOf(end());
      expect(code).toBe(grpc.UNKNOWN);
      for (const word of ['CNI DEL', 'backend away', pod]) expect(details).toContain(word);
    }
    const { items } = await node.cri.ListPodSandbox();
    expect(items).toMatchObject([{ id: pod, state: 'SANDBOX_NOTREADY' }]);
    expect((await failureOf(node.runPod({ metadata }))).code).toBe(grpc.ALREADY_EXISTS);
    const { info } = await node.cri.PodSandboxStatus({ podSandboxId: pod, verbose: true });
    expect(JSON.parse(info.info ?? '')).toMatchObject({
      pid: 0,
      owed: expect.arrayContaining(['network (CNI ADD)', 'network namespace']),
    });

    await writeFakePlugin(node.pluginDir, 'second', second);
    await node.cri.StopPodSandbox({ podSandboxId: pod });
    expect((await calls()).slice(-2)).toEqual(['DEL second', 'DEL first']);
    await node.cri.RemovePodSandbox({ podSandboxId: pod });
    await expectUnchanged(node, before);
  });

  it('at ADD and at the DEL after it: what is left is listed NOTREADY until it is stopped', async () => {
    await writeFakePlugin(node.pluginDir, 'second', { ADD: fails(11, 'no'), DEL: fails(11, 'still no') });
    const { details } = await failureOf(node.runPod());
    expect(details).toContain('no');
    expect(details).toContain('still no');
    const { items } = await node.cri.ListPodSandbox();
    expect(items).toMatchObject([{ state: 'SANDBOX_NOTREADY' }]);
    const [{ id: podSandboxId = '' } = {}] = items;
    await failureOf(node.cri.StopPodSandbox({ podSandboxId }));
    await writeFakePlugin(node.pluginDir, 'second', second);
    await node.cri.StopPodSandbox({ podSandboxId });
    await node.cri.RemovePodSandbox({ podSandboxId });
    await expectUnchanged(node, before);
  });

  it('to be found any more at the stop: the sandbox waits for its return', async () => {
    const pod = await node.runPod();
    const [there, away] = [join(node.pluginDir, 'second'), join(node.directory, 'second')];
    await rename(there, away);
    const { details } = await failureOf(node.cri.StopPodSandbox({ podSandboxId: pod }));
    expect(details).toContain('second');
    await rename(away, there);
    await node.cri.RemovePodSandbox({ podSandboxId: pod });
    await until('the network is ready again', () =>
      networkProblem(node).then(problem => problem === '' || undefined),
    );
  });

  it('is deleted with the configuration of now when the record of its ADD was damaged', async () => {
    const pod = await node.runPod();
    const results = join(node.root, 'cni', 'results');
    for (const name of await readdir(results))
      if (name.startsWith('chain')) await truncate(join(results, name));
    await node.cri.RemovePodSandbox({ podSandboxId: pod });
    expect((await calls()).slice(3)).toEqual(['DEL third', 'DEL second', 'DEL first']);
  });
});

async function networkProblem(node: TestNode): Promise<string> {
  const { status } = await node.cri.Status();
  const condition = status?.conditions.find(({ type }) => type === 'NetworkReady');
  if (condition?.status === false) expect(condition.reason).toBe('NetworkPluginNotReady');
  return condition?.status ? '' : (condition?.message ?? 'no condition');
}

describe('a network configuration that cannot be used', () => {
  let node: TestNode;
  let before: Traces;
  beforeAll(async () => {
    node = await startNode({ busybox: false, plugins: { fake: {} }, cni: { [usual]: good } });
    before = await tracesAfterAPod(node);
  });
  afterAll(() => node.destroy());
  beforeEach(async () => {
    await mkdir(node.cniConfDir, { recursive: true });
    for (const name of await readdir(node.cniConfDir)) await rm(join(node.cniConfDir, name));
    await configure(good);
    await becomesReady();
  });
  afterEach(async () => {
    await node.removeAll();
    await expectUnchanged(node, before);
  });

  const usual = '10-net.conf';
  const good = { cniVersion: '1.0.0', name: 'net', type: 'fake' };
  const becomesReady = () =>
    until('the network is ready', async () => (await networkProblem(node)) === '' || undefined);

  /** Puts a file whole into the directory: half of one would be a problem of its own. */
  async function configure(content: unknown, name = usual): Promise<void> {
    const draft = join(node.directory, 'draft');
    await writeFile(draft, typeof content === 'string' ? content : JSON.stringify(content));
    await rename(draft, join(node.cniConfDir, name));
  }

  const list = (content: object) => ({ cniVersion: '1.0.0', name: 'net', ...content });
  const bad: [about: string, name: string, content: unknown, words: string[]][] = [
    ['it is no JSON', '10-net.conf', '{"name": "net",', ['JSON']],
    ['it is empty', '10-net.conf', '', ['JSON']],
    ['it is a JSON array', '10-net.conf', [], ['object']],
    ['it has no name', '10-net.conf', { cniVersion: '1.0.0', type: 'fake' }, ['name']],
    ['its name climbs', '10-net.conf', { ...good, name: '../net' }, ['../net']],
    ['it has no type', '10-net.conf', { cniVersion: '1.0.0', name: 'net' }, ['type']],
    ['its plugin is unknown', '10-net.conf', { ...good, type: 'nosuch' }, ['nosuch']],
    ['its type has a slash', '10-net.conf', { ...good, type: '../fake' }, ['../fake']],
    ['its version is unknown', '10-net.conf', { ...good, cniVersion: '9.9.9' }, ['9.9.9']],
    ['its list has no plugins', '10-net.conflist', list({ plugins: [] }), ['plugins']],
    ['a plugin of its list has no type', '10-net.conflist', list({ plugins: [{}] }), ['type']],
    ['another has its name', '20-net.conf', good, ['10-net.conf', 'net']],
  ];
  it.each(bad)(
    'because %s: NetworkReady is false and says why, as does RunPodSandbox',
    async (_, name, content, words) => {
      const path = join(node.cniConfDir, name);
      if (name.endsWith('.conflist')) await rm(join(node.cniConfDir, usual));
      await configure(content, name);
      await until('the reason is seen', async () => {
        const problem = await networkProblem(node);
        return [path, ...words].every(word => problem.includes(word)) || undefined;
      });
      const { code, details } = await failureOf(node.runPod());
      expect(code).toBe(grpc.UNKNOWN);
      expect(details).toMatch(/sandbox [0-9a-f]{64}/);
      for (const word of [path, ...words]) expect(details).toContain(word);
      await expectUnchanged(node, before);
      await rm(path);
      await configure(good);
      await becomesReady();
      await node.runPod();
    },
  );

  it('because there is none: it is taken up as soon as one appears, without a restart', async () => {
    const says = (words: string) =>
      until(words, async () => (await networkProblem(node)).includes(words) || undefined);
    await rm(join(node.cniConfDir, usual));
    await says(`${node.cniConfDir} holds no`);
    expect((await failureOf(node.runPod())).details).toContain(`${node.cniConfDir} holds no`);
    await rm(node.cniConfDir, { recursive: true });
    await says(`${node.cniConfDir} does not exist`);
    await mkdir(node.cniConfDir);
    await configure(good);
    await becomesReady();
    await node.runPod();
  });
});

describe('a client that goes away', () => {
  const slow: FakePlugin = { ADD: `${hang}; ${givesAddress}` };
  let node: TestNode;
  let before: Traces;
  beforeAll(async () => {
    node = await startNode({
      busybox: false,
      plugins: { fast: {}, slow: { ADD: passesOn } },
      cni: {
        '10-slow.conflist': { cniVersion: '1.0.0', name: 'n', plugins: [{ type: 'fast' }, { type: 'slow' }] },
      },
    });
    before = await tracesAfterAPod(node);
  });
  beforeEach(async () => {
    await rm(join(node.pluginDir, 'calls.jsonl'), { force: true });
    await writeFakePlugin(node.pluginDir, 'slow', slow);
  });
  afterEach(async () => {
    await writeFakePlugin(node.pluginDir, 'slow', { ADD: passesOn });
    await node.removeAll();
    await expectUnchanged(node, before);
  });
  afterAll(() => node.destroy());

  const called = (wanted: string, times = 1) =>
    until(`${wanted} was called`, async () => {
      const calls = (await fakePluginCalls(node.pluginDir)).map(({ verb, plugin }) => `${verb} ${plugin}`);
      return calls.filter(call => call === wanted).length >= times ? calls : undefined;
    });
  const metadata = { name: 'abandoned', namespace: 'test', uid: 'uid-abandoned', attempt: 0 };

  it('in the middle of RunPodSandbox leaves nothing, and the name is free again', async () => {
    const abort = new AbortController();
    const run = failureOf(
      node.cri.RunPodSandbox({ config: node.podConfig({ metadata }) }, { signal: abort.signal }),
    );
    await called('ADD slow');
    abort.abort();
    expect((await run).code).toBe(grpc.CANCELLED);
    expect(await called('DEL fast')).toEqual(['ADD fast', 'ADD slow', 'DEL slow', 'DEL fast']);
    await expectUnchanged(node, before);
    await writeFakePlugin(node.pluginDir, 'slow', { ADD: passesOn });
    await node.runPod({ metadata });
  });

  it('because its deadline passed leaves nothing either', async () => {
    const config = node.podConfig({ metadata });
    const { code } = await failureOf(node.cri.RunPodSandbox({ config }, { timeoutMs: 700 }));
    expect(code).toBe(grpc.DEADLINE_EXCEEDED);
    await expectUnchanged(node, before);
  });

  it('is told who holds the name while what it began is being undone, and then gets it', async () => {
    await writeFakePlugin(node.pluginDir, 'slow', { ...slow, DEL: 'sleep 0.5' });
    const config = node.podConfig({ metadata });
    await failureOf(node.cri.RunPodSandbox({ config }, { timeoutMs: 700 }));
    await writeFakePlugin(node.pluginDir, 'slow', { ADD: passesOn });
    const retry = await until('the name is free', () =>
      node.cri.RunPodSandbox({ config }).catch(error => {
        expect(error.code).toBe(grpc.ALREADY_EXISTS);
        return undefined;
      }),
    );
    expect((await node.cri.ListPodSandbox()).items.map(({ id }) => id)).toEqual([retry.podSandboxId]);
  });

  it('leaves the others alone', async () => {
    const abort = new AbortController();
    const gone = failureOf(node.cri.RunPodSandbox({ config: node.podConfig() }, { signal: abort.signal }));
    await called('ADD slow');
    await writeFakePlugin(node.pluginDir, 'slow', { ADD: passesOn });
    const stays = node.runPod();
    abort.abort();
    await gone;
    const { status } = await node.cri.PodSandboxStatus({ podSandboxId: await stays });
    expect(status?.state).toBe('SANDBOX_READY');
  });

  it('in the middle of StopPodSandbox does not stop the stop', async () => {
    await writeFakePlugin(node.pluginDir, 'slow', { ADD: passesOn, DEL: 'sleep 3' });
    const pod = await node.runPod();
    const { code } = await failureOf(node.cri.StopPodSandbox({ podSandboxId: pod }, { timeoutMs: 1500 }));
    expect(code).toBe(grpc.DEADLINE_EXCEEDED);
    await called('DEL fast');
    await until('the sandbox has been stopped', async () => {
      const { info } = await node.cri.PodSandboxStatus({ podSandboxId: pod, verbose: true });
      return JSON.parse(info.info ?? '').netNamespaceClosed || undefined;
    });
  });
});
