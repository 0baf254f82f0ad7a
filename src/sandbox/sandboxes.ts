// Pod sandboxes as the CRI sees them: run, stop, remove, list. Decides who may work on which sandbox when;
// what is done to the host is in lifecycle.ts.
import { randomBytes, randomUUID } from 'node:crypto';
import { join } from 'node:path';
import type { PodSandboxConfig, PodSandboxMetadata } from '../cri-api/types.ts';
import { isNetnsBound } from '../host/netns.ts';
import { isAlive, type ProcessWatch } from '../host/process-watch.ts';
import type { Logger } from '../log.ts';
import type { Engine } from '../steps/engine.ts';
import type { Locks } from '../steps/locks.ts';
import type { Plan } from '../steps/step.ts';
import type { Registry } from '../store/registry.ts';
import type { Collection } from '../store/store.ts';
import type { SandboxPlans } from './lifecycle.ts';
import {
  bindSandbox,
  type Sandbox,
  type SandboxRecord,
  sandboxName,
  userNamespaceOf,
  usesHostNetwork,
} from './sandbox.ts';

/** A pod as RunPodSandbox takes it: checked, its metadata present, its handler known. */
export interface PodToRun {
  config: PodSandboxConfig & { metadata: PodSandboxMetadata };
  handler: string;
  requestedHandler: string;
}

/** The containers of a pod, as far as its sandbox must command them. */
export interface PodContainers {
  /** Kills every container of the sandbox and waits for their ends. */
  stopAll(sandboxId: string): Promise<void>;
  removeAll(sandboxId: string): Promise<void>;
  anyRunning(sandboxId: string): boolean;
}

export interface SandboxesOptions {
  records: Collection<SandboxRecord>;
  registry: Registry<Sandbox>;
  plans: SandboxPlans;
  engine: Engine;
  locks: Locks;
  watch: ProcessWatch;
  containers: PodContainers;
  netnsDir: string;
  /** Where user namespaces of pods are bound. */
  usernsDir: string;
  log: Logger;
  /** Told of a sandbox that came up, and is listed now. */
  onReady(sandbox: Sandbox): void;
  /** Told of a sandbox that ceased to be READY by itself. */
  onPauseEnded(sandbox: Sandbox): void;
  /** Told of a sandbox that is gone. */
  onRemoved(sandbox: Sandbox): void;
}

export interface Sandboxes {
  /** Brings a pod up; returns its id. @throws whatever made a step fail, with everything undone */
  run(pod: PodToRun, signal: AbortSignal): Promise<string>;
  /** Kills what runs in the pod and takes its network away. May be repeated; an unknown pod is no error. */
  stop(idOrPrefix: string): Promise<void>;
  /** Stops the pod and removes its containers and itself. May be repeated; an unknown pod is no error. */
  remove(idOrPrefix: string): Promise<void>;
  /** @throws CriError notFound, ambiguousId */
  find(idOrPrefix: string): Sandbox;
  /** Every sandbox that a client may know of, in the order of creation. */
  list(): Sandbox[];
  /** Takes up what an earlier daemon left: finishes what was under way, watches what lives. */
  recover(): Promise<void>;
  /** Undoes what is left of pods that a reboot ended. Call after the containers were recovered. */
  settle(): Promise<void>;
}

export function createSandboxes(options: SandboxesOptions): Sandboxes {
  const { records, registry, plans, engine, locks, watch, containers, log } = options;
  const whole: Plan<Sandbox> = [...plans.foundation, ...plans.running];
  const underWay = new Set<string>();

  function create({ config, handler, requestedHandler }: PodToRun): Sandbox {
    const id = randomBytes(32).toString('hex');
    const ownsNetwork = !usesHostNetwork(config) && userNamespaceOf(config) !== undefined;
    const record: SandboxRecord = {
      id,
      name: sandboxName(config.metadata),
      config,
      handler,
      requestedHandler,
      createdAt: `${Date.now()}000000`,
      phase: 'starting',
      netnsPath: usesHostNetwork(config) ? null : join(options.netnsDir, `cni-${randomUUID()}`),
      selinuxLevel: '', // taken together with its name
      usernsPath: ownsNetwork ? join(options.usernsDir, id) : null,
      pause: null,
      network: null,
      pluginRuns: [],
      owed: [],
      times: {},
    };
    return bindSandbox(record, records);
  }

  /** Watches the pause process of a READY sandbox. */
  function watchPause(sandbox: Sandbox): void {
    const { pause } = sandbox;
    if (!pause) return;
    watch.watch(pause, () => {
      // A stop that is under way ends it too, and has said so already.
      if (sandbox.pause?.pid !== pause.pid || sandbox.phase !== 'ready') return;
      sandbox.phase = 'notready';
      log.warn({ sandbox: sandbox.id, pid: pause.pid }, 'pause process ended by itself: sandbox is NOTREADY');
      void saveOrLog(sandbox);
      options.onPauseEnded(sandbox);
    });
  }

  async function stopLocked(sandbox: Sandbox): Promise<void> {
    await containers.stopAll(sandbox.id);
    await engine.takeDown('StopPodSandbox', plans.running, sandbox);
  }

  return {
    async run(pod, signal) {
      const sandbox = create(pod);
      underWay.add(sandbox.id);
      try {
        await locks.exclusive(sandbox.id, () => engine.bringUp('RunPodSandbox', whole, sandbox, signal));
      } catch (error) {
        // What could not be undone is there to be stopped: whoever asked was told that there is no pod, and nobody watches it.
        if (sandbox.phase === 'ready') {
          sandbox.phase = 'notready';
          await sandbox.save().catch(() => {});
        }
        throw error;
      } finally {
        underWay.delete(sandbox.id);
      }
      watchPause(sandbox);
      options.onReady(sandbox);
      return sandbox.id;
    },
    async stop(idOrPrefix) {
      const sandbox = registry.lookup(idOrPrefix);
      if (!sandbox) return;
      await locks.exclusive(sandbox.id, () => stopLocked(sandbox));
    },
    async remove(idOrPrefix) {
      const sandbox = registry.lookup(idOrPrefix);
      if (!sandbox) return;
      await locks.exclusive(sandbox.id, async () => {
        await stopLocked(sandbox);
        await containers.removeAll(sandbox.id);
        if (registry.lookup(sandbox.id) === undefined) return; // another request has removed it meanwhile
        await engine.takeDown('RemovePodSandbox', plans.foundation, sandbox);
        options.onRemoved(sandbox);
      });
    },
    find: idOrPrefix => registry.find(idOrPrefix),
    list: () => registry.all().filter(sandbox => !underWay.has(sandbox.id)),
    async recover() {
      const found = records
        .entries()
        .map(([, record]) => bindSandbox(record, records))
        .sort((a, b) => Number(BigInt(a.createdAt) - BigInt(b.createdAt))); // the store has them in the order of ids
      for (const sandbox of found) {
        registry.add(sandbox);
        registry.reserve(sandbox.name, sandbox.id);
      }
      await Promise.all(found.map(recoverOne));
    },
    async settle() {
      const isLost = (sandbox: Sandbox) =>
        sandbox.phase === 'notready' && !isUp(sandbox) && !containers.anyRunning(sandbox.id);
      const rebooted = registry.all().filter(isLost);
      await Promise.all(rebooted.map(sandbox => finish('StopPodSandbox', plans.running, sandbox)));
    },
  };

  async function recoverOne(sandbox: Sandbox): Promise<void> {
    if (sandbox.phase === 'starting') {
      log.warn(
        { sandbox: sandbox.id, pod: sandbox.name },
        'RunPodSandbox was under way when the daemon ended: undoing it',
      );
      await finish('RunPodSandbox', whole, sandbox);
      return;
    }
    if (sandbox.phase !== 'ready') return;
    if (sandbox.pause && isAlive(sandbox.pause)) {
      watchPause(sandbox);
      return;
    }
    log.warn(
      { sandbox: sandbox.id, pod: sandbox.name },
      'pause process ended while the daemon was away: sandbox is NOTREADY',
    );
    sandbox.phase = 'notready';
    await saveOrLog(sandbox);
  }

  /** Saves what has happened to it. Without that the next daemon finds READY on record, and the pause process gone as this one did. */
  async function saveOrLog(sandbox: Sandbox): Promise<void> {
    await sandbox
      .save()
      .catch(error =>
        log.error(
          { sandbox: sandbox.id, err: error },
          'that the sandbox is NOTREADY could not be put on record',
        ),
      );
  }

  /** Undoes as far as possible now; what fails stays owed, and is NOTREADY for the client to stop. */
  async function finish(operation: string, plan: Plan<Sandbox>, sandbox: Sandbox): Promise<void> {
    await locks
      .exclusive(sandbox.id, () => engine.takeDown(operation, plan, sandbox))
      .catch(error =>
        log.error(
          { sandbox: sandbox.id, err: error },
          'undoing is not finished; StopPodSandbox will try again',
        ),
      );
  }
}

/** True while there is a namespace or a process left that containers may live in. */
function isUp({ pause, netnsPath }: Sandbox): boolean {
  return (pause !== null && isAlive(pause)) || (netnsPath !== null && isNetnsBound(netnsPath));
}
