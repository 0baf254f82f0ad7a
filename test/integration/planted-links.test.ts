// Links that a hostile image or container plants where the daemon, conmon or runc will act as root: logs, mounts, volumes
// and working directories. Whatever they aim at on the host must stay as it was. docs/threat-model.md names these tests.
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { status as grpc } from '@grpc/grpc-js';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Loose } from '../../src/cri-api/contract.ts';
import type { ContainerConfig } from '../../src/cri-api/types.ts';
import { addImage } from '../support/containers.ts';
import { failureOf } from '../support/cri-client.ts';
import type { Entry } from '../support/image/make-image.ts';
import { startNode, type TestNode, until } from '../support/node.ts';

let node: TestNode;
let pod: string;
let logs: string;
/** A directory of the host that links aim at. */
let victim: string;
const hostile: Loose<ContainerConfig> = { image: { image: 'test/hostile:latest' } };

beforeAll(async () => {
  node = await startNode();
  victim = join(node.directory, 'victim');
  mkdirSync(victim);
  writeFileSync(join(victim, 'file'), 'of the host\n');
  const link = (name: string, linkname: string): Entry => ({ name, type: 'symlink', linkname });
  const entries = [
    link('to-victim', victim),
    link('climbing', `../../../../../../../../..${victim}`),
    link('to-process', '/proc/self/fd'),
    link('to-descriptor', '/proc/self/fd/7'),
    link('volume-link', victim),
    { name: 'volume', type: 'directory', mode: 0o755 } as const,
    link('volume/inner', join(victim, 'file')),
    link('volume/directory', victim),
  ];
  const volumes = { '/volume': {}, '/volume-link': {} };
  await addImage(node, 'docker.io/test/hostile:latest', { Volumes: volumes }, entries);
  await addImage(node, 'docker.io/test/leaky:latest', { WorkingDir: '/to-descriptor/../../..' }, entries);
  pod = await node.runPod();
  logs = (await node.cri.PodSandboxStatus({ podSandboxId: pod, verbose: true })).info.info ?? '';
  logs = (JSON.parse(logs) as { config: { logDirectory: string } }).config.logDirectory;
});
afterAll(() => node.destroy());
afterEach(() => {
  // Whatever was tried: the host is as it was.
  expect(readdirSync(victim)).toEqual(['file']);
  expect(readFileSync(join(victim, 'file'), 'utf8')).toBe('of the host\n');
});

describe('a log', () => {
  const logOf = (name: string) => join(logs, name);

  it('whose directory is a link is refused, before anything is made there', async () => {
    symlinkSync(victim, logOf('linked'));
    for (const logPath of ['linked/0.log', 'linked/deeper/0.log']) {
      const { code, details } = await failureOf(node.createContainer(pod, 'true', { logPath }));
      expect(code).toBe(grpc.FAILED_PRECONDITION);
      expect(details).toContain(`${logOf('linked')} is a symbolic link`);
    }
  });

  it('whose directory has become a link since is refused at the start', async () => {
    const id = await node.createContainer(pod, 'echo written', { logPath: 'swapped/0.log' });
    rmSync(logOf('swapped'), { recursive: true });
    symlinkSync(victim, logOf('swapped'));
    const { details } = await failureOf(node.cri.StartContainer({ containerId: id }));
    expect(details).toContain('is a symbolic link');
  });

  it('of a pod whose log directory has become a link is refused', async () => {
    const other = await node.runPod({ logDirectory: logOf('of-another') });
    rmSync(logOf('of-another'), { recursive: true });
    symlinkSync(victim, logOf('of-another'));
    const { details } = await failureOf(node.createContainer(other, 'true', { logPath: '0.log' }));
    expect(details).toContain(`${logOf('of-another')} is a symbolic link`);
    await node.cri.RemovePodSandbox({ podSandboxId: other });
  });

  it.each([
    ['a link to a file', (path: string) => symlinkSync(join(victim, 'file'), path), 'a symbolic link'],
    [
      'a link to what is not there',
      (path: string) => symlinkSync(join(victim, 'new'), path),
      'a symbolic link',
    ],
    ['a fifo', (path: string) => execFileSync('mkfifo', [path]), 'neither a file nor a directory'],
    ['a directory', (path: string) => mkdirSync(path), 'a directory'],
  ])('that is %s is refused at the start', async (what, plant, words) => {
    const logPath = `${what.replaceAll(' ', '-')}.log`;
    const id = await node.createContainer(pod, 'echo written', { logPath });
    plant(logOf(logPath));
    const { code, details } = await failureOf(node.cri.StartContainer({ containerId: id }));
    expect(code).toBe(grpc.FAILED_PRECONDITION);
    expect(details).toContain(`${logOf(logPath)} is ${words}`);
  });

  it.each(['', '.tmp'])(
    'that is a link (log%s) when it is reopened is not followed, and the container goes on',
    async suffix => {
      const logPath = `reopened${suffix}.log`;
      const id = await node.runContainer(pod, 'while :; do echo line; sleep 0.1; done', { logPath });
      renameSync(logOf(logPath), logOf(`${logPath}.1`));
      symlinkSync(join(victim, 'file'), logOf(`${logPath}${suffix}`));
      const { code } = await failureOf(node.cri.ReopenContainerLog({ containerId: id }));
      expect(code).toBe(grpc.FAILED_PRECONDITION);
      rmSync(logOf(`${logPath}${suffix}`));
      await node.cri.ReopenContainerLog({ containerId: id });
      await until('the log goes on', () => readFileSync(logOf(logPath), 'utf8') !== '' || undefined);
      expect((await node.status(id)).state).toBe('CONTAINER_RUNNING');
      await node.cri.RemoveContainer({ containerId: id });
    },
  );
});

describe('a mount', () => {
  const source = () => {
    const path = join(node.directory, 'source');
    mkdirSync(path, { recursive: true });
    return path;
  };

  it.each(['/to-victim/place', '/climbing/place', '/to-victim/file'])(
    'onto %s, which leads through a link of the image, makes nothing on the host',
    async containerPath => {
      const config = { ...hostile, mounts: [{ hostPath: source(), containerPath }] };
      await node.output(pod, 'true', config).catch(() => {});
    },
  );

  it.each(['/proc/self/attr', '/to-process/place', '/proc/sys'])(
    'onto %s is refused by the runtime, for it could undo what protects processes',
    async containerPath => {
      const config = { ...hostile, mounts: [{ hostPath: source(), containerPath }] };
      const { details } = await failureOf(node.output(pod, 'true', config));
      expect(details).toMatch(/proc/);
    },
  );

  it('of a part of an image does not follow its links to the host', async () => {
    for (const imageSubPath of ['to-victim', 'climbing', 'volume/directory', 'volume/inner']) {
      const mounts = [
        { containerPath: '/part', image: { image: 'test/hostile:latest' }, imageSubPath, readonly: true },
      ];
      const { details } = await failureOf(node.createContainer(pod, 'true', { mounts }));
      expect(details).toContain(`has no ${imageSubPath}`);
    }
    for (const imageSubPath of ['../..', '/etc', 'etc/../../..']) {
      const mounts = [
        { containerPath: '/part', image: { image: 'test/hostile:latest' }, imageSubPath, readonly: true },
      ];
      expect((await failureOf(node.createContainer(pod, 'true', { mounts }))).code).toBe(
        grpc.INVALID_ARGUMENT,
      );
    }
  });
});

describe('a volume of the image', () => {
  it('is filled with links as they are, and never with what they lead to on the host', async () => {
    const script =
      'readlink /volume/inner; cat /volume/inner; ls /volume-link; touch /volume-link/new; ls /volume-link';
    const { lines } = await node.output(pod, `(${script}) 2>&1`, hostile);
    expect(lines).toEqual([
      join(victim, 'file'),
      "cat: can't open '/volume/inner': No such file or directory",
      'new',
    ]);
  });
});

describe('a working directory', () => {
  it.each([
    '/proc/self/fd/7',
    '/proc/1/cwd',
    '/proc/thread-self/cwd',
    '/to-descriptor',
    '/to-process/8',
    '//proc/./self/fd/9',
  ])('%s, where a runtime may have left a directory of the host open, is refused', async workingDir => {
    const { code, details } = await failureOf(node.createContainer(pod, 'true', { ...hostile, workingDir }));
    expect(code).toBe(grpc.INVALID_ARGUMENT);
    expect(details).toContain('working directory');
  });

  it('of the image is looked at in the same way', async () => {
    const image = { image: 'test/leaky:latest' };
    const { lines } = await node.output(pod, 'pwd; ls victim to-victim/file 2>/dev/null', { image });
    expect(lines).toEqual(['/']); // normalized before it is followed, as the runtime does
    expect((await node.output(pod, 'ls', { workingDir: '/proc/sys/net' })).status.exitCode).toBe(0);
  });

  it('that is changed into a link while the container runs does not lead commands out', async () => {
    const shared = source();
    const config = { mounts: [{ hostPath: shared, containerPath: '/shared' }], workingDir: '/shared/inside' };
    const id = await node.runContainer(pod, 'exec sleep 1000', config);
    expect(await node.exec(id, 'pwd')).toBe('/shared/inside');
    await node.exec(id, 'cd / && rm -r /shared/inside && ln -s /proc/self/fd/7 /shared/inside');
    const answer = await node.exec(id, `pwd; cat ../../../../..${victim}/file`).catch(String);
    expect(answer).not.toContain('of the host');
    await node.cri.RemoveContainer({ containerId: id });
  });

  const source = () => {
    const path = join(node.directory, 'working');
    rmSync(path, { recursive: true, force: true });
    mkdirSync(path);
    return path;
  };
});

describe('a link in the root file system of a running container', () => {
  it('is not followed when its disk usage is measured, nor when it is removed', async () => {
    const id = await node.runContainer(pod, 'exec sleep 1000', hostile);
    await node.exec(
      id,
      `ln -s ${victim} /etc/planted; ln -s / /everything; rm -r /etc/passwd; ln -s ${join(victim, 'file')} /etc/passwd`,
    );
    expect(await node.exec(id, 'id -u')).toBe('0');
    const { stats } = await node.cri.ContainerStats({ containerId: id });
    expect(Number(stats?.writableLayer?.usedBytes?.value)).toBeLessThan(1024 * 1024);
    await node.cri.RemoveContainer({ containerId: id });
    expect(existsSync(join(victim, 'file'))).toBe(true);
  });
});
