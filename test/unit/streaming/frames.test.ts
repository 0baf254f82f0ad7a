import { constants, createDeflate, createInflate } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { headerDictionary } from '../../../src/streaming/spdy/dictionary.ts';
import {
  createFrameReader,
  dataHeader,
  type Frame,
  readSettings,
  readWindowUpdate,
  SpdyError,
  writeFrame,
} from '../../../src/streaming/spdy/frames.ts';
import { createEmptyBlocks, createHeaderDecoder } from '../../../src/streaming/spdy/headers.ts';
import { spdyDictionary } from '../../support/streaming/spdy-dictionary.ts';
import { adler32 } from './adler32.ts';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const fromHex = (text: string) => Buffer.from(text.replace(/\s/g, ''), 'hex');

describe('SPDY frames', () => {
  it('are written as the protocol lays them out', () => {
    expect(hex(writeFrame.ping(1))).toBe('800300060000000400000001');
    expect(hex(writeFrame.rstStream(3, 5))).toBe('80030003000000080000000300000005');
    expect(hex(writeFrame.goAway(7, 1))).toBe('80030007000000080000000700000001');
    expect(hex(writeFrame.windowUpdate(5, 0x10000))).toBe('80030009000000080000000500010000');
    expect(hex(writeFrame.synReply(1, Buffer.from('ab')))).toBe('800300020000000600000001' + '6162');
    expect(hex(dataHeader(9, 0x010203, true))).toBe('0000000901010203');
  });

  it('are read from bytes cut anywhere', () => {
    const wire = Buffer.concat([
      writeFrame.ping(1),
      dataHeader(3, 5, true),
      Buffer.from('hello'),
      dataHeader(5, 0, true),
      writeFrame.rstStream(3, 2),
    ]);
    for (let size = 1; size <= wire.length; size++) {
      const reader = createFrameReader();
      const frames: Frame[] = [];
      for (let at = 0; at < wire.length; at += size)
        frames.push(...reader.feed(wire.subarray(at, at + size)));
      const data = frames.flatMap(frame => ('streamId' in frame && frame.streamId === 3 ? [frame] : []));
      expect(data.map(({ bytes }) => bytes.toString()).join('')).toBe('hello');
      expect(data.map(({ fin }) => fin)).toEqual([...data.slice(1).map(() => false), true]);
      expect(frames.filter(frame => 'type' in frame).map(frame => frame.type)).toEqual([6, 3]);
      expect(frames).toContainEqual({ streamId: 5, bytes: Buffer.alloc(0), fin: true });
    }
  });

  it('are never held whole when they carry data', () => {
    const reader = createFrameReader();
    const [first] = [...reader.feed(Buffer.concat([dataHeader(1, 0xffffff, false), Buffer.alloc(100)]))];
    expect(first).toMatchObject({ streamId: 1, fin: false });
  });

  it.each([
    ['of another version', '80020006 00000004 00000001'],
    ['of data on stream 0', '00000000 00000001 00'],
    ['of control that is too long', '80030008 00ffffff'],
  ])('are refused when they are %s', (_what, bytes) => {
    expect(() => [...createFrameReader().feed(fromHex(bytes))]).toThrow(SpdyError);
  });

  it('are refused when their length does not fit their type', () => {
    const frame = (payload: string) => ({ type: 0, flags: 0, payload: fromHex(payload) });
    expect(() => readWindowUpdate(frame('00000001'))).toThrow(/WINDOW_UPDATE frame has 4 bytes/);
    expect(() => readWindowUpdate(frame('00000001 00000000'))).toThrow(/adds nothing/);
    expect(() => readSettings(frame('00000002 00000007 00001000'))).toThrow(/SETTINGS/);
    expect(readSettings(frame('00000001 00000007 00001000'))).toEqual(new Map([[7, 0x1000]]));
  });
});

describe('SPDY header blocks', () => {
  const block = (...pairs: string[]) => {
    const number = (value: number) => fromHex(value.toString(16).padStart(8, '0'));
    return Buffer.concat([
      number(pairs.length / 2),
      ...pairs.flatMap(text => [number(text.length), Buffer.from(text)]),
    ]);
  };
  function compressor(dictionary = spdyDictionary) {
    const deflate = createDeflate({ dictionary });
    return (bytes: Buffer) =>
      new Promise<Buffer>(resolve => {
        deflate.write(bytes);
        deflate.flush(constants.Z_SYNC_FLUSH, () => resolve(deflate.read() as Buffer));
      });
  }

  it("are compressed with the protocol's dictionary", () => {
    expect(headerDictionary.equals(spdyDictionary)).toBe(true);
    expect(adler32(headerDictionary).toString(16)).toBe('e3c6a7c2');
  });

  it('are read one after the other through one context', async () => {
    const compress = compressor();
    const decoder = createHeaderDecoder();
    const first = await compress(block('streamtype', 'error', 'port', '8080'));
    const second = await compress(block('streamtype', 'error', 'port', '8080', 'x', 'a\0b'));
    expect(second.length).toBeLessThan(first.length);
    expect([...(await decoder.decode(first))]).toEqual([
      ['streamtype', ['error']],
      ['port', ['8080']],
    ]);
    expect((await decoder.decode(second)).get('x')).toEqual(['a', 'b']);
    decoder.close();
  });

  it.each([
    ['an upper-case name', block('StreamType', 'x'), /lower case/],
    ['a name twice', block('a', '1', 'a', '2'), /twice/],
    [
      'a length beyond its end',
      Buffer.concat([block('a', '1'), Buffer.alloc(0)]).subarray(0, 12),
      /too early/,
    ],
    ['an inflated size beyond all measure', block('a', 'x'.repeat(10_000_000)), /inflates to more/],
  ])('are refused with %s', async (_what, bytes, words) => {
    const decoder = createHeaderDecoder();
    await expect(decoder.decode(await compressor()(bytes))).rejects.toThrow(words);
    decoder.close();
  });

  it('are refused when they are not compressed at all, and all after them', async () => {
    const decoder = createHeaderDecoder();
    await expect(decoder.decode(Buffer.from('garbage!'))).rejects.toThrow(SpdyError);
    await expect(decoder.decode(Buffer.from('more'))).rejects.toThrow(SpdyError);
  });

  it('that the server sends are one zlib stream of empty blocks', async () => {
    const empty = createEmptyBlocks();
    const inflate = createInflate({ dictionary: spdyDictionary });
    const plain: Buffer[] = [];
    inflate.on('data', (chunk: Buffer) => plain.push(chunk));
    for (let i = 0; i < 3; i++) {
      const block = empty();
      // Go's reader hands on nothing of a block before it has seen a sync flush behind it.
      expect(hex(block.subarray(-5))).toBe('000000ffff');
      inflate.write(block);
      await new Promise<void>(resolve => inflate.flush(constants.Z_SYNC_FLUSH, () => resolve()));
    }
    expect(hex(Buffer.concat(plain))).toBe('00000000'.repeat(3));
  });
});
