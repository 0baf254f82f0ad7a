// The v1 memory controller. memory.stat has a figure of the cgroup alone and, as total_*, of all below it too.
import { field, type ReadText, readNumber, readText } from '../files.ts';
import type { Memory, MemoryDetail } from '../types.ts';

/** No limit is LONG_MAX rounded down to pages; anything near it cannot be meant. */
const unlimited = 2 ** 62;

export function readMemory(directory: string, read: ReadText): Memory | undefined {
  const usage = readNumber(`${directory}/memory.usage_in_bytes`, read);
  const stat = read(`${directory}/memory.stat`);
  if (usage === undefined || stat === undefined) return undefined;
  const total = (key: string) => field(stat, `total_${key}`) ?? 0;
  return {
    usage,
    limit: limited(readNumber(`${directory}/memory.limit_in_bytes`, read)),
    rss: total('rss'),
    cache: total('cache'),
    mappedFile: total('mapped_file'),
    activeFile: total('active_file'),
    inactiveFile: total('inactive_file'),
    pageFaults: total('pgfault'),
    majorPageFaults: total('pgmajfault'),
    swap: swapOf(stat),
  };
}

/** v1 limits memory and swap together; swap's own limit is the difference. */
function swapOf(stat: string): Memory['swap'] {
  const usage = field(stat, 'total_swap');
  if (usage === undefined) return undefined;
  const both = limited(field(stat, 'hierarchical_memsw_limit'));
  const memory = limited(field(stat, 'hierarchical_memory_limit'));
  return {
    usage,
    limit: both === undefined || memory === undefined ? undefined : Math.max(0, both - memory),
  };
}

export function readMemoryDetail(directory: string): MemoryDetail {
  return {
    kernel: readNumber(`${directory}/memory.kmem.usage_in_bytes`),
    peak: readNumber(`${directory}/memory.max_usage_in_bytes`),
    limitHits: readNumber(`${directory}/memory.failcnt`),
    oomKills: field(readText(`${directory}/memory.oom_control`) ?? '', 'oom_kill'),
  };
}

function limited(bytes: number | undefined): number | undefined {
  return bytes === undefined || bytes >= unlimited ? undefined : bytes;
}
