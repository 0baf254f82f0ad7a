// ListMetricDescriptors: the metrics that ListPodSandboxMetrics may use.
import { metricDescriptors } from '../../stats/metrics/descriptors.ts';
import type { Rpc } from '../parts.ts';

export const listMetricDescriptors: Rpc<'ListMetricDescriptors'> = () => ({
  descriptors: metricDescriptors().map(({ name, help, labels }) => ({ name, help, labelKeys: [...labels] })),
});
