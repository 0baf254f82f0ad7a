// The processes of one contestant: all that its daemon starts stay in the cgroup that the daemon was started in, but for
// pods and containers, which are moved to cgroups of their own. So the cgroup says what the runtime itself costs.
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

export interface ProcessGroup {
  /** Starts a program in the group. */
  spawn(program: string, args: readonly string[], logFd: number): ChildProcess;
  /** Proportional set size of all its processes now, in MB (proc_pid_smaps_rollup). */
  pssMb(): number;
  /** The same by program, greatest first. */
  pssByProgram(): { program: string; count: number; mb: number }[];
  /** CPU seconds that its processes have used so far, those included that have ended. */
  cpuSeconds(): number;
  /** Ends what still runs, and removes the cgroup. */
  remove(): Promise<void>;
}

const accounting = '/sys/fs/cgroup/cpuacct'; // cgroup v1
const unified = '/sys/fs/cgroup';

export function makeProcessGroup(name: string): ProcessGroup {
  const isV1 = existsSync(join(accounting, 'cpuacct.usage'));
  const directory = join(isV1 ? accounting : unified, `bench-${name}-${process.pid}`);
  mkdirSync(directory);
  const procs = join(directory, 'cgroup.procs');
  const pids = () => readFileSync(procs, 'latin1').split('\n').filter(Boolean).map(Number);
  const pssByProgram = () => {
    const programs = new Map<string, { count: number; mb: number }>();
    for (const pid of pids()) {
      const program = procFile(pid, 'comm').trim();
      const entry = programs.get(program) ?? { count: 0, mb: 0 };
      entry.count++;
      entry.mb += Number(/^Pss:\s+([0-9]+) kB/m.exec(procFile(pid, 'smaps_rollup'))?.[1] ?? 0) / 1024;
      programs.set(program, entry);
    }
    return [...programs].map(([program, entry]) => ({ program, ...entry })).sort((a, b) => b.mb - a.mb);
  };
  return {
    spawn: (program, args, logFd) =>
      spawn('/bin/sh', ['-c', 'echo $$ > "$0" && exec "$@"', procs, program, ...args], {
        stdio: ['ignore', logFd, logFd],
      }),
    pssByProgram,
    pssMb: () => pssByProgram().reduce((sum, { mb }) => sum + mb, 0),
    cpuSeconds() {
      if (isV1) return Number(readFileSync(join(directory, 'cpuacct.usage'), 'latin1')) / 1e9;
      const stat = readFileSync(join(directory, 'cpu.stat'), 'latin1');
      return Number(/^usage_usec (\d+)/m.exec(stat)?.[1] ?? Number.NaN) / 1e6;
    },
    async remove() {
      for (let tries = 0; pids().length > 0 && tries < 100; tries++) {
        for (const pid of pids()) {
          try {
            process.kill(pid, 'SIGKILL');
          } catch {
            // it has ended meanwhile
          }
        }
        await sleep(20);
      }
      rmdirSync(directory);
    },
  };
}

function procFile(pid: number, name: string): string {
  try {
    return readFileSync(`/proc/${pid}/${name}`, 'latin1');
  } catch {
    return ''; // it has ended meanwhile
  }
}
