// Name/value header blocks of SPDY/3 (the protocol's section 2.6.10): read with one zlib context for the whole
// connection, so every block must pass through it in the order of its arrival.
import { constants, createInflate } from 'node:zlib';
import { headerDictionary } from './dictionary.ts';
import { SpdyError } from './frames.ts';

/** Values by lower-case name; a name with several values has them in order. */
export type Headers = ReadonlyMap<string, readonly string[]>;

export interface HeaderDecoder {
  /** Decode one block at a time. @throws SpdyError */
  decode(block: Buffer): Promise<Headers>;
  close(): void;
}

/** Far above what any client sends (three short headers), far below what hurts. */
const maxBlockBytes = 64 * 1024;

export function createHeaderDecoder(): HeaderDecoder {
  const inflate = createInflate({ dictionary: headerDictionary });
  let chunks: Buffer[] = [];
  let size = 0;
  let failure: SpdyError | undefined;
  let onFailure = (_error: SpdyError): void => {};
  const fail = (why: string): void => {
    failure ??= new SpdyError(`a header block cannot be read: ${why}`);
    onFailure(failure);
    inflate.destroy();
  };
  inflate.on('error', error => fail(error.message));
  inflate.on('data', (chunk: Buffer) => {
    size += chunk.length;
    if (size > maxBlockBytes) fail(`it inflates to more than ${maxBlockBytes} bytes`);
    else chunks.push(chunk);
  });

  return {
    async decode(block) {
      if (failure) throw failure;
      chunks = [];
      size = 0;
      await new Promise<void>((resolve, reject) => {
        onFailure = reject;
        inflate.write(block);
        inflate.flush(constants.Z_SYNC_FLUSH, () => resolve());
      });
      return readBlock(Buffer.concat(chunks));
    },
    close() {
      inflate.destroy();
    },
  };
}

/** Number of pairs; then each name and value behind its length. Values of one name are set off by NUL. */
function readBlock(bytes: Buffer): Headers {
  const headers = new Map<string, string[]>();
  let offset = 0;
  const number = (): number => {
    if (offset + 4 > bytes.length) throw new SpdyError('a header block ends too early');
    offset += 4;
    return bytes.readUInt32BE(offset - 4);
  };
  const text = (): string => {
    const length = number();
    if (offset + length > bytes.length) throw new SpdyError('a header block ends too early');
    offset += length;
    return bytes.toString('utf8', offset - length, offset);
  };
  const count = number();
  for (let i = 0; i < count; i++) {
    const name = text();
    if (name === '' || name !== name.toLowerCase()) {
      throw new SpdyError(`header name ${JSON.stringify(name)} is empty or not in lower case`);
    }
    if (headers.has(name)) throw new SpdyError(`header ${name} comes twice`);
    headers.set(name, text().split('\0'));
  }
  return headers;
}

/**
 * The blocks that this server sends, all of them empty (in SYN_REPLY). As zlib's stored blocks, which every zlib
 * reader takes: a compressor would hold a quarter of a megabyte for each connection to compress four bytes. The empty
 * block behind each is what a compressor's flush ends with: Go's reader hands out what it has read only there, and
 * takes a stream that stops short of it for cut off.
 */
export function createEmptyBlocks(): () => Buffer {
  let first = true;
  return () => {
    const content = Buffer.alloc(4); // no pairs
    // The empty block behind it is zlib's sync flush: Go's reader hands on nothing before it has seen one.
    const block = Buffer.concat([storedBlock(content), storedBlock(Buffer.alloc(0))]);
    if (!first) return block;
    first = false;
    return Buffer.concat([Buffer.from([0x78, 0x01]), block]); // the zlib stream's own header, once
  };
}

/** RFC 1951, section 3.2.4: not the last block, not compressed; its length and the length's complement. */
function storedBlock(content: Buffer): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt16LE(content.length, 1);
  head.writeUInt16LE(0xffff ^ content.length, 3);
  return Buffer.concat([head, content]);
}
