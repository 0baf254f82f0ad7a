// UpdatePodSandboxResources: kubelet has resized a pod. The pod's cgroup is kubelet's, and it has set the limits there
// already; what is left is to know them, for PodSandboxStatus and for whoever reads the pod's configuration next.
import type { Rpc } from '../parts.ts';

export const updatePodSandboxResources: Rpc<'UpdatePodSandboxResources'> = async (
  { sandboxes },
  { podSandboxId, overhead, resources },
) => {
  const sandbox = sandboxes.find(podSandboxId);
  const linux = sandbox.config.linux ?? emptyLinux;
  sandbox.config = {
    ...sandbox.config,
    linux: {
      ...linux,
      overhead: overhead ?? linux.overhead,
      resources: resources ?? linux.resources,
    },
  };
  await sandbox.save();
  return {};
};

const emptyLinux = { cgroupParent: '', securityContext: null, sysctls: {}, overhead: null, resources: null };
