// The floor: what no runtime can save. The same runc and the same plugin executables that the runtimes run, with no
// runtime around them: a network namespace made by system calls on a thread (`ip netns add` would be 2 ms more), then the
// CNI chain and `runc run --detach` of the same pause bundle side by side, each child started as cri-ts starts its own, by
// posix_spawn (node:child_process would be 3 to 5 ms more for each).
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { chain, cniVersion, pluginDir } from './networks.ts';

const repository = fileURLToPath(new URL('../../..', import.meta.url));

/** Compiled code: the host thread is a file of its own, which only the build has. */
const compiled = {
  thread: (await import(
    `${repository}dist/host/host-thread.js`
  )) as typeof import('../../../src/host/host-thread.ts'),
  netns: (await import(`${repository}dist/host/netns.js`)) as typeof import('../../../src/host/netns.ts'),
  process: (await import(
    `${repository}dist/host/process.js`
  )) as typeof import('../../../src/host/process.ts'),
  watch: (await import(
    `${repository}dist/host/process-watch.js`
  )) as typeof import('../../../src/host/process-watch.ts'),
  orphans: (await import(
    `${repository}dist/host/orphans.js`
  )) as typeof import('../../../src/host/orphans.ts'),
};

export interface Floor {
  /** Brings a pod up; returns the milliseconds it took. */
  up(): Promise<number>;
  /** Takes it away. */
  down(): Promise<void>;
}

/**
 * @param directory for its bundle and runc's state
 * @param pauseSpec the OCI spec of a pod of cri-ts; only its id, cgroup and network namespace become the floor's own
 * @param cgroupParent of its pod
 */
export function makeFloor(directory: string, pauseSpec: unknown, cgroupParent: string): Floor {
  compiled.watch.becomeSubreaper(); // so that the pause processes have somebody who reaps them
  compiled.orphans.startOrphanReaper(() => false);
  const thread = compiled.thread.openHostThread();
  thread.prepare();
  const [id, netns, bundle] = ['floor', '/run/netns/floor', join(directory, 'bundle')];
  const [runcRoot, pidFile] = [join(directory, 'runc'), join(bundle, 'pid')];
  mkdirSync(bundle);
  writeFileSync(join(bundle, 'config.json'), JSON.stringify(floorSpec(pauseSpec, netns, cgroupParent)));

  const plugin = async (verb: 'ADD' | 'DEL', index: number, prevResult?: unknown): Promise<unknown> => {
    const { ifName, network, config } = chain[index] ?? { ifName: '', network: '', config: { type: '' } };
    const env = {
      PATH: process.env.PATH ?? '',
      CNI_COMMAND: verb,
      CNI_CONTAINERID: id,
      CNI_NETNS: netns,
      CNI_IFNAME: ifName,
      CNI_PATH: pluginDir,
    };
    const input = JSON.stringify({ ...config, cniVersion, name: network, prevResult });
    const output = await succeeded(join(pluginDir, config.type), [], { env, input });
    return output === '' ? undefined : JSON.parse(output);
  };
  const runc = (...args: string[]) => succeeded('runc', ['--root', runcRoot, ...args], { output: 'ignore' });
  let result: unknown;
  const addAll = async () => {
    result = await plugin('ADD', 0);
    result = await plugin('ADD', 1, result);
    await plugin('ADD', 2);
  };
  return {
    async up() {
      const start = performance.now();
      await thread.createNetns(netns, { loopbackUp: false });
      await Promise.all([addAll(), runc('run', '--detach', '--bundle', bundle, '--pid-file', pidFile, id)]);
      return performance.now() - start;
    },
    async down() {
      process.kill(Number(readFileSync(pidFile, 'latin1')), 'SIGKILL');
      await runc('delete', '--force', id);
      await plugin('DEL', 2);
      await plugin('DEL', 1, result);
      await plugin('DEL', 0, result);
      compiled.netns.deleteNetns(netns);
    },
  };
}

const specSchema = z.looseObject({
  linux: z.looseObject({ namespaces: z.array(z.looseObject({ type: z.string() })) }),
});

function floorSpec(pauseSpec: unknown, netns: string, cgroupParent: string): unknown {
  const spec = specSchema.parse(pauseSpec);
  const namespaces = spec.linux.namespaces.map(namespace =>
    namespace.type === 'network' ? { ...namespace, path: netns } : namespace,
  );
  return { ...spec, linux: { ...spec.linux, namespaces, cgroupsPath: join(cgroupParent, 'floor') } };
}

/** The output of a child that must succeed. */
async function succeeded(...call: Parameters<typeof compiled.process.run>): Promise<string> {
  const { exitCode, outcome, stdout, stderr } = await compiled.process.run(...call);
  if (exitCode !== 0) throw new Error(`${outcome}: ${stdout}${stderr}`);
  return stdout;
}
