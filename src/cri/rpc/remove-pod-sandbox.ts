// RemovePodSandbox: removes a pod with its containers. Idempotent.
import type { Rpc } from '../parts.ts';

export const removePodSandbox: Rpc<'RemovePodSandbox'> = async (parts, { podSandboxId }) => {
  await parts.sandboxes.remove(podSandboxId);
  return {};
};
