// The v2 memory controller. Every figure counts all cgroups below too.
import { field, type ReadText, readNumber, readText } from '../files.ts';
import type { Memory, MemoryDetail } from '../types.ts';

export function readMemory(directory: string, read: ReadText): Memory | undefined {
  const usage = readNumber(`${directory}/memory.current`, read);
  const stat = read(`${directory}/memory.stat`);
  if (usage === undefined || stat === undefined) return undefined;
  const of = (key: string) => field(stat, key) ?? 0;
  const swap = readNumber(`${directory}/memory.swap.current`, read);
  return {
    usage,
    limit: readNumber(`${directory}/memory.max`, read),
    rss: of('anon'),
    cache: of('file'),
    mappedFile: of('file_mapped'),
    activeFile: of('active_file'),
    inactiveFile: of('inactive_file'),
    pageFaults: of('pgfault'),
    majorPageFaults: of('pgmajfault'),
    swap:
      swap === undefined
        ? undefined
        : { usage: swap, limit: readNumber(`${directory}/memory.swap.max`, read) },
  };
}

export function readMemoryDetail(directory: string): MemoryDetail {
  const stat = readText(`${directory}/memory.stat`) ?? '';
  const events = readText(`${directory}/memory.events`) ?? '';
  return {
    kernel: field(stat, 'kernel') ?? field(stat, 'kernel_stack'), // `kernel` since Linux 5.18
    peak: readNumber(`${directory}/memory.peak`), // since Linux 5.19
    limitHits: field(events, 'max'),
    oomKills: field(events, 'oom_kill'),
  };
}

export function readOomKills(directory: string): number | undefined {
  return field(readText(`${directory}/memory.events`) ?? '', 'oom_kill');
}
