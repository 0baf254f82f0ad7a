// Small shell scripts in the place of CNI plugins, for what real plugins cannot be made to do on demand: hang, lie,
// fail in the middle. Each lives in the test's own directory.
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import {
  createInvoker,
  type Invoker,
  type InvokerOptions,
  type NetworkConfigList,
  type PluginRun,
  parseNetworkConfigList,
  specVersions,
} from '../../../src/cni-invoker/index.ts';

/** What a fake does, by operation: shell text. What is not named succeeds and prints nothing. */
export interface FakeScript {
  versions?: readonly string[];
  VERSION?: string;
  ADD?: string;
  DEL?: string;
  CHECK?: string;
  GC?: string;
  STATUS?: string;
}

export const plainResult = { cniVersion: '1.0.0', ips: [{ address: '10.9.0.5/24', gateway: '10.9.0.1' }] };

/** Shell text that prints a JSON value. */
export function says(value: unknown): string {
  return `printf '%s' '${JSON.stringify(value)}'`;
}

/** Shell text of a plugin that fails as the specification says. */
export function fails(code: number, msg: string, details = ''): string {
  return `${says({ cniVersion: '1.0.0', code, msg, details })}; exit 1`;
}

export interface Bench {
  /** The test's own directory; `bin`, `conf` and `cache` stand in it. */
  dir: string;
  binDir: string;
  confDir: string;
  cacheDir: string;
  /** Every execution of a plugin so far. */
  runs: PluginRun[];
  /** The executions that are not VERSION, as `ADD first`. */
  calls(): string[];
  plugin(name: string, script?: FakeScript): Promise<void>;
  invoker(options?: Partial<InvokerOptions>): Invoker;
}

/** A directory with nothing in it yet, removed at the end of the test. */
export async function bench(): Promise<Bench> {
  const dir = await mkdtemp(join(tmpdir(), 'cri-ts-cni-'));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  const binDir = join(dir, 'bin');
  const confDir = join(dir, 'conf');
  const cacheDir = join(dir, 'cache');
  await mkdir(binDir);
  await mkdir(confDir);
  const runs: PluginRun[] = [];
  return {
    dir,
    binDir,
    confDir,
    cacheDir,
    runs,
    calls: () => runs.filter(run => run.verb !== 'VERSION').map(run => `${run.verb} ${run.plugin}`),
    plugin: (name, script = {}) => writeFile(join(binDir, name), shellOf(script), { mode: 0o755 }),
    invoker: options =>
      createInvoker({ binDirs: [binDir], cacheDir, onPluginRun: run => runs.push(run), ...options }),
  };
}

function shellOf(script: FakeScript): string {
  const version = says({ cniVersion: '1.1.0', supportedVersions: script.versions ?? specVersions });
  const branches = Object.entries({ VERSION: version, ADD: says(plainResult), ...script })
    .filter(([verb]) => verb !== 'versions')
    .map(([verb, text]) => `${verb}) ${text} ;;`);
  // The configuration is read first, as real plugins do; $config holds it.
  return `#!/bin/sh\nconfig=$(cat)\ncase $CNI_COMMAND in\n${branches.join('\n')}\nesac\n`;
}

export function networkOf(types: readonly (string | object)[], more: object = {}): NetworkConfigList {
  const plugins = types.map(type => (typeof type === 'string' ? { type } : type));
  return parseNetworkConfigList(JSON.stringify({ cniVersion: '1.1.0', name: 'testnet', plugins, ...more }));
}

/** This process's own namespace: one that exists, for plugins that do not touch it. */
export const ownNetns = '/proc/self/ns/net';

export const runtime = { containerId: 'c1', netns: ownNetns, ifName: 'eth0' };
