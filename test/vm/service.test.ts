// cri-ts as a service: what its service manager knows of it, and its being started anew under pods that run.
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type InstalledNode, installedNode, type Pod } from '../support/installed-node.ts';
import { until } from '../support/node.ts';

let node: InstalledNode;
let pod: Pod;
beforeAll(async () => {
  node = await installedNode();
  pod = await node.runPod();
});
afterAll(() => node.leave());

const property = async (name: string) =>
  (await execa('systemctl', ['show', '--value', `--property=${name}`, 'cri-ts'])).stdout;

it('it is started at boot, tells that it is ready, and is watched', async () => {
  expect(await property('UnitFileState')).toBe('enabled');
  expect(await property('Type')).toBe('notify');
  expect(await property('ActiveState')).toBe('active');
  expect(await property('Delegate')).toBe('yes');
  expect(Number(await property('WatchdogTimestampMonotonic'))).toBeGreaterThan(0);
});

it('a daemon that hangs is ended by the watchdog and started again; pods do not notice', async () => {
  const id = await node.runContainer(pod, 'exec sleep 1000');
  const before = [await property('MainPID'), (await node.status(id)).startedAt];
  process.kill(Number(before[0]), 'SIGSTOP');
  const isAnother = async () => {
    const now = [await property('MainPID'), await property('ActiveState')];
    return now[1] === 'active' && now[0] !== before[0] ? true : undefined;
  };
  await until('another daemon serves', isAnother, 270_000); // the watchdog waits for a while first
  node.reconnect();
  expect(await node.status(id)).toMatchObject({ state: 'CONTAINER_RUNNING', startedAt: before[1] });
});

it.each([
  ['a restart', async () => {}],
  ['an upgrade', async () => void (await execa('/project/hack/install.sh'))],
])('%s leaves pods running and logging, and what ended meanwhile is told', async (_, prepare) => {
  const volume = mkdtempSync(join(tmpdir(), 'service-'));
  const counting = await node.runContainer(pod, 'n=0; while :; do echo $n; n=$((n+1)); sleep 0.2; done');
  const ending = await node.runContainer(pod, 'until test -e /volume/end; do sleep 0.1; done; exit 7', {
    mounts: [{ hostPath: volume, containerPath: '/volume' }],
  });
  const first = (await node.cgroupFile(pod, counting, 'cgroup.procs')).split('\n')[0];
  const log = (await node.status(counting)).logPath;
  await prepare();
  await execa('systemctl', ['stop', 'cri-ts']);
  const length = () => statSync(log).size;
  const atStop = length();
  writeFileSync(join(volume, 'end'), '');
  await until('one logs without a daemon, the other ends', () =>
    length() > atStop && existsSync(`/run/cri-ts/exits/${ending}`) ? true : undefined,
  );
  await execa('systemctl', ['start', 'cri-ts']);
  node.reconnect();
  expect(await node.status(ending)).toMatchObject({ state: 'CONTAINER_EXITED', exitCode: 7 });
  expect((await node.status(counting)).state).toBe('CONTAINER_RUNNING');
  expect(await node.cgroupFile(pod, counting, 'cgroup.procs')).toContain(first);
  const lines = await node.logLines(counting);
  expect(lines).toEqual(lines.map((_, n) => String(n)));
  expect(await node.exec(counting, 'echo in')).toBe('in');
  rmSync(volume, { recursive: true });
});

it('the journal has its log, as JSON, under its unit', async () => {
  const { stdout } = await execa('journalctl', ['--unit=cri-ts', '--output=cat', '--grep=cri-ts serves']);
  const last = JSON.parse(stdout.split('\n').at(-1) ?? '') as Record<string, unknown>;
  expect(last).toMatchObject({ level: 'info', socket: '/run/cri-ts/cri-ts.sock', root: '/var/lib/cri-ts' });
});
