// Starting a command, when the runtime ends before it is done.
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { readCgroupLayout } from '../../../src/host/cgroup/layout.ts';
import { identify } from '../../../src/host/process-watch.ts';
import { startCommand } from '../../../src/oci/exec.ts';
import { createRuntime } from '../../../src/oci/runtime.ts';

let bundle: string;
beforeEach(() => {
  bundle = mkdtempSync(join(tmpdir(), 'cri-ts-exec-'));
  writeFileSync(join(bundle, 'config.json'), JSON.stringify({ process: {} }));
});
afterEach(() => rmSync(bundle, { recursive: true }));

/** Has a runtime start a command that leads a session of its own, and go on with `rest`. */
function startBy(rest: string, signal: AbortSignal): Promise<unknown> {
  const binary = join(bundle, 'runtime');
  const script = `#!/bin/sh
    while [ "$1" != --pid-file ]; do shift; done
    setsid sleep 1000 &
    echo $! > ${bundle}/command.new && mv ${bundle}/command.new ${bundle}/command
    ${rest}`;
  writeFileSync(binary, script, { mode: 0o755 });
  const runtime = createRuntime({
    binary,
    root: bundle,
    systemdCgroup: false,
    timeoutMs: 60_000,
    cgroups: readCgroupLayout(),
  });
  const command = {
    containerId: 'c',
    bundle,
    command: ['sleep'],
    stdio: [undefined, undefined, undefined],
  } as const;
  return startCommand(command, { runtime, orphans: { hold: work => work(), close() {} } }, signal);
}

const command = async (): Promise<number> => {
  await expect.poll(() => existsSync(join(bundle, 'command'))).toBe(true);
  return Number(readFileSync(join(bundle, 'command'), 'latin1'));
};
const never = new AbortController().signal;

it('a command is killed whose runtime was killed after it had started it', async () => {
  const starting = startBy('echo $! > "$2"; kill -9 $$', never);
  await expect(starting).rejects.toMatchObject({ kind: 'runtimeFailed', message: /ended by SIGKILL/ });
  const pid = await command();
  await expect.poll(() => identify(pid)).toBeUndefined();
});

it.each(['before', 'after'])(
  'a command is killed whose caller goes away %s the runtime says that it runs',
  async when => {
    const caller = new AbortController();
    const starting = startBy(when === 'after' ? 'echo $! > "$2"; sleep 1000' : 'sleep 1000', caller.signal);
    const pid = await command();
    caller.abort();
    await expect(starting).rejects.toMatchObject({ kind: 'cancelled' });
    await expect.poll(() => identify(pid)).toBeUndefined();
  },
);
