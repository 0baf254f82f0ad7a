// What one plugin receives on its standard input and in its environment
// (spec section 3, "Deriving request configuration from plugin configuration"; section 2, "Parameters").
import { CniError } from './errors.ts';
import { isValidName, type JsonObject, type PluginConfig } from './network-config.ts';
import type { SpecVersion } from './versions.ts';

/** What is asked of a plugin (spec section 2, "CNI operations"). */
export type Verb = 'ADD' | 'DEL' | 'CHECK' | 'GC' | 'STATUS' | 'VERSION';

/** The parameters of one attachment, which come from the runtime (spec section 3, "Attachment Parameters"). */
export interface RuntimeConf {
  containerId: string;
  /** Path of the network namespace; empty for a DEL when it is gone. */
  netns: string;
  ifName: string;
  /** CNI_ARGS. */
  args?: readonly (readonly [key: string, value: string])[] | undefined;
  /**
   * Values by capability, such as portMappings, bandwidth, dns, ipRanges, ips, mac, aliases, cgroupPath,
   * infinibandGUID, deviceID, io.kubernetes.cri.pod-annotations. A plugin gets those that its configuration declares.
   */
  capabilityArgs?: Readonly<Record<string, unknown>> | undefined;
}

/**
 * The request configuration of one plugin. Keys of the file pass unaltered, but for those that are the runtime's:
 * `capabilities`, `prevResult` and keys that begin with cni.dev/.
 */
export function requestConfig(
  plugin: PluginConfig,
  request: {
    name: string;
    cniVersion: SpecVersion;
    capabilityArgs?: Readonly<Record<string, unknown>> | undefined;
    prevResult?: JsonObject | undefined;
    /** Further keys of the runtime, such as cni.dev/valid-attachments. */
    inject?: JsonObject | undefined;
  },
): JsonObject {
  const own = Object.entries(plugin.raw).filter(
    ([key]) => key !== 'capabilities' && key !== 'prevResult' && !key.startsWith('cni.dev/'),
  );
  const runtimeConfig = Object.entries(request.capabilityArgs ?? {}).filter(
    ([capability, value]) => plugin.capabilities[capability] === true && value !== undefined,
  );
  return {
    ...Object.fromEntries(own),
    cniVersion: request.cniVersion,
    name: request.name,
    ...(runtimeConfig.length === 0 ? {} : { runtimeConfig: Object.fromEntries(runtimeConfig) }),
    ...(request.prevResult === undefined ? {} : { prevResult: request.prevResult }),
    ...request.inject,
  };
}

/** The parameters of an operation, as environment variables. Outside of an attachment all but two are empty. */
export function parameters(
  verb: Verb,
  binDirs: readonly string[],
  rt: Partial<RuntimeConf> = {},
): Record<string, string> {
  return {
    CNI_COMMAND: verb,
    CNI_CONTAINERID: rt.containerId ?? '',
    CNI_NETNS: rt.netns ?? '',
    CNI_IFNAME: rt.ifName ?? '',
    CNI_ARGS: (rt.args ?? []).map(([key, value]) => `${key}=${value}`).join(';'),
    CNI_PATH: binDirs.join(':'),
  };
}

/** Refuses parameters that no plugin could take, before any plugin runs. @throws CniError invalid-argument */
export function checkRuntimeConf(rt: RuntimeConf): void {
  const { containerId, netns, ifName } = rt;
  if (!isValidName(containerId)) {
    throw new CniError(
      'invalid-argument',
      `the container id ${JSON.stringify(containerId)} is not valid; allowed are letters, digits, "_", "." and "-", ` +
        'the first being a letter or digit',
    );
  }
  if (
    ifName.length === 0 ||
    ifName.length > 15 ||
    /[/:\s\0]/.test(ifName) ||
    ifName === '.' ||
    ifName === '..'
  ) {
    throw new CniError(
      'invalid-argument',
      `the interface name ${JSON.stringify(ifName)} is not valid; the kernel takes 1 to 15 characters ` +
        'without "/", ":" and blanks',
    );
  }
  if (netns.includes('\0'))
    throw new CniError('invalid-argument', 'the network namespace path holds a NUL byte');
  for (const [key, value] of rt.args ?? []) {
    if (key === '' || /[=;\0]/.test(key) || /[;\0]/.test(value)) {
      throw new CniError(
        'invalid-argument',
        `the CNI argument ${JSON.stringify(`${key}=${value}`)} cannot be written as KEY=VALUE: ` +
          'the key must not be empty or hold "=" or ";", the value must not hold ";"',
      );
    }
  }
}
