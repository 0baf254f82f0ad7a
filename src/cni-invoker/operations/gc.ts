// GC: removes what is left of attachments that are no longer valid (spec section 3, "Garbage-collecting a network").
// First DEL for each that is still recorded, since plugins can undo more by DEL; then GC by the plugins,
// which know also what no record tells.
import type { CachedAttachment } from '../attachment-cache.ts';
import { type CniError, joinErrors } from '../errors.ts';
import type { NetworkConfigList } from '../network-config.ts';
import { parameters, requestConfig } from '../plugin-config.ts';
import { atLeast } from '../versions.ts';
import { asCniError, nothing, type OperationContext } from './context.ts';
import { delCachedAttachment } from './del.ts';

/** An attachment that is to stay. */
export interface ValidAttachment {
  containerId: string;
  ifName: string;
}

/** DEL for every recorded attachment that is not valid, of the networks that it concerns. Goes on after a failure. */
export async function delInvalidAttachments(
  context: OperationContext,
  valid: readonly ValidAttachment[],
  concerns: (network: string) => boolean,
  signal?: AbortSignal,
): Promise<CniError[]> {
  const keep = new Set(valid.map(({ containerId, ifName }) => `${containerId}/${ifName}`));
  const { ids, damaged: errors } = context.cache.ids();
  const tried = async (work: () => Promise<void> | void) => {
    try {
      await work();
    } catch (thrown) {
      errors.push(asCniError(thrown));
    }
  };
  const stale: CachedAttachment[] = [];
  for (const id of ids) {
    if (!concerns(id.network) || keep.has(`${id.containerId}/${id.ifName}`)) continue;
    await tried(() => {
      const cached = context.cache.get(id);
      if (cached && !cached.config.disableGC) stale.push(cached);
    });
  }
  for (const cached of stale.sort((a, b) => b.order - a.order)) {
    await tried(() => delCachedAttachment(context, cached, cached.netns, signal));
  }
  return errors;
}

/** Both parts of GC for one network. @throws CniError joined of every failure, after all plugins have had their turn */
export async function gcNetworkList(
  context: OperationContext,
  list: NetworkConfigList,
  valid: readonly ValidAttachment[],
  signal?: AbortSignal,
): Promise<void> {
  if (list.disableGC) return;
  const errors = await delInvalidAttachments(context, valid, network => network === list.name, signal);
  const error = joinErrors([...errors, ...(await gcPlugins(context, list, valid, signal))]);
  if (error !== undefined) throw error;
}

/** GC by the network's plugins, where they know it; returns their failures. @throws CniError when there are no such plugins */
export async function gcPlugins(
  context: OperationContext,
  list: NetworkConfigList,
  valid: readonly ValidAttachment[],
  signal?: AbortSignal,
): Promise<CniError[]> {
  const errors: CniError[] = [];
  if (list.disableGC) return errors;
  const { binaries, cniVersion } = await context.plugins.resolve(list);
  if (atLeast(cniVersion, '1.1.0')) {
    const attachments = valid.map(({ containerId, ifName }) => ({
      containerID: containerId,
      ifname: ifName,
    }));
    for (const [i, binary] of binaries.entries()) {
      const plugin = list.plugins[i];
      if (plugin === undefined) continue;
      try {
        await context.execute({
          verb: 'GC',
          binary,
          network: list.name,
          environment: parameters('GC', context.binDirs),
          config: requestConfig(plugin, {
            name: list.name,
            cniVersion,
            // The second key is what the first plugins with GC read, from a draft of the specification.
            inject: { 'cni.dev/valid-attachments': attachments, 'cni.dev/attachments': attachments },
          }),
          signal,
          decode: nothing,
        });
      } catch (thrown) {
        errors.push(asCniError(thrown));
      }
    }
  }
  return errors;
}
