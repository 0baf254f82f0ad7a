// The chain of networks of one container: every file of the configuration directory is one attachment, added in
// order and deleted in reverse (spec section 3: the operations of one container never run side by side).
import type { CachedAttachment } from './attachment-cache.ts';
import { CniError, joinErrors } from './errors.ts';
import type { NetworkAttachmentConfig } from './load-networks.ts';
import { addNetworkList, withLeft } from './operations/add.ts';
import { type CheckOutcome, checkNetworkList } from './operations/check.ts';
import { asCniError, type OperationContext } from './operations/context.ts';
import { delCachedAttachment, delNetworkList, delUnrecorded } from './operations/del.ts';
import type { RuntimeConf } from './plugin-config.ts';
import type { Result } from './result.ts';

/** The parameters of a container, for all of its attachments. */
export type ContainerRuntimeConf = Omit<RuntimeConf, 'ifName'>;

/** One network of a container after its ADD. */
export interface Attachment {
  network: string;
  ifName: string;
  /** The configuration file; undefined when it is known from the record alone. */
  file: string | undefined;
  result: Result;
}

/** Adds a container to every network. When one fails, it and those before it are deleted again. */
export async function addNetworks(
  context: OperationContext,
  networks: readonly NetworkAttachmentConfig[],
  container: ContainerRuntimeConf,
  signal?: AbortSignal,
): Promise<Attachment[]> {
  const attachments: Attachment[] = [];
  const added: NetworkAttachmentConfig[] = [];
  const resolved = await Promise.all(
    networks.map(async config => ({ config, resolved: await context.plugins.resolve(config.network) })),
  );
  try {
    for (const { config, resolved: plugins } of resolved) {
      const { network, ifName, file } = config;
      const result = await addNetworkList(context, network, plugins, { ...container, ifName }, signal);
      added.push(config);
      attachments.push({ network: network.name, ifName, file, result });
    }
    return attachments;
  } catch (thrown) {
    const left: CniError[] = [];
    for (const { network, ifName } of added.reverse()) {
      await delNetworkList(context, network, { ...container, ifName }).catch((thrown: unknown) => {
        left.push(asCniError(thrown));
      });
    }
    throw thrown instanceof CniError ? withLeft(thrown, left) : thrown;
  }
}

/**
 * Deletes every attachment of a container that is recorded, the last first, and then, of `networks`, those without a
 * record: after a lost or damaged cache the present configuration is the best there is. Goes on after a failure.
 */
export async function delNetworks(
  context: OperationContext,
  container: ContainerRuntimeConf,
  networks: readonly NetworkAttachmentConfig[],
  signal?: AbortSignal,
): Promise<void> {
  context.cache.discardDrafts(container.containerId);
  const { attachments, damaged } = context.cache.list(container.containerId);
  const errors: CniError[] = [];
  const attempt = (del: Promise<void>) =>
    del.catch((thrown: unknown) => {
      errors.push(asCniError(thrown));
    });
  for (const cached of [...attachments].reverse()) {
    await attempt(delCachedAttachment(context, cached, container.netns, signal));
  }
  const unrecorded = networks.filter(
    ({ network, ifName }) => !attachments.some(cached => isOf(cached, network.name, ifName)),
  );
  for (const { network, ifName } of [...unrecorded].reverse()) {
    await attempt(delUnrecorded(context, network, { ...container, ifName }, signal));
  }
  if (networks.length > 0 && errors.length === 0) {
    for (const record of damaged) context.cache.discard(record);
  } else {
    errors.push(...damaged);
  }
  const error = joinErrors(errors);
  if (error !== undefined) throw error;
}

export interface CheckedAttachment {
  network: string;
  ifName: string;
  outcome: CheckOutcome;
}

/** Checks every recorded attachment of a container. @throws CniError of the first that is not in order */
export async function checkNetworks(
  context: OperationContext,
  containerId: string,
  signal?: AbortSignal,
): Promise<CheckedAttachment[]> {
  const { attachments, damaged } = context.cache.list(containerId);
  if (damaged[0] !== undefined) throw damaged[0];
  const checked: CheckedAttachment[] = [];
  for (const cached of attachments) {
    const outcome = await checkNetworkList(context, cached.config, cached, signal);
    checked.push({ network: cached.network, ifName: cached.ifName, outcome });
  }
  return checked;
}

function isOf(cached: CachedAttachment, network: string, ifName: string): boolean {
  return cached.network === network && cached.ifName === ifName;
}
