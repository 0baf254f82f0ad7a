// A node under test: a real daemon with directories, a bridge, a subnet and a cgroup of its own, and what tests say to it.
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { isDeepStrictEqual } from 'node:util';
import { execa } from 'execa';
import { expect } from 'vitest';
import type { Loose } from '../../src/cri-api/contract.ts';
import type { ContainerConfig, ContainerStatus, PodSandboxConfig } from '../../src/cri-api/types.ts';
import { importLayout, writeBusyboxLayout } from './busybox-image.ts';
import { type CriClient, connectCri } from './cri-client.ts';
import { type FakePlugin, writeFakePlugin } from './fake-plugins.ts';
import { type HostSnapshot, hostSnapshot, markedProcesses } from './host-snapshot.ts';

export const criTs = fileURLToPath(new URL('../../bin/cri-ts', import.meta.url));

/** Where a node keeps what, and the names that are its own. */
export type NodePaths = Pick<
  TestNode,
  | 'directory'
  | 'root'
  | 'state'
  | 'socket'
  | 'cniConfDir'
  | 'pluginDir'
  | 'bridge'
  | 'subnet'
  | 'cgroupParent'
>;

export interface NodeOptions {
  /** TOML appended to the node's configuration file. */
  config?: string | ((paths: NodePaths) => string);
  /** Files of conf_dir by name; default: one bridge network with IPv4, and none of loopback. */
  cni?: Record<string, unknown> | ((paths: NodePaths) => Record<string, unknown>);
  /** Fake CNI plugins by name, found before the real ones. */
  plugins?: Record<string, FakePlugin>;
  /** Environment of the daemon besides PATH. */
  env?: Record<string, string>;
  /** Import the image `test/busybox:latest` before the start. Default true. */
  busybox?: boolean;
}

export interface TestNode {
  readonly directory: string;
  readonly root: string;
  readonly state: string;
  readonly socket: string;
  readonly cniConfDir: string;
  /** Where fake plugins stand. */
  readonly pluginDir: string;
  readonly bridge: string;
  /** First three numbers of the pods' addresses, such as `10.83.7`. */
  readonly subnet: string;
  /** Parent cgroup of its pods; also the mark of its processes. */
  readonly cgroupParent: string;
  cri: CriClient;
  /** The daemon's pid. */
  pid(): number;
  /** The daemon's log so far. */
  log(): Promise<string>;
  /** Starts the daemon (again); resolves when it serves. */
  start(env?: Record<string, string>): Promise<void>;
  /** kill -9, and waits for its end. */
  kill(): Promise<void>;
  /** SIGTERM, and waits for its end. */
  stop(): Promise<void>;
  /** Resolves when the daemon has ended by itself. */
  ended(): Promise<void>;
  /** A pod configuration of this node with what is given laid over it. */
  podConfig(over?: Loose<PodSandboxConfig>): Loose<PodSandboxConfig> & {
    metadata: { name: string; namespace: string; uid: string; attempt: number };
  };
  /** RunPodSandbox; returns the sandbox id. */
  runPod(over?: Loose<PodSandboxConfig>, handler?: string): Promise<string>;
  /** CreateContainer of busybox with a shell script; returns the container id. */
  createContainer(sandboxId: string, script: string, over?: Loose<ContainerConfig>): Promise<string>;
  /** createContainer and StartContainer. */
  runContainer(sandboxId: string, script: string, over?: Loose<ContainerConfig>): Promise<string>;
  /** Runs a script to its end; returns its log lines without their CRI heads, and its status. */
  output(
    sandboxId: string,
    script: string,
    over?: Loose<ContainerConfig>,
  ): Promise<{ lines: string[]; status: ContainerStatus }>;
  status(containerId: string): Promise<ContainerStatus>;
  /** ExecSync of a shell script; its standard output, trimmed. */
  exec(containerId: string, script: string): Promise<string>;
  /** Its status once it has exited. Throws after a minute, or `patienceMs`. */
  untilExited(containerId: string, patienceMs?: number): Promise<ContainerStatus>;
  logLines(containerId: string): Promise<string[]>;
  /** Removes every pod and container. */
  removeAll(): Promise<void>;
  snapshot(): HostSnapshot;
  /** Removes all that the node made, and asserts that the host is as it was when the node was made. */
  destroy(): Promise<void>;
}

/** What is used of a running child of execa. */
type DaemonProcess = Promise<unknown> & {
  readonly pid?: number | undefined;
  kill(signal: NodeJS.Signals): boolean;
};

let nodes = 0;

/** Makes a node and starts its daemon. */
export async function startNode(options: NodeOptions = {}): Promise<TestNode> {
  const directory = await mkdtemp(join(tmpdir(), 'ct-'));
  const mark = basename(directory);
  const subnet = `10.83.${(process.pid + nodes++) % 250}`;
  const paths = {
    directory,
    root: join(directory, 'root'),
    state: join(directory, 'run'),
    socket: join(directory, 'cri.sock'),
    cniConfDir: join(directory, 'net.d'),
    pluginDir: join(directory, 'plugins'),
    bridge: `ct${mark.slice(3)}`,
    subnet,
    cgroupParent: `/${mark}`,
  };
  const before = hostSnapshot(mark);
  const configFile = join(directory, 'config.toml');
  const logFile = join(directory, 'daemon.log');
  let daemon: DaemonProcess | undefined;
  let podCount = 0;

  await mkdir(paths.cniConfDir);
  await mkdir(paths.pluginDir);
  for (const [name, plugin] of Object.entries(options.plugins ?? {})) {
    await writeFakePlugin(paths.pluginDir, name, plugin);
  }
  const config = typeof options.config === 'function' ? options.config(paths) : options.config;
  await writeFile(configFile, `version = 3\n${config ?? ''}`);
  const cniFiles = typeof options.cni === 'function' ? options.cni(paths) : options.cni;
  for (const [name, content] of Object.entries(cniFiles ?? { '10-bridge.conf': bridgeConf(paths) })) {
    await writeFile(
      join(paths.cniConfDir, name),
      typeof content === 'string' ? content : JSON.stringify(content),
    );
  }

  const node: TestNode = {
    ...paths,
    cri: connectCri(paths.socket),
    pid() {
      if (daemon?.pid === undefined) throw new Error('the daemon does not run');
      return daemon.pid;
    },
    log: async () => (existsSync(logFile) ? readFile(logFile, 'utf8') : ''),
    async start(env = {}) {
      const flags = [
        '--config',
        configFile,
        '--root',
        paths.root,
        '--state',
        paths.state,
        '--address',
        paths.socket,
      ];
      const binDirs = options.plugins
        ? ['--cni-bin-dir', paths.pluginDir, '--cni-bin-dir', '/usr/lib/cni']
        : [];
      const cni = ['--cni-conf-dir', paths.cniConfDir, ...binDirs, '--log-level', 'debug'];
      daemon = execa(criTs, ['serve', ...flags, ...cni], {
        stdio: ['ignore', 'ignore', { file: logFile, append: true }],
        reject: false,
        env: { ...options.env, ...env },
      });
      await untilServing(node, daemon);
    },
    async kill() {
      daemon?.kill('SIGKILL');
      await daemon;
    },
    async stop() {
      daemon?.kill('SIGTERM');
      await daemon;
    },
    async ended() {
      await daemon;
    },
    podConfig(over = {}) {
      const name = `pod-${podCount++}`;
      const { metadata, linux, ...rest } = over;
      return {
        logDirectory: join(directory, 'logs', name),
        ...rest,
        metadata: { name, namespace: 'test', uid: `uid-${name}`, attempt: 0, ...metadata },
        linux: { cgroupParent: paths.cgroupParent, ...linux },
      };
    },
    async runPod(over = {}, handler = '') {
      const { podSandboxId } = await node.cri.RunPodSandbox({
        config: node.podConfig(over),
        runtimeHandler: handler,
      });
      return podSandboxId;
    },
    async createContainer(sandboxId, script, over = {}) {
      const { metadata, ...rest } = over;
      const name = `c${podCount++}`;
      const config = {
        image: { image: 'test/busybox:latest' },
        command: ['sh', '-c', script],
        logPath: `${name}.log`,
        ...rest,
        metadata: { name, attempt: 0, ...metadata },
      };
      const { containerId } = await node.cri.CreateContainer({ podSandboxId: sandboxId, config });
      return containerId;
    },
    async runContainer(sandboxId, script, over) {
      const containerId = await node.createContainer(sandboxId, script, over);
      await node.cri.StartContainer({ containerId });
      return containerId;
    },
    async output(sandboxId, script, over) {
      const id = await node.runContainer(sandboxId, script, over);
      const status = await node.untilExited(id);
      return { lines: await node.logLines(id), status };
    },
    async status(containerId) {
      const { status } = await node.cri.ContainerStatus({ containerId });
      if (!status) throw new Error(`no status of ${containerId}`);
      return status;
    },
    async exec(containerId, script) {
      const { stdout } = await node.cri.ExecSync({ containerId, cmd: ['sh', '-c', script], timeout: 60 });
      return Buffer.from(stdout).toString().trim();
    },
    untilExited: (containerId, patienceMs) =>
      until(
        `${containerId} has exited`,
        async () => {
          const status = await node.status(containerId);
          return status.state === 'CONTAINER_EXITED' ? status : undefined;
        },
        patienceMs,
      ),
    async logLines(containerId) {
      const { logPath } = await node.status(containerId);
      const text = await readFile(logPath, 'utf8');
      return text
        .split('\n')
        .filter(line => line !== '')
        .map(line => line.replace(/^\S+ (stdout|stderr) [FP] ?/, ''));
    },
    async removeAll() {
      const { items } = await node.cri.ListPodSandbox();
      for (const { id } of items) {
        await node.cri.StopPodSandbox({ podSandboxId: id });
        await node.cri.RemovePodSandbox({ podSandboxId: id });
      }
    },
    snapshot: () => hostSnapshot(mark),
    async destroy() {
      try {
        await node.removeAll();
      } catch (error) {
        endProcesses(mark); // that later tests do not meet what this one has left
        throw error;
      } finally {
        node.cri.close();
        await node.stop();
        await execa('ip', ['link', 'delete', paths.bridge], { reject: false });
        await removeCgroups(mark);
        await rm(directory, { recursive: true, force: true });
      }
      await untilEqual(() => hostSnapshot(mark), before);
    },
  };
  if (options.busybox !== false) {
    const layout = join(directory, 'busybox');
    await writeBusyboxLayout(layout);
    await importLayout(paths, layout);
  }
  await node.start();
  return node;
}

/** A bridge network of IPv4 with masquerade, its reservations below the node's own directory. */
export function bridgeConf({
  bridge,
  subnet,
  directory,
}: {
  bridge: string;
  subnet: string;
  directory: string;
}): Record<string, unknown> {
  return {
    cniVersion: '1.0.0',
    name: bridge,
    type: 'bridge',
    bridge,
    isGateway: true,
    ipMasq: true,
    ipam: {
      type: 'host-local',
      dataDir: join(directory, 'ipam'),
      ranges: [[{ subnet: `${subnet}.0/24` }]],
      routes: [{ dst: '0.0.0.0/0' }],
    },
  };
}

/** How long is waited for what must come, on a machine however slow and busy. */
const usualPatienceMs = 60_000;

/** Asks until the answer is not undefined; fails after a generous time. */
export async function until<T>(
  what: string,
  ask: () => Promise<T | undefined> | T | undefined,
  patienceMs = usualPatienceMs,
): Promise<T> {
  const end = Date.now() + patienceMs;
  for (;;) {
    const asked = Date.now();
    const answer = await ask();
    if (answer !== undefined) return answer;
    if (Date.now() > end) throw new Error(`waited for: ${what}`);
    // Where asking takes long, what is waited for gets its share of the machine.
    await sleep(Math.max(50, 2 * (Date.now() - asked)));
  }
}

/** The answer when it stays the same for a while: what goes on behind a call has come to its end. */
export async function standingStill<T>(ask: () => Promise<T> | T): Promise<T> {
  let before = await ask();
  return until('it stands still', async () => {
    await sleep(stillMs);
    const now = await ask();
    const isStill = isDeepStrictEqual(now, before);
    before = now;
    return isStill ? now : undefined;
  });
}
const stillMs = 500;

/** Asserts that the answer becomes what is expected: the kernel and ending processes take their time. */
export async function untilEqual<T>(ask: () => Promise<T> | T, expected: T): Promise<void> {
  const end = Date.now() + usualPatienceMs;
  while (!isDeepStrictEqual(await ask(), expected) && Date.now() < end) await sleep(50);
  expect(await ask()).toEqual(expected);
}

/** Resolves when the process is the pod's own program: runc has returned before what it left behind became that. */
export async function untilProgram(pid: number): Promise<void> {
  await until(`process ${pid} has its program`, async () => {
    const words = await readFile(`/proc/${pid}/cmdline`, 'utf8');
    return words !== '' && !words.startsWith('runc') && !words.includes('\0init\0') ? true : undefined;
  });
}

async function untilServing(node: TestNode, daemon: DaemonProcess): Promise<void> {
  let ended = false;
  void daemon.then(() => {
    ended = true;
  });
  const began = Date.now();
  while (!(await answers(node.socket))) {
    if (ended) throw new Error(`the daemon ended at its start:\n${await node.log()}`);
    if (Date.now() - began > usualPatienceMs)
      throw new Error(`the daemon does not serve:\n${await node.log()}`);
    await sleep(10);
  }
  // A client that has met a dead daemon waits a second before it tries again: a new one does not.
  node.cri.close();
  node.cri = connectCri(node.socket);
}

function answers(socketPath: string): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect(socketPath);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

function endProcesses(mark: string): void {
  for (const { pid } of markedProcesses(mark)) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // it has ended meanwhile
    }
  }
}

/** The pods' parent cgroups are the tests' own; the runtime leaves them, as it would leave kubelet's. */
async function removeCgroups(mark: string): Promise<void> {
  await execa(
    'find',
    ['/sys/fs/cgroup', '-depth', '-type', 'd', '-path', `*${mark}*`, '-exec', 'rmdir', '{}', ';'],
    { reject: false },
  );
}
