import { execFileSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import type { ExplainedContainer, ExplainedPod, PluginRun } from '../../../src/explain/pod.ts';
import { podScript } from '../../../src/explain/script.ts';

const id = 'ab'.repeat(32);
const netns = '/var/run/netns/cni-1';

const run = (plugin: string, over: Partial<PluginRun> = {}): PluginRun => ({
  plugin,
  path: `/opt/cni/bin/${plugin}`,
  network: 'pods',
  ifName: 'eth0',
  began: 1,
  ms: 2,
  environment: {
    CNI_COMMAND: 'ADD',
    CNI_CONTAINERID: id,
    CNI_NETNS: netns,
    CNI_IFNAME: 'eth0',
    CNI_ARGS: `K8S_POD_INFRA_CONTAINER_ID=${id}`,
    CNI_PATH: '/opt/cni/bin',
  },
  stdin: JSON.stringify({ cniVersion: '1.0.0', name: 'pods', type: plugin }),
  ...over,
});

const container = (over: Partial<ExplainedContainer> = {}): ExplainedContainer => ({
  id: 'cd'.repeat(32),
  name: 'server',
  running: true,
  spec: {
    process: { args: ['sh', '-c', `echo 'it''s' "$HOME" \`id\``], terminal: true },
    root: { path: '/run/node/containers/x/rootfs' },
    linux: { cgroupsPath: `/pods/${'cd'.repeat(32)}` },
  },
  steps: {},
  layers: ['/lib/node/layers/1'],
  ...over,
});

const pod = (over: Partial<ExplainedPod> = {}): ExplainedPod => ({
  id,
  name: 'web',
  namespace: 'shop',
  ips: ['10.0.0.2'],
  pid: 77,
  netns,
  hostname: 'web',
  logDirectory: '/var/log/pods/web',
  dns: { servers: ['192.0.2.53'], searches: ['shop.test'], options: [] },
  directory: `/run/node/sandboxes/${id}`,
  containersDirectory: '/run/node/containers',
  spec: {
    process: { args: ['/pause'], terminal: false },
    root: { path: '/lib/node/pause/rootfs' },
    linux: { cgroupsPath: `/pods/${id}`, namespaces: [{ type: 'network', path: netns }, { type: 'ipc' }] },
  },
  pauseLayers: undefined,
  runtime: { binary: 'runc', root: '/run/node/oci/runc', systemdCgroup: false },
  pluginRuns: [
    run('bridge'),
    run('portmap', {
      stdin: JSON.stringify({ name: 'pods', type: 'portmap', prevResult: { ips: ['of the other pod'] } }),
    }),
  ],
  steps: {},
  containers: [container()],
  ...over,
});

/** @throws when a shell cannot read the script */
const readByShell = (script: string) => execFileSync('sh', ['-n'], { input: script });

describe('the script that builds such a pod', () => {
  it.each([
    ['a pod', pod()],
    ['a pod of the host network', pod({ netns: null, pluginRuns: [] })],
    ['a pod without containers', pod({ containers: [] })],
    [
      'a pod whose names are traps',
      pod({
        name: 'a"; touch /tmp/x; "\n$(id)',
        hostname: "it's",
        containers: [container({ name: '`id`\nrm' })],
        pluginRuns: [run('bridge', { network: '$(id)\nEND', stdin: '{"name": "a\\nEND\\n$(id)"}' })],
      }),
    ],
  ])('is one that a shell can read: %s', (_, explained) => {
    expect(() => readByShell(podScript(explained))).not.toThrow();
  });

  it('has no name, directory or result of the pod that it was made from', () => {
    const script = podScript(pod());
    for (const own of [id, 'cd'.repeat(32), netns, '/run/node', 'of the other pod'])
      expect(script).not.toContain(own);
  });

  it('gives a plugin the result of the one before, and DEL the results in turn from the last', () => {
    const lines = podScript(pod()).split('\n');
    const calls = lines
      .filter(line => /\bcni (ADD|DEL) /.test(line))
      .map(line => line.replace(/ <<.*?'END'/, ''));
    expect(calls).toEqual([
      'cni ADD /opt/cni/bin/bridge eth0',
      'after "$DIR/result-eth0" | cni ADD /opt/cni/bin/portmap eth0',
      '[ ! -e "$DIR/result-eth0" ] || after "$DIR/result-eth0" | cni DEL /opt/cni/bin/portmap eth0 || true',
      '[ ! -e "$DIR/result-eth0" ] || after "$DIR/result-eth0" | cni DEL /opt/cni/bin/bridge eth0 || true',
    ]);
  });

  it('leaves out containers that do not run, and says so', () => {
    const script = podScript(pod({ containers: [container({ name: 'job', running: false })] }));
    expect(script).toContain('# container job does not run, and is left out');
    expect(script).not.toContain('mount -t overlay');
  });
});
