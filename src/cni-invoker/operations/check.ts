// CHECK: asks a network's plugins whether an attachment is still as ADD left it (spec section 3,
// "Checking an attachment").
import { CniError } from '../errors.ts';
import type { NetworkConfigList } from '../network-config.ts';
import { checkRuntimeConf, parameters, type RuntimeConf, requestConfig } from '../plugin-config.ts';
import { encodeResult } from '../result.ts';
import { atLeast } from '../versions.ts';
import { nothing, type OperationContext } from './context.ts';

/** `disabled`: the configuration sets disableCheck. `unsupported`: CHECK came with 0.4.0. */
export type CheckOutcome = 'checked' | 'disabled' | 'unsupported';

/** @throws CniError not-attached when there was no ADD; otherwise the plugin's failure: the attachment is not in order */
export async function checkNetworkList(
  context: OperationContext,
  list: NetworkConfigList,
  rt: RuntimeConf,
  signal?: AbortSignal,
): Promise<CheckOutcome> {
  checkRuntimeConf(rt);
  const { containerId, ifName } = rt;
  const cached = context.cache.get({ network: list.name, containerId, ifName });
  if (cached?.result === undefined) {
    throw new CniError(
      'not-attached',
      `${ifName} of container ${containerId} has no attachment to network ${JSON.stringify(list.name)} to check`,
      { verb: 'CHECK', network: list.name, containerId, ifName },
    );
  }
  if (list.disableCheck || cached.config.disableCheck) return 'disabled';
  const { binaries, cniVersion } = await context.plugins.resolve(cached.config);
  if (!atLeast(cniVersion, '0.4.0')) return 'unsupported';
  const prevResult = encodeResult(cached.result, cniVersion);
  // All parameters but CNI_PATH are those of ADD.
  const environment = parameters('CHECK', context.binDirs, cached);
  for (const [i, binary] of binaries.entries()) {
    const plugin = cached.config.plugins[i];
    if (plugin === undefined) continue;
    await context.execute({
      verb: 'CHECK',
      binary,
      network: list.name,
      environment,
      config: requestConfig(plugin, {
        name: list.name,
        cniVersion,
        capabilityArgs: cached.capabilityArgs,
        prevResult,
      }),
      signal,
      decode: nothing,
    });
  }
  return 'checked';
}
