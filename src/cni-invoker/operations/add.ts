// ADD: executes a network's plugins in order, each with the result of the one before (spec section 3,
// "Adding an attachment"). When one fails, DEL runs over the whole list, those not reached included.
import { CniError } from '../errors.ts';
import { netnsForDel } from '../netns.ts';
import type { NetworkConfigList } from '../network-config.ts';
import { checkRuntimeConf, parameters, type RuntimeConf, requestConfig } from '../plugin-config.ts';
import type { ResolvedNetwork } from '../plugin-versions.ts';
import { encodeResult, parseResult, type Result } from '../result.ts';
import type { OperationContext } from './context.ts';
import { deletePlugins } from './del.ts';

/** `resolved` comes first: a plugin that is missing or shares no version is found out before anything is changed. */
export async function addNetworkList(
  context: OperationContext,
  list: NetworkConfigList,
  resolved: ResolvedNetwork,
  rt: RuntimeConf,
  signal?: AbortSignal,
): Promise<Result> {
  checkRuntimeConf(rt);
  if (signal?.aborted) throw cancelled(list, rt);
  const { order } = context.cache.begin(list, rt);
  try {
    const result = await addPlugins(context, list, resolved, rt, signal);
    context.cache.complete(list, rt, order, encodeResult(result, list.cniVersion));
    return result;
  } catch (thrown) {
    const left = await undo(context, list, resolved, rt);
    throw thrown instanceof CniError ? withLeft(thrown, left) : thrown;
  }
}

async function addPlugins(
  context: OperationContext,
  list: NetworkConfigList,
  { binaries, cniVersion }: ResolvedNetwork,
  rt: RuntimeConf,
  signal: AbortSignal | undefined,
): Promise<Result> {
  let result: Result | undefined;
  for (const [i, binary] of binaries.entries()) {
    const plugin = list.plugins[i];
    if (plugin === undefined) continue;
    result = await context.execute({
      verb: 'ADD',
      binary,
      network: list.name,
      environment: parameters('ADD', context.binDirs, rt),
      config: requestConfig(plugin, {
        name: list.name,
        cniVersion,
        capabilityArgs: rt.capabilityArgs,
        prevResult: result && encodeResult(result, cniVersion),
      }),
      signal,
      decode: parseResult,
    });
  }
  if (result === undefined)
    throw new CniError('no-plugins', `network ${JSON.stringify(list.name)} has no plugins`);
  return result;
}

/** The record is kept when undoing fails, so that a later DEL finds what is left. The caller's signal does not count here. */
async function undo(
  context: OperationContext,
  list: NetworkConfigList,
  resolved: ResolvedNetwork,
  rt: RuntimeConf,
): Promise<CniError[]> {
  const gone = { ...rt, netns: netnsForDel(rt.netns) };
  const left = await deletePlugins(context, list, resolved, gone, undefined, 'go-on');
  if (left.length === 0) {
    context.cache.remove({ network: list.name, containerId: rt.containerId, ifName: rt.ifName });
  }
  return left;
}

/** The failure of an ADD, with the failures to undo it. */
export function withLeft(error: CniError, left: readonly CniError[]): CniError {
  if (left.length === 0) return error;
  const words = left.map(other => other.message).join('; ');
  return new CniError(
    error.kind,
    `${error.message}; undoing it failed too, and is left to a later DEL: ${words}`,
    {
      ...error.details,
      others: [...(error.details.others ?? []), ...left],
      cause: error,
    },
  );
}

function cancelled(list: NetworkConfigList, rt: RuntimeConf): CniError {
  return new CniError(
    'cancelled',
    `CNI ADD of network ${JSON.stringify(list.name)} for ${rt.ifName} of container ${rt.containerId} ` +
      'was cancelled before it began',
    { verb: 'ADD', network: list.name, containerId: rt.containerId, ifName: rt.ifName },
  );
}
