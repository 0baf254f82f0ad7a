// Metrics of pressure: time in which tasks waited (some of them) or stalled (all of them).
import type { Pressure, PressureResource } from '../../host/cgroup/types.ts';
import type { MetricFamily } from './family.ts';

export interface PressureSubject {
  pressure: Readonly<Record<PressureResource, Pressure | undefined>>;
}

const families = (resource: PressureResource, whatFor: string): MetricFamily<PressureSubject>[] => [
  {
    name: `container_pressure_${resource}_waiting_seconds_total`,
    help: `Time in which some task waited for ${whatFor}, seconds.`,
    type: 'COUNTER',
    read: ({ pressure }) => inSeconds(pressure[resource]?.some?.totalNs),
  },
  {
    name: `container_pressure_${resource}_stalled_seconds_total`,
    help: `Time in which all tasks waited for ${whatFor}, seconds.`,
    type: 'COUNTER',
    read: ({ pressure }) => inSeconds(pressure[resource]?.full?.totalNs),
  },
];

export const pressureMetrics: readonly MetricFamily<PressureSubject>[] = [
  ...families('cpu', 'a CPU'),
  ...families('memory', 'memory'),
  ...families('io', 'block devices'),
];

function inSeconds(ns: number | undefined): number | undefined {
  return ns === undefined ? undefined : ns / 1e9;
}
