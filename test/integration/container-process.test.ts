// The first process of a container: its namespaces, command line, environment, directory, user, terminal and input.
import { readlinkSync, writeFileSync } from 'node:fs';
import { status as grpc } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Loose } from '../../src/cri-api/contract.ts';
import type { ContainerConfig } from '../../src/cri-api/types.ts';
import { addImage, inspect, pausePid, secured } from '../support/containers.ts';
import { failureOf } from '../support/cri-client.ts';
import { startNode, type TestNode, until } from '../support/node.ts';

let node: TestNode;
let pod: string;
beforeAll(async () => {
  node = await startNode();
  await addImage(node, 'docker.io/test/tool:latest', {
    Entrypoint: ['/bin/echo', 'entrypoint'],
    Cmd: ['cmd'],
    Env: ['PATH=/bin:/opt/bin', 'FROM_IMAGE=yes', 'BOTH=image'],
    WorkingDir: '/srv/app',
    User: 'alice',
    StopSignal: 'SIGUSR1',
  });
  await addImage(node, 'docker.io/test/empty:latest', { Cmd: null });
  pod = await node.runPod({ hostname: 'the-host' });
});
afterAll(() => node.destroy());

const tool: Loose<ContainerConfig> = { image: { image: 'test/tool:latest' } };
const lines = async (script: string, over: Loose<ContainerConfig> = {}, inPod = pod) =>
  (await node.output(inPod, script, over)).lines;
/** Inode names of namespaces, such as `net:[4026531840]`. */
const namespaces = (pid: number | 'self', kinds: string[]) =>
  kinds.map(kind => readlinkSync(`/proc/${pid}/ns/${kind}`));
const showNamespaces = (kinds: string[]) => kinds.map(kind => `readlink /proc/self/ns/${kind}`).join('; ');

describe('namespaces', () => {
  it('of network, IPC, UTS and PID are those of the pause container; that of mounts is its own', async () => {
    const pause = await pausePid(node, pod);
    const shared = ['net', 'ipc', 'uts', 'pid'];
    expect(await lines(showNamespaces(shared))).toEqual(namespaces(pause, shared));
    expect(await lines(showNamespaces(['mnt']))).not.toEqual(namespaces(pause, ['mnt']));
    expect(namespaces(pause, ['net', 'ipc', 'uts', 'pid', 'mnt'])).not.toEqual(
      namespaces('self', ['net', 'ipc', 'uts', 'pid', 'mnt']),
    );
  });

  it('of PID may be its own', async () => {
    const own = secured({ namespaceOptions: { pid: 'CONTAINER' } });
    const [number, namespace] = await lines(`echo $$; ${showNamespaces(['pid'])}`, own);
    expect(number).toBe('1');
    expect(namespace).not.toBe(namespaces(await pausePid(node, pod), ['pid'])[0]);
  });

  it('of PID may be that of another container of the pod', async () => {
    const target = await node.runContainer(
      pod,
      'exec sleep 1000',
      secured({ namespaceOptions: { pid: 'CONTAINER' } }),
    );
    const targeted = secured({ namespaceOptions: { pid: 'TARGET', targetId: target } });
    expect(await lines('echo $(tr "\\0" " " < /proc/1/cmdline)', targeted)).toEqual(['sleep 1000']);
    await node.cri.StopContainer({ containerId: target });
    const { code, details } = await failureOf(node.createContainer(pod, 'true', targeted));
    expect(code).toBe(grpc.INVALID_ARGUMENT);
    expect(details).toContain(target);
  });

  it('are the host’s where the pod says so', async () => {
    const hostPod = await node.runPod({
      linux: { securityContext: { namespaceOptions: { network: 'NODE', pid: 'NODE', ipc: 'NODE' } } },
    });
    const kinds = ['net', 'ipc', 'uts', 'pid'];
    const wanted = secured({ namespaceOptions: { network: 'NODE', pid: 'NODE', ipc: 'NODE' } });
    expect(await lines(showNamespaces(kinds), wanted, hostPod)).toEqual(namespaces('self', kinds));
    const id = await node.runContainer(hostPod, 'exec sleep 1000', wanted);
    const { pid } = await inspect(node, id);
    expect(await node.exec(id, `cat /proc/${pid}/comm`)).toBe('sleep');
  });

  it('of a pod let its containers meet on localhost and share its name', async () => {
    await node.runContainer(pod, 'exec httpd -f -p 127.0.0.1:8099 -h /var/www');
    const page = await until('the web server answers', async () => {
      const got = await lines('hostname; wget -q -O - http://127.0.0.1:8099/index.html');
      return got.length === 2 ? got : undefined;
    });
    expect(page).toEqual(['the-host', 'it works']);
  });
});

describe('the command line', () => {
  it.each([
    ['the entrypoint and cmd of the image', {}, 'entrypoint cmd'],
    ['args in the place of cmd', { args: ['from', 'args'] }, 'entrypoint from args'],
    ['a command in the place of both', { command: ['/bin/echo', 'own'] }, 'own'],
    ['a command with args', { command: ['/bin/echo', 'own'], args: ['from', 'args'] }, 'own from args'],
  ])('is %s', async (_, config, expected) => {
    expect(await lines('', { ...tool, command: [], ...config })).toEqual([expected]);
  });

  it('is passed as it is, with blanks, quotes, newlines and letters of every script', async () => {
    const args = ['two words', '"quoted"', "it's", '$HOME', 'über 漢字', ''];
    const got = await lines('', { command: ['sh', '-c', 'for a; do echo "[$a]"; done', 'sh', ...args] });
    expect(got).toEqual(args.map(argument => `[${argument}]`));
  });

  it('must come from somewhere', async () => {
    const { code, details } = await failureOf(
      node.createContainer(pod, '', { image: { image: 'test/empty:latest' }, command: [] }),
    );
    expect(code).toBe(grpc.INVALID_ARGUMENT);
    expect(details).toContain('command');
  });
});

describe('the environment', () => {
  it('is the image’s with the container’s laid over it', async () => {
    const envs = [
      { key: 'BOTH', value: Buffer.from('container') },
      { key: 'EQUALS', value: Buffer.from('a=b=c') },
      { key: 'EMPTY', value: Buffer.from('') },
      { key: 'LINES', value: Buffer.from('one\ntwo ü') },
    ];
    const command = ['/bin/env', '-0'];
    const { lines: found } = await node.output(pod, '', { ...tool, command, envs });
    const entries = found.join('\n').split('\0').sort();
    expect(entries.filter(entry => entry !== '')).toEqual([
      'BOTH=container',
      'EMPTY=',
      'EQUALS=a=b=c',
      'FROM_IMAGE=yes',
      'HOME=/home/alice',
      'HOSTNAME=the-host',
      'LINES=one\ntwo ü',
      'PATH=/bin:/opt/bin',
    ]);
  });
});

describe('the working directory', () => {
  it('is the image’s, made when it is missing', async () => {
    expect(await lines('pwd', tool)).toEqual(['/srv/app']);
  });
  it('is the container’s before the image’s', async () => {
    expect(await lines('pwd', { ...tool, workingDir: '/var/www' })).toEqual(['/var/www']);
    expect(await lines('pwd', { workingDir: '/not/there/yet' })).toEqual(['/not/there/yet']);
  });
});

describe('the user', () => {
  const ids = 'id -u; id -g; id -G';

  it.each([
    ['root by default', {}, {}, ['0', '0', '0']],
    ['the image’s, with its groups', tool, {}, ['1234', '5678', '5678 10']],
    [
      'a number with the group of its passwd entry',
      {},
      { runAsUser: { value: 1234 } },
      ['1234', '5678', '5678 10'],
    ],
    ['a number unknown to the image, with group 0', {}, { runAsUser: { value: 4711 } }, ['4711', '0', '0']],
    ['root over the image’s', tool, { runAsUser: { value: 0 } }, ['0', '0', '0']],
    ['a name', {}, { runAsUsername: 'alice' }, ['1234', '5678', '5678 10']],
    [
      'a number with a group',
      {},
      { runAsUser: { value: 1234 }, runAsGroup: { value: 99 } },
      ['1234', '99', '99 10'],
    ],
    [
      'with supplemental groups beside those of the image',
      {},
      { runAsUser: { value: 1234 }, supplementalGroups: [1000, 2000] },
      ['1234', '5678', '5678 10 1000 2000'],
    ],
    [
      'with supplemental groups alone, when the policy is Strict',
      {},
      {
        runAsUser: { value: 1234 },
        supplementalGroups: [1000, 2000],
        supplementalGroupsPolicy: 'Strict' as const,
      },
      ['1234', '5678', '5678 1000 2000'],
    ],
  ])('is %s', async (_, over, context, [uid, gid, groups]) => {
    const { lines: got, status } = await node.output(pod, ids, { ...over, ...secured(context) });
    const sorted = (text = '') =>
      text
        .split(' ')
        .map(Number)
        .sort((a, b) => a - b);
    expect([got[0], got[1], sorted(got[2])]).toEqual([uid, gid, sorted(groups)]);
    expect(status.user?.linux).toEqual({ uid, gid, supplementalGroups: sorted(groups).map(String) });
  });

  it('of commands run in the container is the same', async () => {
    const context = { runAsUser: { value: 1234 }, runAsGroup: { value: 99 }, supplementalGroups: [1000] };
    const id = await node.runContainer(pod, 'exec sleep 1000', secured(context));
    expect(await node.exec(id, ids)).toBe('1234\n99\n99 10 1000');
  });

  it.each([
    ['a name the image does not know', { runAsUsername: 'mallory' }, 'mallory'],
    ['a group without a user', { runAsGroup: { value: 5 } }, 'run_as_group'],
    ['a number and a name', { runAsUser: { value: 5 }, runAsUsername: 'alice' }, 'run_as_user'],
    ['a negative number', { runAsUser: { value: -1 } }, 'run_as_user'],
    ['a negative group', { supplementalGroups: [-1] }, 'supplemental_groups'],
  ])('cannot be %s', async (_, context, word) => {
    const { code, details } = await failureOf(node.createContainer(pod, 'true', secured(context)));
    expect(code).toBe(grpc.INVALID_ARGUMENT);
    expect(details).toContain(word);
  });
});

describe('a terminal', () => {
  it('is given to a container that wants one', async () => {
    const script =
      'tty; [ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo "all three"; echo "term $TERM"; echo error >&2';
    const got = await lines(script, { tty: true, stdin: true });
    expect(got.map(line => line.replace(/\r$/, ''))).toEqual([
      expect.stringMatching(/^\/dev\/(pts\/\d+|console)$/),
      'all three',
      'term xterm',
      'error',
    ]);
  });

  it('has the TERM that the container asks for', async () => {
    const envs = [{ key: 'TERM', value: Buffer.from('vt100') }];
    expect(await lines('printf "$TERM"', { tty: true, envs })).toEqual(['vt100']);
  });

  it('is not given to others, nor a TERM', async () => {
    expect(await lines('[ -t 0 ] || [ -t 1 ] || [ -t 2 ] || echo "none"; echo "<$TERM>"')).toEqual([
      'none',
      '<>',
    ]);
  });
});

describe('standard input', () => {
  it('is at its end from the beginning for containers without it', async () => {
    expect(await lines('cat; echo "no more"')).toEqual(['no more']);
  });

  it('stays open for containers with it', async () => {
    const id = await node.runContainer(pod, 'read line; echo "got $line"', { stdin: true });
    const { pid } = await inspect(node, id);
    writeFileSync(`/proc/${pid}/fd/0`, 'a line\n');
    await node.untilExited(id);
    expect(await node.logLines(id)).toEqual(['got a line']);
  });
});
