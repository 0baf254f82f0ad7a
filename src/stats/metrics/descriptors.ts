// Every metric there is, for clients that ask once which to expect.
import { cpuMetrics } from './cpu.ts';
import { diskMetrics } from './disk.ts';
import { baseLabels, type MetricFamily } from './family.ts';
import { memoryMetrics } from './memory.ts';
import { networkMetrics } from './network.ts';
import { pressureMetrics } from './pressure.ts';
import { processMetrics } from './process.ts';
import { specMetrics } from './spec.ts';

export interface MetricDescriptor {
  name: string;
  help: string;
  labels: readonly string[];
}

export function metricDescriptors(): MetricDescriptor[] {
  const families: readonly Pick<MetricFamily<never>, 'name' | 'help' | 'labels'>[] = [
    ...cpuMetrics,
    ...memoryMetrics,
    ...pressureMetrics,
    ...diskMetrics,
    ...processMetrics,
    ...specMetrics,
    ...networkMetrics,
  ];
  return families.map(({ name, help, labels = [] }) => ({ name, help, labels: [...baseLabels, ...labels] }));
}
