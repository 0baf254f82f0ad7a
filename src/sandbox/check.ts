// What can be told of a pod's configuration by reading it alone, before a name is taken or anything is made.
import { isAbsolute } from 'node:path';
import type { PodSandboxConfig, PodSandboxMetadata } from '../cri-api/types.ts';
import { CriError, messageOf } from '../errors.ts';
import { resolvConf } from './files.ts';
import { podRuntimeConf } from './network.ts';

/** @throws CriError invalidArgument, naming the pod and what is wrong with it */
export function checkPodConfig(config: PodSandboxConfig & { metadata: PodSandboxMetadata }): void {
  const { metadata, logDirectory, dnsConfig } = config;
  const refuse = (why: string): never => {
    throw new CriError(
      'invalidArgument',
      `sandbox "${metadata.namespace}/${metadata.name}" cannot be run: ${why}`,
    );
  };
  for (const [key, value] of Object.entries(metadata)) {
    // They are handed to CNI plugins as KEY=VALUE;KEY=VALUE, which refuse a second "=" in ADD, and in DEL.
    if (/[;=\0]/.test(String(value)))
      refuse(`metadata.${key} ${JSON.stringify(value)} holds a ";", a "=" or a NUL`);
  }
  if (logDirectory !== '' && !isAbsolute(logDirectory)) {
    refuse(`log_directory ${JSON.stringify(logDirectory)} is not an absolute path`);
  }
  try {
    if (dnsConfig) resolvConf(dnsConfig);
    podRuntimeConf('', '', config);
  } catch (error) {
    refuse(messageOf(error));
  }
}
