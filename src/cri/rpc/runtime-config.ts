// RuntimeConfig: the cgroup driver, so that kubelet uses the same.
import type { Rpc } from '../parts.ts';

export const runtimeConfig: Rpc<'RuntimeConfig'> = ({ config }) => {
  const handler = config.runtimes.handlers.get(config.runtimes.defaultName);
  return { linux: { cgroupDriver: handler?.systemdCgroup ? 'SYSTEMD' : 'CGROUPFS' } };
};
