// STATUS: asks a network's plugins whether they could serve an ADD (spec section 2, "STATUS").
import type { NetworkConfigList } from '../network-config.ts';
import { parameters, requestConfig } from '../plugin-config.ts';
import { atLeast } from '../versions.ts';
import { nothing, type OperationContext } from './context.ts';

/**
 * Before 1.1.0 there is no STATUS; then only the plugins' presence and versions are looked at.
 * @throws CniError of the first plugin that is not ready; details.pluginError.code 50 or 51 says how badly
 */
export async function statusNetworkList(
  context: OperationContext,
  list: NetworkConfigList,
  signal?: AbortSignal,
): Promise<void> {
  const { binaries, cniVersion } = await context.plugins.resolve(list);
  if (!atLeast(cniVersion, '1.1.0')) return;
  for (const [i, binary] of binaries.entries()) {
    const plugin = list.plugins[i];
    if (plugin === undefined) continue;
    await context.execute({
      verb: 'STATUS',
      binary,
      network: list.name,
      environment: parameters('STATUS', context.binDirs),
      config: requestConfig(plugin, { name: list.name, cniVersion }),
      signal,
      decode: nothing,
    });
  }
}
