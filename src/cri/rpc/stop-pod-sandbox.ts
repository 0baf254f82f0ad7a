// StopPodSandbox: kills what runs in the pod and takes its network away. Idempotent.
import type { Rpc } from '../parts.ts';

export const stopPodSandbox: Rpc<'StopPodSandbox'> = async (parts, { podSandboxId }) => {
  await parts.sandboxes.stop(podSandboxId);
  return {};
};
