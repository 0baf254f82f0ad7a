// A pod's network in the words of CNI: which arguments and capability values a pod's configuration gives to the
// plugins, and which addresses their results give to the pod.
import { isIPv4 } from 'node:net';
import { type Attachment, type ContainerRuntimeConf, containerAddresses } from '../cni-invoker/index.ts';
import type { PodSandboxConfig, PortMapping } from '../cri-api/types.ts';
import { CriError } from '../errors.ts';

/** Parameters of ADD and DEL for a pod (CNI conventions, "Well-known Capabilities"; CNI_ARGS as kubelet's dockershim set). */
export function podRuntimeConf(id: string, netns: string, config: PodSandboxConfig): ContainerRuntimeConf {
  const { name = '', namespace = '', uid = '' } = config.metadata ?? {};
  return {
    containerId: id,
    netns,
    args: [
      ['IgnoreUnknown', '1'],
      ['K8S_POD_NAMESPACE', namespace],
      ['K8S_POD_NAME', name],
      ['K8S_POD_INFRA_CONTAINER_ID', id],
      ['K8S_POD_UID', uid],
    ],
    capabilityArgs: {
      portMappings: portMappings(config.portMappings),
      bandwidth: bandwidth(config.annotations),
      dns: dns(config),
      cgroupPath: config.linux?.cgroupParent || undefined,
      'io.kubernetes.cri.pod-annotations':
        Object.keys(config.annotations).length > 0 ? config.annotations : undefined,
    },
  };
}

function portMappings(mappings: readonly PortMapping[]): unknown[] | undefined {
  const published = mappings.filter(mapping => mapping.hostPort > 0);
  if (published.length === 0) return undefined;
  return published.map(({ hostPort, containerPort, protocol, hostIp }) => ({
    hostPort,
    containerPort,
    protocol: protocol.toLowerCase(),
    ...(hostIp === '' ? {} : { hostIP: hostIp }),
  }));
}

function dns({ dnsConfig }: PodSandboxConfig): unknown {
  if (!dnsConfig) return undefined;
  const { servers, searches, options } = dnsConfig;
  return servers.length + searches.length + options.length > 0 ? { servers, searches, options } : undefined;
}

/** Bits; the most that the bandwidth plugin's burst field takes. */
const unboundedBurst = 2 ** 32 - 1;

/** The bandwidth capability, in bits per second, from the two annotations that Kubernetes documents. */
function bandwidth(annotations: Readonly<Record<string, string>>): unknown {
  const ingress = rate(annotations, 'kubernetes.io/ingress-bandwidth');
  const egress = rate(annotations, 'kubernetes.io/egress-bandwidth');
  if (ingress === undefined && egress === undefined) return undefined;
  return {
    ...(ingress === undefined ? {} : { ingressRate: ingress, ingressBurst: unboundedBurst }),
    ...(egress === undefined ? {} : { egressRate: egress, egressBurst: unboundedBurst }),
  };
}

const suffixes: Readonly<Record<string, number>> = {
  '': 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
};
const [minRate, maxRate] = [1e3, 1e15]; // 1k to 1P, the range that kubelet documents

function rate(annotations: Readonly<Record<string, string>>, key: string): number | undefined {
  const text = annotations[key];
  if (text === undefined) return undefined;
  const match = /^(\d+(?:\.\d+)?)(k|[MGTP]|[KMGTP]i)?$/.exec(text);
  const value = match ? Math.ceil(Number(match[1]) * (suffixes[match[2] ?? ''] ?? Number.NaN)) : Number.NaN;
  if (value >= minRate && value <= maxRate) return value;
  throw new CriError(
    'invalidArgument',
    `annotation ${key} is ${JSON.stringify(text)}: a rate from 1k to 1P bits a second is allowed`,
  );
}

/**
 * The pod's addresses without prefix lengths: those of eth0 first, in the order that `preference` asks for
 * (`cni`: as the plugins returned them), then those of further interfaces. lo's are not the pod's.
 */
export function podAddresses(
  attachments: readonly Attachment[],
  preference: 'ipv4' | 'ipv6' | 'cni',
): string[] {
  const main = containerAddresses(attachments.filter(({ ifName }) => ifName === 'eth0'));
  const others = containerAddresses(attachments.filter(({ ifName }) => ifName !== 'eth0'));
  const isPreferred = (ip: string) => Number(isIPv4(ip) === (preference === 'ipv4'));
  const sorted = preference === 'cni' ? main : [...main].sort((a, b) => isPreferred(b) - isPreferred(a));
  return [...new Set([...sorted, ...others])];
}
