// cAdvisor's metrics as CRI messages.
import type { Loose } from '../../cri-api/contract.ts';
import type { Metric, PodSandboxMetrics } from '../../cri-api/types.ts';
import type { MetricValue } from '../../stats/metrics/family.ts';
import type { PodMetrics } from '../../stats/metrics/read.ts';

export function toPodSandboxMetrics({ sandboxId, values, containers }: PodMetrics): Loose<PodSandboxMetrics> {
  return {
    podSandboxId: sandboxId,
    metrics: values.map(toMetric),
    containerMetrics: containers.map(container => ({
      containerId: container.containerId,
      metrics: container.values.map(toMetric),
    })),
  };
}

/** Without a timestamp, which would say that the value is an old one. */
function toMetric({ name, type, labels, value }: MetricValue): Loose<Metric> {
  return { name, metricType: type, labelValues: labels, value: { value } };
}
