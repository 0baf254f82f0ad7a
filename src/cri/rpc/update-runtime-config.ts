// UpdateRuntimeConfig: the pod CIDR that kubelet learned, for nodes whose CNI configuration is made from a template.
import type { Rpc } from '../parts.ts';

export const updateRuntimeConfig: Rpc<'UpdateRuntimeConfig'> = async (parts, { runtimeConfig }) => {
  const podCidr = runtimeConfig?.networkConfig?.podCidr ?? '';
  if (podCidr !== '') await parts.setPodCidr(podCidr);
  return {};
};
