// ListPodSandboxMetrics: cAdvisor's metrics of every READY pod and its running containers, for kubelet's /metrics/cadvisor.
import { toPodSandboxMetrics } from '../convert/metrics.ts';
import type { Rpc } from '../parts.ts';

export const listPodSandboxMetrics: Rpc<'ListPodSandboxMetrics'> = async ({ stats }) => {
  const pods = await stats.metrics();
  return { podMetrics: pods.map(toPodSandboxMetrics) };
};
