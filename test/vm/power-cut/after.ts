// What must hold after a power cut, before anybody cleans up and after kubelet did.
import { deepEqual, equal } from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import type { CriClient } from '../../support/cri-client.ts';
import { removeAll, runPod } from './pods.ts';

/** @throws AssertionError with what is wrong */
export async function lookAfterCut(cri: CriClient): Promise<void> {
  const { stdout: log } = await execa('journalctl', ['--boot', '--unit=cri-ts', '--output=cat']);
  const bad = log.split('\n').filter(line => /"level":"(error|fatal)"|damaged|Unhandled/.test(line));
  deepEqual(bad, [], 'the daemon found something wrong');

  const pods = (await cri.ListPodSandbox()).items;
  const { containers } = await cri.ListContainers();
  deepEqual(
    pods.map(({ state }) => state).filter(state => state !== 'SANDBOX_NOTREADY'),
    [],
  );
  deepEqual(
    containers.map(({ state }) => state).filter(state => state === 'CONTAINER_RUNNING'),
    [],
  );
  // Addresses are given back by the daemon's start, before anybody removes the pods.
  await untilEmpty('addresses', reservations);

  const { images } = await cri.ListImages();
  await execa('cri-ts', ['image', 'verify']);
  console.log(`  found ${pods.length} pods, ${containers.length} containers, ${images.length} images`);

  await removeAll(cri);
  deepEqual((await cri.ListPodSandbox()).items, []);
  await untilEmpty('what pods leave', leftOfPods);

  for (const [i, { id }] of images.entries()) {
    const script = 'find /shared /own -type f | xargs cat | wc -c; sleep 1000';
    const containerId = await runPod(cri, `image-${i}`, id, script);
    const { stdout } = await cri.ExecSync({ containerId, cmd: ['sh', '-c', 'echo works'], timeout: 120 });
    equal(Buffer.from(stdout).toString(), 'works\n');
  }
  await removeAll(cri);
  for (const { id } of images) await cri.RemoveImage({ image: { image: id } });
  await untilEmpty('what pods leave', leftOfPods);
}

const namesIn = (directory: string) => (existsSync(directory) ? readdirSync(directory) : []);
const reservations = () => namesIn('/var/lib/cni/networks/pods').filter(name => /^[0-9a-f.:]+$/.test(name));

function leftOfPods(): string[] {
  const directories = [
    '/var/lib/cri-ts/containers',
    '/run/cri-ts/containers',
    '/run/cri-ts/sandboxes',
    '/run/cri-ts/exits',
    '/run/netns',
  ];
  const files = directories.flatMap(directory => namesIn(directory).map(name => `${directory}/${name}`));
  const links = namesIn('/sys/class/net').filter(name => name.startsWith('veth'));
  return [...files, ...links, ...reservations()];
}

async function untilEmpty(what: string, list: () => string[]): Promise<void> {
  for (let tries = 0; tries < 600 && list().length > 0; tries++) await sleep(100);
  deepEqual(list(), [], what);
}
