// Exec and attach as the protocols carry them, with commands that are made up.
import { text } from 'node:stream/consumers';
import { afterEach, describe, expect, it } from 'vitest';
import type { RemoteStreams } from '../../../src/streaming/remote-command/streams.ts';
import type { StreamingServer } from '../../../src/streaming/server.ts';
import { openRemote } from '../../support/streaming/remote.ts';
import { connectSpdy, textOf } from '../../support/streaming/spdy-client.ts';
import { connectWebSocket, type WebSocketClient } from '../../support/streaming/websocket-client.ts';
import { execRequest, startServer } from './fixture.ts';

const servers: StreamingServer[] = [];
const start: typeof startServer = async (...args) => {
  const server = await startServer(...args);
  servers.push(server);
  return server;
};
afterEach(async () => {
  for (const server of servers.splice(0)) await server.close();
});

/** A command that sends its input back and ends with a code. */
const echo =
  (code: number) =>
  async ({ stdin, stdout, stderr }: RemoteStreams): Promise<number> => {
    const said = stdin ? await text(stdin) : '';
    stdout?.write(`out ${said}`);
    stderr?.write(`err ${said}`);
    return code;
  };
const all = { stdin: true, stdout: true, stderr: true };
const failing = async (): Promise<number> => {
  throw new Error('no such container');
};

describe('a remote command over SPDY', () => {
  it.each([
    ['v4.channel.k8s.io', 'status'],
    ['v3.channel.k8s.io', 'text'],
    ['v2.channel.k8s.io', 'text'],
    ['channel.k8s.io', 'text'],
  ])('in %s tells the exit code as %s', async (protocol, format) => {
    const server = await start({ exec: echo(9) });
    const { client } = await connectSpdy(server.execUrl(execRequest(all)), [protocol]);
    if (!client) throw new Error('not upgraded');
    const open = async (streamtype: string) => (await client.open({ streamtype })).duplex;
    const [error, stdin, stdout, stderr] = [
      await open('error'),
      await open('stdin'),
      await open('stdout'),
      await open('stderr'),
    ];
    stdin.end('in');
    expect(await Promise.all([textOf(stdout), textOf(stderr)])).toEqual(['out in', 'err in']);
    const told = await textOf(error);
    if (format === 'text') expect(told).toBe('command terminated with non-zero exit code: 9');
    else
      expect(JSON.parse(told)).toMatchObject({
        reason: 'NonZeroExitCode',
        details: { causes: [{ message: '9' }] },
      });
    client.close();
  });

  it.each([
    ['v4.channel.k8s.io', /^\{.*"status":"Success"/],
    ['v2.channel.k8s.io', /^$/],
  ])('in %s tells success', async (protocol, words) => {
    const server = await start({ exec: echo(0) });
    const { client } = await connectSpdy(server.execUrl(execRequest()), [protocol]);
    const error = await client?.open({ streamtype: 'error' });
    await client?.open({ streamtype: 'stdout' });
    expect(await textOf(error?.duplex)).toMatch(words);
    client?.close();
  });

  it('tells why it failed', async () => {
    const server = await start({ exec: failing });
    const { client, status } = await openRemote(server.execUrl(execRequest()));
    expect(await status).toMatchObject({
      status: 'Failure',
      reason: 'InternalError',
      message: 'error executing command in container: no such container',
    });
    client.close();
  });

  it('waits for every stream that was asked for, and no longer than allowed', async () => {
    let ran = false;
    const exec = async () => {
      ran = true;
      return 0;
    };
    const server = await start({ exec }, { creationTimeoutMs: 100 });
    const { client } = await connectSpdy(server.execUrl(execRequest(all)), ['v4.channel.k8s.io']);
    await client?.open({ streamtype: 'error' });
    await client?.open({ streamtype: 'stdin' });
    await client?.closed;
    expect(client?.seen.at(-1)).toMatch(/^GOAWAY/);
    expect(ran).toBe(false);
  });

  it('takes no streams that were not asked for', async () => {
    const server = await start({ exec: echo(0) });
    const { client } = await connectSpdy(server.execUrl(execRequest()), ['v4.channel.k8s.io']);
    const uncalled = await client?.open({ streamtype: 'stdin' });
    const unknown = await client?.open({ streamtype: 'mystery' });
    const error = await client?.open({ streamtype: 'error' });
    await client?.open({ streamtype: 'stdout' });
    expect(await textOf(error?.duplex)).toContain('Success');
    expect([uncalled?.resetCode, unknown?.resetCode]).toEqual([5, 5]);
    client?.close();
  });

  it('passes on the sizes of the window, and passes over what is none', async () => {
    const sizes: unknown[] = [];
    const exec = async (streams: RemoteStreams) => {
      for await (const size of streams.sizes) {
        sizes.push(size);
        if (size.width === 3) break;
      }
      return 0;
    };
    const server = await start({ exec });
    const wanted = { stdin: true, tty: true };
    const { client, stream, status } = await openRemote(server.execUrl(execRequest(wanted)), wanted);
    const send = async (json: string) => {
      stream('resize').write(json);
      await client.ping();
    };
    await send('{"Width":1,"Height":2}\n');
    await send('nonsense {"Width":"x"} {"Width":0,"Height":0}');
    await send('{"Wid');
    await send('th":3,"Height":4}');
    await status;
    expect(sizes).toEqual([
      { width: 1, height: 2 },
      { width: 3, height: 4 },
    ]);
    client.close();
  });

  it('is told when the client goes away', async () => {
    let gone = (): void => {};
    const told = new Promise<void>(resolve => (gone = resolve));
    const exec = ({ signal }: RemoteStreams) =>
      new Promise<number>(resolve => {
        signal.addEventListener('abort', () => {
          gone();
          resolve(0);
        });
      });
    const server = await start({ exec });
    const { client } = await openRemote(server.execUrl(execRequest()));
    await client.ping();
    client.close();
    await told;
  });

  it('is ended when nothing moves for too long', async () => {
    const exec = ({ signal }: RemoteStreams) =>
      new Promise<number>(resolve => signal.addEventListener('abort', () => resolve(0)));
    const server = await start({ exec }, { idleTimeoutMs: 50 });
    const { client } = await openRemote(server.execUrl(execRequest()));
    await client.closed;
    const { client: socket } = await connectWebSocket(server.execUrl(execRequest()), ['v5.channel.k8s.io']);
    await socket?.closed;
  });
});

describe('a remote command over WebSocket', () => {
  const channelText = (client: WebSocketClient | undefined, channel: number, base64: boolean): string => {
    if (!base64) return client?.channel(channel).toString() ?? '';
    return (client?.messages ?? [])
      .map(({ bytes }) => bytes.toString('latin1'))
      .filter(message => message.startsWith(String(channel)))
      .map(message => Buffer.from(message.slice(1), 'base64').toString())
      .join('');
  };

  it.each([
    ['v5.channel.k8s.io', false, 'status'],
    ['v4.channel.k8s.io', false, 'status'],
    ['v4.base64.channel.k8s.io', true, 'status'],
    ['channel.k8s.io', false, 'text'],
    ['base64.channel.k8s.io', true, 'text'],
  ])('in %s carries output and the exit code', async (protocol, base64, format) => {
    const server = await start({ exec: echo(2) });
    const wanted = { stdout: true, stderr: true };
    const { client, headers } = await connectWebSocket(server.execUrl(execRequest(wanted)), [protocol]);
    expect(headers['sec-websocket-protocol']).toBe(protocol);
    await client?.closed;
    expect(client?.closeCode).toBe(1000);
    expect(channelText(client, 1, base64)).toBe('out ');
    expect(channelText(client, 2, base64)).toBe('err ');
    expect(client?.messages.every(({ binary }) => binary !== base64)).toBe(true);
    const told = channelText(client, 3, base64);
    if (format === 'text') expect(told).toBe('command terminated with non-zero exit code: 2');
    else
      expect(JSON.parse(told)).toMatchObject({ details: { causes: [{ reason: 'ExitCode', message: '2' }] } });
  });

  it('without a protocol is channel.k8s.io, and says hello on the first channel', async () => {
    const server = await start({ exec: echo(0) });
    const { client, headers } = await connectWebSocket(server.execUrl(execRequest()), []);
    expect(headers['sec-websocket-protocol']).toBeUndefined();
    await client?.closed;
    expect(client?.messages[0]?.bytes).toEqual(Buffer.from([1]));
  });

  it('half-closes its input by the close signal of v5', async () => {
    const server = await start({ exec: echo(0) });
    const url = server.execUrl(execRequest({ stdin: true }));
    const { client } = await connectWebSocket(url, ['v5.channel.k8s.io']);
    await client?.send(Buffer.from([0, 0x61, 0x62]));
    await client?.send(Buffer.from([255, 0]));
    await client?.send(Buffer.from([0, 0x63])); // too late
    await client?.closed;
    expect(client?.channel(1).toString()).toBe('out ab');
  });

  it('takes input as base64 text', async () => {
    let said = '';
    const exec = async ({ stdin }: RemoteStreams) => {
      for await (const chunk of stdin ?? []) {
        said += String(chunk);
        if (said.endsWith('.')) break;
      }
      return 0;
    };
    const server = await start({ exec });
    const url = server.execUrl(execRequest({ stdin: true }));
    const { client } = await connectWebSocket(url, ['v4.base64.channel.k8s.io']);
    await client?.send(`0${Buffer.from('in base64.').toString('base64')}`);
    await client?.closed;
    expect(said).toBe('in base64.');
  });

  it('answers pings, and passes over messages that are for nobody', async () => {
    const server = await start({ exec: echo(0) });
    const url = server.execUrl(execRequest({ stdin: true }));
    const { client } = await connectWebSocket(url, ['v5.channel.k8s.io']);
    await client?.ping();
    await client?.send(Buffer.from([9, 1, 2, 3]));
    await client?.send(Buffer.alloc(0));
    await client?.send(Buffer.from([255]));
    await client?.send(Buffer.from([0, 0x78]));
    await client?.send(Buffer.from([255, 0]));
    await client?.closed;
    expect(client?.channel(1).toString()).toBe('out x');
  });

  it('is broken off when a message is larger than allowed', async () => {
    const exec = ({ signal }: RemoteStreams) =>
      new Promise<number>(resolve => signal.addEventListener('abort', () => resolve(0)));
    const server = await start({ exec });
    const url = server.execUrl(execRequest({ stdin: true }));
    const { client } = await connectWebSocket(url, ['v5.channel.k8s.io']);
    client?.send(Buffer.alloc(5 * 1024 * 1024)).catch(() => {});
    await client?.closed;
    expect(client?.closeCode).not.toBe(1000);
  });

  it('stops reading a client whose input nobody takes', async () => {
    let held: RemoteStreams | undefined;
    const exec = (streams: RemoteStreams) => {
      held = streams;
      return new Promise<number>(resolve => streams.signal.addEventListener('abort', () => resolve(0)));
    };
    const server = await start({ exec });
    const url = server.execUrl(execRequest({ stdin: true }));
    const { client } = await connectWebSocket(url, ['v5.channel.k8s.io']);
    let sent = 0;
    const flood = (async () => {
      for (;;) {
        await client?.send(Buffer.alloc(65536));
        sent += 65536;
      }
    })().catch(() => {});
    let before = -1;
    while (before !== sent) {
      before = sent;
      await new Promise(resolve => setTimeout(resolve, 200));
    }
    expect(sent).toBeGreaterThan(0);
    expect(held?.stdin?.readableLength).toBeLessThan(1024 * 1024);
    client?.destroy();
    await flood;
  });
});
