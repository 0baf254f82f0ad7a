// The life of a container, as steps. CreateContainer does `foundation`, StartContainer does `running`. The container's
// end undoes `running`; RemoveContainer undoes what is left. Each do stands beside its undo.
import { rmSync, writeFileSync } from 'node:fs';
import { chown, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { RuntimeHandlerConfig } from '../config/types.ts';
import { type ProcessIdentity, signalProcess } from '../host/process-watch.ts';
import { hostId } from '../host/userns.ts';
import type { RootFilesystems, RootfsOwners } from '../image/rootfs.ts';
import type { Conmon } from '../oci/conmon.ts';
import type { OciRuntime } from '../oci/runtime.ts';
import type { RuntimeSpec } from '../oci/spec/types.ts';
import { makePrivateDirectory } from '../sandbox/files.ts';
import type { Plan, Step } from '../steps/step.ts';
import type { Registry } from '../store/registry.ts';
import { type Container, nowNs } from './container.ts';
import { forImageVolume } from './image-volumes.ts';
import { makeLogDirectory, requireOwnLog } from './log-path.ts';

/** What the steps act with. */
export interface ContainerHost {
  state: string;
  registry: Registry<Container>;
  rootfs: RootFilesystems;
  conmon: Conmon;
  handler(name: string): { config: RuntimeHandlerConfig; runtime: OciRuntime };
  /** The log directory of the container's pod. */
  logDirectory(container: Container): string;
  /** Builds the OCI spec on the mounted root file system and makes the host paths and mounts it needs; sets `user`. */
  buildSpec(container: Container, rootfs: string, signal: AbortSignal): Promise<RuntimeSpec>;
  /** Takes away the mounts that buildSpec made. Idempotent. */
  removeMounts(container: Container): Promise<void>;
  /** To whom the container's files belong; undefined = to whom they belong in the image. */
  owners(container: Container): RootfsOwners | undefined;
  /** SELinux label of the container's files; undefined without SELinux. @throws CriError invalidArgument */
  mountLabel(container: Container): string | undefined;
  checkpoints: Checkpoints;
  /** Resolves when the process has ended. */
  ended(process: ProcessIdentity): Promise<void>;
  onCreated(container: Container): void;
  onStarted(container: Container): void;
  onRemoved(container: Container): void;
}

/** The files of the checkpoint that a container goes on from. */
export interface Checkpoints {
  unpack(container: Container, signal: AbortSignal): Promise<void>;
  /** Puts what the container had written into its writable layer. */
  applyDifference(container: Container, signal: AbortSignal): Promise<void>;
  /** Puts its log where it goes on, and says where criu and its images are. @throws CriError wrongState */
  toRestore(container: Container): Promise<{ imagePath: string; criuDirectory: string }>;
  remove(container: Container): Promise<void>;
}

const sigkill = 9;

export interface ContainerPlans {
  /** CreateContainer: everything but processes. */
  foundation: Plan<Container>;
  /** StartContainer: the processes. */
  running: Plan<Container>;
}

export function containerPlans(host: ContainerHost): ContainerPlans {
  const bundle = (container: Container) => bundlePath(host.state, container.id);
  const runtime = (container: Container) => host.handler(container.handler).runtime;

  const reserveName: Step<Container> = {
    name: 'reserve name',
    inMemory: true,
    do(container) {
      host.registry.reserve(container.name, container.id);
      host.registry.add(container);
    },
    undo(container) {
      host.registry.release(container.name, container.id);
      host.registry.remove(container.id);
    },
  };

  const record: Step<Container> = {
    name: 'record',
    do() {}, // the engine has just written the record, with the intent of this whole list
    undo: container => container.forget(),
  };

  const directory: Step<Container> = {
    name: 'directory',
    do(container) {
      const userns = container.config.linux?.securityContext?.namespaceOptions?.usernsOptions;
      makePrivateDirectory(bundle(container), userns);
      makeLogDirectory(container, host.logDirectory(container));
    },
    undo: container => rmSync(bundle(container), { recursive: true, force: true }),
  };

  const rootfs: Step<Container> = {
    name: 'root file system',
    async do(container, signal) {
      const { id, imageId } = container;
      const userns = host.owners(container);
      // Read-only containers get a writable layer too: the runtime makes mount points in it.
      await host.rootfs.prepare(id, imageId, { readonly: false, userns });
      if (container.restore) {
        await host.checkpoints.unpack(container, signal);
        await host.checkpoints.applyDifference(container, signal);
      }
      await host.rootfs.mount(id, { userns, label: host.mountLabel(container), signal });
    },
    async undo(container) {
      if (container.restore) await host.checkpoints.remove(container);
      await host.rootfs.remove(container.id);
    },
  };

  const imageVolumes: Step<Container> = {
    name: 'image volumes',
    async do(container, signal) {
      const mounts = container.config.mounts.filter(({ image }) => image && image.image !== '');
      for (const [i, { rootfsId, imageId }] of container.imageVolumes.entries()) {
        await forImageVolume(mounts[i]?.containerPath ?? '', async () => {
          await host.rootfs.prepare(rootfsId, imageId, { readonly: true });
          const [userns, label] = [host.owners(container), host.mountLabel(container)];
          await host.rootfs.mount(rootfsId, { userns, label, signal });
        });
      }
    },
    async undo(container) {
      for (const { rootfsId } of container.imageVolumes) await host.rootfs.remove(rootfsId);
    },
  };

  const spec: Step<Container> = {
    name: 'runtime spec',
    async do(container, signal) {
      const built = await host.buildSpec(container, host.rootfs.path(container.id), signal);
      writeFileSync(join(bundle(container), 'config.json'), JSON.stringify(built), { mode: 0o600 });
    },
    undo: container => host.removeMounts(container), // the file goes with the directory
  };

  const created: Step<Container> = {
    name: 'created',
    do(container) {
      container.phase = 'created';
      host.onCreated(container);
    },
    async undo(container) {
      if (container.phase === 'created') {
        // There is none to start any more: a daemon that is killed now must not leave one that seems so.
        container.phase = 'creating';
        await container.save().catch(() => {}); // a full disk must not keep it
      }
      host.onRemoved(container);
    },
  };

  const monitor: Step<Container> = {
    name: 'monitor (conmon, runc create)',
    async do(container, signal) {
      const { id, logPath, config } = container;
      requireOwnLog(container, host.logDirectory(container));
      const { tty: terminal, stdin, stdinOnce } = config;
      const monitored = {
        id,
        bundle: bundle(container),
        logPath: logPath ?? undefined,
        terminal,
        stdin,
        stdinOnce,
        restore: container.restore ? await host.checkpoints.toRestore(container) : undefined,
      };
      Object.assign(container, await host.conmon.create(monitored, runtime(container), signal));
      const owners = host.owners(container);
      if (owners) await giveStdio(container, owners);
    },
    async undo(container, signal) {
      if (container.init && signalProcess(container.init, sigkill) && container.monitor)
        await host.ended(container.monitor);
      await runtime(container).remove(container.id, bundle(container), signal);
      if (container.monitor && signalProcess(container.monitor, sigkill)) await host.ended(container.monitor);
      rmSync(host.conmon.exitFile(container.id), { force: true });
      container.init = null;
      container.monitor = null;
    },
  };

  const start: Step<Container> = {
    name: 'start (runc start)',
    async do(container, signal) {
      // criu's processes run as soon as they are there, and have no more use for its images.
      if (container.restore) await host.checkpoints.remove(container);
      else await runtime(container).start(container.id, bundle(container), signal);
    },
  };

  const running: Step<Container> = {
    name: 'running',
    do(container) {
      container.phase = 'running';
      container.startedAt = nowNs();
      host.onStarted(container);
    },
  };

  return {
    foundation: [reserveName, record, directory, rootfs, imageVolumes, spec, created],
    running: [monitor, start, running],
  };
}

/** Programs open /dev/stdout by name. conmon's pipes are the node's root's, and within a user namespace the runtime cannot give them away. */
async function giveStdio({ init, user }: Container, { uids, gids }: RootfsOwners): Promise<void> {
  const [uid, gid] = [hostId(uids, user.uid), hostId(gids, user.gid)];
  if (!init || uid === undefined || gid === undefined) return;
  for (const fd of [0, 1, 2]) {
    const pipe = `/proc/${init.pid}/fd/${fd}`;
    const found = await stat(pipe).catch(() => undefined); // one that ended at once needs none
    if (found?.isFIFO()) await chown(pipe, uid, gid);
  }
}

/** The container's OCI bundle, which also holds what conmon and the runtime write beside it. */
export function bundlePath(state: string, id: string): string {
  return join(state, 'containers', id);
}

/** What StopContainer works on. */
export interface Stopping {
  readonly id: string;
  container: Container;
  /** Milliseconds between the stop signal and SIGKILL. */
  graceMs: number;
}

const graceSlackMs = 5000;
const longestTimerMs = 2 ** 31 - 1;

/** StopContainer: ask, wait, insist. Owns nothing, so nothing is undone; a stop may be repeated. */
export function stopPlan(host: Pick<ContainerHost, 'handler'>): Plan<Stopping> {
  const send = async (container: Container, signalNumber: number) => {
    if (!container.init) return;
    const { config, runtime } = host.handler(container.handler);
    // A signal to the very process, by pidfd; runtimes that do not run it as a process of the host are asked.
    if (config.kind === 'runc') signalProcess(container.init, signalNumber);
    else await runtime.kill(container.id, signalNumber);
  };
  return [
    {
      name: 'stop signal',
      async do({ container, graceMs }) {
        if (graceMs === 0 || container.askedToStop) return;
        container.askedToStop = true;
        await send(container, container.stopSignal);
      },
    },
    {
      name: 'grace period',
      deadlineMs: ({ graceMs }) => Math.min(graceMs + graceSlackMs, longestTimerMs), // a grace period is the pod author's
      async do({ container, graceMs }, signal) {
        if (graceMs > 0) await Promise.race([container.ended, sleep(graceMs, signal)]);
      },
    },
    {
      name: 'kill',
      async do({ container }) {
        if (container.phase === 'running') await send(container, sigkill);
      },
    },
    { name: 'end', do: ({ container }) => container.ended },
  ];
}

function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise(resolve => {
    const finish = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', finish);
      resolve();
    };
    const timer = setTimeout(finish, ms);
    signal.addEventListener('abort', finish, { once: true });
  });
}
