// What becomes of sandboxes whose pause process ends by itself.
import { describe, expect, it } from 'vitest';
import { identify, type ProcessIdentity } from '../../../src/host/process-watch.ts';
import { silentLogger } from '../../../src/log.ts';
import type { SandboxRecord } from '../../../src/sandbox/sandbox.ts';
import { createSandboxes, type SandboxesOptions } from '../../../src/sandbox/sandboxes.ts';
import { createLocks } from '../../../src/steps/locks.ts';
import { createRegistry } from '../../../src/store/registry.ts';

const self = identify(process.pid);
if (!self) throw new Error('this process cannot be identified');

/** Sandboxes over a store with one READY sandbox, which cannot be written. */
function overFullStore(pause: ProcessIdentity) {
  const record = {
    id: 's1',
    name: 'pod_ns_uid_0',
    createdAt: '1',
    phase: 'ready',
    netnsPath: null,
    pause,
    network: null,
    owed: [],
  } as unknown as SandboxRecord;
  let endPause = () => {};
  const ended: string[] = [];
  const sandboxes = createSandboxes({
    records: {
      get: () => record,
      entries: () => [['s1', record]],
      keys: () => ['s1'],
      put: async () => {
        throw new Error('no space left on device');
      },
      remove: async () => {},
    },
    registry: createRegistry('sandbox'),
    plans: { foundation: [], running: [] },
    locks: createLocks(),
    watch: {
      watch(_: ProcessIdentity, onEnd: () => void) {
        endPause = onEnd;
        return () => {};
      },
    },
    log: silentLogger(),
    onPauseEnded: ({ id }: { id: string }) => ended.push(id),
  } as unknown as SandboxesOptions);
  return { sandboxes, ended, endPause: () => endPause() };
}

describe('a sandbox whose end cannot be put on record', () => {
  it('is NOTREADY all the same, when its pause process ends by itself', async () => {
    const { sandboxes, ended, endPause } = overFullStore(self);
    await sandboxes.recover();
    endPause();
    expect(sandboxes.find('s1').phase).toBe('notready');
    expect(ended).toEqual(['s1']);
  });

  it('does not keep the daemon from starting, when that was while no daemon ran', async () => {
    const { sandboxes } = overFullStore({ ...self, startTime: '1' });
    await sandboxes.recover();
    expect(sandboxes.find('s1').phase).toBe('notready');
  });
});
