// What can keep a daemon from starting, or a pod from coming up, for reasons of the node: words that help, and no traces.
import { chmodSync, existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { status as grpc } from '@grpc/grpc-js';
import { execa } from 'execa';
import { open } from 'lmdb';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connectCri, failureOf } from '../support/cri-client.ts';
import { afterOnePod, type Everything, untilAsBefore } from '../support/everything.ts';
import { criTs, startNode, type TestNode, until } from '../support/node.ts';

let node: TestNode;
let before: Everything;
beforeAll(async () => {
  node = await startNode({
    config: ({ directory }) => `
[plugins."io.cri-ts"]
conmon_path = "${join(directory, 'conmon')}"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.missing]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.missing.options]
BinaryName = "/nonexistent/runc"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.broken]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.broken.options]
BinaryName = "${join(directory, 'broken')}"
`,
  });
  workingConmon();
  executable('broken', 'exec runc "$@"'); // not yet
  await node.runPod({}, 'broken');
  before = await afterOnePod(node);
});
afterAll(() => node.destroy());

function executable(name: string, script: string): void {
  const path = join(node.directory, name);
  writeFileSync(path, `#!/bin/sh\n${script}\n`);
  chmodSync(path, 0o755);
}
const workingConmon = () => executable('conmon', 'exec conmon "$@"');

/** Starts a daemon that must end by itself; returns its exit code and what it said. */
async function refusedStart(over: { root?: string; state?: string; socket?: string } = {}) {
  const root = over.root ?? join(node.directory, 'other');
  const args = ['--root', root, '--state', over.state ?? join(node.directory, 'other-run')];
  const { exitCode, signal, stderr } = await execa(
    criTs,
    ['serve', ...args, '--address', over.socket ?? join(node.directory, 'other.sock')],
    { reject: false, timeout: 120_000 },
  );
  return { exitCode, signal, stderr };
}

describe('a daemon', () => {
  it('refuses a root that another serves, which is not disturbed', async () => {
    const pod = await node.runPod();
    expect(await refusedStart({ root: node.root })).toMatchObject({
      exitCode: 1,
      stderr: expect.stringContaining(`another cri-ts runs on the root ${node.root}`),
    });
    expect((await node.cri.PodSandboxStatus({ podSandboxId: pod })).status?.state).toBe('SANDBOX_READY');
    await untilAsBefore(node, before);
  });

  it('refuses a state directory that another serves, whose containers go on', async () => {
    const pod = await node.runPod();
    const id = await node.runContainer(pod, 'sleep 1000');
    expect(await refusedStart({ state: node.state })).toMatchObject({
      exitCode: 1,
      stderr: expect.stringContaining(`another cri-ts runs on the state directory ${node.state}`),
    });
    expect((await node.status(id)).state).toBe('CONTAINER_RUNNING');
    await untilAsBefore(node, before);
  });

  it('refuses a socket on which another process answers, and leaves it alone', async () => {
    const socket = join(node.directory, 'taken.sock');
    const other = createServer().listen(socket);
    expect(await refusedStart({ socket })).toMatchObject({
      exitCode: 1,
      stderr: expect.stringContaining(`another process answers on ${socket}`),
    });
    expect(existsSync(socket)).toBe(true);
    await new Promise(resolve => other.close(resolve));
  });

  it('refuses a socket of a process that is too busy to answer, and leaves it alone', async () => {
    const socket = join(node.directory, 'busy.sock');
    // Listens, and takes no connection.
    const program = `require("net").createServer().listen({ path: process.argv[1], backlog: 1 }, () => {
      require("fs").writeSync(1, "listens");
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    })`;
    const busy = execa('node', ['-e', program, socket], { reject: false });
    await new Promise(resolve => busy.stdout?.once('data', resolve));
    const waiting = [1, 2, 3].map(() => connect(socket).on('error', () => {}));
    expect(await refusedStart({ socket })).toMatchObject({
      exitCode: 1,
      stderr: expect.stringContaining(`another process answers on ${socket}`),
    });
    expect(existsSync(socket)).toBe(true);
    for (const each of waiting) each.destroy();
    busy.kill('SIGKILL');
    await busy;
  });

  it('refuses a file in place of its socket, and leaves it alone', async () => {
    const socket = join(node.directory, 'file.sock');
    writeFileSync(socket, 'of value');
    expect(await refusedStart({ socket })).toMatchObject({
      exitCode: 1,
      stderr: expect.stringContaining(`${socket} is there and is no socket`),
    });
    expect(readFileSync(socket, 'utf8')).toBe('of value');
  });

  it('replaces the socket of a daemon that was killed', async () => {
    await node.kill();
    expect(existsSync(node.socket)).toBe(true);
    await node.start();
    expect(statSync(node.socket).mode & 0o777).toBe(0o660);
  });

  it('refuses a store of another format with words, and leaves it as it is', async () => {
    await node.stop();
    await withFormat(format => {
      expect(format).toBe(1);
      return 99;
    });
    expect(await refusedStart({ root: node.root })).toMatchObject({
      exitCode: 1,
      stderr: expect.stringMatching(/has format 99, this cri-ts reads format 1.*--root/),
    });
    await withFormat(format => {
      expect(format).toBe(99);
      return 1;
    });
    await node.start();
  });

  async function withFormat(change: (format: unknown) => number): Promise<void> {
    const store = open({ path: join(node.root, 'store'), maxDbs: 16, encoding: 'json' });
    store.putSync('format', change(store.get('format')));
    await store.close();
  }
});

describe('a daemon that was started with another umask', () => {
  it.each(['0', '077'])('makes what it makes as ever (%s)', async umask => {
    const socket = join(node.directory, `umask${umask}.sock`);
    const directory = join(node.directory, `umask${umask}`);
    const args = ['--root', join(directory, 'root'), '--state', join(directory, 'run'), '--address', socket];
    const daemon = execa('sh', ['-c', `umask ${umask}; exec "$@"`, 'sh', criTs, 'serve', ...args], {
      reject: false,
    });
    const cri = connectCri(socket);
    await until('it serves', () => cri.Version().catch(() => undefined));
    cri.close();
    expect(readFileSync(`/proc/${daemon.pid}/status`, 'utf8')).toContain('Umask:\t0022');
    expect(statSync(socket).mode & 0o777).toBe(0o660);
    daemon.kill('SIGTERM');
    expect((await daemon).exitCode).toBe(0);
  });
});

describe('a daemon whose log finds no room', () => {
  it.each(['json', 'text'])('serves all the same, and ends when it is asked to (%s)', async format => {
    const socket = join(node.directory, 'unheard.sock');
    const config = join(node.directory, 'unheard.toml');
    writeFileSync(config, `version = 3\n[debug]\nlevel = "debug"\nformat = "${format}"\n`);
    const args = [
      ...['--root', join(node.directory, 'unheard'), '--state', join(node.directory, 'unheard-run')],
      ...['--address', socket, '--config', config],
    ];
    const daemon = execa('sh', ['-c', 'exec "$@" 2>/dev/full', 'sh', criTs, 'serve', ...args], {
      reject: false,
    });
    const cri = connectCri(socket);
    const { runtimeName } = await until('it serves', () => cri.Version().catch(() => undefined));
    expect(runtimeName).toBe('cri-ts');
    cri.close();
    daemon.kill('SIGTERM');
    expect((await daemon).exitCode).toBe(0);
  });
});

describe('a pod', () => {
  it('on a runtime that is missing is refused with its name, and leaves nothing', async () => {
    const { details } = await failureOf(node.runPod({}, 'missing'));
    expect(details).toContain('/nonexistent/runc could not be started');
    expect((await node.cri.ListPodSandbox()).items).toEqual([]);
    await untilAsBefore(node, before);
    await node.runPod(); // other handlers are none the worse
    await untilAsBefore(node, before);
  });

  it('on a runtime that can not even clean up is NOTREADY until that works again, and then leaves nothing', async () => {
    executable('broken', 'echo "this runtime is broken" >&2; exit 1');
    const { details } = await failureOf(node.runPod({}, 'broken'));
    expect(details).toContain('broken exited with code 1');
    const { items } = await node.cri.ListPodSandbox();
    expect(items.map(({ state }) => state)).toEqual(['SANDBOX_NOTREADY']);
    const again = await failureOf(node.cri.StopPodSandbox({ podSandboxId: items[0]?.id ?? '' }));
    expect(again.details).toContain('this runtime is broken');
    executable('broken', 'exec runc "$@"');
    await untilAsBefore(node, before);
  });

  /** Runc, but with something before it when it is to run a pod. */
  const runcAfter = (script: string) =>
    executable('broken', `case " $* " in *" run "*) ${script} ;; esac; exec runc "$@"`);

  it('on a runtime that hangs is given up with its caller, and leaves nothing', async () => {
    runcAfter('exec sleep 1000');
    const call = node.cri.RunPodSandbox(
      { config: node.podConfig(), runtimeHandler: 'broken' },
      { timeoutMs: 3000 },
    );
    expect((await failureOf(call)).code).toBe(grpc.DEADLINE_EXCEEDED);
    await untilAsBefore(node, before);
    executable('broken', 'exec runc "$@"');
  });

  it('on a runtime and a conmon that are slow comes up', async () => {
    runcAfter('sleep 1');
    executable('conmon', 'sleep 1; exec conmon "$@"');
    const pod = await node.runPod({}, 'broken');
    expect((await node.output(pod, 'echo at last')).lines).toEqual(['at last']);
    workingConmon();
    executable('broken', 'exec runc "$@"');
    await untilAsBefore(node, before);
  });

  it('whose conmon hangs has containers whose start is given up with its caller, and leaves nothing', async () => {
    const containerId = await node.createContainer(await node.runPod(), 'true');
    executable('conmon', 'exec sleep 1000');
    const call = node.cri.StartContainer({ containerId }, { timeoutMs: 3000 });
    expect((await failureOf(call)).code).toBe(grpc.DEADLINE_EXCEEDED);
    workingConmon();
    await untilAsBefore(node, before);
  });

  it.each([
    ['is missing', 'exec /nonexistent/conmon', /conmon/],
    ['fails', 'echo "this conmon is broken" >&2; exit 1', /this conmon is broken/],
    ['is killed at its work', 'kill -9 $$', /conmon/],
  ])('whose conmon %s has containers that do not start, and say why', async (_, script, words) => {
    const pod = await node.runPod();
    const id = await node.createContainer(pod, 'true');
    executable('conmon', script);
    const { details } = await failureOf(node.cri.StartContainer({ containerId: id }));
    workingConmon();
    expect(details).toContain(id);
    expect(details).toMatch(words);
    expect(await node.status(id)).toMatchObject({
      state: 'CONTAINER_EXITED',
      reason: 'StartError',
      exitCode: 128,
      message: details.replace(/^\d+ \w+: /, ''),
    });
    expect((await node.output(pod, 'echo the next one works')).lines).toEqual(['the next one works']);
    await untilAsBefore(node, before);
  });
});
