// Attach through the CRI and the streaming server, on the real conmon.
import { closeSync, constants, openSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Loose } from '../../src/cri-api/contract.ts';
import type { ContainerConfig } from '../../src/cri-api/types.ts';
import { codeOf } from '../../src/errors.ts';
import { standingStill, startNode, type TestNode, until } from '../support/node.ts';
import { gather, openRemote, type Wanted } from '../support/streaming/remote.ts';
import { textOf } from '../support/streaming/spdy-client.ts';
import { connectWebSocket } from '../support/streaming/websocket-client.ts';

let node: TestNode;
let pod: string;
beforeAll(async () => {
  node = await startNode();
  pod = await node.runPod();
});
afterAll(() => node?.destroy());

const shell = (over: Loose<ContainerConfig> = {}) =>
  node.runContainer(pod, '', { command: ['sh'], stdin: true, stdinOnce: false, ...over });

async function attachUrl(containerId: string, wanted: Wanted): Promise<string> {
  const { stdin = false, stdout = true, stderr = false, tty = false } = wanted;
  return (await node.cri.Attach({ containerId, stdin, stdout, stderr, tty })).url;
}

const attach = async (containerId: string, wanted: Wanted) =>
  openRemote(await attachUrl(containerId, wanted), wanted);

const shows = (seen: () => string, text: string) =>
  until(`${JSON.stringify(text)} is seen`, () => (seen().includes(text) ? true : undefined));

/** Resolves when the container's output has begun and stands still. */
async function heldUp(id: string): Promise<void> {
  const { logPath } = await node.status(id);
  const size = () => statSync(logPath).size;
  await until('there is output', () => (size() > 0 ? true : undefined));
  await standingStill(size);
}

/** Writes to conmon's control fifo, as resizes do, until it takes no more. */
function fillUp(fifo: string): void {
  const fd = openSync(fifo, constants.O_WRONLY | constants.O_NONBLOCK);
  try {
    for (;;) writeSync(fd, '1 24 80\n');
  } catch (error) {
    expect(codeOf(error)).toBe('EAGAIN');
  } finally {
    closeSync(fd);
  }
}

describe('attach', () => {
  it('joins input, output and error output of a running container', async () => {
    const id = await shell();
    const { client, stream } = await attach(id, { stdin: true, stderr: true });
    const [out, err] = [gather(stream('stdout')), gather(stream('stderr'))];
    stream('stdin').write('echo to out; echo to err >&2\n');
    await shows(out, 'to out\n');
    await shows(err, 'to err\n');
    expect(out()).toBe('to out\n');
    client.close();
  });

  it('leaves the container as it is when the client goes, and takes the next', async () => {
    const id = await shell();
    const first = await attach(id, { stdin: true });
    const shown = gather(first.stream('stdout'));
    first.stream('stdin').end('x=kept; echo taken\n');
    await shows(shown, 'taken\n');
    first.client.close();
    const second = await attach(id, { stdin: true });
    const out = gather(second.stream('stdout'));
    await until('the shell answers', () => {
      second.stream('stdin').write('echo $x\n');
      return out().includes('kept\n') ? true : undefined;
    });
    second.client.close();
    expect(await node.status(id)).toMatchObject({ state: 'CONTAINER_RUNNING' });
  });

  it('shows the output to several clients at once', async () => {
    const id = await shell();
    const clients = await Promise.all([1, 2, 3].map(() => attach(id, { stdin: true })));
    const seen = clients.map(({ stream }) => gather(stream('stdout')));
    await until('all see it', () => {
      clients[0]?.stream('stdin').write('echo for all\n');
      return seen.every(out => out().includes('for all\n')) ? true : undefined;
    });
    clients[1]?.client.close();
    clients[0]?.stream('stdin').write('echo for two\n');
    await shows(seen[2] ?? (() => ''), 'for two\n');
    for (const { client } of clients) client.close();
  });

  it('ends with the container, after its last output', async () => {
    const id = await shell();
    const { client, stream, status } = await attach(id, { stdin: true });
    stream('stdin').write('echo last words; exit 3\n');
    expect(await textOf(stream('stdout'))).toBe('last words\n');
    expect(await status).toMatchObject({ status: 'Success' });
    client.close();
    expect(await node.untilExited(id)).toMatchObject({ exitCode: 3 });
  });

  it("ends a stdin-once container's input with the client's", async () => {
    const id = await shell({ command: ['sh', '-c', 'cat; echo input ended'], stdinOnce: true });
    const { client, stream } = await attach(id, { stdin: true });
    stream('stdin').end('only this\n');
    expect(await textOf(stream('stdout'))).toBe('only this\ninput ended\n');
    client.close();
    await node.untilExited(id);
  });

  it("does not end a stdin-once container's input when one leaves who only watched", async () => {
    const id = await shell({ command: ['sh', '-c', 'while read x; do echo got $x; done'], stdinOnce: true });
    const watcher = await attach(id, {});
    watcher.client.close();
    await watcher.client.closed;
    const { client, stream } = await attach(id, { stdin: true });
    const out = gather(stream('stdout'));
    stream('stdin').write('one\n');
    await shows(out, 'got one\n');
    client.close();
    await node.untilExited(id); // for this client held the input
  });

  it('is refused for a container that does not run', async () => {
    const id = await node.createContainer(pod, 'true');
    await expect(attachUrl(id, {})).rejects.toMatchObject({
      details: expect.stringContaining('not running'),
    });
    await expect(attachUrl('0123', {})).rejects.toMatchObject({ details: expect.stringContaining('0123') });
  });

  it('holds a container up whose client stopped reading, but does not keep it from ending', async () => {
    const id = await shell({ command: ['sh', '-c', 'read x; yes'], stdinOnce: false });
    const { client, stream } = await attach(id, { stdin: true }); // nobody reads its stdout
    stream('stdin').write('go\n');
    await heldUp(id);
    await node.cri.StopContainer({ containerId: id, timeout: 0 });
    expect(await node.status(id)).toMatchObject({ state: 'CONTAINER_EXITED', exitCode: 137 });
    client.close();
  });
});

describe('attach to a terminal', () => {
  it('passes what is typed and follows the size of the window', async () => {
    const id = await shell({ tty: true });
    const { client, stream } = await attach(id, { stdin: true, tty: true });
    const out = gather(stream('stdout'));
    stream('resize').write('{"Width":99,"Height":55}\n');
    await until('the size is seen', () => {
      stream('stdin').write('stty size\n');
      return out().includes('55 99\r\n') ? true : undefined;
    });
    client.close();
  });

  it('goes on without a size that conmon has no room for, while a client does not read', async () => {
    const id = await shell({ tty: true, command: ['sh', '-c', 'read x; yes'] });
    const { client, stream } = await attach(id, { stdin: true, tty: true }); // nobody reads its stdout
    stream('stdin').write('go\n');
    await heldUp(id);
    fillUp(join(node.state, 'containers', id, 'ctl'));
    const other = await attach(id, { stdin: true, stdout: false, tty: true });
    other.stream('resize').write('{"Width":99,"Height":55}\n');
    await Promise.race([other.client.ping(), other.client.closed]);
    expect((await node.cri.Version({}, { timeoutMs: 10_000 })).runtimeName).toBe('cri-ts');
    for (const each of [client, other.client]) each.close();
    await node.cri.StopContainer({ containerId: id, timeout: 0 });
  });

  it('works over WebSocket as well', async () => {
    const id = await shell({ tty: true });
    const { client } = await connectWebSocket(await attachUrl(id, { stdin: true, tty: true }), [
      'v5.channel.k8s.io',
    ]);
    const say = (text: string) => client?.send(Buffer.concat([Buffer.from([0]), Buffer.from(text)]));
    await say('echo he""llo\n');
    expect(await client?.until(1, text => text.includes('hello\r\n'))).toContain('hello');
    await say('exit\n');
    expect(await client?.until(3, text => text !== '')).toContain('"Success"');
    await client?.closed;
    expect(client?.closeCode).toBe(1000);
  });
});
