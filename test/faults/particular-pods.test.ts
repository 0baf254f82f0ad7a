// The steps that particular pods and containers make longer, each with each fault that ends it: a pod of two networks and
// a host port whose pause program is an image's, and a container with an image as a volume and volumes that its image declares.
import { afterAll } from 'vitest';
import { addImage } from '../support/containers.ts';
import { startFaultMatrix } from '../support/fault-matrix.ts';
import { removeHostPortChains } from '../support/host-port-chains.ts';
import { bridgeConf } from '../support/node.ts';
import { podOperationsOf } from '../support/operations.ts';

const pauseImage = 'docker.io/test/pause:latest';
const secondSubnet = '10.84.1';

const pod = { portMappings: [{ protocol: 'TCP' as const, containerPort: 80, hostPort: 18_180, hostIp: '' }] };

const matrix = await startFaultMatrix(
  {
    config: `[plugins."io.containerd.cri.v1.images".pinned_images]\n  sandbox = "${pauseImage}"\n`,
    cni: paths => {
      const { cniVersion, name, ...bridge } = bridgeConf(paths);
      const { ipam } = bridgeConf({ ...paths, subnet: secondSubnet });
      const portmap = { type: 'portmap', capabilities: { portMappings: true } };
      return {
        '10-first.conflist': { cniVersion, name, plugins: [bridge, portmap] },
        '20-second.conflist': {
          cniVersion,
          name: `${name}-2`,
          plugins: [{ type: 'ptp', ipMasq: true, ipam }],
        },
      };
    },
  },
  async node => {
    await addImage(node, pauseImage, { Entrypoint: ['/bin/busybox', 'sleep'], Cmd: ['123456'] });
    await addImage(node, 'docker.io/test/volumes:latest', { Volumes: { '/var/www': {}, '/data/new': {} } });
    await node.runPod(pod); // the chains that portmap makes for all pods stay
    await node.removeAll();
  },
);
afterAll(async () => {
  await matrix.node.removeAll();
  await removeHostPortChains();
  await matrix.destroy();
  console.log(
    `faults of particular pods: ${JSON.stringify(matrix.counts)} combinations of operation, step and fault`,
  );
});

const ofPod = ['network (CNI ADD)', 'pause root file system', 'pause container (runc run)'];
const ofContainer = ['image volumes', 'runtime spec', 'root file system'];

await matrix.cover(
  podOperationsOf(matrix.node, {
    variant: 'a pod with two networks, a host port, a pause image, and volumes of its container',
    pod,
    container: {
      image: { image: 'test/volumes:latest' },
      mounts: [{ containerPath: '/image', image: { image: 'test/busybox:latest' }, readonly: true }],
    },
    steps: {
      RunPodSandbox: ofPod,
      CreateContainer: ofContainer,
      RemoveContainer: ofContainer,
      StopPodSandbox: ofPod,
    },
  }),
);
