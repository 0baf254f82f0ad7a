// RunPodSandbox: checks the request; the steps are in src/sandbox/lifecycle.ts.
import { CriError } from '../../errors.ts';
import { checkPodConfig } from '../../sandbox/check.ts';
import type { Rpc } from '../parts.ts';
import { requireMetadata } from '../require.ts';

export const runPodSandbox: Rpc<'RunPodSandbox'> = async (parts, { config, runtimeHandler }, { signal }) => {
  if (!config) throw new CriError('invalidArgument', 'RunPodSandbox needs a sandbox config');
  const metadata = requireMetadata(config.metadata, 'sandbox config');
  const { handlers, defaultName } = parts.config.runtimes;
  const handler = runtimeHandler || defaultName;
  if (!handlers.has(handler)) {
    const known = [...handlers.keys()].join(', ');
    throw new CriError(
      'invalidArgument',
      `no runtime handler ${handler} is configured for sandbox ${metadata.name}: there is ${known}`,
    );
  }
  checkPodConfig({ ...config, metadata });
  const pod = { config: { ...config, metadata }, handler, requestedHandler: runtimeHandler };
  return { podSandboxId: await parts.sandboxes.run(pod, signal) };
};
