// One boot of the VM between two power cuts: looks at what the cut before it has left, cleans up as kubelet would, and
// works until it asks for the next cut. hack/vm kills the VM when it reads the line `CUT` on standard output.
//   main SEED cut|reboot|last     what ends this boot; a reboot ends it in the middle of work, too
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import { connectCri } from '../../support/cri-client.ts';
import { createRandom } from '../../support/image/make-image.ts';
import { lookAfterCut } from './after.ts';
import { serveImages } from './images.ts';
import { startWork } from './work.ts';

const [seed, how] = [Number(process.argv[2]), process.argv[3]];
const random = createRandom(seed * 7919);
const faultFile = '/run/cri-ts-faults';
const dropIn = '/etc/systemd/system/cri-ts.service.d/faults.conf';

/** Steps before which the power fails. What else is at work then, is wherever it is. */
const moments = [
  'RunPodSandbox/directory',
  'RunPodSandbox/network (CNI ADD)',
  'RunPodSandbox/pause container (runc run)',
  'RunPodSandbox/ready',
  'CreateContainer/root file system',
  'CreateContainer/created',
  'StartContainer/monitor (conmon, runc create)',
  'StartContainer/running',
  'PullImage/documents and layers',
  'PullImage/listed',
];

// From the next boot on the daemon reads what to stop before; this one is cut at some moment.
const takesFaults = existsSync(dropIn);
if (!takesFaults) {
  mkdirSync('/etc/systemd/system/cri-ts.service.d', { recursive: true });
  writeFileSync(dropIn, `[Service]\nEnvironment=CRI_TS_FAULTS=${faultFile}\n`);
  await execa('sync');
}
const cri = connectCri('/run/cri-ts/cri-ts.sock');
await lookAfterCut(cri);
if (how === 'last') process.exit(0);

const { names } = await serveImages(seed);
await startWork(cri, names);
if (how === 'reboot') {
  await sleep(random() * 10_000);
  console.log('reboot');
  process.exit(0);
}
if (seed % 2 === 0 || !takesFaults) {
  await sleep(random() * 30_000);
  console.log('power cut at some moment');
} else {
  const moment = moments[Math.floor(random() * moments.length)] ?? '';
  const [operation, step] = moment.split('/');
  await sleep(random() * 5000);
  writeFileSync(faultFile, `${operation}/${step}/do/before/hang`);
  for (let tries = 0; readFileSync(faultFile, 'utf8') !== '' && tries < 1200; tries++) await sleep(50);
  console.log(`power cut before ${moment}${readFileSync(faultFile, 'utf8') === '' ? '' : ' (not reached)'}`);
}
console.log('CUT');
