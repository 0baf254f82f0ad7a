// `cri-ts doctor`: looks at a node as kubeadm's preflight does and says how to mend what it finds.
import type { Config } from '../config/index.ts';
import { messageOf } from '../errors.ts';
import { conmon, helpers, nodeVersion, ociRuntimes, pauseProgram } from './checks/binaries.ts';
import { cgroupDriver, cgroupLayoutCheck } from './checks/cgroups.ts';
import { cniConfiguration } from './checks/cni.ts';
import { kernelFeatures, kernelVersion } from './checks/kernel.ts';
import { criSocket, neighbours } from './checks/neighbours.ts';
import { bridgedTraffic, ipForwarding } from './checks/network.ts';
import { capabilities, resourceLimits, restrictions } from './checks/process.ts';
import { securityModules } from './checks/security.ts';
import { directories, diskSpace } from './checks/storage.ts';
import { swap } from './checks/swap.ts';
import { type Check, type Finding, type Level, warn } from './finding.ts';
import type { HostView } from './host-view.ts';

/** In the order of the report. */
export const checks: readonly Check[] = [
  kernelVersion,
  kernelFeatures,
  cgroupLayoutCheck,
  cgroupDriver,
  nodeVersion,
  ociRuntimes,
  conmon,
  pauseProgram,
  helpers,
  cniConfiguration,
  ipForwarding,
  bridgedTraffic,
  swap,
  capabilities,
  restrictions,
  resourceLimits,
  directories,
  diskSpace,
  criSocket,
  neighbours,
  securityModules,
];

export interface CheckReport {
  readonly check: string;
  readonly findings: readonly Finding[];
}

/** Runs every check. A check that breaks becomes a finding itself; the others are carried out. */
export function examine(
  host: HostView,
  config: Config,
  list: readonly Check[] = checks,
): Promise<CheckReport[]> {
  return Promise.all(
    list.map(async check => ({
      check: check.name,
      findings: await Promise.resolve()
        .then(() => check.run(host, config))
        .catch((error: unknown) => [
          warn(
            `this check could not be carried out: ${messageOf(error)}`,
            'its subject is unknown',
            'Run as root; if it persists, report it as a bug of cri-ts.',
          ),
        ]),
    })),
  );
}

export function worstLevel(reports: readonly CheckReport[]): Level {
  const order: readonly Level[] = ['ok', 'info', 'warn', 'fail'];
  return reports
    .flatMap(({ findings }) => findings)
    .reduce<Level>((worst, { level }) => (order.indexOf(level) > order.indexOf(worst) ? level : worst), 'ok');
}

const labels: Readonly<Record<Level, string>> = { ok: 'ok  ', info: 'info', warn: 'WARN', fail: 'FAIL' };

/** The report for people: one line a finding; below it, where there is something to do, why and what. */
export function formatReport(reports: readonly CheckReport[]): string {
  const lines: string[] = [];
  for (const { check, findings } of reports) {
    for (const { level, found, why, mend } of findings) {
      lines.push(`${labels[level]}  ${check}: ${found}`);
      if (level !== 'ok') lines.push(`      ${why}`);
      if (mend !== undefined) lines.push(`      -> ${mend}`);
    }
  }
  const all = reports.flatMap(({ findings }) => findings);
  const count = (level: Level): number => all.filter(finding => finding.level === level).length;
  lines.push(
    '',
    `${count('fail')} failed, ${count('warn')} warnings, ${count('info')} notes, ${count('ok')} ok`,
  );
  return `${lines.join('\n')}\n`;
}
