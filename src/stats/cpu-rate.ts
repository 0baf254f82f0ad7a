// How many cores something uses now: from samples of its CPU time, taken in a fixed period, so that the rate is of one
// and the same window whoever asks and however often.

export interface CpuRates {
  /** Takes a sample. `at` in milliseconds of a clock that only goes forward. */
  sample(id: string, cpuNs: number, at: number): void;
  /** Nanoseconds of CPU time a second, over the last period; undefined until two samples were taken. */
  rate(id: string): number | undefined;
  /** Forgets what was last sampled before `at`. */
  forgetBefore(at: number): void;
}

interface Sample {
  cpuNs: number;
  at: number;
  rate: number | undefined;
}

export function createCpuRates(): CpuRates {
  const samples = new Map<string, Sample>();
  return {
    sample(id, cpuNs, at) {
      const last = samples.get(id);
      const rate = last === undefined ? undefined : rateBetween(last, cpuNs, at);
      samples.set(id, { cpuNs, at, rate });
    },
    rate: id => samples.get(id)?.rate,
    forgetBefore(at) {
      for (const [id, sample] of samples) if (sample.at < at) samples.delete(id);
    },
  };
}

/** undefined when time stood still or the counter fell, as it does when a cgroup is made anew. */
function rateBetween(last: Sample, cpuNs: number, at: number): number | undefined {
  if (at <= last.at || cpuNs < last.cpuNs) return undefined;
  return Math.round(((cpuNs - last.cpuNs) / (at - last.at)) * 1000);
}
