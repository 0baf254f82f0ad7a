// Makes a container's OCI spec ready to run: gathers what the spec builder needs, makes the host directories that it
// asks for, and changes limits later. Stands between the lifecycle's steps and the pure builder in spec.ts.
import { chown, readdir, readFile, rename, rm, rmdir, writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import type { CdiConfig } from '../config/types.ts';
import type { LinuxContainerResources } from '../cri-api/types.ts';
import { CriError, codeOf, messageOf } from '../errors.ts';
import { makeDirectories } from '../host/directories.ts';
import type { HostFacts } from '../host/facts.ts';
import { mountIdmapped, unmountIdmapped } from '../host/idmap.ts';
import { run } from '../host/process.ts';
import { mayBeRelabelled, relabel } from '../host/selinux.ts';
import { hostId } from '../host/userns.ts';
import type { Images } from '../image/images.ts';
import type { RootfsOwners } from '../image/rootfs.ts';
import type { Logger } from '../log.ts';
import { NoApparmorParser } from '../oci/apparmor-default.ts';
import { applyCdiEdits } from '../oci/cdi/apply.ts';
import { annotatedCdiDevices, findCdiEdits } from '../oci/cdi/registry.ts';
import type { OciRuntime } from '../oci/runtime.ts';
import { findInRoot, resolveInRoot } from '../oci/spec/in-root.ts';
import { hostLookups } from '../oci/spec/lookups.ts';
import type { AnonymousVolume, ImageVolume } from '../oci/spec/mounts.ts';
import { applyResources, reportedResources, undoDocument, updateDocument } from '../oci/spec/resources.ts';
import type { RuntimeSpec } from '../oci/spec/types.ts';
import { sandboxPaths } from '../sandbox/files.ts';
import { ownersIn, type Sandbox } from '../sandbox/sandbox.ts';
import type { Container } from './container.ts';
import { forImageVolume } from './image-volumes.ts';
import { bundlePath } from './lifecycle.ts';
import { requireSameMounts } from './restore.ts';
import { buildContainerSpec, type ContainerSpecOptions, containerImageVolumes } from './spec.ts';

export interface BundleParts {
  state: string;
  root: string;
  images: Images;
  facts: HostFacts;
  /** Options of a handler's containers, from the configuration and the runtime's features. */
  options(handler: string): ContainerSpecOptions;
  sandbox(id: string): Sandbox;
  /** Pid of the first process of a running container of that sandbox, for namespaces of mode TARGET. */
  pidOf(containerId: string, sandboxId: string): number | undefined;
  cdi: CdiConfig;
  /** Loads the default AppArmor profile when it is not loaded; returns its name. @throws NoApparmorParser, CriError */
  apparmorDefault(): Promise<string>;
  log: Logger;
}

/** Builds the spec on the mounted root file system; sets the container's `user` and `resources`. @throws CriError invalidArgument */
export async function makeSpec(
  container: Container,
  rootfs: string,
  parts: BundleParts,
  signal: AbortSignal,
): Promise<RuntimeSpec> {
  const sandbox = parts.sandbox(container.sandboxId);
  if (!sandbox.pause) throw new CriError('wrongState', `sandbox ${sandbox.id} has no running pause process`);
  const image = parts.images.resolve(container.imageId);
  const { config } = container;
  const targetId = config.linux?.securityContext?.namespaceOptions?.targetId ?? '';
  const volumes = containerImageVolumes({ containerId: container.id, config });
  const built = await buildContainerSpec({
    containerId: container.id,
    sandbox: {
      id: sandbox.id,
      pid: sandbox.pause.pid,
      netnsPath: sandbox.netnsPath ?? undefined,
      usernsPath: sandbox.usernsPath ?? undefined,
      config: sandbox.config,
      files: sandboxPaths(parts.state, sandbox.id, sandbox.config),
      selinuxLevel: sandbox.selinuxLevel,
    },
    config,
    image: {
      name: config.image?.userSpecifiedImage || config.image?.image || image.id,
      config: image.config,
    },
    rootfs,
    idmapDir: idmapDirectory(parts.state, container.id),
    volumesDir: volumesDirectory(parts.root, container.id),
    targetPid: targetId === '' ? undefined : parts.pidOf(targetId, sandbox.id),
    imageVolumePaths: await imageVolumePaths(container, volumes, parts.images),
    host: parts.facts,
    options: await withApparmor(container, parts),
  });
  await refuseProcessDirectory(container, built.spec, rootfs);
  await addCdiDevices(container, built.spec, parts.cdi);
  if (container.restore) await requireSameMounts(container, built.spec, parts.images);
  for (const warning of built.warnings) parts.log.warn({ container: container.id }, warning);
  for (const path of built.hostPathsToCreate) await makeDirectories(path, 0o755);
  const owners = ownersIn(sandbox);
  if (owners) {
    for (const { source, target } of built.idmapped) mountVolume(source, target, owners.path, container);
  }
  for (const volume of built.volumes) await makeVolume(volume, rootfs, owners, signal);
  for (const path of built.selinux?.relabel ?? []) relabelVolume(path, built.selinux?.mount ?? '', container);
  container.user = built.user;
  container.resources = reportedResources(built.spec.linux.resources, built.spec.process.oomScoreAdj);
  return built.spec;
}

/** The handler's options, with the AppArmor profile that containers have by default, which is loaded when it is first needed. */
async function withApparmor({ id, handler }: Container, parts: BundleParts): Promise<ContainerSpecOptions> {
  const options = parts.options(handler);
  if (!options.apparmor || !parts.facts.apparmorEnabled) return options;
  try {
    return { ...options, apparmorDefaultProfile: await parts.apparmorDefault() };
  } catch (error) {
    if (!(error instanceof NoApparmorParser)) throw error;
    parts.log.warn({ container: id }, error.message);
    return options;
  }
}

/** @throws CriError invalidArgument for a directory that the node itself lives from */
function relabelVolume(path: string, label: string, { id }: Container): void {
  if (!mayBeRelabelled(path)) {
    const why = "SELinux labels of the node's own directories are not changed";
    throw new CriError('invalidArgument', `container ${id} cannot have ${path} relabelled: ${why}`);
  }
  relabel(path, label);
}

/** Devices that the CRI's field or the annotations name. @throws CriError invalidArgument */
async function addCdiDevices({ id, config }: Container, spec: RuntimeSpec, cdi: CdiConfig): Promise<void> {
  const names = [...config.CDIDevices.map(({ name }) => name), ...annotatedCdiDevices(config.annotations)];
  if (names.length === 0 || !cdi.enabled) return;
  const subject = `container ${id}`;
  await applyCdiEdits(spec, await findCdiEdits(names, cdi.specDirs, subject), hostLookups, subject);
}

/**
 * Refuses a working directory among a process's files in /proc, also by way of a link of the image's: through /proc/self/fd a container would
 * begin in a directory of the host that a runtime had open (CVE-2024-21626).
 */
async function refuseProcessDirectory({ id }: Container, spec: RuntimeSpec, rootfs: string): Promise<void> {
  const { cwd } = spec.process;
  const unresolved = () => join(rootfs, cwd); // a circle of links, or a file on the way: the runtime will say so
  const resolved = await resolveInRoot(rootfs, cwd, { missing: 'any' }).catch(unresolved);
  const inside = relative(rootfs, resolved);
  if (!/^proc\/(self|thread-self|\d+)(\/|$)/.test(inside)) return;
  throw new CriError(
    'invalidArgument',
    `container ${id}: its working directory ${cwd} is one of a process's in /proc`,
  );
}

/** Where directories of volumes that the image declares are kept; goes with the container's root file system. */
function volumesDirectory(root: string, id: string): string {
  return join(root, 'containers', id, 'volumes');
}

/** Apart from the bundle, which is removed with all that is in it: behind these mounts are other people's files. */
function idmapDirectory(state: string, id: string): string {
  return join(state, 'idmapped', id);
}

function mountVolume(source: string, target: string, usernsPath: string, { id }: Container): void {
  try {
    mountIdmapped(source, target, usernsPath, { withSubmounts: true });
  } catch (error) {
    const why = `its owners cannot be mapped, as the user namespace of the pod needs: ${messageOf(error)}`;
    const advice = 'use a volume on another file system, or hostUsers: true';
    throw new CriError('invalidArgument', `container ${id} cannot mount ${source}: ${why}; ${advice}`);
  }
}

/** Takes away the volumes that were mounted with mapped owners. Idempotent. */
export async function removeIdmappedMounts(state: string, id: string): Promise<void> {
  const directory = idmapDirectory(state, id);
  const names = await readdir(directory).catch(error => {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw error;
  });
  if (names === undefined) return;
  for (const name of names) unmountIdmapped(join(directory, name));
  await rmdir(directory);
}

/** Makes a declared volume with what the image has at its place, as image authors expect. */
async function makeVolume(
  { destination, hostPath }: AnonymousVolume,
  rootfs: string,
  owners: RootfsOwners | undefined,
  signal: AbortSignal,
): Promise<void> {
  await makeDirectories(hostPath, 0o755);
  if (owners) await chown(hostPath, hostId(owners.uids, 0) ?? 0, hostId(owners.gids, 0) ?? 0);
  const inImage = await findInRoot(rootfs, destination);
  if (!inImage?.isDirectory) return;
  // Owners, modes, links, device nodes and extended attributes too, of the directory itself as well.
  const { exitCode, outcome, stderr } = await run('cp', ['-a', `${inImage.path}/.`, hostPath], { signal });
  if (exitCode !== 0) {
    throw new CriError(
      signal.aborted ? 'cancelled' : 'internal',
      `the volume ${destination} could not be filled from the image: cp ${outcome}: ${stderr.trim()}`,
    );
  }
}

/** Host directories of image mounts: the image's root file system, or the sub path in it, which must not lead out. */
async function imageVolumePaths(
  container: Container,
  volumes: readonly ImageVolume[],
  images: Images,
): Promise<ReadonlyMap<string, string>> {
  const paths = new Map<string, string>();
  for (const [i, { destination, subPath }] of volumes.entries()) {
    const mounted = container.imageVolumes[i];
    if (!mounted) continue;
    const rootfs = images.rootfs.path(mounted.rootfsId);
    const path = await forImageVolume(destination, async () => {
      const found = await findInRoot(rootfs, subPath);
      if (found) return found.path;
      throw new CriError(
        'invalidArgument',
        `container ${container.id}: image ${mounted.imageId} has no ${subPath}`,
      );
    });
    paths.set(destination, path);
  }
  return paths;
}

/** The spec as it was written for the runtime; undefined when there is none (any more). */
export async function readSpec(bundle: string): Promise<RuntimeSpec | undefined> {
  const text = await readFile(join(bundle, 'config.json'), 'utf8').catch(() => undefined);
  return text === undefined ? undefined : (JSON.parse(text) as RuntimeSpec);
}

/** Puts the whole of another spec in place of what is there: who is killed, or finds no room, leaves it as it was. */
async function replaceSpec(bundle: string, spec: RuntimeSpec): Promise<void> {
  const file = join(bundle, 'config.json');
  try {
    await writeFile(`${file}.new`, JSON.stringify(spec), { mode: 0o600 });
    await rename(`${file}.new`, file);
  } catch (error) {
    await rm(`${file}.new`, { force: true });
    throw error;
  }
}

/** Lays `change` over the container's limits: in its spec, in the kernel when it runs, and in its record. */
export async function updateResources(
  container: Container,
  change: LinuxContainerResources,
  runtime: OciRuntime,
  parts: BundleParts,
): Promise<void> {
  if (container.phase !== 'created' && container.phase !== 'running') {
    throw new CriError(
      'wrongState',
      `resources of container ${container.id} cannot be changed: it is neither created nor running`,
    );
  }
  const bundle = bundlePath(parts.state, container.id);
  const spec = await readSpec(bundle);
  if (!spec)
    throw new CriError('internal', `container ${container.id} has lost its runtime spec in ${bundle}`);
  const { disableHugetlbController, tolerateMissingHugetlbController } = parts.options(container.handler);
  const resources = applyResources(spec.linux.resources ?? {}, change, {
    subject: `container ${container.id}`,
    host: parts.facts,
    disableHugetlbController,
    tolerateMissingHugetlbController,
    warn: message => parts.log.warn({ container: container.id }, message),
  });
  const setLimits = (document: string) =>
    container.phase === 'running' ? runtime.update(container.id, document) : Promise.resolve();
  try {
    await setLimits(updateDocument(resources));
    await replaceSpec(bundle, { ...spec, linux: { ...spec.linux, resources } });
  } catch (error) {
    // Runtimes set one limit after the other, and leave it at that when one is refused.
    await setLimits(undoDocument(spec.linux.resources ?? {}, resources)).catch(err =>
      parts.log.warn({ container: container.id, err }, 'limits of an update that failed may be in force'),
    );
    throw error;
  }
  container.resources = reportedResources(resources, spec.process.oomScoreAdj);
  await container.save();
}
