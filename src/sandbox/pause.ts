// The pause container's program and root file system: built in (a static program that packages put on the host), or
// an image that the configuration names.
import { constants } from 'node:fs';
import { access, chmod, copyFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { CriError, messageOf } from '../errors.ts';
import { makeDirectories } from '../host/directories.ts';
import type { Images } from '../image/images.ts';
import type { PauseRootfs } from './lifecycle.ts';
import { builtInPauseArgs, type SandboxSpecInput } from './spec.ts';

export interface Pause {
  rootfs: PauseRootfs;
  /** What the pause container runs. */
  program(): SandboxSpecInput['pause'];
}

/** Where distributions put a static program that can pause. */
const knownPrograms = ['/usr/bin/catatonit', '/usr/libexec/podman/catatonit', '/usr/lib/podman/catatonit'];

/**
 * One read-only root file system for all pods, with nothing but the program and the directories that the runtime
 * mounts on: no mount is made for a pod.
 * @throws CriError unavailable when the host has no such program
 */
export async function builtInPause(root: string, configured: string | undefined): Promise<Pause> {
  const rootfs = join(root, 'pause', 'rootfs');
  const program = await firstExecutable(configured === undefined ? knownPrograms : [configured]);
  for (const directory of ['proc', 'dev', 'sys', 'etc'])
    await makeDirectories(join(rootfs, directory), 0o755);
  const file = join(rootfs, 'pause');
  await copyFile(program, `${file}.new`);
  await chmod(`${file}.new`, 0o755);
  await rename(`${file}.new`, file); // pods that run the old one keep it
  return {
    rootfs: { ensure: async () => {}, path: () => rootfs, mount: async () => {}, unmount: async () => {} },
    program: () => ({ args: builtInPauseArgs, native: true }),
  };
}

async function firstExecutable(paths: readonly string[]): Promise<string> {
  for (const path of paths) {
    if (
      await access(path, constants.X_OK).then(
        () => true,
        () => false,
      )
    )
      return path;
  }
  throw new CriError(
    'unavailable',
    `no pause program was found (looked for ${paths.join(', ')}): install the package catatonit, or set sandbox_image or pause_path`,
  );
}

/** The configured image, mounted for each pod. The first pod pulls it when it is not there. */
export function imagePause(images: Images, reference: string): Pause {
  const resolve = () => {
    const image = images.status(reference);
    if (image) return image;
    throw new CriError(
      'notFound',
      `the sandbox image ${reference} is not on this node any more: pull or import it, or unset sandbox_image to use the built-in pause`,
    );
  };
  const rootfsId = (sandboxId: string) => `${sandboxId}-pause`;
  return {
    rootfs: {
      async ensure(signal) {
        if (!images.status(reference)) await pullForPods(images, reference, signal);
      },
      path: sandboxId => images.rootfs.path(rootfsId(sandboxId)),
      async mount(sandboxId, userns, signal) {
        await images.rootfs.prepare(rootfsId(sandboxId), resolve().id, { readonly: false, userns });
        await images.rootfs.mount(rootfsId(sandboxId), { userns, signal });
      },
      unmount: sandboxId => images.rootfs.remove(rootfsId(sandboxId)),
    },
    program() {
      const { config } = resolve();
      return {
        args: [...(config.Entrypoint ?? []), ...(config.Cmd ?? [])],
        env: config.Env ?? [],
        cwd: config.WorkingDir || '/',
        image: reference,
        native: false,
      };
    },
  };
}

async function pullForPods(images: Images, reference: string, signal: AbortSignal): Promise<void> {
  try {
    await images.pull(reference, { signal });
  } catch (error) {
    const advice = 'import it, or unset sandbox_image to use the built-in pause';
    throw new CriError(
      error instanceof CriError ? error.kind : 'imageFailed',
      `the sandbox image ${reference} is not on this node and cannot be pulled: ${messageOf(error)}; ${advice}`,
      { cause: error },
    );
  }
}
