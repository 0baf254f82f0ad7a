// Builds every part of the daemon once and wires them together, takes up what an earlier daemon left, and serves.
// Nothing else constructs parts.
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInvoker, type LoadedNetworks, type NetworkWatch, watchNetworks } from './cni-invoker/index.ts';
import type { Config, RuntimeHandlerConfig } from './config/types.ts';
import { makeSpec, readSpec, removeIdmappedMounts, updateResources } from './container/bundle.ts';
import { checkpointContainer, checkpointNames, letGo } from './container/checkpoint.ts';
import { type Container, containerRecordSchema, nowNs } from './container/container.ts';
import { createContainers } from './container/containers.ts';
import { execSync, outputRoom } from './container/exec-sync.ts';
import { bundlePath, type ContainerHost, containerPlans, stopPlan } from './container/lifecycle.ts';
import { requireOwnLog } from './container/log-path.ts';
import { createLostContainers } from './container/lost.ts';
import { createOomKills } from './container/oom-kills.ts';
import {
  checkpointBase,
  checkpointDirectory,
  findCheckpoint,
  removeCheckpoint,
  restoreDifference,
  restoreLog,
  unpackCheckpoint,
} from './container/restore.ts';
import { containerSelinuxLabels } from './container/spec.ts';
import type { Parts } from './cri/parts.ts';
import { createCriServer } from './cri/server.ts';
import type { ContainerEventType } from './cri-api/types.ts';
import { servingNeighbours } from './doctor/checks/neighbours.ts';
import { thisHost } from './doctor/index.ts';
import { CriError, messageOf } from './errors.ts';
import { type CgroupLayout, readCgroupLayout } from './host/cgroup/layout.ts';
import { createCgroups } from './host/cgroup/open.ts';
import { keepDescriptorsFromChildren } from './host/descriptors.ts';
import { makeDirectoriesSync } from './host/directories.ts';
import { findExecutable } from './host/executables.ts';
import { gatherHostFacts } from './host/facts.ts';
import { startHeapCare } from './host/heap.ts';
import { endLeftHelpers, markHelpers } from './host/helpers.ts';
import { openHostThread } from './host/host-thread.ts';
import { type FileLock, lockForLife } from './host/lock.ts';
import { startOrphanReaper } from './host/orphans.ts';
import {
  becomeSubreaper,
  isSameProcess,
  type ProcessIdentity,
  startProcessWatch,
} from './host/process-watch.ts';
import { startReadiness } from './host/readiness.ts';
import { openImages } from './image/images.ts';
import type { Logger } from './log.ts';
import { loadDefaultProfile, thisApparmorHost } from './oci/apparmor-default.ts';
import { createConmon } from './oci/conmon.ts';
import { requireCriu } from './oci/criu.ts';
import { removeCommandDirectories } from './oci/exec-leftovers.ts';
import { createRuntime, type OciRuntime } from './oci/runtime.ts';
import { type BaseSpec, parseBaseSpec } from './oci/spec/base-spec.ts';
import { writeCniTemplate } from './sandbox/cni-template.ts';
import { createPodEvents } from './sandbox/events.ts';
import { sandboxPaths } from './sandbox/files.ts';
import { collectNetworkGarbage } from './sandbox/garbage.ts';
import { type SandboxHost, sandboxPlans } from './sandbox/lifecycle.ts';
import { builtInPause, imagePause } from './sandbox/pause.ts';
import { keepPluginRun } from './sandbox/plugin-runs.ts';
import { ownersIn, type Sandbox, sandboxRecordSchema, userNamespaceOf } from './sandbox/sandbox.ts';
import { createSandboxes } from './sandbox/sandboxes.ts';
import { buildSandboxSpec } from './sandbox/spec.ts';
import { whyNoUserNamespaces } from './sandbox/user-namespaces.ts';
import { createCgroupFinder } from './stats/cgroups.ts';
import { createStats } from './stats/stats.ts';
import { createEngine, type StepObserver } from './steps/engine.ts';
import { faultObserver } from './steps/faults.ts';
import { createLocks } from './steps/locks.ts';
import { createRegistry } from './store/registry.ts';
import { openStore } from './store/store.ts';
import { createBackends, removeTerminalSockets } from './streaming/backends.ts';
import { type StreamingServerOptions, startStreamingServer } from './streaming/server.ts';
import { startTelemetry, type Telemetry } from './telemetry/telemetry.ts';

export interface Daemon {
  /** Ends serving. Pods stay as they are; the next daemon takes them up. */
  close(): Promise<void>;
}

export interface DaemonOptions {
  config: Config;
  version: string;
  log: Logger;
}

interface Handler {
  config: RuntimeHandlerConfig;
  runtime: OciRuntime;
  baseSpec: BaseSpec | undefined;
  features: { recursiveReadOnlyMounts: boolean };
  /** Why its pods cannot have user namespaces; undefined when they can. */
  withoutUserNamespaces: string | undefined;
}

/** How long runtimes and plugins that a killed daemon left at work may go on, until they are killed. */
const leftHelpersPatienceMs = 10_000;
/** How long collecting garbage may keep pods from their networks. */
const garbageMs = 30_000;

/** @throws CriError with what stands in the way, such as another daemon on the same root */
export async function startDaemon({ config, version, log: plainLog }: DaemonOptions): Promise<Daemon> {
  const { root, state } = config;
  // Whatever it was started with: what is made without a mode is nobody else's to write, and layers lose no more than this.
  process.umask(0o022);
  makeDirectoriesSync(root, 0o711);
  for (const directory of [state, join(state, 'containers'), join(state, 'sandboxes')]) {
    makeDirectoriesSync(directory, 0o711);
  }
  const directoryLocks = [
    await lockDirectory(root, 'lock', `the root ${root}: stop it, or choose another --root`),
    await lockDirectory(
      state,
      'state.lock',
      `the state directory ${state}: stop it, or choose another --state`,
    ),
  ];
  const telemetry = await startTelemetry(config, version, plainLog);
  const { log } = telemetry;
  becomeSubreaper();
  const readiness = startReadiness();
  const watch = startProcessWatch(readiness);
  const orphans = startOrphanReaper(pid => watch.isWatched(pid));
  const thread = openHostThread();
  const store = openStore(join(root, 'store'), damaged =>
    log.error(damaged, 'a record of the store cannot be read; it is left out'),
  );
  keepDescriptorsFromChildren();
  const cgroups = readCgroupLayout();
  const [facts, handlers, networkWatches] = await Promise.all([
    gatherHostFacts(),
    createHandlers(config, cgroups, telemetry),
    watchAllNetworks(config, log),
  ]);
  if (facts.passedOn.length > 0) {
    log.warn(
      { passedOn: facts.passedOn },
      'the daemon was started with restrictions that every container inherits, privileged ones too; look at its service unit',
    );
  }
  const faults = faultObserver(process.env);
  const heap = startHeapCare();
  const engine = createEngine({
    observers: [stepLog(log), { after: heap.busy }, ...telemetry.stepObservers, ...(faults ? [faults] : [])],
    deadlineMs: config.limits.stepTimeoutMs,
    undoDeadlineMs: config.limits.undoTimeoutMs,
  });
  const images = await openImages({
    root,
    state,
    store,
    log,
    engine,
    host: thread,
    pinned: [...config.images.pinned.values()],
    maxConcurrentDownloads: config.images.maxConcurrentDownloads,
    registry: config.images.registry,
    pullProgressTimeoutMs: config.images.pullProgressTimeoutMs,
    verifiers: config.images.verifiers,
  });
  const pause =
    config.sandbox.image === undefined
      ? await builtInPause(root, config.sandbox.pausePath)
      : imagePause(images, config.sandbox.image);
  const invoker = createInvoker({
    binDirs: config.cni.binDirs,
    cacheDir: join(root, 'cni'),
    pluginTimeoutMs: config.cni.pluginTimeoutMs,
    onPluginRun(run) {
      telemetry.pluginRan(run);
      const { verb, plugin, network, containerId, durationMs, outcome } = run;
      log.debug(
        { sandbox: containerId, verb, plugin, network, ms: round(durationMs), outcome },
        'CNI plugin',
      );
      const sandbox = containerId === undefined ? undefined : sandboxRegistry.lookup(containerId);
      if (sandbox) keepPluginRun(sandbox, run);
    },
  });
  const containerRecords = store.collection('containers', containerRecordSchema);
  markHelpers(state);
  const conmon = telemetry.timingConmon(
    createConmon({ binary: config.monitor.binary, exitDir: join(state, 'exits') }),
  );
  makeDirectoriesSync(join(state, 'exits'), 0o700);

  const locks = createLocks();
  const events = createPodEvents();
  const publish = (type: ContainerEventType, containerId: string, sandboxId: string) =>
    events.publish({ type, containerId, sandboxId, at: nowNs() });
  const processEnded = (process: ProcessIdentity) =>
    new Promise<void>(resolve => void watch.watch(process, () => resolve()));
  const handler = (name: string): Handler => {
    const found = handlers.get(name);
    if (!found)
      throw new CriError('invalidArgument', `the runtime handler ${name} is not configured (any more)`);
    return found;
  };
  const criu = async (name: string, what: string): Promise<string> => {
    if (!config.criuEnabled)
      throw new CriError('wrongState', `${what}: enable_criu = false in the configuration`);
    const { kind, criuPath } = handler(name).config;
    if (kind !== 'runc')
      throw new CriError('unimplemented', `${what}: the runtime handler ${name} does not work with criu`);
    return requireCriu(criuPath, what);
  };
  const networks = (name: string): LoadedNetworks => {
    const found = networkWatches.get(handler(name).config.cniConfDir ?? config.cni.confDir);
    if (!found)
      throw new CriError('internal', `no CNI configuration directory is known for runtime handler ${name}`);
    return found.current;
  };

  const sandboxRegistry = createRegistry<Sandbox>('sandbox');
  const containerRegistry = createRegistry<Container>('container');

  const bundleParts = {
    state,
    root,
    images,
    facts,
    cdi: config.cdi,
    apparmorDefault: () =>
      loadDefaultProfile(thisApparmorHost(), AbortSignal.timeout(config.limits.runtimeTimeoutMs)),
    log,
    options: (name: string) => containerSpecOptions(config, handler(name)),
    sandbox: (id: string) => sandboxRegistry.find(id),
    pidOf(id: string, sandboxId: string) {
      const target = containerRegistry.lookup(id);
      const isThere = target?.sandboxId === sandboxId && target.phase === 'running';
      return isThere ? target.init?.pid : undefined;
    },
  };
  const containerHost: ContainerHost = {
    state,
    registry: containerRegistry,
    rootfs: images.rootfs,
    conmon,
    handler,
    checkpoints: {
      unpack: (container, signal) => unpackCheckpoint(container, images, signal),
      applyDifference: (container, signal) => restoreDifference(container, images, signal),
      async toRestore(container) {
        const criuDirectory = await criu(container.handler, `container ${container.id} cannot be restored`);
        await restoreLog(container, images);
        return {
          imagePath: join(checkpointDirectory(container, images), checkpointNames.images),
          criuDirectory,
        };
      },
      remove: container => removeCheckpoint(container, images),
    },
    logDirectory: ({ sandboxId }) => sandboxRegistry.find(sandboxId).config.logDirectory,
    buildSpec: (container, rootfs, signal) => makeSpec(container, rootfs, bundleParts, signal),
    removeMounts: ({ id }) => removeIdmappedMounts(state, id),
    mountLabel({ id, sandboxId, config: asked }) {
      if (!config.security.selinux || !facts.selinuxEnabled) return undefined;
      const { config: pod, selinuxLevel: podLevel } = sandboxRegistry.find(sandboxId);
      return containerSelinuxLabels(`container ${id}`, { pod, config: asked, podLevel }).mount;
    },
    owners: ({ sandboxId }) => ownersIn(sandboxRegistry.find(sandboxId)),
    ended: processEnded,
    onCreated: ({ id, sandboxId }) => publish('CONTAINER_CREATED_EVENT', id, sandboxId),
    onStarted: ({ id, sandboxId }) => publish('CONTAINER_STARTED_EVENT', id, sandboxId),
    onRemoved: ({ id, sandboxId }) => publish('CONTAINER_DELETED_EVENT', id, sandboxId),
  };
  const cgroupFinder = createCgroupFinder(
    createCgroups(cgroups),
    name => config.runtimes.handlers.get(name)?.systemdCgroup ?? false,
  );
  const containers = createContainers({
    state,
    records: containerRecords,
    registry: containerRegistry,
    plans: containerPlans(containerHost),
    stopping: stopPlan(containerHost),
    engine,
    locks,
    watch,
    conmon,
    log,
    sandbox: id => sandboxRegistry.find(id),
    letGo: container => letGo(container, handler(container.handler).runtime),
    oomKills: createOomKills({
      cgroup(container) {
        const sandbox = sandboxRegistry.lookup(container.sandboxId);
        return sandbox && cgroupFinder.ofContainer(container, sandbox);
      },
      podCgroup({ sandboxId }) {
        const sandbox = sandboxRegistry.lookup(sandboxId);
        return sandbox && cgroupFinder.ofPod(sandbox);
      },
      running: () => containerRegistry.all().filter(({ phase }) => phase === 'running'),
    }),
    onEnded(container) {
      log.info(
        {
          container: container.id,
          sandbox: container.sandboxId,
          exitCode: container.exitCode,
          reason: container.reason,
        },
        'container ended',
      );
      publish('CONTAINER_STOPPED_EVENT', container.id, container.sandboxId);
    },
  });

  const recorded = containerRecords.entries().map(([, record]) => record);
  const lostContainers = createLostContainers({
    state,
    records: containerRecords,
    readable: new Set(recorded.map(({ id }) => id)),
    rootfs: images.rootfs,
    conmon,
    runtimes: [...handlers.values()].map(({ runtime }) => runtime),
    undoTimeoutMs: config.limits.undoTimeoutMs,
    ended: processEnded,
    log,
  });

  const sandboxHost: SandboxHost = {
    state,
    registry: sandboxRegistry,
    thread,
    invoker,
    selinuxCategoryRange: config.security.selinuxCategoryRange,
    ipPreference: config.cni.ipPreference,
    bringsLoopbackUp: ({ networks: list }) =>
      config.cni.useInternalLoopback || !list.some(({ ifName }) => ifName === 'lo'),
    networks,
    handler,
    pauseRootfs: pause.rootfs,
    async pauseSpec(sandbox) {
      const { withoutUserNamespaces } = handler(sandbox.handler);
      if (withoutUserNamespaces !== undefined && userNamespaceOf(sandbox.config)) {
        throw new CriError(
          'unimplemented',
          `sandbox ${sandbox.id} cannot have a user namespace: ${withoutUserNamespaces}; use another node or runtime handler, or hostUsers: true`,
        );
      }
      const { spec, warnings } = await buildSandboxSpec({
        sandboxId: sandbox.id,
        config: sandbox.config,
        netnsPath: sandbox.netnsPath ?? undefined,
        usernsPath: sandbox.usernsPath ?? undefined,
        selinuxLevel: sandbox.selinuxLevel,
        rootfs: pause.rootfs.path(sandbox.id),
        pause: pause.program(),
        host: facts,
        options: sandboxSpecOptions(config, handler(sandbox.handler)),
      });
      for (const warning of warnings) log.warn({ sandbox: sandbox.id }, warning);
      return spec;
    },
    ended: processEnded,
    onNotReady: ({ id }) => publish('CONTAINER_STOPPED_EVENT', id, id),
  };
  const sandboxes = createSandboxes({
    records: store.collection('sandboxes', sandboxRecordSchema),
    registry: sandboxRegistry,
    plans: sandboxPlans(sandboxHost),
    engine,
    locks,
    watch,
    containers: {
      ...containers,
      async stopAll(id) {
        await Promise.all([containers.stopAll(id), lostContainers.removeOf(id)]);
      },
    },
    netnsDir: config.sandbox.netnsDir,
    usernsDir: join(state, 'userns'),
    log,
    onReady({ id }) {
      publish('CONTAINER_CREATED_EVENT', id, id);
      publish('CONTAINER_STARTED_EVENT', id, id);
    },
    onRemoved: ({ id }) => publish('CONTAINER_DELETED_EVENT', id, id),
    onPauseEnded: ({ id }) => publish('CONTAINER_STOPPED_EVENT', id, id),
  });

  const monitors = recorded.flatMap(({ monitor }) => monitor ?? []);
  const isMonitor = (helper: ProcessIdentity) => monitors.some(monitor => isSameProcess(monitor, helper));
  const helpers = await endLeftHelpers({
    state,
    monitor: config.monitor.binary,
    keep: helper => isMonitor(helper) || lostContainers.isMonitor(helper),
    patienceMs: leftHelpersPatienceMs,
  });
  const { waitedFor, killed } = helpers;
  if (waitedFor + killed > 0) {
    log.warn(
      { waitedFor, killed },
      'an earlier daemon was killed at work: its helpers have ended or were killed',
    );
  }
  removeCommandDirectories(join(state, 'containers'));
  removeTerminalSockets(state);
  await images.recover();
  await containers.recover(recorded);
  await sandboxes.recover();
  await sandboxes.settle();
  await lostContainers.settle(helpers.kept, id => sandboxRegistry.lookup(id) !== undefined);

  const stats = createStats({
    containers,
    sandboxes,
    rootfs: images.rootfs,
    layerDirectory: join(root, 'containers'),
    cgroups: cgroupFinder,
    config: config.stats,
    log,
  });
  const streaming = await startStreamingServer({
    address: config.streaming.address,
    port: config.streaming.port,
    tls: streamingTls(config),
    idleTimeoutMs: config.streaming.idleTimeoutMs,
    backends: createBackends({
      state,
      containers,
      sandboxes,
      runtimeOf: name => handler(name).runtime,
      thread,
      readiness,
      watch,
      orphans,
      drainMs: config.limits.drainExecSyncIoTimeoutMs,
      log,
    }),
    log,
  });

  const parts: Parts = {
    config,
    version,
    log,
    sandboxes,
    containers,
    images: telemetry.timingPulls(images),
    events,
    stats,
    streaming,
    networkProblem() {
      const { usable, problems } = networks(config.runtimes.defaultName);
      return usable ? undefined : problems.map(({ reason }) => reason).join('; ');
    },
    networkInfo: () => networks(config.runtimes.defaultName),
    handlerFeatures: () =>
      [...handlers].map(([name, { features, withoutUserNamespaces }]) => ({
        name,
        recursiveReadOnlyMounts: features.recursiveReadOnlyMounts,
        userNamespaces: withoutUserNamespaces === undefined,
      })),
    async setPodCidr(podCidr) {
      const { confTemplate: template, confDir } = config.cni;
      if (template === undefined) return;
      const text = await readFile(template, 'utf8');
      const hasNetworks = networks(config.runtimes.defaultName).networks.length > 0;
      await writeCniTemplate({ template: text, podCidr, confDir, hasNetworks });
    },
    execSync(container, request, signal) {
      const whole = {
        ...request,
        containerId: container.id,
        bundle: bundlePath(state, container.id),
        drainMs: config.limits.drainExecSyncIoTimeoutMs,
        maxOutputBytes: outputRoom(config.server.maxSendBytes),
      };
      return execSync(whole, { runtime: handler(container.handler).runtime, watch, orphans }, signal);
    },
    updateResources: (container, resources) =>
      containers.exclusively(container, () =>
        updateResources(container, resources, handler(container.handler).runtime, bundleParts),
      ),
    async reopenLog(container) {
      const { id, monitor, logPath } = container;
      if (!monitor || logPath === null) return;
      requireOwnLog(container, containerHost.logDirectory(container));
      await conmon.reopenLog(monitor, bundlePath(state, id), logPath);
    },
    async checkpoint(container, location, signal) {
      if (userNamespaceOf(sandboxes.find(container.sandboxId).config)) {
        const why = 'its files belong to the ids of a user namespace, which a restored one would not have';
        throw new CriError('unimplemented', `container ${container.id} cannot be checkpointed: ${why}`);
      }
      const criuDirectory = await criu(container.handler, `container ${container.id} cannot be checkpointed`);
      const { runtime } = handler(container.handler);
      const logDirectory = containerHost.logDirectory(container);
      const host = { state, images, runtime, runtimeName: container.handler, criuDirectory, logDirectory };
      await containers.exclusively(container, () => checkpointContainer(container, location, host, signal));
    },
    async checkpointNamed(name, handlerName, signal) {
      const found = await findCheckpoint(name, images, signal);
      if (!found) return undefined;
      await criu(handlerName, `${name} cannot be restored`);
      return { source: found.source, imageId: await checkpointBase(found, images, signal) };
    },
    async runtimeSpec(id, kind) {
      if (kind === 'container') return readSpec(bundlePath(state, id));
      return readSpec(sandboxPaths(state, id, sandboxes.find(id).config).directory);
    },
  };
  const server = createCriServer(parts, config.server, {
    around: telemetry.aroundRpc,
    ended({ method, code, ms, error }) {
      telemetry.rpcEnded({ method, code, ms });
      const level = error === undefined ? 'debug' : code === 'NOT_FOUND' ? 'info' : 'warn';
      log[level](
        { rpc: method, code, ms: round(ms), ...(error === undefined ? {} : { error: messageOf(error) }) },
        `${method} ${code}`,
      );
    },
  });
  await telemetry.serve({
    containers: () => containers.list().map(({ phase }) => phase),
    sandboxes: () => sandboxes.list().map(({ phase }) => phase),
  });
  await server.listen(config.server);
  log.info({ socket: config.server.socketPath, root, state, pods: sandboxes.list().length }, 'cri-ts serves');

  thread.prepare();
  heap.busy(); // the start leaves garbage, too

  const closing = new AbortController();
  void collectNetworkGarbage(
    {
      invoker,
      networks: [...networkWatches.values()].flatMap(({ current }) => current.networks),
      sandboxes: () => sandboxRegistry.all(),
      otherRuntimes: async () => (await servingNeighbours(thisHost(), config)).map(({ name }) => name),
      log,
    },
    AbortSignal.any([closing.signal, AbortSignal.timeout(garbageMs)]),
  );

  return {
    async close() {
      closing.abort();
      heap.close();
      events.close();
      await server.close(config.limits.undoTimeoutMs);
      stats.close();
      await telemetry.close();
      await streaming.close();
      for (const networkWatch of networkWatches.values()) networkWatch.close();
      await images.close();
      watch.close();
      orphans.close();
      readiness.close();
      await thread.close();
      await store.close();
      for (const lock of directoryLocks) lock.release();
    },
  };
}

/**
 * Keeps other daemons off a directory. Each of them: with one state directory and two roots, they would take each other's
 * runtimes and monitors for leftovers, and kill them. @throws CriError alreadyExists
 */
async function lockDirectory(directory: string, name: string, what: string): Promise<FileLock> {
  const lock = await lockForLife(join(directory, name));
  if (!lock) throw new CriError('alreadyExists', `another cri-ts runs on ${what}`);
  return lock;
}

async function createHandlers(
  config: Config,
  cgroups: CgroupLayout,
  telemetry: Telemetry,
): Promise<ReadonlyMap<string, Handler>> {
  const withoutUserNamespaces = whyNoUserNamespaces(config);
  const entries = [...config.runtimes.handlers].map(async ([name, handlerConfig]) => {
    const { root, systemdCgroup } = handlerConfig;
    const binary = findExecutable(handlerConfig.binary); // conmon takes nothing but a path
    const runtime = telemetry.timingRuntime(
      createRuntime({ binary, root, systemdCgroup, timeoutMs: config.limits.runtimeTimeoutMs, cgroups }),
    );
    const [features, baseSpec, ofNode] = await Promise.all([
      runtime.features(),
      readBaseSpec(handlerConfig.baseRuntimeSpec),
      withoutUserNamespaces,
    ]);
    const ofRuntime = features.userNamespaces ? undefined : `${binary} has no user namespaces`;
    const handler = { config: handlerConfig, runtime, features, baseSpec };
    return [name, { ...handler, withoutUserNamespaces: ofNode ?? ofRuntime }] as const;
  });
  return new Map(await Promise.all(entries));
}

async function readBaseSpec(path: string | undefined): Promise<BaseSpec | undefined> {
  return path === undefined ? undefined : parseBaseSpec(await readFile(path, 'utf8'), path);
}

function streamingTls({ streaming: { tls } }: Config): StreamingServerOptions['tls'] {
  if (tls.mode === 'off') return undefined;
  if (tls.mode === 'self-signed') return 'self-signed';
  return { cert: readFileSync(tls.certFile, 'utf8'), key: readFileSync(tls.keyFile, 'utf8') };
}

/** A watch for each CNI configuration directory in use, by its path. */
async function watchAllNetworks(
  { cni, runtimes }: Config,
  log: Logger,
): Promise<ReadonlyMap<string, NetworkWatch>> {
  const limits = new Map<string, number>([[cni.confDir, cni.maxConfNum]]);
  for (const { cniConfDir, cniMaxConfNum } of runtimes.handlers.values()) {
    if (cniConfDir !== undefined) limits.set(cniConfDir, cniMaxConfNum);
  }
  const entries = [...limits].map(async ([confDir, maxConfNum]) => {
    const onChange = ({ networks, problems }: LoadedNetworks) =>
      log.info(
        { confDir, networks: networks.map(({ network }) => network.name), problems },
        'CNI configuration changed',
      );
    return [confDir, await watchNetworks({ confDir, maxConfNum, binDirs: cni.binDirs }, onChange)] as const;
  });
  return new Map(await Promise.all(entries));
}

function sandboxSpecOptions({ security, sandbox }: Config, { config: handler }: Handler) {
  return {
    systemdCgroup: handler.systemdCgroup,
    podAnnotations: handler.podAnnotations,
    restrictOomScoreAdj: security.restrictOomScoreAdj,
    selinux: security.selinux,
    unsetSeccompProfile: security.unsetSeccompProfile,
    unprivilegedPorts: sandbox.unprivilegedPorts,
    unprivilegedIcmp: sandbox.unprivilegedIcmp,
  };
}

function containerSpecOptions(
  { security, cgroups }: Config,
  { config: handler, features, baseSpec }: Handler,
) {
  return {
    systemdCgroup: handler.systemdCgroup,
    privilegedWithoutHostDevices: handler.privilegedWithoutHostDevices,
    privilegedWithoutHostDevicesAllDevicesAllowed: handler.privilegedWithoutHostDevicesAllDevicesAllowed,
    podAnnotations: handler.podAnnotations,
    containerAnnotations: handler.containerAnnotations,
    cgroupWritable: handler.cgroupWritable,
    baseSpec,
    features,
    restrictOomScoreAdj: security.restrictOomScoreAdj,
    selinux: security.selinux,
    apparmor: security.apparmor,
    apparmorDefaultProfile: undefined,
    unsetSeccompProfile: security.unsetSeccompProfile,
    deviceOwnershipFromSecurityContext: security.deviceOwnershipFromSecurityContext,
    ignoreImageDefinedVolumes: security.ignoreImageDefinedVolumes,
    disableHugetlbController: cgroups.disableHugetlbController,
    tolerateMissingHugetlbController: cgroups.tolerateMissingHugetlbController,
    ignoreBlockioClasses: cgroups.ignoreBlockioClasses,
    ignoreRdtClasses: cgroups.ignoreRdtClasses,
    pidsLimit: undefined,
    rlimits: [],
  };
}

/** Each step as a span in the log. */
function stepLog(log: Logger): StepObserver {
  return {
    after({ operation, subject, step, verb, ms, error }) {
      const span = { operation, subject, step, verb, ms: round(ms) };
      if (error === undefined) log.debug(span, 'step');
      else log.warn({ ...span, error: messageOf(error) }, 'step failed');
    },
  };
}

function round(ms: number): number {
  return Math.round(ms * 100) / 100;
}
