// SPDY sessions: what the protocol asks of a server, seen by peers that keep to it, peers that do not, and peers that
// break it.

import { describe, expect, it } from 'vitest';
import { serveSpdy } from '../../../src/streaming/spdy/session.ts';
import type { SpdyStream } from '../../../src/streaming/spdy/stream.ts';
import { type SpdyClientOptions, speakSpdy, textOf } from '../../support/streaming/spdy-client.ts';
import { duplexPair } from './duplex-pair.ts';

function connect(onStream: (stream: SpdyStream) => void, options: SpdyClientOptions = {}, maxStreams = 100) {
  const [ours, theirs] = duplexPair();
  const session = serveSpdy(ours, { onStream, onActivity() {}, maxStreams });
  return { client: speakSpdy(theirs, options), session, transport: ours };
}

const hex = (digits: string) => Buffer.from(digits.replace(/\s/g, ''), 'hex');

describe('a SPDY session', () => {
  it('answers streams and hands their headers on', async () => {
    const seen: unknown[] = [];
    const { client, session } = connect(({ id, headers }) => seen.push([id, ...headers]));
    const [one, two] = [await client.open({ a: '1', b: '2' }), await client.open({ a: '3' })];
    await Promise.all([one.replied, two.replied]);
    expect(seen).toEqual([
      [1, ['a', ['1']], ['b', ['2']]],
      [3, ['a', ['3']]],
    ]);
    client.close();
    await session.ended;
  });

  it('half-closes each direction by itself', async () => {
    const { client } = connect(async ({ duplex }) => {
      duplex.end(`you said: ${await textOf(duplex)}`);
    });
    const { duplex } = await client.open({});
    duplex.end('hello');
    expect(await textOf(duplex)).toBe('you said: hello');
    const opposite = connect(async ({ duplex }) => {
      duplex.end('first');
      expect(await textOf(duplex)).toBe('second');
      opposite.session.close();
    });
    const stream = await opposite.client.open({});
    expect(await textOf(stream.duplex)).toBe('first');
    stream.duplex.end('second');
    await opposite.client.closed;
  });

  it('takes a stream that is half-closed as it is opened', async () => {
    const { client } = connect(async ({ duplex }) => {
      duplex.end((await textOf(duplex)) === '' ? 'nothing came' : 'something came');
    });
    const { duplex } = await client.open({}, { fin: true });
    expect(await textOf(duplex)).toBe('nothing came');
  });

  it('answers pings', async () => {
    const { client } = connect(() => {});
    await client.ping();
    await client.ping();
  });

  it('refuses streams beyond its number, and unidirectional ones', async () => {
    const { client } = connect(() => {}, {}, 2);
    await client.open({});
    await client.open({});
    const third = await client.open({});
    await client.ping();
    expect(third.resetCode).toBe(3);
    const other = connect(() => {});
    const oneWay = await other.client.open({}, { flags: 2 });
    await other.client.ping();
    expect(oneWay.resetCode).toBe(3);
  });

  it('ends a stream that the client resets, and the others live on', async () => {
    const closed: number[] = [];
    const { client } = connect(({ id, duplex }) => {
      duplex.on('close', () => closed.push(id));
      duplex.pipe(duplex);
    });
    const [one, two] = [await client.open({}), await client.open({})];
    one.reset(5);
    two.duplex.end('still here');
    expect(await textOf(two.duplex)).toBe('still here');
    expect(closed).toContain(1);
  });

  it('resets data of a stream that was never opened', async () => {
    const { client } = connect(() => {});
    client.raw(hex('00000009 00000001 78'));
    await client.ping();
    expect(client.seen).toContain('RST_STREAM 9');
  });

  it('passes over frames of a type it does not know', async () => {
    const { client } = connect(() => {});
    client.raw(hex('800300ff 00000004 00000000'));
    await client.ping();
  });

  it.each([
    ['a frame of another SPDY version', '80020006 00000004 00000001'],
    ['a stream with an even id', undefined, 2],
    ['a reply to a stream that nobody opened', '80030002 00000004 00000001'],
    ['a ping of the wrong length', '80030006 00000002 0001'],
    ['a window update of nothing', '80030009 00000008 00000000 00000000'],
    ['a window that overflows', '80030009 00000008 00000000 7fffffff'.repeat(2)],
    ['a header block that is no zlib', '80030001 00000010 00000001 00000000 0000 ffffffffffff'],
  ])('is ended by %s', async (_what, bytes, id = 0) => {
    const { client, session } = connect(() => {});
    if (bytes === undefined) await client.open({}, { id });
    else client.raw(hex(bytes));
    expect(await session.ended).toBeInstanceOf(Error);
    await client.closed;
    expect(client.seen.at(-1)).toMatch(/^GOAWAY/);
  });

  it('is ended by a stream id that goes backwards or comes twice', async () => {
    for (const id of [3, 5]) {
      const { client, session } = connect(() => {});
      await client.open({}, { id: 5 });
      await client.open({}, { id });
      expect(await session.ended).toBeInstanceOf(Error);
    }
  });

  it('breaks its streams off when the connection ends before they did', async () => {
    let broken = (_error: Error): void => {};
    const told = new Promise<Error>(resolve => (broken = resolve));
    const { client } = connect(({ duplex }) => duplex.on('error', broken));
    await client.open({});
    await client.ping();
    client.socket.end();
    expect((await told).message).toContain('the client closed the connection');
  });
});

describe('SPDY flow control', () => {
  const size = 4 * 1024 * 1024;
  const content = Buffer.alloc(size, 'flow control ');

  it.each(['strict', 'careless'] as const)('moves more than a window each way (a %s peer)', async flow => {
    const { client } = connect(({ duplex }) => duplex.pipe(duplex), { flow });
    const { duplex } = await client.open({});
    duplex.end(content);
    const chunks: Buffer[] = [];
    for await (const chunk of duplex) chunks.push(chunk as Buffer);
    expect(Buffer.concat(chunks).equals(content)).toBe(true);
  });

  it('keeps to the initial window that a peer sets', async () => {
    const { client } = connect(({ duplex }) => duplex.end(content), { flow: 'strict' });
    client.settings(1000);
    const { duplex } = await client.open({});
    await new Promise(resolve => setTimeout(resolve, 50));
    const data = client.seen.filter(frame => frame.startsWith('DATA'));
    expect(data).toEqual(['DATA 1 1000']);
    let received = 0;
    for await (const chunk of duplex) received += (chunk as Buffer).length;
    expect(received).toBe(size);
  });

  it('gives no more credit than was read', async () => {
    let server: SpdyStream | undefined;
    const { client } = connect(stream => (server = stream), { flow: 'strict' });
    const { duplex } = await client.open({});
    duplex.write(content);
    await new Promise(resolve => setTimeout(resolve, 50));
    // The stream holds what Node buffers ahead, and one window that nobody took out of the queue.
    expect(server?.duplex.readableLength).toBeLessThanOrEqual(128 * 1024);
    expect(client.seen.filter(frame => frame === 'WINDOW_UPDATE 1').length).toBeLessThanOrEqual(2);
    server?.duplex.resume();
    await new Promise<void>(resolve => duplex.end(() => resolve()));
  });

  it('lets other streams move while one stands still', async () => {
    const { client } = connect(
      ({ duplex, headers }) => {
        if (headers.has('echo')) duplex.pipe(duplex);
      },
      { flow: 'strict' },
    );
    const stuck = await client.open({});
    stuck.duplex.write(content);
    const { duplex } = await client.open({ echo: '1' });
    duplex.end('moving');
    expect(await textOf(duplex)).toBe('moving');
  });

  it('stops reading a peer that sends beyond the window, and goes on when it is read', async () => {
    let server: SpdyStream | undefined;
    const { client, transport } = connect(stream => (server = stream), { flow: 'careless' });
    const { duplex } = await client.open({});
    let sent = false;
    duplex.write(content, () => (sent = true));
    await new Promise(resolve => setTimeout(resolve, 50));
    expect(sent).toBe(false);
    expect(transport.readableLength).toBeLessThan(size / 2);
    duplex.end();
    let received = 0;
    for await (const chunk of server?.duplex ?? []) received += (chunk as Buffer).length;
    expect(received).toBe(size);
  });

  it('does not wait for the answer of a peer that floods it', async () => {
    const { client } = connect(({ duplex }) => duplex.pipe(duplex), { flow: 'careless' });
    const { duplex } = await client.open({});
    for (let i = 0; i < 16; i++) duplex.write(content);
    duplex.end();
    let received = 0;
    for await (const chunk of duplex) received += (chunk as Buffer).length;
    expect(received).toBe(16 * size);
  });

  it('breaks off with a peer that asks without end and reads no answers', async () => {
    const [ours, theirs] = duplexPair();
    const session = serveSpdy(ours, { onStream() {}, onActivity() {}, maxStreams: 1 });
    let over = false;
    void session.ended.then(() => {
      over = true;
    });
    const pings = Buffer.concat(Array.from({ length: 4096 }, () => hex('80030006 00000004 00000001')));
    while (!over) {
      theirs.write(pings);
      await new Promise(resolve => setImmediate(resolve));
    }
    expect(await session.ended).toBeInstanceOf(Error);
  });
});
