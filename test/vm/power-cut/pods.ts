// Pods as the power cuts meet them: in kubelet's slices, with a container that writes.
import type { CriClient } from '../../support/cri-client.ts';

/** RunPodSandbox, and a started container of the image; returns the container's id. */
export async function runPod(cri: CriClient, name: string, image: string, script: string): Promise<string> {
  const logDirectory = `/var/log/pods/${name}`;
  const config = {
    metadata: { name, namespace: 'power-cut', uid: name, attempt: 0 },
    logDirectory,
    linux: { cgroupParent: `/kubepods.slice/kubepods-pod${name}.slice` },
  };
  const { podSandboxId } = await cri.RunPodSandbox({ config });
  const { containerId } = await cri.CreateContainer({
    podSandboxId,
    config: {
      metadata: { name: 'main', attempt: 0 },
      image: { image },
      command: ['sh', '-c', script],
      logPath: 'main.log',
    },
  });
  await cri.StartContainer({ containerId });
  return containerId;
}

/** The calls by which kubelet ends and removes everything. */
export async function removeAll(cri: CriClient): Promise<void> {
  for (const { id } of (await cri.ListPodSandbox()).items) {
    await cri.StopPodSandbox({ podSandboxId: id });
    await cri.RemovePodSandbox({ podSandboxId: id });
  }
}
