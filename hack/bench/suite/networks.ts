// The CNI configuration of every contestant: a bridge with masquerade and portmap, and loopback. containerd reads the
// first file and runs the loopback plugin by itself; cri-ts and the floor run what both files say. Three executables each.
export const pluginDir = '/usr/lib/cni';

const bridge = {
  type: 'bridge',
  bridge: 'bench0',
  isGateway: true,
  ipMasq: true,
  ipam: {
    type: 'host-local',
    ranges: [[{ subnet: '10.211.0.0/20' }]],
    routes: [{ dst: '0.0.0.0/0' }],
  },
};
const portmap = { type: 'portmap', capabilities: { portMappings: true } };

/** Plugins in the order of their ADD. */
export const chain: readonly { ifName: string; network: string; config: { type: string } }[] = [
  { ifName: 'eth0', network: 'bench', config: bridge },
  { ifName: 'eth0', network: 'bench', config: portmap },
  { ifName: 'lo', network: 'lo', config: { type: 'loopback' } },
];

export const cniVersion = '1.0.0';

export const files: Readonly<Record<string, unknown>> = {
  '10-bench.conflist': { cniVersion, name: 'bench', plugins: [bridge, portmap] },
  '99-loopback.conf': { cniVersion, name: 'lo', type: 'loopback' },
};
