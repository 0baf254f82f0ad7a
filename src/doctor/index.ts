// The node examination behind `cri-ts doctor`.
export { type CheckReport, checks, examine, formatReport, worstLevel } from './doctor.ts';
export type { Check, Finding, Level } from './finding.ts';
export { type HostView, thisHost } from './host-view.ts';
