// The CNI invoker's public surface: networks from a directory, attachments to them by executing plugins, as the
// CNI specification 1.1.0 words it. It knows nothing of who uses it: containers are ids and namespaces are paths.
export type { CachedAttachment, CachedAttachments } from './attachment-cache.ts';
export type { Attachment, CheckedAttachment, ContainerRuntimeConf } from './chain.ts';
export {
  CniError,
  type CniErrorDetails,
  type CniErrorKind,
  type PluginErrorResult,
  pluginErrorCodes,
} from './errors.ts';
export type { OnPluginRun, PluginRun } from './execute-plugin.ts';
export { createInvoker, type Invoker, type InvokerOptions } from './invoker.ts';
export {
  type ConfigProblem,
  type ConfigWarning,
  type LoadedNetworks,
  type LoadOptions,
  loadNetworks,
  type NetworkAttachmentConfig,
} from './load-networks.ts';
export { isLiveNetns } from './netns.ts';
export {
  isLoopback,
  type NetworkConfigList,
  type PluginConfig,
  parseNetworkConfig,
  parseNetworkConfigList,
} from './network-config.ts';
export type { CheckOutcome } from './operations/check.ts';
export type { ValidAttachment } from './operations/gc.ts';
export type { RuntimeConf, Verb } from './plugin-config.ts';
export type { PluginInfo } from './plugin-versions.ts';
export {
  containerAddresses,
  decodeResult,
  type EncodedResult,
  encodeResult,
  type Result,
  type ResultDNS,
  type ResultInterface,
  type ResultIP,
  type ResultRoute,
} from './result.ts';
export { currentVersion, type SpecVersion, specVersions } from './versions.ts';
export { type NetworkWatch, type WatchOptions, watchNetworks } from './watch-networks.ts';
