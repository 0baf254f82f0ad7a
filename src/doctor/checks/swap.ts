// Swap: kubelet's business, but a node that has it fails at kubelet's start unless told otherwise.
import { type Check, info, ok } from '../finding.ts';

export const swap: Check = {
  name: 'swap',
  run: host => {
    const areas = (host.readText('/proc/swaps') ?? '').trim().split('\n').slice(1);
    const why = 'kubelet does not start with swap on unless failSwapOn is false';
    if (areas.length === 0) return [ok('no swap', why)];
    const names = areas.map(line => line.split(/\s+/)[0]).join(', ');
    return [
      info(
        `swap on ${names}`,
        why,
        'swapoff -a, and remove swap from /etc/fstab; or set failSwapOn: false and memorySwap in the kubelet configuration.',
      ),
    ];
  },
};
