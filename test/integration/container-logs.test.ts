// Logs as the kubelet reads them (CRI log format): `TIME STREAM TAG TEXT`, written by conmon, reopened after rotation.
import { existsSync } from 'node:fs';
import { mkdir, readFile, rename, stat, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { status as grpc } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Loose } from '../../src/cri-api/contract.ts';
import type { ContainerConfig } from '../../src/cri-api/types.ts';
import { type LogLine, parseLog } from '../support/containers.ts';
import { failureOf } from '../support/cri-client.ts';
import { startNode, type TestNode, until } from '../support/node.ts';

let node: TestNode;
let pod: string;
beforeAll(async () => {
  node = await startNode();
  pod = await node.runPod();
});
afterAll(() => node.destroy());

async function log(script: string, over?: Loose<ContainerConfig>): Promise<LogLine[]> {
  const id = await node.runContainer(pod, script, over);
  const { logPath } = await node.untilExited(id);
  return parseLog(await readFile(logPath, 'utf8'));
}
/** Nanoseconds since the epoch of an RFC 3339 time. */
function nanoseconds(time: string): bigint {
  const fraction = /\.(\d+)/.exec(time)?.[1] ?? '';
  return BigInt(Date.parse(time.replace(/\.\d+/, ''))) * 1_000_000n + BigInt(fraction.padEnd(9, '0'));
}

describe('a log', () => {
  it('has the time, the stream, a tag and the text of each line', async () => {
    const written = await log('echo one; echo two; sleep 0.05; echo error >&2');
    expect(written.map(({ time: _, ...rest }) => rest)).toEqual([
      { stream: 'stdout', tag: 'F', text: 'one' },
      { stream: 'stdout', tag: 'F', text: 'two' },
      { stream: 'stderr', tag: 'F', text: 'error' },
    ]);
    for (const { time } of written) {
      expect(time).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}(Z|[+-]\d\d:\d\d)$/);
    }
  });

  it('has times between the start and the end of the container', async () => {
    const id = await node.runContainer(pod, 'sleep 0.1; echo now; sleep 0.1');
    const { logPath, createdAt, finishedAt } = await node.untilExited(id);
    const [line] = parseLog(await readFile(logPath, 'utf8'));
    const at = nanoseconds(line?.time ?? '');
    expect(at).toBeGreaterThanOrEqual(BigInt(createdAt));
    expect(at).toBeLessThanOrEqual(BigInt(finishedAt));
  });

  it('keeps empty lines, blanks at both ends, and letters of every script', async () => {
    const written = await log('printf "\\n  blanks  \\n\\tüber 漢字\\n"');
    expect(written.map(({ text }) => text)).toEqual(['', '  blanks  ', '\tüber 漢字']);
  });

  it('splits long lines into parts tagged P, of which the last is tagged F', async () => {
    const length = 100_000;
    const written = await log(`head -c ${length} /dev/zero | tr "\\0" x; echo; echo after`);
    const long = written.slice(0, -1);
    expect(long.length).toBeGreaterThan(1);
    expect(long.map(({ tag }) => tag).join('')).toMatch(/^P+F$/);
    expect(long.map(({ text }) => text).join('')).toBe('x'.repeat(length));
    expect(written.at(-1)).toMatchObject({ tag: 'F', text: 'after' });
  });

  it('keeps what was written last without a newline', async () => {
    const written = await log('echo one; printf two');
    expect(written.map(({ text }) => text)).toEqual(['one', 'two']);
  });

  it('has all of what is written in haste, in order', async () => {
    const written = await log('seq 20000');
    const joined = written.map(({ tag, text }) => (tag === 'F' ? `${text}\n` : text)).join('');
    expect(joined.trimEnd().split('\n')).toEqual(Array.from({ length: 20_000 }, (_, i) => String(i + 1)));
  });

  it('stands where the pod and the container say, in directories made for it', async () => {
    const id = await node.runContainer(pod, 'echo here', { logPath: 'web/deeper/3.log' });
    const { logPath } = await node.untilExited(id);
    expect(logPath).toMatch(/\/logs\/pod-\d+\/web\/deeper\/3\.log$/);
    expect((await stat(logPath)).mode & 0o777).toBe(0o600);
    expect(await node.logLines(id)).toEqual(['here']);
  });

  it('exists as soon as the container is started, and stays when it is removed', async () => {
    const id = await node.runContainer(pod, 'exec sleep 1000');
    const { logPath } = await node.status(id);
    expect(existsSync(logPath)).toBe(true);
    await node.cri.RemoveContainer({ containerId: id });
    expect(existsSync(logPath)).toBe(true);
  });

  it('goes on where an earlier one of the same path ended', async () => {
    const attempts = [0, 1].map(attempt => ({ metadata: { name: 'again', attempt }, logPath: 'again.log' }));
    for (const attempt of attempts) await node.output(pod, 'echo attempt', attempt);
    const id = await node.runContainer(pod, 'echo last', { logPath: 'again.log' });
    await node.untilExited(id);
    expect(await node.logLines(id)).toEqual(['attempt', 'attempt', 'last']);
  });

  it('is not written when the container or its pod names none', async () => {
    const none = await node.runContainer(pod, 'echo nobody; exit 5', { logPath: '' });
    expect(await node.untilExited(none)).toMatchObject({ logPath: '', exitCode: 5 });
    const silentPod = await node.runPod({ logDirectory: '' });
    const silent = await node.runContainer(silentPod, 'echo nobody; exit 6', { logPath: 'some.log' });
    expect(await node.untilExited(silent)).toMatchObject({ logPath: '', exitCode: 6 });
  });

  it('is of one stream for a container with a terminal', async () => {
    const written = await log('echo out; echo error >&2', { tty: true });
    expect(written.map(({ stream, text }) => [stream, text.trimEnd()])).toEqual([
      ['stdout', 'out'],
      ['stdout', 'error'],
    ]);
  });
});

describe('ReopenContainerLog', () => {
  const talk = 'i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done';
  const numbers = async (path: string) =>
    parseLog(await readFile(path, 'utf8')).map(({ text }) => Number(text));

  it('lets the kubelet rotate: renamed, reopened, and no line is lost', async () => {
    const id = await node.runContainer(pod, talk);
    const { logPath } = await node.status(id);
    const rotated: string[] = [];
    for (const suffix of ['1', '2', '3']) {
      await until('something is logged', async () => (await numbers(logPath)).length > 2 || undefined);
      rotated.push(`${logPath}.${suffix}`);
      await rename(logPath, `${logPath}.${suffix}`);
      await node.cri.ReopenContainerLog({ containerId: id });
      expect(existsSync(logPath)).toBe(true);
    }
    await until('something is logged again', async () => (await numbers(logPath)).length > 2 || undefined);
    await node.cri.StopContainer({ containerId: id });
    const all = (await Promise.all([...rotated, logPath].map(numbers))).flat();
    expect(all).toEqual(all.map((_, i) => i + 1));
  });

  it('goes on in the same file when nobody has renamed it', async () => {
    const id = await node.runContainer(pod, 'echo before; read line; echo after', { stdin: true });
    const { logPath } = await node.status(id);
    await until('the first line is there', async () => (await node.logLines(id)).length > 0 || undefined);
    await node.cri.ReopenContainerLog({ containerId: id });
    expect(await node.logLines(id)).toContain('before');
    expect(existsSync(logPath)).toBe(true);
  });

  it('says so when the directory of the log has gone', async () => {
    const id = await node.runContainer(pod, talk, { logPath: 'gone/0.log' });
    const { logPath } = await node.status(id);
    await rename(dirname(logPath), `${dirname(logPath)}-moved`);
    const { details } = await failureOf(node.cri.ReopenContainerLog({ containerId: id }));
    expect(details).toContain(basename(logPath));
    expect((await node.status(id)).state).toBe('CONTAINER_RUNNING');
    await mkdir(dirname(logPath));
    await node.cri.ReopenContainerLog({ containerId: id });
    await until('something is logged again', async () => (await numbers(logPath)).length > 0 || undefined);
  });

  it('is fine for a container without a log', async () => {
    const id = await node.runContainer(pod, 'exec sleep 1000', { logPath: '' });
    await node.cri.ReopenContainerLog({ containerId: id });
  });

  it('is refused for containers that do not run', async () => {
    const created = await node.createContainer(pod, 'true');
    const { status } = await node.output(pod, 'true');
    for (const containerId of [created, status.id]) {
      const { code, details } = await failureOf(node.cri.ReopenContainerLog({ containerId }));
      expect(code).toBe(grpc.FAILED_PRECONDITION);
      expect(details).toContain(containerId);
    }
    expect((await failureOf(node.cri.ReopenContainerLog({ containerId: 'f'.repeat(64) }))).code).toBe(
      grpc.NOT_FOUND,
    );
  });
});

describe('a log path that cannot be used', () => {
  it.each(['../out.log', '/tmp/out.log', 'a/../../out.log', '.', 'a/..'])('%s is refused', async logPath => {
    const { code, details } = await failureOf(node.createContainer(pod, 'true', { logPath }));
    expect(code).toBe(grpc.INVALID_ARGUMENT);
    expect(details).toContain('log_path');
    expect(details).toContain(JSON.stringify(logPath));
  });

  it('fails the start, by name, when its directory has gone since', async () => {
    const id = await node.createContainer(pod, 'true', { logPath: 'short-lived/0.log' });
    const { logPath } = await node.status(id);
    await rename(dirname(logPath), `${dirname(logPath)}-moved`);
    const { details } = await failureOf(node.cri.StartContainer({ containerId: id }));
    expect(details).toContain(logPath);
    expect(await node.status(id)).toMatchObject({ exitCode: 128, reason: 'StartError' });
  });

  it('is refused too when a file stands where its directory should be', async () => {
    const { logPath } = (await node.output(pod, 'true')).status;
    const blocker = join(dirname(logPath), 'blocker');
    await writeFile(blocker, '');
    const { details } = await failureOf(node.createContainer(pod, 'true', { logPath: 'blocker/0.log' }));
    expect(details).toContain('blocker');
    expect(
      (await node.cri.ListContainers()).containers.filter(({ state }) => state === 'CONTAINER_UNKNOWN'),
    ).toEqual([]);
  });
});
