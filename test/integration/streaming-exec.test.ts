// Exec through the CRI and the streaming server, on the real runc, with clients that speak SPDY and WebSocket by the
// protocols' own words.
import { createHash, randomInt } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startNode, type TestNode, until } from '../support/node.ts';
import { gather, openRemote, type Wanted } from '../support/streaming/remote.ts';
import { textOf } from '../support/streaming/spdy-client.ts';
import { connectWebSocket } from '../support/streaming/websocket-client.ts';

let node: TestNode;
let container: string;
beforeAll(async () => {
  node = await startNode();
  container = await node.runContainer(await node.runPod(), 'sleep 100000');
});
afterAll(() => node?.destroy());

async function execUrl(
  cmd: string[],
  { stdin = false, stdout = true, stderr = false, tty = false }: Wanted = {},
) {
  const { url } = await node.cri.Exec({ containerId: container, cmd, stdin, stdout, stderr, tty });
  return url;
}

/** Runs a command over SPDY; the streams that are asked for are open when this returns. */
async function spdyExec(cmd: string[], wanted: Wanted = {}, options: Parameters<typeof openRemote>[2] = {}) {
  return openRemote(await execUrl(cmd, wanted), wanted, options);
}

/** Seconds that no other command on this machine sleeps: a leftover of another run must not be taken for this one's. */
const uniqueSleep = () => String(randomInt(1e8, 2 ** 31));

const processes = (needle: string) =>
  readdirSync('/proc')
    .filter(name => /^\d+$/.test(name))
    .filter(pid => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes(needle);
      } catch {
        return false;
      }
    });

describe('exec over SPDY', () => {
  it('hands over output, error output and success', async () => {
    const { client, stream, status } = await spdyExec(['sh', '-c', 'echo out; echo err >&2'], {
      stderr: true,
    });
    const [out, err] = await Promise.all([textOf(stream('stdout')), textOf(stream('stderr'))]);
    expect({ out, err }).toEqual({ out: 'out\n', err: 'err\n' });
    expect(await status).toMatchObject({ status: 'Success' });
    client.close();
  });

  it('reports the exit code in the status', async () => {
    const { client, status } = await spdyExec(['sh', '-c', 'exit 7']);
    expect(await status).toMatchObject({
      status: 'Failure',
      reason: 'NonZeroExitCode',
      details: { causes: [{ reason: 'ExitCode', message: '7' }] },
    });
    client.close();
  });

  it('reports a signal as 128 and its number', async () => {
    const { client, status } = await spdyExec(['sh', '-c', 'kill -9 $$']);
    expect(await status).toMatchObject({ details: { causes: [{ message: '137' }] } });
    client.close();
  });

  it("says why a command cannot be run, in the runtime's words", async () => {
    const { client, status } = await spdyExec(['/no/such/command']);
    expect(await status).toMatchObject({
      status: 'Failure',
      reason: 'InternalError',
      message: expect.stringContaining('no such file or directory'),
    });
    client.close();
  });

  it('ends the input of the command when the client half-closes it', async () => {
    const { client, stream, status } = await spdyExec(['sh', '-c', 'cat; echo after'], { stdin: true });
    stream('stdin').end('one\ntwo\n');
    expect(await textOf(stream('stdout'))).toBe('one\ntwo\nafter\n');
    expect(await status).toMatchObject({ status: 'Success' });
    client.close();
  });

  it('lets a command end that does not read its input', async () => {
    const { client, stream, status } = await spdyExec(['sh', '-c', 'echo done'], { stdin: true });
    const endless = Readable.from(
      (function* () {
        for (;;) yield Buffer.alloc(65536);
      })(),
    );
    endless.pipe(stream('stdin'));
    expect(await textOf(stream('stdout'))).toBe('done\n');
    expect(await status).toMatchObject({ status: 'Success' });
    endless.destroy();
    client.close();
  });

  it('gives the command pipes, which it may open by name', async () => {
    const { client, stream } = await spdyExec([
      'sh',
      '-c',
      'echo by-name > /dev/stdout; readlink /proc/self/fd/0',
    ]);
    const out = await textOf(stream('stdout'));
    expect(out).toBe('by-name\n/dev/null\n');
    client.close();
  });

  it('kills the command and all it started when the client goes away', async () => {
    const mark = uniqueSleep();
    const { client, stream } = await spdyExec(['sh', '-c', `sleep ${mark} & echo up; sleep ${mark}`], {
      stdin: true,
    });
    expect(String((await stream('stdout').take(1).toArray())[0])).toBe('up\n');
    expect(processes(mark).length).toBeGreaterThan(1);
    client.close();
    await until('the command is gone', () => (processes(mark).length === 0 ? true : undefined));
  });

  it('runs many commands at once', async () => {
    const outputs = Array.from({ length: 20 }, async (_, i) => {
      const { client, stream, status } = await spdyExec(['sh', '-c', `cat; echo ${i}; exit ${i}`], {
        stdin: true,
      });
      stream('stdin').end(`in ${i}\n`);
      const out = await textOf(stream('stdout'));
      const code = (await status)?.details?.causes[0]?.message ?? '0';
      client.close();
      return { out, code };
    });
    expect(await Promise.all(outputs)).toEqual(
      Array.from({ length: 20 }, (_, i) => ({ out: `in ${i}\n${i}\n`, code: `${i}` })),
    );
  });
});

describe('exec with a terminal', () => {
  it('joins the client with it', async () => {
    const { client, stream, status } = await spdyExec(['sh'], { stdin: true, tty: true });
    const out = textOf(stream('stdout'));
    stream('stdin').write('tty; echo $TERM; stty -echo; exit 3\n');
    expect(await out).toMatch(/\/dev\/pts\/\d+\r\nxterm\r\n/);
    expect(await status).toMatchObject({ details: { causes: [{ message: '3' }] } });
    client.close();
  });

  it('follows the size of the window of the client', async () => {
    const { client, stream } = await spdyExec(['sh'], { stdin: true, tty: true });
    const seen = gather(stream('stdout'));
    stream('resize').write('{"Width":101,"Height":41}\n');
    const sizeIs = (size: string) =>
      until(size, () => {
        stream('stdin').write('stty size\n');
        return seen().includes(`${size}\r\n`) ? true : undefined;
      });
    await sizeIs('41 101');
    stream('resize').write('{"Width":30,"Heig');
    stream('resize').write('ht":20}\n');
    await sizeIs('20 30');
    client.close();
  });

  it('sends what the client types as signals', async () => {
    const { client, stream, status } = await spdyExec(
      ['sh', '-c', 'trap "echo caught; exit 5" INT; echo up; while :; do sleep 1; done'],
      {
        stdin: true,
        tty: true,
      },
    );
    let seen = '';
    stream('stdout').on('data', (chunk: Buffer) => {
      seen += chunk.toString();
      if (seen.endsWith('up\r\n')) stream('stdin').write('\x03');
    });
    expect(await status).toMatchObject({ details: { causes: [{ message: '5' }] } });
    expect(seen).toContain('caught');
    client.close();
  });
});

describe('exec over WebSocket', () => {
  it('carries streams on channels and tells the exit code', async () => {
    const url = await execUrl(['sh', '-c', 'cat; echo err >&2; exit 4'], { stdin: true, stderr: true });
    const { client } = await connectWebSocket(url, ['v5.channel.k8s.io']);
    await client?.send(Buffer.concat([Buffer.from([0]), Buffer.from('typed')]));
    await client?.send(Buffer.from([255, 0]));
    expect(JSON.parse((await client?.until(3, text => text !== '')) ?? '')).toMatchObject({
      details: { causes: [{ reason: 'ExitCode', message: '4' }] },
    });
    expect(client?.channel(1).toString()).toBe('typed');
    expect(client?.channel(2).toString()).toBe('err\n');
    await client?.closed;
    expect(client?.closeCode).toBe(1000);
  });

  it('resizes a terminal', async () => {
    const url = await execUrl(
      ['sh', '-c', 'while [ "$(stty size)" != "33 77" ]; do sleep 0.1; done; echo fits'],
      {
        stdin: true,
        tty: true,
      },
    );
    const { client } = await connectWebSocket(url, ['v4.channel.k8s.io']);
    await client?.send(Buffer.concat([Buffer.from([4]), Buffer.from('{"Width":77,"Height":33}')]));
    expect(await client?.until(1, text => text.includes('fits'))).toContain('fits');
    await client?.closed;
  });
});

describe('a gigabyte', () => {
  const total = 1024 ** 3;
  const block = Buffer.alloc(1024 * 1024, 'cri-ts streaming ');
  const expected = (() => {
    const hash = createHash('md5');
    for (let sent = 0; sent < total; sent += block.length) hash.update(block);
    return hash.digest('hex');
  })();
  const memory = () => {
    const status = readFileSync(`/proc/${node.pid()}/status`, 'latin1');
    return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) * 1024;
  };

  it.each(['careless', 'strict'] as const)('goes in and out intact (a %s client)', async flow => {
    const { client, stream, status } = await spdyExec(['cat'], { stdin: true }, { flow });
    const before = memory();
    const hash = createHash('md5');
    let received = 0;
    const input = Readable.from(
      (function* () {
        for (let sent = 0; sent < total; sent += block.length) yield block;
      })(),
    );
    input.pipe(stream('stdin'));
    for await (const chunk of stream('stdout')) {
      hash.update(chunk as Buffer);
      received += (chunk as Buffer).length;
    }
    expect(received).toBe(total);
    expect(hash.digest('hex')).toBe(expected);
    expect(await status).toMatchObject({ status: 'Success' });
    expect(memory() - before).toBeLessThan(200 * 1024 * 1024);
    client.close();
  });

  it('goes out to a WebSocket intact', async () => {
    const url = await execUrl(['sh', '-c', `yes 'cri-ts streaming' | head -c ${total}`]);
    const { client } = await connectWebSocket(url, ['v4.channel.k8s.io']);
    const line = Buffer.from('cri-ts streaming\n');
    const pattern = Buffer.concat(Array<Buffer>(8192).fill(line));
    let received = 0;
    let intact = true;
    let status = '';
    client?.onMessage(({ bytes }) => {
      const data = bytes.subarray(1);
      if (bytes[0] === 3) status += data.toString();
      if (bytes[0] !== 1) return;
      const at = received % line.length;
      intact &&= data.equals(pattern.subarray(at, at + data.length));
      received += data.length;
    });
    await client?.closed;
    expect({ received, intact }).toEqual({ received: total, intact: true });
    expect(JSON.parse(status)).toMatchObject({ status: 'Success' });
  });

  it('is not taken in for a client that does not read', async () => {
    const { client, stream } = await spdyExec(
      ['sh', '-c', `dd if=/dev/zero bs=65536 count=${total / 65536} 2>/dev/null`],
      {},
    );
    const before = memory();
    await new Promise(resolve => stream('stdout').once('readable', resolve));
    // Nobody reads: the client's socket stands still, so the daemon must stop reading the pipe.
    await new Promise(resolve => setTimeout(resolve, 3000));
    expect(memory() - before).toBeLessThan(50 * 1024 * 1024);
    let received = 0;
    for await (const chunk of stream('stdout')) received += (chunk as Buffer).length;
    expect(received).toBe(total);
    client.close();
  });
});

describe('the end of the daemon', () => {
  it('ends the commands of its clients, and leaves the container as it is', async () => {
    const mark = uniqueSleep();
    const { client, stream } = await spdyExec(['sh', '-c', `echo up; sleep ${mark}`]);
    expect(String((await stream('stdout').take(1).toArray())[0])).toBe('up\n');
    await node.stop();
    await client.closed;
    await until('the command is gone', () => (processes(mark).length === 0 ? true : undefined));
    await node.start();
    expect(await node.status(container)).toMatchObject({ state: 'CONTAINER_RUNNING' });
    const again = await spdyExec(['echo', 'again']);
    expect(await textOf(again.stream('stdout'))).toBe('again\n');
    again.client.close();
  });
});
