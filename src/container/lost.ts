// Containers whose record is lost: it cannot be read, or is gone from a damaged store, while the container runs or has left
// something. No client sees them. One that runs goes on until its pod is stopped; what is left of others is removed at the
// start. Found by the key of the record and by the bundle, which a container has only while it has a record.
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import type { Helper } from '../host/helpers.ts';
import { killTree } from '../host/process-tree.ts';
import type { ProcessIdentity } from '../host/process-watch.ts';
import type { RootFilesystems } from '../image/rootfs.ts';
import type { Logger } from '../log.ts';
import { type Conmon, monitoredContainer } from '../oci/conmon.ts';
import type { OciRuntime } from '../oci/runtime.ts';
import { sandboxOf } from '../oci/spec/annotations.ts';
import type { Collection } from '../store/store.ts';
import { removeIdmappedMounts } from './bundle.ts';
import type { ContainerRecord } from './container.ts';
import { bundlePath } from './lifecycle.ts';

export interface LostParts {
  state: string;
  records: Collection<ContainerRecord>;
  /** Ids of the containers whose records can be read. */
  readable: ReadonlySet<string>;
  rootfs: Pick<RootFilesystems, 'list' | 'remove'>;
  conmon: Pick<Conmon, 'exitFile'>;
  /** Which of them has run a container is not known any more. */
  runtimes: readonly OciRuntime[];
  /** Milliseconds for a runtime to take its own away. */
  undoTimeoutMs: number;
  ended(process: ProcessIdentity): Promise<void>;
  log: Logger;
}

export interface LostContainers {
  /** Whether this helper is the monitor of a lost container. */
  isMonitor(helper: Helper): boolean;
  /** Tells of those that run, in pods that `isPod` knows; ends the others, and removes what is left of them. */
  settle(helpers: readonly Helper[], isPod: (sandboxId: string) => boolean): Promise<void>;
  /** Ends and removes those of a pod. May be repeated. */
  removeOf(sandboxId: string): Promise<void>;
}

export function createLostContainers(parts: LostParts): LostContainers {
  const { state, records, rootfs, runtimes, log } = parts;
  const monitors = new Map<string, Helper>();
  const ids = lostIds(parts);

  async function remove(id: string): Promise<void> {
    const monitor = monitors.get(id);
    if (monitor) {
      killTree(monitor);
      await parts.ended(monitor);
    }
    const bundle = bundlePath(state, id);
    await removeFromRuntime(id, bundle);
    rmSync(parts.conmon.exitFile(id), { force: true });
    await removeIdmappedMounts(state, id);
    const volumes = rootfs.list().filter(each => each.startsWith(`${id}-volume-`));
    for (const each of [...volumes, id]) await rootfs.remove(each);
    rmSync(bundle, { recursive: true, force: true });
    await records.remove(id);
    ids.delete(id);
    monitors.delete(id);
    log.warn({ container: id }, 'a container without a record that can be read was removed');
  }

  async function removeFromRuntime(id: string, bundle: string): Promise<void> {
    const signal = AbortSignal.timeout(parts.undoTimeoutMs);
    const outcomes = await Promise.allSettled(runtimes.map(each => each.remove(id, bundle, signal)));
    const failures = outcomes.flatMap(outcome => (outcome.status === 'rejected' ? [outcome.reason] : []));
    if (failures.length > 0 && failures.length === runtimes.length) throw failures[0];
  }

  return {
    isMonitor: ({ args }) => ids.has(monitoredContainer(args) ?? ''),
    async settle(helpers, isPod) {
      for (const helper of helpers) {
        const id = monitoredContainer(helper.args);
        if (id !== undefined && ids.has(id)) monitors.set(id, helper);
      }
      for (const id of ids) {
        const [monitor, sandbox] = [monitors.get(id), sandboxIn(bundlePath(state, id))];
        if (monitor && sandbox !== undefined && isPod(sandbox)) {
          log.error(
            { container: id, sandbox, monitor: monitor.pid },
            'a container runs whose record cannot be read: clients do not see it; it goes on until its pod is stopped',
          );
          continue;
        }
        await remove(id).catch(error =>
          log.error(
            { container: id, err: error },
            'what is left of a container without a record cannot be removed; the next start tries again',
          ),
        );
      }
    },
    async removeOf(sandboxId) {
      for (const id of ids) if (sandboxIn(bundlePath(state, id)) === sandboxId) await remove(id);
    },
  };
}

/** Other directories beside the bundles have no spec in them: root file systems of volumes and of pause images. */
function lostIds({ state, records, readable }: LostParts): Set<string> {
  const bundles = readdirSync(join(state, 'containers'))
    .filter(id => !readable.has(id))
    .filter(id => specIn(bundlePath(state, id)));
  return new Set([...records.keys().filter(id => !readable.has(id)), ...bundles]);
}

const specSchema = z.object({ annotations: z.record(z.string(), z.string()).default({}) });

function specIn(bundle: string): z.infer<typeof specSchema> | undefined {
  try {
    return specSchema.parse(JSON.parse(readFileSync(join(bundle, 'config.json'), 'utf8')));
  } catch {
    return undefined; // there is none, or it is damaged too
  }
}

function sandboxIn(bundle: string): string | undefined {
  const spec = specIn(bundle);
  return spec && sandboxOf(spec.annotations);
}
