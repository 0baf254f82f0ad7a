// The facts about the host that spec building takes as input; gathered in src/host/facts.ts.
export type { HostFacts, HostRlimit } from '../../host/facts.ts';
