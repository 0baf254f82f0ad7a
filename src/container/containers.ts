// Containers as the CRI sees them: create, start, stop, remove, list. Decides who may work on which container when,
// and records how each ended; what is done to the host is in lifecycle.ts.
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ContainerConfig, ContainerMetadata } from '../cri-api/types.ts';
import { CriError, messageOf } from '../errors.ts';
import { isAlive, type ProcessWatch } from '../host/process-watch.ts';
import type { Logger } from '../log.ts';
import type { Conmon } from '../oci/conmon.ts';
import type { Sandbox } from '../sandbox/sandbox.ts';
import type { PodContainers } from '../sandbox/sandboxes.ts';
import type { Engine } from '../steps/engine.ts';
import type { Locks } from '../steps/locks.ts';
import type { Plan } from '../steps/step.ts';
import type { Registry } from '../store/registry.ts';
import type { Collection } from '../store/store.ts';
import { bindContainer, type Container, type ContainerRecord, exitReason, nowNs } from './container.ts';
import { bundlePath, type ContainerPlans, type Stopping } from './lifecycle.ts';
import type { OomKills } from './oom-kills.ts';
import type { RestoreSource } from './restore.ts';

/** A container as CreateContainer takes it: checked, its image found, its pod known. */
export interface ContainerToCreate {
  sandbox: Sandbox;
  config: ContainerConfig & { metadata: ContainerMetadata };
  imageId: string;
  imageRef: string;
  logPath: string | null;
  /** Signal number. */
  stopSignal: number;
  /** Images that the mounts name, in the order of the mounts. */
  imageVolumes: readonly { imageId: string }[];
  /** The checkpoint that it goes on from. */
  restore: RestoreSource | null;
}

export interface ContainersOptions {
  state: string;
  records: Collection<ContainerRecord>;
  registry: Registry<Container>;
  plans: ContainerPlans;
  stopping: Plan<Stopping>;
  engine: Engine;
  locks: Locks;
  watch: ProcessWatch;
  conmon: Conmon;
  log: Logger;
  /** The live sandbox with this id. */
  sandbox(id: string): Sandbox;
  oomKills: OomKills;
  /** Lets a container go on that an earlier daemon held still for a checkpoint. */
  letGo(container: Container): Promise<void>;
  /** Told once of each end of a started container. */
  onEnded(container: Container): void;
}

export interface Containers extends PodContainers {
  /** @throws CriError wrongState when the sandbox is not READY; whatever made a step fail, with everything undone */
  create(wanted: ContainerToCreate, signal: AbortSignal): Promise<string>;
  /** @throws CriError wrongState unless it is CREATED; on failure the container is EXITED with StartError */
  start(idOrPrefix: string, signal: AbortSignal): Promise<void>;
  /** Ends a running container; one that does not run, or is unknown, is no error. */
  stop(idOrPrefix: string, graceMs: number, signal: AbortSignal): Promise<void>;
  /** Ends and removes a container; an unknown one is no error. */
  remove(idOrPrefix: string): Promise<void>;
  /** @throws CriError notFound, ambiguousId */
  find(idOrPrefix: string): Container;
  /** Every container that a client may know of, in the order of creation. */
  list(): Container[];
  /** Runs `work` while no one starts, stops or removes the container. */
  exclusively<T>(container: Container, work: () => Promise<T>): Promise<T>;
  /** Takes up what an earlier daemon left. */
  recover(recorded: readonly ContainerRecord[]): Promise<void>;
}

const recordEndAgainMs = 1000;
/** The exit code that is reported when nobody saw the end: containerd's. */
const unknownExitCode = 255;
/** 128 + SIGKILL */
const killedExitCode = 137;

export function createContainers(options: ContainersOptions): Containers {
  const { records, registry, plans, engine, locks, watch, conmon, log } = options;
  const whole: Plan<Container> = [...plans.foundation, ...plans.running];
  const underWay = new Set<string>();

  function make({ sandbox, config, imageVolumes, ...rest }: ContainerToCreate): Container {
    const id = randomBytes(32).toString('hex');
    const { metadata } = config;
    const record: ContainerRecord = {
      ...rest,
      id,
      name: `${metadata.name}_${sandbox.name.replace(/_\d+$/, '')}_${metadata.attempt}`,
      sandboxId: sandbox.id,
      config,
      handler: sandbox.handler,
      phase: 'creating',
      createdAt: nowNs(),
      startedAt: '0',
      finishedAt: '0',
      exitCode: 0,
      reason: '',
      message: '',
      monitor: null,
      init: null,
      user: { uid: 0, gid: 0, supplementalGroups: [] },
      resources: config.linux?.resources ?? null,
      imageVolumes: imageVolumes.map(({ imageId }, i) => ({ rootfsId: `${id}-volume-${i}`, imageId })),
      held: false,
      owed: [],
      times: {},
    };
    return bindContainer(record, records);
  }

  /** Watches the monitor of a running container; `ended` resolves when its end is on record. */
  function watchEnd(container: Container): void {
    const { monitor } = container;
    if (!monitor) return;
    container.ended = new Promise(resolve => {
      watch.watch(monitor, () => void recordEndAtLast(container).then(resolve));
    });
  }

  /** An end that cannot be read now, for lack of descriptors say, can be later: nobody else would tell of it. */
  async function recordEndAtLast(container: Container): Promise<void> {
    for (;;) {
      try {
        return await recordEnd(container);
      } catch (error) {
        log.error(
          { container: container.id, err: error },
          "recording the container's end failed; it is tried again",
        );
        await sleep(recordEndAgainMs, undefined, { ref: false });
      }
    }
  }

  async function recordEnd(container: Container): Promise<void> {
    if (container.phase !== 'running') return;
    const exit = conmon.exit(container.id, bundlePath(options.state, container.id));
    container.phase = 'exited';
    container.exitCode = exit?.code ?? unknownExitCode;
    container.finishedAt = later(container.startedAt, exit ? `${Math.round(exit.at * 1000)}000` : nowNs());
    const wasOomKilled = options.oomKills.ends(container) && exit?.code === killedExitCode;
    container.reason = exit ? exitReason(exit.code, exit.oomKilled || wasOomKilled) : 'Unknown';
    container.message = exit ? '' : 'its monitor (conmon) ended without recording how the container ended';
    const saved = await saveOrLog(container);
    options.onEnded(container);
    // What the monitor left is the record of the end until the end stands in ours.
    if (!saved) return;
    // What the runtime keeps of it (cgroup, state, stray processes of a shared pid namespace) has no more use.
    void locks
      .exclusive(`${container.id}/end`, () => engine.takeDown('ContainerEnd', plans.running, container))
      .catch(error =>
        log.warn(
          { container: container.id, err: error },
          'cleaning up after an ended container failed; RemoveContainer will try again',
        ),
      );
  }

  async function startLocked(container: Container, signal: AbortSignal): Promise<void> {
    requireReady(options.sandbox(container.sandboxId), `container ${container.id} cannot be started in it`);
    if (container.phase !== 'created') {
      const state = container.phase === 'exited' ? 'has exited' : `is ${container.phase}`;
      throw new CriError(
        'wrongState',
        `container ${container.id} cannot be started: it ${state}, only a created container can be`,
      );
    }
    container.phase = 'starting';
    options.oomKills.begins(container);
    try {
      await engine.bringUp('StartContainer', plans.running, container, signal);
    } catch (error) {
      await recordStartFailure(container, error);
      throw error;
    }
    watchEnd(container);
  }

  async function recordStartFailure(container: Container, error: unknown): Promise<void> {
    container.phase = 'exited';
    options.oomKills.ends(container);
    container.exitCode = 128;
    container.reason = 'StartError';
    container.message = messageOf(error);
    container.finishedAt = nowNs();
    await saveOrLog(container);
    options.onEnded(container);
  }

  /** Saves what has happened and cannot be taken back; false when a full disk hinders that, and only this daemon knows. */
  async function saveOrLog(container: Container): Promise<boolean> {
    try {
      await container.save();
      return true;
    } catch (error) {
      log.error({ container: container.id, err: error }, "the container's end could not be put on record");
      return false;
    }
  }

  /** Several stops may wait side by side, the shortest grace period wins; nobody starts or removes meanwhile. */
  async function stopOne(container: Container, graceMs: number, signal: AbortSignal): Promise<void> {
    await locks.shared(container.id, async () => {
      if (container.phase !== 'running') return;
      const stopping = { id: container.id, container, graceMs };
      await engine.perform('StopContainer', options.stopping, stopping, signal);
    });
  }

  async function removeOne(container: Container): Promise<void> {
    await stopOne(container, 0, new AbortController().signal);
    await exclusively(container, () =>
      locks.exclusive(`${container.id}/end`, () => engine.takeDown('RemoveContainer', whole, container)),
    );
  }

  const ofSandbox = (sandboxId: string) =>
    registry.all().filter(container => container.sandboxId === sandboxId);
  const exclusively = <T>(container: Container, work: () => Promise<T>) =>
    locks.exclusive(container.id, work);

  return {
    async create(wanted, signal) {
      const container = make(wanted);
      underWay.add(container.id);
      try {
        // Beside other containers of the pod, but not beside its stop.
        await locks.shared(wanted.sandbox.id, async () => {
          requireReady(wanted.sandbox, 'no container can be created in it');
          await engine.bringUp('CreateContainer', plans.foundation, container, signal);
        });
      } finally {
        underWay.delete(container.id);
      }
      return container.id;
    },
    async start(idOrPrefix, signal) {
      const container = registry.find(idOrPrefix);
      await locks.shared(container.sandboxId, () =>
        exclusively(container, () => startLocked(container, signal)),
      );
    },
    async stop(idOrPrefix, graceMs, signal) {
      const container = registry.lookup(idOrPrefix);
      if (!container) return;
      await stopOne(container, graceMs, signal);
    },
    async remove(idOrPrefix) {
      const container = registry.lookup(idOrPrefix);
      if (!container) return;
      await removeOne(container);
    },
    find: idOrPrefix => registry.find(idOrPrefix),
    // In its last step a container is told of, and must then be found.
    list: () => registry.all().filter(({ id, phase }) => phase !== 'creating' || !underWay.has(id)),
    exclusively,
    async stopAll(sandboxId) {
      const never = new AbortController().signal;
      await Promise.all(ofSandbox(sandboxId).map(container => stopOne(container, 0, never)));
    },
    async removeAll(sandboxId) {
      await Promise.all(ofSandbox(sandboxId).map(removeOne));
    },
    anyRunning: sandboxId => ofSandbox(sandboxId).some(container => container.phase === 'running'),
    async recover(recorded) {
      const found = recorded.map(record => bindContainer(record, records));
      for (const container of found) {
        registry.add(container);
        registry.reserve(container.name, container.id);
      }
      await Promise.all(found.map(recoverOne));
    },
  };

  async function recoverOne(container: Container): Promise<void> {
    const about = { container: container.id, sandbox: container.sandboxId };
    switch (container.phase) {
      case 'creating':
        log.warn(about, 'CreateContainer was under way when the daemon ended: undoing it');
        return finish('CreateContainer', whole, container);
      case 'starting':
        log.warn(about, 'StartContainer was under way when the daemon ended: undoing it');
        await finish('StartContainer', plans.running, container);
        return recordStartFailure(
          container,
          new Error('the daemon was ended while it started this container'),
        );
      case 'created':
        return;
      case 'exited':
        return finish('ContainerEnd', plans.running, container);
      case 'running':
        if (container.monitor && isAlive(container.monitor)) {
          options.oomKills.begins(container);
          if (container.held) await letGo(container);
          return watchEnd(container);
        }
        return recordEnd(container);
    }
  }

  async function letGo(container: Container): Promise<void> {
    await options
      .letGo(container)
      .catch(error =>
        log.error(
          { container: container.id, err: error },
          'a checkpoint was under way when the daemon ended, and its container cannot be let go on',
        ),
      );
  }

  async function finish(operation: string, plan: Plan<Container>, container: Container): Promise<void> {
    await engine
      .takeDown(operation, plan, container)
      .catch(error =>
        log.error(
          { container: container.id, err: error },
          'undoing is not finished; RemoveContainer will try again',
        ),
      );
  }
}

function requireReady(sandbox: Sandbox, therefore: string): void {
  if (sandbox.phase === 'ready') return;
  throw new CriError('wrongState', `sandbox ${sandbox.id} is not READY: ${therefore}`);
}

/** The later of two times. A program may end while its start is still being recorded. */
function later(a: string, b: string): string {
  return BigInt(a) > BigInt(b) ? a : b;
}
