// The file system of a container: its root, the mounts it asks for, the pod's files, volumes of its image.
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { status as grpc } from '@grpc/grpc-js';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Loose } from '../../src/cri-api/contract.ts';
import type { ContainerConfig, Mount } from '../../src/cri-api/types.ts';
import { addImage, keptOfContainers, secured } from '../support/containers.ts';
import { failureOf } from '../support/cri-client.ts';
import { startNode, type TestNode, until } from '../support/node.ts';

let node: TestNode;
let pod: string;
/** A directory of the host for the mounts of tests. */
let host: string;
let directories = 0;
beforeAll(async () => {
  node = await startNode();
  await addImage(node, 'docker.io/test/volumes:latest', {
    Volumes: { '/var/www': {}, '/data/new': {}, '/home/alice': {}, '/tmp': {} },
  });
  await addImage(node, 'docker.io/test/data:latest', {}, [{ name: 'weights', content: 'heavy\n' }]);
  pod = await node.runPod({ hostname: 'the-host' });
  host = join(node.directory, 'host');
  await mkdir(host);
});
afterAll(() => node.destroy());

const mounted = (...mounts: Loose<Mount>[]): Loose<ContainerConfig> => ({ mounts });
const lines = async (script: string, over: Loose<ContainerConfig> = {}) =>
  (await node.output(pod, script, over)).lines;
/** A new directory on the host with a file `note`. */
function directory(text = 'from the host'): string {
  const path = join(host, `d${directories++}`);
  mkdirSync(path);
  writeFileSync(join(path, 'note'), `${text}\n`);
  return path;
}
const removeContainers = async () => {
  const { containers } = await node.cri.ListContainers();
  for (const { id } of containers) await node.cri.RemoveContainer({ containerId: id });
};
const run = (command: string, ...args: string[]) => execFileSync(command, args, { encoding: 'utf8' });

describe('the root file system', () => {
  it('is writable, and each container’s own', async () => {
    const [a, b] = await Promise.all([1, 2].map(() => node.runContainer(pod, 'exec sleep 1000')));
    await node.exec(a ?? '', 'echo changed > /etc/passwd; echo new > /root/new; rm -r /var/www');
    expect(await node.exec(a ?? '', 'cat /etc/passwd /root/new; ls /var')).toBe('changed\nnew');
    expect(await node.exec(b ?? '', 'head -n 1 /etc/passwd; ls /root /var')).toBe(
      'root:x:0:0:root:/root:/bin/sh\n/root:\n\n/var:\nwww',
    );
  });

  it('is as the image says in a new attempt', async () => {
    await node.output(pod, 'echo left > /left', { metadata: { name: 'again', attempt: 0 } });
    expect(await lines('ls /left 2>&1', { metadata: { name: 'again', attempt: 1 } })).toEqual([
      'ls: /left: No such file or directory',
    ]);
  });

  it('shows nothing of the host', async () => {
    expect(
      await lines(`ls ${node.directory} 2>&1; cut -d " " -f 5 /proc/self/mountinfo | grep -c ct-`),
    ).toEqual([`ls: ${node.directory}: No such file or directory`, '0']);
  });

  it('is read-only when asked, but for what is mounted', async () => {
    const config = {
      ...secured({ readonlyRootfs: true }),
      ...mounted({ hostPath: directory(), containerPath: '/made/for/mount' }),
    };
    expect(
      await lines(
        'touch /x 2>&1; touch /etc/hosts 2>&1; touch /made/for/mount/x /dev/shm/x && echo ok',
        config,
      ),
    ).toEqual(['touch: /x: Read-only file system', 'touch: /etc/hosts: Read-only file system', 'ok']);
  });
});

describe('the pod’s files', () => {
  it('are the same in its containers: hosts, hostname, resolv.conf and /dev/shm', async () => {
    const [a, b] = await Promise.all([1, 2].map(() => node.runContainer(pod, 'exec sleep 1000')));
    expect(await node.exec(a ?? '', 'cat /etc/hostname; hostname')).toBe('the-host\nthe-host');
    await node.exec(a ?? '', 'echo "10.0.0.1 friend" >> /etc/hosts; echo shared > /dev/shm/note');
    expect(await node.exec(b ?? '', 'tail -n 1 /etc/hosts; cat /dev/shm/note')).toBe(
      '10.0.0.1 friend\nshared',
    );
  });

  it('give way to mounts of the container’s', async () => {
    const own = join(directory(), 'note');
    const config = mounted({ hostPath: own, containerPath: '/etc/hosts' });
    expect(await lines('cat /etc/hosts', config)).toEqual(['from the host']);
  });
});

describe('a mount', () => {
  it('shows a directory of the host, both ways', async () => {
    const path = directory();
    const script = 'cat /mnt/here/note; echo "from inside" > /mnt/here/answer';
    expect(await lines(script, mounted({ hostPath: path, containerPath: '/mnt/here' }))).toEqual([
      'from the host',
    ]);
    expect(readFileSync(join(path, 'answer'), 'utf8')).toBe('from inside\n');
  });

  it('shows a single file', async () => {
    const config = mounted({ hostPath: join(directory(), 'note'), containerPath: '/etc/some/file.conf' });
    expect(await lines('cat /etc/some/file.conf', config)).toEqual(['from the host']);
  });

  it('may be read-only', async () => {
    const config = mounted({ hostPath: directory(), containerPath: '/mnt', readonly: true });
    expect(await lines('cat /mnt/note; touch /mnt/x 2>&1', config)).toEqual([
      'from the host',
      'touch: /mnt/x: Read-only file system',
    ]);
  });

  it('makes a directory of the host that is missing', async () => {
    const path = join(host, 'made/by/mount');
    const { status } = await node.output(
      pod,
      'touch /mnt/x',
      mounted({ hostPath: path, containerPath: '/mnt' }),
    );
    expect(status.exitCode).toBe(0);
    expect(statSync(path).mode & 0o777).toBe(0o755);
    expect(statSync(join(path, 'x')).isFile()).toBe(true);
  });

  it('follows symbolic links of the host', async () => {
    const link = join(host, 'link');
    symlinkSync(directory(), link);
    expect(await lines('cat /mnt/note', mounted({ hostPath: link, containerPath: '/mnt' }))).toEqual([
      'from the host',
    ]);
  });

  it('comes on top of what the image has there', async () => {
    const config = mounted({ hostPath: directory(), containerPath: '/var/www' });
    expect(await lines('ls /var/www', config)).toEqual(['note']);
  });

  it('may lie in another, whatever the order they are given in', async () => {
    const [outer, inner] = [directory('outer'), directory('inner')];
    mkdirSync(join(outer, 'sub'));
    const config = mounted(
      { hostPath: inner, containerPath: '/mnt/sub' },
      { hostPath: outer, containerPath: '/mnt' },
    );
    expect(await lines('cat /mnt/note /mnt/sub/note', config)).toEqual(['outer', 'inner']);
  });

  it('stays inside the container when its place leads through a link of the image’s', async () => {
    const outside = directory();
    const attack = await node.runContainer(
      pod,
      'exec sleep 1000',
      mounted({ hostPath: outside, containerPath: '/mnt' }),
    );
    // A directory of the host whose content is a link to the host's root: what is mounted below it must not follow.
    await node.exec(attack, `ln -s ${host} /mnt/escape`);
    const inner = directory('inner');
    const config = mounted(
      { hostPath: outside, containerPath: '/mnt' },
      { hostPath: inner, containerPath: '/mnt/escape/place' },
    );
    await node.runContainer(pod, 'exec sleep 1000', config).catch(() => undefined);
    expect(run('ls', host).split('\n')).not.toContain('place');
  });

  it('is reported as it was asked for', async () => {
    const mounts = [{ hostPath: directory(), containerPath: '/mnt', readonly: true }];
    const id = await node.createContainer(pod, 'true', { mounts });
    expect((await node.status(id)).mounts).toMatchObject(mounts);
  });
});

describe('propagation', () => {
  const made: string[] = [];
  /** A mount of the host, of a kind of propagation. */
  function hostMount(propagation: string): string {
    const path = directory();
    run('mount', '-t', 'tmpfs', 'tmpfs', path);
    run('mount', `--make-${propagation}`, path);
    mkdirSync(join(path, 'sub'));
    made.push(path);
    return path;
  }
  afterEach(async () => {
    await removeContainers();
    for (const path of made.splice(0)) run('umount', '-R', path);
  });
  const mountOf = (hostPath: string, propagation: Mount['propagation']) =>
    mounted({ hostPath, containerPath: '/mnt', propagation });
  const mountOnHost = (path: string) => {
    run('mount', '-t', 'tmpfs', 'tmpfs', join(path, 'sub'));
    writeFileSync(join(path, 'sub', 'later'), '');
  };

  it('is none by default', async () => {
    const path = hostMount('shared');
    const id = await node.runContainer(pod, 'exec sleep 1000', mountOf(path, 'PROPAGATION_PRIVATE'));
    mountOnHost(path);
    expect(await node.exec(id, 'ls /mnt/sub')).toBe('');
  });

  it('brings mounts of the host into the container, with HOST_TO_CONTAINER', async () => {
    const path = hostMount('shared');
    const id = await node.runContainer(
      pod,
      'exec sleep 1000',
      mountOf(path, 'PROPAGATION_HOST_TO_CONTAINER'),
    );
    mountOnHost(path);
    expect(await node.exec(id, 'ls /mnt/sub')).toBe('later');
  });

  it('does not bring those of the container to the host, with HOST_TO_CONTAINER', async () => {
    const path = hostMount('shared');
    const config = {
      ...mountOf(path, 'PROPAGATION_HOST_TO_CONTAINER'),
      ...secured({
        capabilities: { addCapabilities: ['SYS_ADMIN'] },
        apparmor: { profileType: 'Unconfined' }, // the runtime's own refuses mounts
      }),
    };
    const id = await node.runContainer(pod, 'exec sleep 1000', config);
    expect(await node.exec(id, 'mount -t tmpfs tmpfs /mnt/sub && touch /mnt/sub/inside && ls /mnt/sub')).toBe(
      'inside',
    );
    expect(run('ls', join(path, 'sub'))).toBe('');
  });

  it('brings mounts both ways, with BIDIRECTIONAL', async () => {
    const path = hostMount('shared');
    const privilegedPod = await node.runPod({ linux: { securityContext: { privileged: true } } });
    const config = { ...mountOf(path, 'PROPAGATION_BIDIRECTIONAL'), ...secured({ privileged: true }) };
    const id = await node.runContainer(privilegedPod, 'exec sleep 1000', config);
    await node.exec(id, 'mkdir /mnt/sub2 && mount -t tmpfs tmpfs /mnt/sub2 && touch /mnt/sub2/inside');
    expect(run('ls', join(path, 'sub2'))).toBe('inside\n');
    mountOnHost(path);
    expect(await node.exec(id, 'ls /mnt/sub')).toBe('later');
    await node.exec(id, 'umount /mnt/sub2');
  });

  it('is refused, with the command that helps, when the host’s mount has none', async () => {
    const path = hostMount('private');
    for (const propagation of ['PROPAGATION_HOST_TO_CONTAINER', 'PROPAGATION_BIDIRECTIONAL'] as const) {
      const { code, details } = await failureOf(
        node.createContainer(pod, 'true', mountOf(path, propagation)),
      );
      expect(code).toBe(grpc.INVALID_ARGUMENT);
      expect(details).toContain(`mount --make-rshared ${path}`);
    }
  });

  it('of read-only mounts leaves mounts below them writable, unless they are recursive', async () => {
    const path = hostMount('private');
    mountOnHost(path);
    const mount = { hostPath: path, containerPath: '/mnt', readonly: true };
    const script = 'touch /mnt/x 2>&1; touch /mnt/sub/x 2>&1 && echo written';
    expect(await lines(script, mounted(mount))).toEqual(['touch: /mnt/x: Read-only file system', 'written']);
    expect(await lines(script, mounted({ ...mount, recursiveReadOnly: true }))).toEqual([
      'touch: /mnt/x: Read-only file system',
      'touch: /mnt/sub/x: Read-only file system',
    ]);
  });
});

describe('volumes of the image', () => {
  const config = { image: { image: 'test/volumes:latest' } };

  it('are directories of the container’s own, filled from the image', async () => {
    const script =
      'cat /var/www/index.html; ls -a /data/new | wc -l; grep -c -E " (/var/www|/data/new) " /proc/self/mountinfo; touch /var/www/x /data/new/x && echo ok';
    expect(await lines(script, config)).toEqual(['it works', '2', '2', 'ok']);
    expect(await lines('ls /var/www /data/new', config)).toEqual([
      '/data/new:',
      '',
      '/var/www:',
      'index.html',
    ]);
  });

  it('keep owners, modes and links of what the image has there', async () => {
    const stat = 'stat -c "%n %u:%g %a %F" /home/alice /home/alice/* /tmp';
    expect(await lines(`${stat}; grep -c " /home/alice " /proc/self/mountinfo`, config)).toEqual([
      '/home/alice 1234:5678 700 directory',
      '/home/alice/link 1234:5678 777 symbolic link',
      '/home/alice/notes 1234:5678 640 regular file',
      '/tmp 0:0 1777 directory',
      '1',
    ]);
  });

  it('give way to mounts, and go with the container', async () => {
    await removeContainers();
    const kept = keptOfContainers(node);
    const both = { ...config, ...mounted({ hostPath: directory(), containerPath: '/var/www' }) };
    const { status, lines: found } = await node.output(pod, 'ls /var/www', both);
    expect(found).toEqual(['note']);
    await node.cri.RemoveContainer({ containerId: status.id });
    expect(keptOfContainers(node)).toEqual(kept);
  });
});

it('filling a volume ends when the caller goes away, and nothing is left of the container', async () => {
  await removeContainers();
  const kept = keptOfContainers(node);
  // Copying that takes too long, as of a large image on a slow disk.
  const [program, slow, mark] = [run('which', 'cp').trim(), join(host, 'slow-cp'), '98765.4321'];
  writeFileSync(slow, `#!/bin/sh\nexec sleep ${mark}\n`, { mode: 0o755 });
  const copying = () => run('sh', '-c', `pgrep -f "^sleep ${mark}" || true`).trim();
  run('mount', '--bind', slow, program);
  try {
    const caller = new AbortController();
    const config = { metadata: { name: 'slow', attempt: 0 }, image: { image: 'test/volumes:latest' } };
    const failure = failureOf(
      node.cri.CreateContainer({ podSandboxId: pod, config }, { signal: caller.signal }),
    );
    await until('the volume is being filled', () => copying() || undefined);
    caller.abort();
    expect((await failure).code).toBe(grpc.CANCELLED);
    await until('nothing is left', () => keptOfContainers(node).length === kept.length || undefined);
    expect(copying()).toBe('');
  } finally {
    run('umount', '-l', program);
  }
  expect(keptOfContainers(node)).toEqual(kept);
});

describe('an image as a volume', () => {
  it('is mounted read-only, whole or in part', async () => {
    const image = { image: 'test/busybox:latest' };
    const config = mounted(
      { containerPath: '/whole', image, readonly: true },
      { containerPath: '/part', image, imageSubPath: 'var/www', readonly: true },
    );
    expect(await lines('cat /whole/var/www/index.html /part/index.html; touch /part/x 2>&1', config)).toEqual(
      ['it works', 'it works', 'touch: /part/x: Read-only file system'],
    );
  });

  it('is there as long as the container, though its image is removed, and then goes', async () => {
    const layers = () => readdirSync(join(node.root, 'layers')).length;
    const before = layers();
    const image = { image: 'test/data:latest' };
    const id = await node.runContainer(pod, 'sleep 1000', mounted({ containerPath: '/data', image }));
    const imageId = (await node.cri.ImageStatus({ image })).image?.id ?? 'it has no id';
    await node.cri.RemoveImage({ image });
    expect((await node.cri.ImageStatus({ image })).image).toBeNull();
    expect((await node.status(id)).mounts).toMatchObject([
      { containerPath: '/data', image: { image: 'test/data:latest', imageRef: imageId } },
    ]);
    expect(await node.exec(id, 'cat /data/weights')).toBe('heavy');
    expect(layers()).toBe(before);
    await node.cri.RemoveContainer({ containerId: id });
    expect(layers()).toBe(before - 1);
  });
});

describe('a mount that cannot be had', () => {
  beforeAll(() => removeContainers());

  it.each([
    ['a relative place', { hostPath: '/tmp', containerPath: 'mnt' }, 'not an absolute path'],
    [
      'a place that climbs out',
      { hostPath: '/tmp', containerPath: '/../../mnt' },
      'leads out of the container',
    ],
    ['the root as its place', { hostPath: '/tmp', containerPath: '/' }, 'hide the root'],
    ['no source', { containerPath: '/mnt' }, 'is empty'],
    ['a relative source', { hostPath: 'tmp', containerPath: '/mnt' }, 'not an absolute path'],
    ['a source below a file', { hostPath: '/etc/passwd/x', containerPath: '/mnt' }, '/etc/passwd/x'],
    [
      'recursive read-only without read-only',
      { hostPath: '/tmp', containerPath: '/mnt', recursiveReadOnly: true },
      'needs readonly',
    ],
    [
      'recursive read-only with propagation',
      {
        hostPath: '/tmp',
        containerPath: '/mnt',
        recursiveReadOnly: true,
        readonly: true,
        propagation: 'PROPAGATION_HOST_TO_CONTAINER' as const,
      },
      'needs private propagation',
    ],
    [
      'an unknown image',
      { containerPath: '/mnt', image: { image: 'test/nothing' } },
      /^ImageVolumeMountFailed: .*test\/nothing/,
    ],
    [
      'an image and a host path',
      { containerPath: '/mnt', image: { image: 'test/busybox' }, hostPath: '/tmp' },
      /^ImageVolumeMountFailed: .*both an image and the host path/,
    ],
    [
      'a path outside the image',
      { containerPath: '/mnt', image: { image: 'test/busybox' }, imageSubPath: '../..' },
      /^ImageVolumeMountFailed: .*leaves the image/,
    ],
    [
      'a path that the image has not',
      { containerPath: '/mnt', image: { image: 'test/busybox' }, imageSubPath: 'no/such' },
      /^ImageVolumeMountFailed: .*no\/such/,
    ],
  ])('has %s', async (_, mount, words) => {
    const [kept, before] = [keptOfContainers(node), node.snapshot()];
    const { code, details } = await failureOf(node.createContainer(pod, 'true', mounted(mount)));
    expect([grpc.INVALID_ARGUMENT, grpc.NOT_FOUND]).toContain(code);
    expect(details).toMatch(words);
    expect(keptOfContainers(node)).toEqual(kept);
    expect(node.snapshot()).toEqual(before);
  });

  it('has two sources for one place', async () => {
    const { code, details } = await failureOf(
      node.createContainer(
        pod,
        'true',
        mounted({ hostPath: '/tmp', containerPath: '/mnt' }, { hostPath: '/var', containerPath: '/mnt/' }),
      ),
    );
    expect(code).toBe(grpc.INVALID_ARGUMENT);
    expect(details).toContain('/mnt');
  });

  it('is a loop of links', async () => {
    const loop = join(host, 'loop');
    symlinkSync('loop', loop);
    const { code, details } = await failureOf(
      node.createContainer(pod, 'true', mounted({ hostPath: loop, containerPath: '/mnt' })),
    );
    expect(code).toBe(grpc.INVALID_ARGUMENT);
    expect(details).toContain(loop);
  });
});
