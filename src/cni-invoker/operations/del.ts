// DEL: executes a network's plugins in reverse order, each with the final result of ADD (spec section 3,
// "Deleting an attachment"). It uses the configuration and arguments that ADD used, from the record, whatever the
// files say by now; it may be repeated, and needs no network namespace.
import type { CachedAttachment } from '../attachment-cache.ts';
import { type CniError, joinErrors } from '../errors.ts';
import { netnsForDel } from '../netns.ts';
import type { NetworkConfigList } from '../network-config.ts';
import { checkRuntimeConf, parameters, type RuntimeConf, requestConfig } from '../plugin-config.ts';
import type { ResolvedNetwork } from '../plugin-versions.ts';
import { encodeResult, type Result } from '../result.ts';
import { atLeast } from '../versions.ts';
import { asCniError, nothing, type OperationContext } from './context.ts';

/** DEL of an attachment that has a record, or else, as after a lost cache, with what the caller gives. */
export async function delNetworkList(
  context: OperationContext,
  list: NetworkConfigList,
  rt: RuntimeConf,
  signal?: AbortSignal,
): Promise<void> {
  checkRuntimeConf(rt);
  const cached = context.cache.get({
    network: list.name,
    containerId: rt.containerId,
    ifName: rt.ifName,
  });
  if (cached !== undefined) return delCachedAttachment(context, cached, rt.netns, signal);
  await delUnrecorded(context, list, rt, signal);
}

/** DEL with the configuration and arguments at hand, for an attachment whose record is lost. */
export async function delUnrecorded(
  context: OperationContext,
  list: NetworkConfigList,
  rt: RuntimeConf,
  signal?: AbortSignal,
): Promise<void> {
  const resolved = await context.plugins.resolve(list);
  const gone = { ...rt, netns: netnsForDel(rt.netns) };
  const error = joinErrors(await deletePlugins(context, list, resolved, gone, undefined, 'halt', signal));
  if (error !== undefined) throw error;
}

/** `netns` is where the namespace is now; empty when it is gone. The record goes when all plugins have succeeded. */
export async function delCachedAttachment(
  context: OperationContext,
  cached: CachedAttachment,
  netns: string,
  signal?: AbortSignal,
): Promise<void> {
  const list = cached.config;
  const resolved = await context.plugins.resolve(list);
  const rt: RuntimeConf = { ...cached, netns: netnsForDel(netns) };
  // After an ADD that was cut short any of the plugins may have something to undo, and none must hinder another.
  const onError = cached.result === undefined ? 'go-on' : 'halt';
  const error = joinErrors(await deletePlugins(context, list, resolved, rt, cached.result, onError, signal));
  if (error !== undefined) throw error;
  context.cache.remove(cached);
}

/** Executes DEL from the last plugin to the first; `halt` ends at the first failure, as the specification says. */
export async function deletePlugins(
  context: OperationContext,
  list: NetworkConfigList,
  { binaries, cniVersion }: ResolvedNetwork,
  rt: RuntimeConf,
  result: Result | undefined,
  onError: 'halt' | 'go-on',
  signal?: AbortSignal,
): Promise<CniError[]> {
  // DEL has had a previous result since 0.4.0.
  const prevResult = result && atLeast(cniVersion, '0.4.0') ? encodeResult(result, cniVersion) : undefined;
  const errors: CniError[] = [];
  for (const [i, binary] of [...binaries.entries()].reverse()) {
    const plugin = list.plugins[i];
    if (plugin === undefined) continue;
    try {
      await context.execute({
        verb: 'DEL',
        binary,
        network: list.name,
        environment: parameters('DEL', context.binDirs, rt),
        config: requestConfig(plugin, {
          name: list.name,
          cniVersion,
          capabilityArgs: rt.capabilityArgs,
          prevResult,
        }),
        signal,
        decode: nothing,
      });
    } catch (thrown) {
      errors.push(asCniError(thrown));
      if (onError === 'halt') break;
    }
  }
  return errors;
}
