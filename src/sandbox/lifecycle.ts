// The life of a pod sandbox, as the steps that bring it up. RunPodSandbox does them all; StopPodSandbox undoes
// `running`, from the last to the first; RemovePodSandbox undoes `foundation` too. Each do stands beside its undo.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Attachment, Invoker, LoadedNetworks } from '../cni-invoker/index.ts';
import type { RuntimeHandlerConfig } from '../config/types.ts';
import { CriError, isDiskFull, messageOf } from '../errors.ts';
import { makeDirectoriesSync } from '../host/directories.ts';
import type { HostThread } from '../host/host-thread.ts';
import { deleteNetns, isNetnsBound, rebindNetns } from '../host/netns.ts';
import { isAlive, type ProcessIdentity, signalProcess } from '../host/process-watch.ts';
import { createUserNamespace } from '../host/userns.ts';
import type { RootfsOwners } from '../image/rootfs.ts';
import type { OciRuntime } from '../oci/runtime.ts';
import { freeLevel } from '../oci/spec/selinux.ts';
import type { RuntimeSpec } from '../oci/spec/types.ts';
import type { Plan, Step } from '../steps/step.ts';
import type { Registry } from '../store/registry.ts';
import {
  makePrivateDirectory,
  makeSandboxFiles,
  removeDirectory,
  removeSandboxFiles,
  sandboxPaths,
} from './files.ts';
import { podAddresses, podRuntimeConf } from './network.ts';
import { ownersIn, type Sandbox, userNamespaceOf } from './sandbox.ts';

/** What the steps act with. */
export interface SandboxHost {
  state: string;
  registry: Registry<Sandbox>;
  thread: HostThread;
  invoker: Invoker;
  /** SELinux categories are taken below this. */
  selinuxCategoryRange: number;
  ipPreference: 'ipv4' | 'ipv6' | 'cni';
  /** True when the runtime itself brings lo up, because no loopback plugin is configured or it is told to. */
  bringsLoopbackUp(networks: LoadedNetworks): boolean;
  /** The networks of pods of that handler, as its configuration directory has them now. */
  networks(handler: string): LoadedNetworks;
  handler(name: string): { config: RuntimeHandlerConfig; runtime: OciRuntime };
  pauseRootfs: PauseRootfs;
  /** The pause container's spec. @throws CriError invalidArgument for what of the request cannot be had */
  pauseSpec(sandbox: Sandbox): Promise<RuntimeSpec>;
  /** Resolves when the process has ended. */
  ended(process: ProcessIdentity): Promise<void>;
  /** Told when a stop, or undoing, ends a READY sandbox. */
  onNotReady(sandbox: Sandbox): void;
}

/** Where the pause program's root file system comes from: built in, or an image. */
export interface PauseRootfs {
  /** Brings its image onto the node when it is not there. @throws CriError as a pull does */
  ensure(signal: AbortSignal): Promise<void>;
  /** Where it is, once it is mounted. */
  path(sandboxId: string): string;
  mount(sandboxId: string, owners: RootfsOwners | undefined, signal: AbortSignal): Promise<void>;
  unmount(sandboxId: string): Promise<void>;
}

const sigkill = 9;

export interface SandboxPlans {
  /** What is left when the pod is stopped: its record and its name. */
  foundation: Plan<Sandbox>;
  /** What StopPodSandbox takes away. */
  running: Plan<Sandbox>;
}

export function sandboxPlans(host: SandboxHost): SandboxPlans {
  const paths = (sandbox: Sandbox) => sandboxPaths(host.state, sandbox.id, sandbox.config);
  const runtime = (sandbox: Sandbox) => host.handler(sandbox.handler).runtime;

  const reserveName: Step<Sandbox> = {
    name: 'reserve name',
    inMemory: true,
    do(sandbox) {
      host.registry.reserve(sandbox.name, sandbox.id);
      const taken = new Set(host.registry.all().map(({ selinuxLevel }) => selinuxLevel));
      sandbox.selinuxLevel = freeLevel(sandbox.id, host.selinuxCategoryRange, taken);
      host.registry.add(sandbox);
    },
    undo(sandbox) {
      host.registry.release(sandbox.name, sandbox.id);
      host.registry.remove(sandbox.id);
    },
  };

  const record: Step<Sandbox> = {
    name: 'record',
    do() {}, // the engine has just written the record, with the intent of this whole list
    undo: sandbox => sandbox.forget(),
  };

  const directory: Step<Sandbox> = {
    name: 'directory',
    do(sandbox) {
      makePrivateDirectory(
        paths(sandbox).directory,
        sandbox.config.linux?.securityContext?.namespaceOptions?.usernsOptions,
      );
      makeLogDirectory(sandbox);
    },
    undo: sandbox => removeDirectory(paths(sandbox).directory),
  };

  const pauseImage: Step<Sandbox> = {
    name: 'pause image',
    do: (_, signal) => host.pauseRootfs.ensure(signal),
    // it stays, like every image that was pulled
  };

  const spec: Step<Sandbox> = {
    name: 'runtime spec', // before anything of the kernel's is made: building it checks most of the request
    async do(sandbox) {
      const built = await host.pauseSpec(sandbox);
      writeFileSync(join(paths(sandbox).directory, 'config.json'), JSON.stringify(built), { mode: 0o600 });
    }, // goes with the directory
  };

  const files: Step<Sandbox> = {
    name: 'files',
    do: sandbox => makeSandboxFiles(paths(sandbox), sandbox.config),
    undo: sandbox => removeSandboxFiles(paths(sandbox), sandbox.config),
  };

  const netns: Step<Sandbox> = {
    name: 'network namespace',
    async do({ netnsPath, usernsPath, handler, config }, signal) {
      if (netnsPath === null) return;
      const loopbackUp = host.bringsLoopbackUp(host.networks(handler));
      const mappings = userNamespaceOf(config);
      if (usernsPath === null || !mappings) {
        return host.thread.createNetns(netnsPath, { loopbackUp, signal });
      }
      // The pod's root may configure the network only when its user namespace owns it.
      await createUserNamespace({ ...mappings, path: usernsPath, netnsPath }, signal);
      if (loopbackUp) await host.thread.bringLoopbackUp(netnsPath, signal);
    },
    async undo({ netnsPath, usernsPath }) {
      if (netnsPath !== null) {
        await host.thread.settled(netnsPath);
        deleteNetns(netnsPath);
      }
      if (usernsPath !== null) deleteNetns(usernsPath);
    },
  };

  const network: Step<Sandbox> = {
    name: 'network (CNI ADD)',
    async do(sandbox, signal) {
      if (sandbox.netnsPath === null) return;
      const { networks, problems, usable } = host.networks(sandbox.handler);
      if (!usable) throw networkNotReady(sandbox, problems);
      const conf = podRuntimeConf(sandbox.id, sandbox.netnsPath, sandbox.config);
      const attachments = await host.invoker.addAll(networks, conf, signal);
      sandbox.network = { ips: addressesOf(sandbox, attachments), attachments };
      signal.throwIfAborted(); // a plugin at work is let finish, though nobody waits for it any more
    },
    async undo(sandbox, signal) {
      if (sandbox.netnsPath === null) return;
      // The namespace may be gone (a reboot, a hand): plugins must then be told so by an empty CNI_NETNS.
      const netns = isNetnsBound(sandbox.netnsPath) ? sandbox.netnsPath : '';
      const { damaged } = await host.invoker.cachedAttachments(sandbox.id);
      // What ADD was given is on record. Where that was lost, the configuration of now is the best there is.
      const instead = damaged.length > 0 ? host.networks(sandbox.handler).networks : [];
      await host.invoker.delAll(podRuntimeConf(sandbox.id, netns, sandbox.config), instead, signal);
      sandbox.network = null;
    },
  };

  const pauseRootfs: Step<Sandbox> = {
    name: 'pause root file system',
    do: (sandbox, signal) => host.pauseRootfs.mount(sandbox.id, ownersIn(sandbox), signal),
    undo: sandbox => host.pauseRootfs.unmount(sandbox.id),
  };

  const pause: Step<Sandbox> = {
    name: 'pause container (runc run)',
    async do(sandbox, signal) {
      sandbox.pause = await runtime(sandbox).runDetached(sandbox.id, paths(sandbox).directory, signal);
    },
    async undo(sandbox, signal) {
      if (sandbox.pause && signalProcess(sandbox.pause, sigkill)) await host.ended(sandbox.pause);
      await runtime(sandbox).remove(sandbox.id, paths(sandbox).directory, signal);
      sandbox.pause = null;
    },
  };

  const ready: Step<Sandbox> = {
    name: 'ready',
    do(sandbox) {
      if (!sandbox.pause || !isAlive(sandbox.pause)) throw pauseEnded(sandbox);
      sandbox.phase = 'ready';
    },
    async undo(sandbox) {
      // From here on the pause process may go, through which alone a namespace can be found that was unbound by hand.
      const { netnsPath, pause } = sandbox;
      if (netnsPath !== null && pause && isAlive(pause)) rebindNetns(netnsPath, pause.pid);
      const wasReady = sandbox.phase === 'ready';
      sandbox.phase = 'notready';
      if (!wasReady) return;
      host.onNotReady(sandbox);
      // A daemon that is killed now must not find a READY pod without a network. A full disk must not keep it up.
      await sandbox.save().catch(() => {});
    },
  };

  return {
    foundation: [reserveName, record],
    running: [
      directory,
      pauseImage,
      spec,
      netns,
      { together: [[network], [files, pauseRootfs, pause]] },
      ready,
    ],
  };

  function addressesOf(sandbox: Sandbox, attachments: readonly Attachment[]): string[] {
    const ips = podAddresses(attachments, host.ipPreference);
    if (ips.length > 0) return ips;
    const files = attachments.map(({ file }) => file).join(', ');
    throw new CriError(
      'networkFailed',
      `sandbox ${sandbox.id} got no address: no plugin of ${files} returned one`,
    );
  }
}

function pauseEnded({ id }: Sandbox): CriError {
  const why = 'its program must stay until it is told to end';
  return new CriError('runtimeFailed', `the pause container ${id} ended while its pod came up: ${why}`);
}

function makeLogDirectory({ id, config: { logDirectory } }: Sandbox): void {
  if (logDirectory === '') return;
  try {
    makeDirectoriesSync(logDirectory, 0o755);
  } catch (error) {
    const message = `the log directory ${logDirectory} of sandbox ${id} cannot be made: ${messageOf(error)}`;
    throw new CriError(isDiskFull(error) ? 'resourceExhausted' : 'internal', message, { cause: error });
  }
}

function networkNotReady(sandbox: Sandbox, problems: LoadedNetworks['problems']): CriError {
  const reasons = problems.map(({ reason }) => reason).join('; ');
  return new CriError('networkFailed', `the network of sandbox ${sandbox.id} cannot be set up: ${reasons}`);
}
