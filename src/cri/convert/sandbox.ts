// Sandboxes as CRI messages.
import type { Loose } from '../../cri-api/contract.ts';
import type { PodSandbox, PodSandboxFilter, PodSandboxState, PodSandboxStatus } from '../../cri-api/types.ts';
import type { Sandbox } from '../../sandbox/sandbox.ts';

export function sandboxState({ phase }: Sandbox): PodSandboxState {
  return phase === 'ready' ? 'SANDBOX_READY' : 'SANDBOX_NOTREADY';
}

export function toPodSandbox(sandbox: Sandbox): Loose<PodSandbox> {
  const { id, config, createdAt } = sandbox;
  return {
    id,
    metadata: config.metadata,
    state: sandboxState(sandbox),
    createdAt,
    labels: config.labels,
    annotations: config.annotations,
    runtimeHandler: sandbox.requestedHandler,
  };
}

export function toPodSandboxStatus(sandbox: Sandbox): Loose<PodSandboxStatus> {
  const [ip = '', ...additional] = sandbox.network?.ips ?? [];
  const {
    network = 'POD',
    pid = 'POD',
    ipc = 'POD',
    targetId = '',
    usernsOptions = null,
  } = sandbox.config.linux?.securityContext?.namespaceOptions ?? {};
  return {
    ...toPodSandbox(sandbox),
    network: { ip, additionalIps: additional.map(address => ({ ip: address })) },
    linux: { namespaces: { options: { network, pid, ipc, targetId, usernsOptions } } },
  };
}

/** Whether a sandbox passes a ListPodSandbox filter. An id may be a prefix; labels must all match. */
export function matchesSandbox(sandbox: Sandbox, filter: PodSandboxFilter | null): boolean {
  if (!filter) return true;
  return (
    sandbox.id.startsWith(filter.id) &&
    (!filter.state || sandboxState(sandbox) === filter.state.state) &&
    matchesLabels(sandbox.config.labels, filter.labelSelector)
  );
}

export function matchesLabels(
  labels: Readonly<Record<string, string>>,
  selector: Readonly<Record<string, string>>,
): boolean {
  return Object.entries(selector).every(([key, value]) => labels[key] === value);
}
