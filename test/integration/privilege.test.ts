// Who may come at what: files, sockets, descriptors, environments and command lines of the daemon and its helpers, seen by
// other users of the host and by containers. docs/threat-model.md names these tests.
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  lstatSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { status as grpc } from '@grpc/grpc-js';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { addImage, inspect, pausePid } from '../support/containers.ts';
import { failureOf } from '../support/cri-client.ts';
import { bridgeConf, startNode, type TestNode, until } from '../support/node.ts';
import { openRemote } from '../support/streaming/remote.ts';

const secrets = {
  daemon: 'secret-of-the-daemon',
  environment: 'secret-in-the-environment',
  password: 'secret-of-the-registry',
  token: 'secret-token-of-the-registry',
};

let node: TestNode;
let pod: string;
let container: string;

/** Everything that helpers were given: command lines, environments, descriptors. */
const helpersFile = () => join(node.directory, 'helpers');
const helpers = () => readFileSync(helpersFile(), 'utf8');

beforeAll(async () => {
  node = await startNode({
    busybox: false, // its import would make the directories in the daemon's place
    config: ({ directory }) => `
[metrics]
address = "127.0.0.1:0"
[plugins."io.cri-ts"]
conmon_path = "${join(directory, 'conmon')}"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
BinaryName = "${join(directory, 'runc')}"
`,
    cni: paths => ({ '10-noting.conf': { ...bridgeConf(paths), type: 'noting' } }),
    plugins: { noting: {} },
    env: { SECRET: secrets.daemon },
  });
  for (const [path, program] of [
    [join(node.directory, 'conmon'), 'conmon'],
    [join(node.directory, 'runc'), 'runc'],
    [join(node.pluginDir, 'noting'), '/usr/lib/cni/bridge'],
  ] as const) {
    // Plugins get the environment of the daemon, as CNI has it; others must not.
    const environment = path.includes('noting') ? 'env | grep CNI' : 'env';
    const note = `{ echo "$0 $*"; ${environment}; ls -l /proc/$$/fd; } >>${helpersFile()}`;
    writeFileSync(path, `#!/bin/sh\n${note}\nexec ${program} "$@"\n`, { mode: 0o755 });
  }
  await addImage(node, 'docker.io/test/busybox:latest', {});
  pod = await node.runPod();
  container = await node.runContainer(pod, 'exec sleep 1000', {
    envs: [{ key: 'PASSWORD', value: Buffer.from(secrets.environment) }],
    mounts: [{ containerPath: '/image', image: { image: 'test/busybox:latest' }, readonly: true }],
  });
  await node.exec(container, 'true');
});
afterAll(() => node.destroy());

/** Opens a command with a terminal, which has a directory of its own, for as long as `work` takes. */
async function withTerminal(work: () => Promise<void> | void): Promise<void> {
  const { url } = await node.cri.Exec({
    containerId: container,
    cmd: ['sh'],
    tty: true,
    stdin: true,
    stdout: true,
  });
  const { client, stream } = await openRemote(url, { stdin: true, tty: true });
  stream('stdin').write('echo here\n');
  await new Promise(resolve => stream('stdout').once('data', resolve));
  await work();
  client.close();
}

describe('other users of the host', () => {
  const nobody = { uid: 65534, gid: 65534 } as const;
  /** Whether the unprivileged user nobody gets so far. */
  const reachable = (path: string) => {
    try {
      execFileSync('ls', ['-d', path], { ...nobody, stdio: 'ignore' });
      return true;
    } catch {
      return false;
    }
  };

  it('cannot connect to the CRI socket', async () => {
    chmodSync(node.directory, 0o711);
    const program = `require('net').connect(${JSON.stringify(node.socket)})
      .on('connect', () => { console.log('connected'); process.exit() })
      .on('error', error => console.log(error.code))`;
    const { stdout } = await execa('node', ['-e', program], nobody);
    expect(stdout).toBe('EACCES');
    expect((await execa('node', ['-e', program])).stdout).toBe('connected');
  });

  it('cannot reach images, root file systems, bundles and shm of pods, whose ids process lists tell', () => {
    chmodSync(node.directory, 0o711);
    expect(reachable(node.root)).toBe(true);
    for (const path of [
      join(node.root, 'layers', '1', 'bin', 'busybox'),
      join(node.root, 'containers', container, 'upper'),
      join(node.root, 'store', 'data.mdb'),
      join(node.state, 'containers', container, 'rootfs', 'bin', 'busybox'),
      join(node.state, 'containers', container, 'config.json'),
      join(node.state, 'containers', `${container}-volume-0`, 'rootfs', 'bin', 'busybox'),
      join(node.state, 'sandboxes', pod, 'shm'),
      join(node.state, 'sandboxes', pod, 'config.json'),
      join(node.state, 'exits', container),
      join(node.state, 'oci', 'runc', container),
    ]) {
      expect([path, reachable(path)]).toEqual([path, false]);
    }
    expect(lstatSync(join(node.root, 'layers', '1', 'bin', 'busybox')).isFile()).toBe(true);
    expect(lstatSync(join(node.state, 'sandboxes', pod, 'shm')).isDirectory()).toBe(true);
  });

  it('find these modes on everything below root and state, and no others', async () => {
    await withTerminal(() => {
      expect(shapes()).toMatchInlineSnapshot(`
        [
          "0711 d root",
          "0700 d root/cni",
          "0700 d root/cni/drafts",
          "0700 d root/cni/results",
          "0600 - root/cni/results/NETWORK-ID-eth0",
          "0711 d root/containers",
          "0700 d root/containers/ID",
          "0755 d root/containers/ID/upper",
          "0700 d root/containers/ID/work",
          "0000 d root/containers/ID/work/work",
          "0700 d root/content",
          "0700 d root/content/blobs",
          "0700 d root/content/blobs/sha256",
          "0600 - root/content/blobs/sha256/ID",
          "0700 d root/content/ingest",
          "0700 d root/layers",
          "0755 d root/layers/N",
          "0755 d root/layers/empty-0",
          "0755 d root/layers/empty-1",
          "0600 - root/lock",
          "0755 d root/pause",
          "0700 d root/store",
          "0644 - root/store/data.mdb",
          "0644 - root/store/lock.mdb",
          "0711 d state",
          "0711 d state/containers",
          "0700 d state/containers/ID",
          "0700 d state/containers/ID-volume-0",
          "0755 d state/containers/ID-volume-0/rootfs",
          "0700 s state/containers/ID/attach",
          "0600 - state/containers/ID/config.json",
          "0600 - state/containers/ID/conmon.log",
          "0640 p state/containers/ID/ctl",
          "0644 - state/containers/ID/pid",
          "0755 d state/containers/ID/rootfs",
          "0644 - state/containers/ID/runtime.log",
          "0640 p state/containers/ID/winsz",
          "0700 d state/exits",
          "0700 d state/oci",
          "0700 d state/oci/runc",
          "0711 d state/oci/runc/ID",
          "0600 - state/oci/runc/ID/state.json",
          "0711 d state/sandboxes",
          "0700 d state/sandboxes/ID",
          "0600 - state/sandboxes/ID/config.json",
          "0644 - state/sandboxes/ID/hostname",
          "0644 - state/sandboxes/ID/hosts",
          "0644 - state/sandboxes/ID/pid",
          "0644 - state/sandboxes/ID/resolv.conf",
          "0644 - state/sandboxes/ID/runtime.log",
          "1777 d state/sandboxes/ID/shm",
          "0600 - state/state.lock",
          "0700 d state/tty",
        ]
      `);
    });
  });

  it('find these modes on what a user namespace and volumes of an image add to them', async () => {
    chmodSync(node.directory, 0o711);
    await addImage(node, 'docker.io/test/volumes:latest', { Volumes: { '/data': {} } });
    const usual = shapes();
    const ids = [{ hostId: 400_000, containerId: 0, length: 65_536 }];
    const usernsOptions = { mode: 'POD' as const, uids: ids, gids: ids };
    const linux = { securityContext: { namespaceOptions: { pid: 'CONTAINER' as const, usernsOptions } } };
    const other = await node.runPod({ linux });
    await node.runContainer(other, 'exec sleep 1000', { linux, image: { image: 'test/volumes:latest' } });
    expect(shapes().filter(line => !usual.includes(line))).toMatchInlineSnapshot(`
      [
        "0755 d root/containers/ID/volumes",
        "0755 d root/containers/ID/volumes/bd47413b5c03dfc6",
        "0710 d state/containers/ID",
        "0710 d state/sandboxes/ID",
        "0444 - state/userns/ID",
      ]
    `);
    await node.cri.RemovePodSandbox({ podSandboxId: other });
  });

  /** `MODE TYPE PATH` of everything of the daemon's own, ids replaced; what is in images and containers is theirs. */
  function shapes(): string[] {
    const found = new Set<string>();
    const walk = (directory: string, shape: string) => {
      for (const entry of readdirSync(directory, { withFileTypes: true })) {
        const path = join(directory, entry.name);
        const status = lstatSync(path);
        const name = `${shape}/${shapeOf(entry.name)}`;
        const kind = entry.isDirectory()
          ? 'd'
          : entry.isFile()
            ? '-'
            : entry.isSocket()
              ? 's'
              : entry.isFIFO()
                ? 'p'
                : '?';
        found.add(`${(status.mode & 0o7777).toString(8).padStart(4, '0')} ${kind} ${name}`);
        if (entry.isDirectory() && !/\/(rootfs|upper|N|pause)$/.test(name)) walk(path, name);
      }
    };
    for (const [path, name] of [
      [node.root, 'root'],
      [node.state, 'state'],
    ] as const) {
      found.add(`${(statSync(path).mode & 0o7777).toString(8).padStart(4, '0')} d ${name}`);
      walk(path, name);
    }
    // What a command needs while it is being started comes and goes.
    return [...found].filter(line => !/XXXXXX/.test(line)).sort((a, b) => (a.slice(7) < b.slice(7) ? -1 : 1));
  }

  const shapeOf = (name: string) =>
    name
      .replace(node.bridge, 'NETWORK')
      .replaceAll(/[0-9a-f]{64}/g, 'ID')
      .replace(/^[0-9]+$/, 'N')
      .replace(/^(t|exec-)[A-Za-z0-9]{6}$/, '$1XXXXXX');
});

describe('secrets', () => {
  it('of containers and of the daemon are in no log, no command line, no environment of a helper and no file that others can read', async () => {
    const sampled = commandLines();
    await node.cri
      .PullImage({
        image: { image: '127.0.0.1:1/private/image:latest' },
        auth: { username: 'user', password: secrets.password, registryToken: '' },
      })
      .catch(() => {});
    const refused = await failureOf(
      node.cri.PullImage({
        image: { image: '127.0.0.1:1/private/other:latest' },
        auth: { registryToken: secrets.token },
      }),
    );
    await node
      .createContainer(pod, 'true', {
        envs: [{ key: 'PASSWORD', value: Buffer.from(secrets.environment) }],
        workingDir: '/proc/self/fd/7',
      })
      .catch(() => {});
    const id = await node.runContainer(pod, 'echo $PASSWORD | wc -c', {
      envs: [{ key: 'PASSWORD', value: Buffer.from(secrets.environment) }],
    });
    sampled.push(...commandLines());
    await node.untilExited(id);
    expect(await node.logLines(id)).toEqual([String(secrets.environment.length + 1)]);

    const log = await node.log();
    const metricsAddress = [...log.matchAll(/"address":"([^"]+)".*metrics are served/g)].at(-1)?.[1];
    const places: Record<string, string> = {
      'the log of the daemon': log,
      metrics: await (await fetch(`http://${metricsAddress}/metrics`)).text(),
      'command lines': sampled.join('\n'),
      'what helpers were given': helpers(),
      'the answer of a pull that failed': refused.details,
    };
    expect(places['what helpers were given']).toContain('CNI_COMMAND=ADD');
    expect(places['what helpers were given']).toMatch(/runc .* create /);
    expect(places['command lines']).toContain(container); // conmon's
    expect(places.metrics).toContain('PullImage');
    for (const [place, text] of Object.entries(places)) {
      for (const [whose, secret] of Object.entries(secrets)) {
        expect([place, whose, text.includes(secret)]).toEqual([place, whose, false]);
      }
    }
  });

  it('of containers are in files for root alone', () => {
    const found = execFileSync(
      'grep',
      ['-rlsF', '--devices=skip', '--exclude-dir=rootfs', secrets.environment, node.root, node.state],
      {
        encoding: 'utf8',
      },
    )
      .trim()
      .split('\n');
    expect(found).toContain(join(node.state, 'containers', container, 'config.json'));
    for (const path of found) expect([path, isForOthers(path)]).toEqual([path, false]);
  });

  /** Whether the path and every directory above it within the node let others through to read it. */
  function isForOthers(path: string): boolean {
    if ((statSync(path).mode & 0o004) === 0) return false;
    for (let above = join(path, '..'); above.length > node.directory.length; above = join(above, '..')) {
      if ((statSync(above).mode & 0o001) === 0) return false;
    }
    return true;
  }

  it('of the daemon are not in the environment of containers and of their commands', async () => {
    const variables = await node.exec(container, 'tr "\\0" "\\n" </proc/1/environ; env');
    expect(variables).toContain(`PASSWORD=${secrets.environment}`);
    expect(variables).not.toContain(secrets.daemon);
    expect(variables).not.toContain('CRI_TS');
  });

  function commandLines(): string[] {
    return readdirSync('/proc')
      .filter(name => /^\d+$/.test(name))
      .flatMap(pid => {
        try {
          return [readFileSync(`/proc/${pid}/cmdline`, 'latin1').replaceAll('\0', ' ')];
        } catch {
          return []; // it has ended
        }
      })
      .filter(line => line.includes(node.directory));
  }
});

describe('descriptors of the daemon', () => {
  const links = (pid: number) =>
    readdirSync(`/proc/${pid}/fd`).flatMap(fd => {
      try {
        return [readlinkSync(`/proc/${pid}/fd/${fd}`)];
      } catch {
        return []; // closed meanwhile
      }
    });

  /** What the pause program, catatonit, opens for itself. */
  const ownSignals = 'anon_inode:[signalfd]';

  it('are not inherited by conmon, pause, containers and plugins', async () => {
    const { pid, monitorPid } = await inspect(node, container);
    // Of others, such as eventfds, the name does not tell one from another.
    const own = links(node.pid()).filter(link => /^(pipe|socket):|^\/(?!dev\/null)/.test(link));
    expect(own.join()).toContain('store/data.mdb');
    for (const process of [pid, monitorPid, await pausePid(node, pod)]) {
      const shared = links(process).filter(link => own.includes(link));
      expect([process, shared]).toEqual([process, []]);
    }
    const pipe = expect.stringMatching(/^pipe:/);
    expect(links(pid)).toEqual(['/dev/null', pipe, pipe]);
    expect(links(await pausePid(node, pod))).toEqual(['/dev/null', '/dev/null', '/dev/null', ownSignals]);
    expect(helpers()).toContain('0 -> /dev/null');
    for (const link of own) expect(helpers()).not.toContain(`-> ${link}\n`);
  });

  it('are not inherited by commands: they have standard input, output and error output alone', async () => {
    const script = 'cd /proc/self/fd && echo *';
    expect(await node.exec(container, script)).toMatch(/^0 1 2( \d+)?$/); // the last is the shell's, to read the directory
    const { lines } = await node.output(pod, script);
    expect(lines.join()).toMatch(/^0 1 2( \d+)?$/);
    const { url } = await node.cri.Exec({ containerId: container, cmd: ['sh', '-c', script], stdout: true });
    const { stream, status } = await openRemote(url);
    let text = '';
    stream('stdout').on('data', (chunk: Buffer) => (text += chunk));
    await status;
    expect(text).toMatch(/^0 1 2( \d+)?\n$/);
  });
});

describe('the memory of the daemon', () => {
  const megabyte = 1024 * 1024;
  const memory = () => {
    const text = readFileSync(`/proc/${node.pid()}/status`, 'latin1');
    return (Number(/^VmRSS:\s*(\d+)/m.exec(text)?.[1]) * 1024) / megabyte;
  };
  /** The largest resident memory while `work` runs, in MiB above what it was before. */
  async function growth(work: () => Promise<unknown>): Promise<number> {
    const before = memory();
    let most = before;
    const timer = setInterval(() => (most = Math.max(most, memory())), 20);
    try {
      await work();
    } finally {
      clearInterval(timer);
    }
    return most - before;
  }
  const flood = (megabytes: number) => `yes ${'x'.repeat(1000)} | head -c ${megabytes * megabyte}`;

  it('is not filled by the log of a container', async () => {
    const grown = await growth(async () => {
      const id = await node.runContainer(pod, flood(100));
      await node.untilExited(id, 240_000);
    });
    expect(grown).toBeLessThan(64);
  });

  it('is not filled by the output of a command', async () => {
    const grown = await growth(async () => {
      const cmd = ['sh', '-c', flood(400)];
      // An answer of all that is kept, sixteen megabytes, may be larger than the server sends.
      const answer = node.cri.ExecSync({ containerId: container, cmd, timeout: 0 });
      expect(
        await answer.then(
          () => grpc.OK,
          ({ code }) => code,
        ),
      ).toBeOneOf([grpc.OK, grpc.RESOURCE_EXHAUSTED]);
    });
    // Sixteen are kept, and put into an answer.
    expect(grown).toBeLessThan(160);
  });

  it('is not filled by a container whose output an attached client does not read', async () => {
    const id = await node.runContainer(pod, `while [ ! -e /go ]; do sleep 0.1; done; ${flood(100)}`, {
      stdin: false,
    });
    const { url } = await node.cri.Attach({ containerId: id, stdout: true });
    const { client } = await openRemote(url);
    client.socket.pause();
    const grown = await growth(async () => {
      await node.exec(id, 'touch /go');
      const { logPath } = await node.status(id);
      // The container is held up, or goes on to its end: in either case the output stands still some time.
      let size = -1;
      await until('the output stands still', async () => {
        const now = statSync(logPath).size;
        const still = now === size;
        size = now;
        await new Promise(resolve => setTimeout(resolve, 300));
        return (still && now > 0) || undefined;
      });
    });
    client.close();
    expect(grown).toBeLessThan(64);
    await node.cri.RemoveContainer({ containerId: id });
  });
});
