// The v2 io controller: lines `8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0`.
import { readText } from '../files.ts';
import type { DeviceIo } from '../types.ts';

export function readIo(directory: string): DeviceIo[] {
  const text = readText(`${directory}/io.stat`) ?? '';
  return text.split('\n').flatMap(line => {
    const [, major, minor, counters = ''] = /^(\d+):(\d+) (.*)$/.exec(line) ?? [];
    if (major === undefined) return []; // a device that the kernel has no number for any more
    const values = new Map(counters.split(' ').map(counter => counter.split('=') as [string, string]));
    const of = (key: string) => Number(values.get(key) ?? 0);
    const [readBytes, writeBytes, reads, writes] = [of('rbytes'), of('wbytes'), of('rios'), of('wios')];
    return [{ major: Number(major), minor: Number(minor), readBytes, writeBytes, reads, writes }];
  });
}
