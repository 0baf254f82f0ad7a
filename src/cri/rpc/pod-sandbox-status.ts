// PodSandboxStatus: one sandbox, and with `verbose` what is behind it.
import type { Sandbox } from '../../sandbox/sandbox.ts';
import { toPodSandboxStatus } from '../convert/sandbox.ts';
import type { Parts, Rpc } from '../parts.ts';

export const podSandboxStatus: Rpc<'PodSandboxStatus'> = async (parts, { podSandboxId, verbose }) => {
  const sandbox = parts.sandboxes.find(podSandboxId);
  return {
    status: toPodSandboxStatus(sandbox),
    ...(verbose ? { info: { info: JSON.stringify(await sandboxInfo(parts, sandbox)) } } : {}),
  };
};

/** What `crictl inspectp` shows beside the status; the names are those that containerd's users know. */
async function sandboxInfo(parts: Parts, sandbox: Sandbox): Promise<unknown> {
  return {
    pid: sandbox.pause?.pid ?? 0,
    processStatus: sandbox.pause ? 'running' : 'deleted',
    netNamespace: sandbox.netnsPath,
    netNamespaceClosed: sandbox.netnsPath !== null && sandbox.network === null,
    image: parts.config.sandbox.image ?? 'built-in',
    runtimeHandler: sandbox.handler,
    config: sandbox.config,
    runtimeSpec: await parts.runtimeSpec(sandbox.id, 'sandbox'),
    cniResult: sandbox.network?.attachments ?? [],
    pluginRuns: sandbox.pluginRuns,
    steps: sandbox.times,
    owed: sandbox.phase === 'ready' ? [] : sandbox.owed,
  };
}
