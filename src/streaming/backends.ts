// Joins the streaming server to the daemon's containers and pods: which container a request means, whether it runs, and
// where what exec, attach and port-forward need of it is kept.
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Container } from '../container/container.ts';
import type { Containers } from '../container/containers.ts';
import { bundlePath } from '../container/lifecycle.ts';
import { CriError } from '../errors.ts';
import type { HostThread } from '../host/host-thread.ts';
import type { OrphanReaper } from '../host/orphans.ts';
import type { ProcessWatch } from '../host/process-watch.ts';
import type { Readiness } from '../host/readiness.ts';
import type { Logger } from '../log.ts';
import type { OciRuntime } from '../oci/runtime.ts';
import type { Sandboxes } from '../sandbox/sandboxes.ts';
import { createAttachBackend } from './attach.ts';
import { createExecBackend } from './exec.ts';
import { createPortForwardBackend } from './port-forward.ts';
import type { StreamingBackends } from './requests.ts';

export interface BackendParts {
  readonly state: string;
  readonly containers: Pick<Containers, 'find'>;
  readonly sandboxes: Pick<Sandboxes, 'find'>;
  readonly runtimeOf: (handler: string) => OciRuntime;
  readonly thread: HostThread;
  readonly readiness: Readiness;
  readonly watch: ProcessWatch;
  readonly orphans: OrphanReaper;
  /** How long other processes may hold a command's output open after it ended; undefined = for ever. */
  readonly drainMs: number | undefined;
  readonly log: Logger;
}

const terminalSockets = (state: string) => join(state, 'tty');

/** Removes what a killed daemon left of commands to which it was just giving a terminal. */
export function removeTerminalSockets(state: string): void {
  rmSync(terminalSockets(state), { recursive: true, force: true });
}

export function createBackends(parts: BackendParts): StreamingBackends {
  const { state, readiness, watch, orphans, thread, drainMs, log } = parts;

  function running(containerId: string): Container {
    const container = parts.containers.find(containerId);
    if (container.phase === 'running') return container;
    throw new CriError('wrongState', `container ${container.id} is not running`);
  }

  return {
    ...createExecBackend({
      socketDir: terminalSockets(state),
      orphans,
      watch,
      readiness,
      drainMs,
      log,
      target(containerId) {
        const { id, handler } = running(containerId);
        return { id, bundle: bundlePath(state, id), runtime: parts.runtimeOf(handler) };
      },
    }),
    ...createAttachBackend({
      readiness,
      watch,
      log,
      target(containerId) {
        const { id, init, ended, config } = running(containerId);
        const { stdin, stdinOnce, tty } = config;
        return { id, bundle: bundlePath(state, id), init, ended, stdin, stdinOnce, tty };
      },
    }),
    ...createPortForwardBackend({
      thread,
      readiness,
      netnsPath(sandboxId) {
        const sandbox = parts.sandboxes.find(sandboxId);
        if (sandbox.phase === 'ready') return sandbox.netnsPath;
        throw new CriError('wrongState', `sandbox ${sandbox.id} is not ready`);
      },
    }),
  };
}
