// The runtimes that are compared, each a daemon with directories, a socket and a cgroup of its own, and one client for all.
import { type ChildProcess, execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { importLayout, writeBusyboxLayout } from '../../../test/support/busybox-image.ts';
import { type CriClient, connectCri } from '../../../test/support/cri-client.ts';
import { layerOf, makeImage, makeTar, writeLayout } from '../../../test/support/image/make-image.ts';
import { files, pluginDir } from './networks.ts';
import { makeProcessGroup, type ProcessGroup } from './process-group.ts';

export interface Runtime {
  readonly name: string;
  readonly group: ProcessGroup;
  cri: CriClient;
  /** Starts its daemon (again); returns the milliseconds until it answers Version. */
  start(): Promise<number>;
  /** SIGTERM, and waits for its end. Pods go on. */
  stop(): Promise<void>;
  /** Removes all pods, and ends everything. */
  destroy(): Promise<void>;
  /** host:port of its Prometheus endpoint. */
  readonly metrics: string;
  /** Its pods must be privileged. */
  readonly privileged: boolean;
}

export const image = 'docker.io/test/busybox:latest';
const pauseImage = 'docker.io/test/pause:latest';
const repository = fileURLToPath(new URL('../../..', import.meta.url));

interface Kind {
  name: string;
  program: string;
  args(paths: Paths): string[];
  config(paths: Paths): string;
  /** Brings the images in; `layout` holds them as OCI layouts. The daemon runs. */
  importImages(paths: Paths, layouts: { busybox: string; pause: string }): Promise<void> | void;
  importBeforeStart?: boolean;
  metrics: string;
  privileged?: boolean;
}

interface Paths {
  directory: string;
  root: string;
  state: string;
  socket: string;
  netDir: string;
}

const criSettings = ({ netDir }: Paths, plugin: string) => `
[plugins."${plugin}"]
  restrict_oom_score_adj = true
  [plugins."${plugin}".cni]
    conf_dir = "${netDir}"
    bin_dir = "${pluginDir}"
`;

const criTs: Kind = {
  name: 'cri-ts',
  program: join(repository, 'bin/cri-ts'),
  args: ({ directory }) => ['serve', '--config', join(directory, 'config.toml'), '--log-level', 'info'],
  config: paths => `version = 2
root = "${paths.root}"
state = "${paths.state}"
[grpc]
  address = "${paths.socket}"
[metrics]
  address = "${criTs.metrics}"
${criSettings(paths, 'io.containerd.grpc.v1.cri')}`,
  importImages: (paths, { busybox }) => importLayout(paths, busybox),
  importBeforeStart: true,
  metrics: '127.0.0.1:21338',
};

/**
 * cri-ts with crun, in a mount namespace whose /sys/fs/cgroup is of cgroup v2: crun 1.8 refuses the hybrid layout. Its
 * pods are privileged: to restrict devices crun raises RLIMIT_MEMLOCK, which not every machine lets root do.
 */
const criTsCrun: Kind = {
  ...criTs,
  name: 'cri-ts, crun',
  privileged: true,
  program: '/usr/bin/unshare',
  args: paths => [
    ...['--mount', '--propagation', 'private', '/bin/sh', '-c'],
    'umount -R /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "$0" "$@"',
    ...[criTs.program, ...criTs.args(paths)],
  ],
  config: paths => `${criTs.config(paths).replace(criTs.metrics, criTsCrun.metrics)}
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
    BinaryName = "crun"
`,
  metrics: '127.0.0.1:21339',
};

const containerd: Kind = {
  name: 'containerd',
  program: 'containerd',
  args: ({ directory }) => ['--config', join(directory, 'config.toml')],
  config: paths => `version = 2
root = "${paths.root}"
state = "${paths.state}"
[grpc]
  address = "${paths.socket}"
[metrics]
  address = "${containerd.metrics}"
${criSettings(paths, 'io.containerd.grpc.v1.cri').replace('restrict', `sandbox_image = "${pauseImage}"\n  disable_tcp_service = true\n  restrict`)}`,
  importImages({ socket }, { busybox, pause }) {
    for (const layout of [busybox, pause]) {
      execFileSync('sh', [
        '-c',
        'tar -C "$0" -cf - . | ctr --address "$1" --namespace k8s.io images import -',
        layout,
        socket,
      ]);
    }
  },
  metrics: '127.0.0.1:21340',
};

export const kinds = { criTs, criTsCrun, containerd };
export type KindName = keyof typeof kinds;

/** Starts a runtime below the directory, with the test images in its store. */
export async function startRuntime(kindName: KindName, parent: string): Promise<Runtime> {
  const kind = kinds[kindName];
  const directory = join(parent, kindName);
  const at = (name: string) => join(directory, name);
  const paths = {
    directory,
    root: at('root'),
    state: at('state'),
    socket: at('cri.sock'),
    netDir: at('net.d'),
  };
  mkdirSync(paths.netDir, { recursive: true });
  for (const [name, content] of Object.entries(files)) {
    writeFileSync(join(paths.netDir, name), JSON.stringify(content));
  }
  writeFileSync(at('config.toml'), kind.config(paths));
  const layouts = { busybox: at('busybox'), pause: at('pause') };
  await writeBusyboxLayout(layouts.busybox, {}, image);
  await writePauseLayout(layouts.pause);
  if (kind.importBeforeStart) await kind.importImages(paths, layouts);
  const group = makeProcessGroup(kindName);
  const log = openSync(at('daemon.log'), 'a');
  let daemon: ChildProcess | undefined;
  const runtime: Runtime = {
    name: kind.name,
    group,
    cri: connectCri(paths.socket),
    metrics: kind.metrics,
    privileged: kind.privileged ?? false,
    async start() {
      const began = performance.now();
      const child = group.spawn(kind.program, kind.args(paths), log);
      daemon = child;
      for (;;) {
        if (child.exitCode !== null) {
          throw new Error(`${kind.name} ended:\n${readFileSync(at('daemon.log'), 'utf8').slice(-4000)}`);
        }
        if (existsSync(paths.socket)) {
          runtime.cri.close(); // a client that has met a dead daemon waits before it tries again
          runtime.cri = connectCri(paths.socket);
          if (await runtime.cri.Version({}, { timeoutMs: 10_000 }).catch(() => undefined)) break;
        }
        await sleep(5);
      }
      return performance.now() - began;
    },
    async stop() {
      daemon?.kill('SIGTERM');
      if (daemon && daemon.exitCode === null && daemon.signalCode === null) await once(daemon, 'exit');
    },
    async destroy() {
      const { items } = await runtime.cri.ListPodSandbox();
      for (const { id } of items) {
        await runtime.cri.StopPodSandbox({ podSandboxId: id });
        await runtime.cri.RemovePodSandbox({ podSandboxId: id });
      }
      runtime.cri.close();
      await runtime.stop();
      await group.remove();
      closeSync(log);
    },
  };
  await runtime.start();
  if (!kind.importBeforeStart) await kind.importImages(paths, layouts);
  return runtime;
}

/** The pause program of cri-ts as an image, so that the pods of all runtimes hold the same. */
async function writePauseLayout(directory: string): Promise<void> {
  const content = readFileSync('/usr/bin/catatonit');
  const layer = layerOf(await makeTar([{ name: 'pause', content, mode: 0o755 }]), 'gzip');
  const pause = makeImage([layer], { config: { Entrypoint: ['/pause', '-P'] } });
  await writeLayout(directory, [{ image: pause, name: pauseImage }]);
}
