// Metrics of a pod's network devices.
import type { NetworkDevice, TrafficCounters } from '../../host/network-devices.ts';
import type { MetricFamily } from './family.ts';

export interface NetworkSubject {
  devices: readonly NetworkDevice[];
}

const counters = [
  ['bytes', 'bytes', 'Bytes'],
  ['packets', 'packets', 'Packets'],
  ['packets_dropped', 'dropped', 'Packets dropped while they were'],
  ['errors', 'errors', 'Errors while packets were'],
] as const;

const families = (
  direction: 'receive' | 'transmit',
  side: 'received' | 'transmitted',
): MetricFamily<NetworkSubject>[] =>
  counters.map(([word, counter, words]) => ({
    name: `container_network_${direction}_${word}_total`,
    help: `${words} ${side}.`,
    type: 'COUNTER',
    labels: ['interface'],
    read: ({ devices }) =>
      devices.map(device => ({ labels: [device.name], value: counterOf(device[side], counter) })),
  }));

export const networkMetrics: readonly MetricFamily<NetworkSubject>[] = [
  ...families('receive', 'received'),
  ...families('transmit', 'transmitted'),
];

function counterOf(traffic: TrafficCounters, counter: keyof TrafficCounters): number {
  return traffic[counter];
}
