// Pull benchmark: cri-ts beside Debian's containerd, from the same registry, over the same CRI call, by turns.
// Started by hack/bench/pull, which installs what is missing. Prints one table; exit code 1 when a target is
// missed. Each run has a daemon of its own with an empty store, warmed up by pulling a tiny image.
// Arguments choose parts: `times`, `latency`; without any it does both.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Client, credentials, loadPackageDefinition, type ServiceError } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { filesLike, type Layer, layerOf, makeImage, makeTar } from '../../test/support/image/make-image.ts';
import { pushImage, startRegistry, type TestRegistry } from '../../test/support/image/registry.ts';

const rounds = Number(process.env.ROUNDS ?? 5);
const parts = process.argv.slice(2);
const wants = (part: string) => parts.length === 0 || parts.includes(part);
const targetRatio = 0.7;
const latencyRounds = Number(process.env.ROUNDS ?? 3);
const targetLatencyMs = 10;
const MB = 1024 * 1024;

interface Runtime {
  name: string;
  call(method: string, request: object): Promise<unknown>;
  process: ChildProcess;
  stop(): Promise<void>;
}

/** Starts a runtime on an empty root below a directory of its own. */
type Start = (directory: string, certs: string) => Promise<Runtime>;
const contestants: [name: string, start: Start][] = [
  ['cri-ts', startCriTs],
  ['containerd', startContainerd],
];

async function main(): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'cri-ts-bench-pull-'));
  spreadDirectories(directory);
  const registry = await startRegistry();
  try {
    console.log(`${availableParallelism()} cores, load ${loadavg()[0]?.toFixed(1)}; making images ...`);
    const shapes = await makeShapes(registry);
    const certs = join(directory, 'certs.d');
    await mkdir(join(certs, registry.address), { recursive: true });
    await writeFile(join(certs, registry.address, 'hosts.toml'), `server = "${registry.url}"\n`);
    const fresh = freshRuntimes(directory, certs, `${registry.address}/warm:latest`);
    let missed = false;
    if (wants('times')) for (const shape of shapes) missed = (await compare(shape, fresh)) || missed;
    const large = shapes[1];
    if (large && wants('latency')) missed = (await latency(large, fresh)) || missed;
    process.exitCode = missed ? 1 : 0;
  } finally {
    await registry.stop();
    await rm(directory, { recursive: true, force: true });
  }
}

/**
 * Asks ext4 to place each run's root in another part of the disk (chattr +T). Where many files were deleted within
 * the last minutes it is a hundred times slower at making new ones, and that would be measured instead.
 */
function spreadDirectories(directory: string): void {
  try {
    execFileSync('chattr', ['+T', directory], { stdio: 'ignore' });
  } catch {
    console.log('note: the file system knows no chattr +T');
  }
}

/** Runs `use` with a runtime that has an empty store and has been running: it has pulled a tiny image before. */
type Fresh = <T>(index: number, use: (runtime: Runtime) => Promise<T>) => Promise<T>;

function freshRuntimes(directory: string, certs: string, warmUp: string): Fresh {
  let runs = 0;
  return async (index, use) => {
    const own = join(directory, `run-${runs++}`);
    await mkdir(own);
    const runtime = await contestants[index]?.[1](own, certs);
    if (!runtime) throw new Error('no such runtime');
    try {
      await runtime.call('PullImage', { image: { image: warmUp } });
      execFileSync('sync');
      return await use(runtime);
    } finally {
      await runtime.stop();
      await rm(own, { recursive: true, force: true });
    }
  };
}

interface Shape {
  name: string;
  reference: string;
}

async function makeShapes(registry: TestRegistry): Promise<Shape[]> {
  const shapes = [
    { name: '1 small layer', layers: 1, bytes: 2 * MB },
    { name: '10 layers of 30 MB', layers: 10, bytes: Number(process.env.LAYER_MB ?? 56) * MB },
    { name: '120 small layers', layers: 120, bytes: 0.1 * MB },
  ];
  const made: Shape[] = [];
  const warm = makeImage([layerOf(await makeTar([{ name: 'warm', content: 'up' }]))]);
  await pushImage(registry, 'warm', 'latest', warm);
  for (const [index, { name, layers, bytes }] of shapes.entries()) {
    const all: Layer[] = [];
    for (let i = 0; i < layers; i++) {
      all.push(layerOf(await makeTar(filesLike(`data-${i}`, bytes, index * 1000 + i + 1)), 'gzip'));
    }
    await pushImage(registry, `shape${index}`, 'latest', makeImage(all));
    const compressed = all.reduce((sum, layer) => sum + layer.size, 0);
    console.log(
      `  ${name}: ${(compressed / MB).toFixed(1)} MB compressed, ${((bytes * layers) / MB).toFixed(0)} MB of files`,
    );
    made.push({ name, reference: `${registry.address}/shape${index}:latest` });
  }
  return made;
}

/** Pulls by turns; returns whether the target was missed. */
async function compare(shape: Shape, fresh: Fresh): Promise<boolean> {
  const times = contestants.map((): number[] => []);
  const peaks = contestants.map(() => 0);
  for (let round = -1; round < rounds; round++) {
    for (const index of contestants.keys()) {
      await fresh(index, async runtime => {
        const pull = () => runtime.call('PullImage', { image: { image: shape.reference } });
        // The first round warms the page cache of the registry and the programs. Its time does not count, so
        // memory, whose reading takes time too, is measured in it.
        if (round < 0) {
          peaks[index] = await peakMb(runtime, pull());
          return;
        }
        const began = performance.now();
        await pull();
        times[index]?.push(performance.now() - began);
      });
    }
  }
  const medians = times.map(median);
  for (const [index, [name]] of contestants.entries()) {
    const all = (times[index] ?? []).map(time => time.toFixed(0)).join(' ');
    console.log(
      `${shape.name.padEnd(20)} ${name.padEnd(11)} median ${(medians[index] ?? 0).toFixed(1).padStart(8)} ms   peak ${(peaks[index] ?? 0).toFixed(0).padStart(4)} MB   (${all})`,
    );
  }
  const [ours = 0, theirs = 1] = medians;
  const ratio = ours / theirs;
  console.log(`${shape.name.padEnd(20)} ratio ${ratio.toFixed(2)} (target at most ${targetRatio})`);
  return ratio > targetRatio;
}

const lightCalls = ['Version', 'ListContainers'] as const;

/** p99 of two light RPCs of cri-ts while the large image is pulled, and without a pull in the same runs. */
async function latency(shape: Shape, fresh: Fresh): Promise<boolean> {
  const quiet = lightCalls.map((): number[] => []);
  const busy = lightCalls.map((): number[] => []);
  for (let round = 0; round < latencyRounds; round++) {
    await fresh(0, async runtime => {
      const sample = async (into: number[][]) => {
        for (const [index, method] of lightCalls.entries()) {
          await sleep(5);
          const began = performance.now();
          await runtime.call(method, {});
          into[index]?.push(performance.now() - began);
        }
      };
      for (let i = 0; i < 300; i++) await sample([]); // until what runs often is compiled, here and there
      for (let i = 0; i < 300; i++) await sample(quiet);
      let pulling = true;
      const pull = runtime.call('PullImage', { image: { image: shape.reference } }).finally(() => {
        pulling = false;
      });
      while (pulling) await sample(busy);
      await pull;
    });
  }
  let missed = false;
  for (const [index, method] of lightCalls.entries()) {
    const during = percentiles(busy[index] ?? []);
    const before = percentiles(quiet[index] ?? []);
    console.log(
      `${method}: p50 ${during.p50} ms, p99 ${during.p99} ms, max ${during.max} ms in ${during.count} calls during the large pull (target p99 under ${targetLatencyMs} ms); without a pull p50 ${before.p50} ms, p99 ${before.p99} ms, max ${before.max} ms`,
    );
    missed ||= Number(during.p99) >= targetLatencyMs;
  }
  return missed;
}

function percentiles(samples: readonly number[]) {
  const sorted = [...samples].sort((a, b) => a - b);
  const at = (share: number) =>
    (sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0).toFixed(1);
  return { count: samples.length, p50: at(0.5), p99: at(0.99), max: at(1) };
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1
    ? (sorted[middle] ?? 0)
    : ((sorted[middle - 1] ?? 0) + (sorted[middle] ?? 0)) / 2;
}

/** The most memory that a runtime and its children took together while `work` went on (Pss, in MB). */
async function peakMb(runtime: Runtime, work: Promise<unknown>): Promise<number> {
  let working = true;
  const ended = work.finally(() => {
    working = false;
  });
  let peak = 0;
  while (working) {
    const now = processTree(runtime.process.pid ?? 0).reduce((sum, pid) => sum + pssMb(pid), 0);
    peak = Math.max(peak, now);
    await Promise.race([ended, sleep(20)]);
  }
  await ended;
  return peak;
}

function pssMb(pid: number): number {
  return Number(/^Pss:\s+([0-9]+) kB/m.exec(procFile(pid, 'smaps_rollup'))?.[1] ?? 0) / 1024;
}

function processTree(pid: number): number[] {
  const children = readdirSync('/proc').filter(
    name => /^\d+$/.test(name) && Number(/PPid:\s+(\d+)/.exec(procFile(Number(name), 'status'))?.[1]) === pid,
  );
  return [pid, ...children.flatMap(child => processTree(Number(child)))];
}

function procFile(pid: number, name: string): string {
  try {
    return readFileSync(`/proc/${pid}/${name}`, 'utf8');
  } catch {
    return ''; // it has ended meanwhile
  }
}

async function startCriTs(directory: string, certs: string): Promise<Runtime> {
  const socket = join(directory, 'cri-ts.sock');
  const config = join(directory, 'cri-ts.toml');
  await writeFile(
    config,
    `version = 2
root = "${join(directory, 'root')}"
state = "${join(directory, 'state')}"
[grpc]
  address = "${socket}"
[plugins."io.containerd.grpc.v1.cri"]
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "${certs}"
`,
  );
  const command = process.env.CRI_TS ?? join(import.meta.dirname, '../../bin/cri-ts');
  const child = spawn(command, ['serve', '--config', config, '--log-level', 'warn'], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  return started('cri-ts', child, socket);
}

async function startContainerd(directory: string, certs: string): Promise<Runtime> {
  const socket = join(directory, 'containerd.sock');
  const config = join(directory, 'containerd.toml');
  await writeFile(
    config,
    `version = 2
root = "${join(directory, 'root')}"
state = "${join(directory, 'state')}"
[grpc]
  address = "${socket}"
[plugins."io.containerd.grpc.v1.cri"]
  disable_tcp_service = true
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "${certs}"
`,
  );
  const child = spawn('containerd', ['--config', config], { stdio: 'ignore' });
  return started('containerd', child, socket);
}

type Method = (request: object, callback: (error: ServiceError | null, response: unknown) => void) => void;

async function started(name: string, child: ChildProcess, socket: string): Promise<Runtime> {
  const definition = loadSync(join(import.meta.dirname, '../../proto/api.proto'), {
    longs: String,
    defaults: true,
  });
  const loaded = loadPackageDefinition(definition) as unknown as {
    runtime: {
      v1: Record<'RuntimeService' | 'ImageService', new (address: string, creds: object) => Client>;
    };
  };
  const clients = [loaded.runtime.v1.RuntimeService, loaded.runtime.v1.ImageService].map(
    Service => new Service(`unix://${socket}`, credentials.createInsecure()),
  );
  const call = (method: string, request: object): Promise<unknown> =>
    new Promise((resolve, reject) => {
      const client = clients.find(each => method in each);
      const bound = client && (Reflect.get(client, method) as Method).bind(client);
      bound?.(request, (error, response) => (error ? reject(error) : resolve(response)));
    });
  const runtime: Runtime = {
    name,
    process: child,
    call,
    async stop() {
      for (const client of clients) client.close();
      child.kill('SIGTERM');
      for (let i = 0; i < 100 && child.exitCode === null && child.signalCode === null; i++) await sleep(50);
      child.kill('SIGKILL');
    },
  };
  for (let attempt = 0; ; attempt++) {
    if (child.exitCode !== null) throw new Error(`${name} ended with ${child.exitCode} at its start`);
    try {
      await call('Version', {});
      return runtime;
    } catch (error) {
      if (attempt > 200) throw error;
      await sleep(50);
    }
  }
}

await main();
