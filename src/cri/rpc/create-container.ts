// CreateContainer: checks the request and finds its image, or checkpoint; the steps are in src/container/lifecycle.ts.
import { forImageVolume } from '../../container/image-volumes.ts';
import { stopSignalOf } from '../../container/signals.ts';
import type { ContainerConfig } from '../../cri-api/types.ts';
import { CriError } from '../../errors.ts';
import type { Sandbox } from '../../sandbox/sandbox.ts';
import type { Parts, Rpc } from '../parts.ts';
import { requireMetadata, within } from '../require.ts';

export const createContainer: Rpc<'CreateContainer'> = async (
  parts,
  { podSandboxId, config },
  { signal },
) => {
  if (!config) throw new CriError('invalidArgument', 'CreateContainer needs a container config');
  const metadata = requireMetadata(config.metadata, 'container config');
  const sandbox = parts.sandboxes.find(podSandboxId);
  const name = imageName(config, metadata.name);
  const checkpoint = await parts.checkpointNamed(name, sandbox.handler, signal);
  const image = parts.images.resolve(checkpoint?.imageId ?? name);
  const wanted = {
    sandbox,
    config: { ...config, metadata },
    imageId: image.id,
    imageRef: image.repoDigests[0] ?? image.id,
    logPath: logPath(sandbox, config),
    stopSignal: stopSignalOf(config.stopSignal, image.config.StopSignal),
    imageVolumes: await imageVolumes(parts, config),
    restore: checkpoint?.source ?? null,
  };
  return { containerId: await parts.containers.create(wanted, signal) };
};

function imageName(config: ContainerConfig, container: string): string {
  const name = config.image?.image ?? '';
  if (name === '') throw new CriError('invalidArgument', `container ${container} names no image`);
  return name;
}

/** The log's absolute path, below the pod's log directory; null when either is not given. */
function logPath({ config: pod }: Sandbox, { logPath: path }: ContainerConfig): string | null {
  if (path === '' || pod.logDirectory === '') return null;
  return within(pod.logDirectory, path, 'log_path');
}

async function imageVolumes(parts: Parts, config: ContainerConfig): Promise<{ imageId: string }[]> {
  const volumes: { imageId: string }[] = [];
  for (const { image, containerPath } of config.mounts) {
    if (!image || image.image === '') continue;
    const { id } = await forImageVolume(containerPath, () => parts.images.resolve(image.image));
    volumes.push({ imageId: id });
  }
  return volumes;
}
