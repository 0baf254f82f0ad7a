// The world outside of the node: a network namespace at the end of a cable, with a web server that logs who asks. It
// has no route to the pods, so an answer to a pod arrives only if the node put its own address on the question.
import { spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { execa } from 'execa';
import type { Cleanup } from './cleanup.ts';
import type { Places } from './places.ts';

export interface Outside {
  /** Address of the web server. */
  server: string;
  /** Address of the node as the outside sees it. */
  node: string;
  /** What the server has logged so far. */
  log(): string;
}

export async function makeOutside({ outside, directory }: Places, cleanup: Cleanup): Promise<Outside> {
  const { netns, link, subnet } = outside;
  const [node, server] = [`${subnet}.1`, `${subnet}.2`];
  const ip = (command: string) => execa('ip', command.split(' '));

  oweNetnsDirectory(cleanup);
  cleanup.owe(`network namespace ${netns}`, () => execa('ip', ['netns', 'delete', netns]));
  await ip(`netns add ${netns}`);
  cleanup.owe(`link ${link}`, () => execa('ip', ['link', 'delete', link], { reject: false }));
  await ip(`link add ${link} type veth peer name eth0 netns ${netns}`);
  await ip(`addr add ${node}/24 dev ${link}`);
  await ip(`link set ${link} up`);
  await ip(`-n ${netns} addr add ${server}/24 dev eth0`);
  await ip(`-n ${netns} link set eth0 up`);

  const [home, logFile] = [join(directory, 'outside'), join(directory, 'outside.log')];
  mkdirSync(home);
  writeFileSync(join(home, 'index.html'), 'hello from outside\n');
  const log = openSync(logFile, 'a');
  const httpd = ['netns', 'exec', netns, 'busybox', 'httpd', '-f', '-vv', '-p', `${server}:80`, '-h', home];
  const child = spawn('ip', httpd, { stdio: ['ignore', log, log] });
  closeSync(log);
  cleanup.owe('web server outside', () => child.kill('SIGKILL'));
  return { server, node, log: () => readFileSync(logFile, 'utf8') };
}

/** `ip netns` makes this directory, and a mount of it onto itself, when it is first used on a machine. */
function oweNetnsDirectory(cleanup: Cleanup): void {
  const directory = '/run/netns';
  const isMounted = () => readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${directory} `);
  const [existed, mounted] = [existsSync(directory), isMounted()];
  cleanup.owe(directory, async () => {
    if (!mounted && isMounted()) await execa('umount', [directory], { reject: false }); // busy: others use it by now
    if (!existed && existsSync(directory)) {
      try {
        rmdirSync(directory);
      } catch {
        // others use it by now
      }
    }
  });
}
