// What no pod owns any more in the networks: attachments whose pod is not known, and what plugins keep beyond that. Normally
// there is none, since a pod goes only when its network has gone; a lost record or an older daemon may have left some.
import type { Invoker, NetworkAttachmentConfig } from '../cni-invoker/index.ts';
import { messageOf } from '../errors.ts';
import type { Logger } from '../log.ts';
import { removeEmptyReservations } from './empty-reservations.ts';
import type { Sandbox } from './sandbox.ts';

export interface NetworkGarbage {
  invoker: Invoker;
  /** Every network that pods may be on. */
  networks: readonly NetworkAttachmentConfig[];
  /** Every sandbox that there is, also those being brought up or taken down. */
  sandboxes(): readonly Sandbox[];
  /**
   * Names of other runtimes on this node. The plugins' own collection (GC) is left out then: to a plugin, pods of
   * another runtime on a network of the same name are garbage.
   */
  otherRuntimes(): Promise<readonly string[]>;
  log: Logger;
}

/** Collects once. A failure is logged; nothing depends on it. */
export async function collectNetworkGarbage(
  { invoker, networks, sandboxes, otherRuntimes, log }: NetworkGarbage,
  signal: AbortSignal,
): Promise<void> {
  const valid = async () => {
    const known = sandboxes();
    const pods = new Set(known.map(({ id }) => id));
    const { ids } = await invoker.attachmentIds();
    return [
      ...ids.filter(({ containerId }) => pods.has(containerId)),
      ...known.flatMap(({ id, network }) =>
        (network?.attachments ?? []).map(({ ifName }) => ({ containerId: id, ifName })),
      ),
    ].map(({ containerId, ifName }) => ({ containerId, ifName }));
  };
  try {
    const lost = removeEmptyReservations(networks.map(({ network }) => network));
    if (lost.length > 0)
      log.warn({ reservations: lost }, 'addresses that a power cut left to nobody are free again');
    const others = await otherRuntimes();
    await invoker.gcAll(others.length === 0 ? networks : [], valid, signal);
    log.debug({ networks: networks.map(({ network }) => network.name), others }, 'networks collected');
  } catch (error) {
    if (signal.aborted) return;
    log.warn(
      { error: messageOf(error) },
      'collecting garbage of the networks failed; the next start tries again',
    );
  }
}
