// The CNI invoker: what a runtime holds to add containers to networks. It binds the operations to one set of plugin
// directories, one cache and one observer, and keeps the order that the specification asks for between them.
import { type AttachmentIds, type CachedAttachments, createAttachmentCache } from './attachment-cache.ts';
import {
  type Attachment,
  addNetworks,
  type CheckedAttachment,
  type ContainerRuntimeConf,
  checkNetworks,
  delNetworks,
} from './chain.ts';
import { type CniError, joinErrors } from './errors.ts';
import { createExclusion } from './exclusion.ts';
import { createExecutor, type OnPluginRun } from './execute-plugin.ts';
import type { NetworkAttachmentConfig } from './load-networks.ts';
import type { NetworkConfigList } from './network-config.ts';
import { addNetworkList } from './operations/add.ts';
import { type CheckOutcome, checkNetworkList } from './operations/check.ts';
import { asCniError, type OperationContext } from './operations/context.ts';
import { delNetworkList } from './operations/del.ts';
import { delInvalidAttachments, gcNetworkList, gcPlugins, type ValidAttachment } from './operations/gc.ts';
import { statusNetworkList } from './operations/status.ts';
import type { RuntimeConf } from './plugin-config.ts';
import { createPluginVersions, type PluginInfo } from './plugin-versions.ts';
import type { Result } from './result.ts';
import type { SpecVersion } from './versions.ts';

export interface InvokerOptions {
  /** Directories with plugin executables, searched in order (CNI_PATH). */
  binDirs: readonly string[];
  /** Directory of the attachment records, for this runtime alone. Made when needed. */
  cacheDir: string;
  /** Milliseconds that one plugin may take until it is killed. Default: two minutes. */
  pluginTimeoutMs?: number | undefined;
  /** Environment of plugins besides CNI_*. Default: this process's own. */
  env?: Readonly<Record<string, string | undefined>> | undefined;
  /** Called after every execution of a plugin. It must not throw. */
  onPluginRun?: OnPluginRun | undefined;
}

/** Every method rejects with CniError. Operations on one container wait for each other; GC runs alone. */
export interface Invoker {
  /** ADD of one network. When it fails, its plugins' DEL has run; what that could not undo stays recorded. */
  add(list: NetworkConfigList, rt: RuntimeConf, signal?: AbortSignal): Promise<Result>;
  /** DEL of one network, by its record when there is one. May be repeated; `rt.netns` may be empty or gone. */
  del(list: NetworkConfigList, rt: RuntimeConf, signal?: AbortSignal): Promise<void>;
  /** CHECK of one network, with what was recorded at ADD. */
  check(list: NetworkConfigList, rt: RuntimeConf, signal?: AbortSignal): Promise<CheckOutcome>;
  /** DEL for the network's recorded attachments that are not valid, then the plugins' GC. */
  gc(list: NetworkConfigList, valid: readonly ValidAttachment[], signal?: AbortSignal): Promise<void>;
  /** STATUS of one network; also fails for plugins that are missing or share no version. */
  status(list: NetworkConfigList, signal?: AbortSignal): Promise<void>;
  /** VERSION of one plugin, asked now. */
  version(type: string, signal?: AbortSignal): Promise<PluginInfo>;
  /** Finds a network's plugins and settles the version to speak; what the first ADD would otherwise wait for. */
  prepare(list: NetworkConfigList): Promise<SpecVersion>;
  /** Whose attachments are on record: much cheaper than the attachments themselves. */
  attachmentIds(): Promise<AttachmentIds>;
  /** Attachments on record, of all containers or one, in the order of ADD. */
  cachedAttachments(containerId?: string): Promise<CachedAttachments>;

  /** ADD of every network, in order. When one fails, the earlier ones are deleted too. */
  addAll(
    networks: readonly NetworkAttachmentConfig[],
    container: ContainerRuntimeConf,
    signal?: AbortSignal,
  ): Promise<Attachment[]>;
  /** DEL of all that is recorded of a container, last first; then of those of `networks` that have no record. */
  delAll(
    container: ContainerRuntimeConf,
    networks?: readonly NetworkAttachmentConfig[],
    signal?: AbortSignal,
  ): Promise<void>;
  /** CHECK of all that is recorded of a container. */
  checkAll(containerId: string, signal?: AbortSignal): Promise<CheckedAttachment[]>;
  /**
   * GC of every network, and DEL for stale attachments of networks that are not configured any more. `valid` is asked
   * when no operation is under way, so that no ADD falls between the question and the collection.
   */
  gcAll(
    networks: readonly NetworkAttachmentConfig[],
    valid: readonly ValidAttachment[] | (() => Promise<readonly ValidAttachment[]>),
    signal?: AbortSignal,
  ): Promise<void>;
  /** STATUS of every network: the failures, empty when all are ready. */
  statusAll(networks: readonly NetworkAttachmentConfig[], signal?: AbortSignal): Promise<CniError[]>;
}

const defaultPluginTimeoutMs = 120_000;

export function createInvoker(options: InvokerOptions): Invoker {
  const execute = createExecutor({
    env: options.env,
    timeoutMs: options.pluginTimeoutMs ?? defaultPluginTimeoutMs,
    onPluginRun: options.onPluginRun,
  });
  const context: OperationContext = {
    binDirs: options.binDirs,
    execute,
    plugins: createPluginVersions(options.binDirs, execute),
    cache: createAttachmentCache(options.cacheDir),
  };
  const exclusion = createExclusion();

  return {
    add: (list, rt, signal) =>
      exclusion.forContainer(rt.containerId, async () =>
        addNetworkList(context, list, await context.plugins.resolve(list), rt, signal),
      ),
    del: (list, rt, signal) =>
      exclusion.forContainer(rt.containerId, () => delNetworkList(context, list, rt, signal)),
    check: (list, rt, signal) =>
      exclusion.forContainer(rt.containerId, () => checkNetworkList(context, list, rt, signal)),
    gc: (list, valid, signal) => exclusion.alone(() => gcNetworkList(context, list, valid, signal)),
    status: (list, signal) => statusNetworkList(context, list, signal),
    version: (type, signal) => context.plugins.version(type, signal),
    prepare: async list => (await context.plugins.resolve(list)).cniVersion,
    attachmentIds: async () => context.cache.ids(),
    cachedAttachments: async containerId => context.cache.list(containerId),

    addAll: (networks, container, signal) =>
      exclusion.forContainer(container.containerId, () => addNetworks(context, networks, container, signal)),
    delAll: (container, networks = [], signal) =>
      exclusion.forContainer(container.containerId, () => delNetworks(context, container, networks, signal)),
    checkAll: (containerId, signal) =>
      exclusion.forContainer(containerId, () => checkNetworks(context, containerId, signal)),
    gcAll: (networks, valid, signal) =>
      exclusion.alone(async () => {
        const kept = typeof valid === 'function' ? await valid() : valid;
        const left = new Set(
          networks.filter(({ network }) => network.disableGC).map(({ network }) => network.name),
        );
        const errors = await delInvalidAttachments(context, kept, name => !left.has(name), signal);
        for (const { network } of networks) {
          errors.push(...(await gcPlugins(context, network, kept, signal).catch(failure)));
        }
        const error = joinErrors(errors);
        if (error !== undefined) throw error;
      }),
    statusAll: async (networks, signal) => {
      const failures = await Promise.all(
        networks.map(({ network }) => statusNetworkList(context, network, signal).then(() => [], failure)),
      );
      return failures.flat();
    },
  };
}

function failure(thrown: unknown): CniError[] {
  return [asCniError(thrown)];
}
