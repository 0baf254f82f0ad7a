// What was executed to bring a pod's network up: kept with the sandbox, so that a person can be told later, by
// `cri-ts explain`, what to type to do the same by hand.
import { z } from 'zod';
import type { PluginRun } from '../cni-invoker/index.ts';

export const pluginRunSchema = z.object({
  plugin: z.string(),
  /** The executable. */
  path: z.string(),
  network: z.string(),
  ifName: z.string(),
  /** Milliseconds since the epoch. */
  began: z.number(),
  ms: z.number(),
  /** The CNI_* variables. */
  environment: z.record(z.string(), z.string()),
  stdin: z.string(),
  stdout: z.string(),
});

export type KeptPluginRun = z.infer<typeof pluginRunSchema>;

/** More networks than a pod has, and more than a plugin says: what is beyond is not kept. */
const maxRuns = 32;
const maxText = 64 * 1024;

/** Keeps a run if it is a successful ADD. It becomes durable with the sandbox's next save. */
export function keepPluginRun(sandbox: { pluginRuns: KeptPluginRun[] }, run: PluginRun): void {
  const { verb, outcome, plugin, path, network, ifName, environment, stdin, stdout } = run;
  if (verb !== 'ADD' || outcome !== 'ok' || network === undefined || ifName === undefined) return;
  if (sandbox.pluginRuns.length >= maxRuns || stdin.length + stdout.length > maxText) return;
  const { startedAt: began, durationMs: ms } = run;
  sandbox.pluginRuns.push({ plugin, path, network, ifName, began, ms, environment, stdin, stdout });
}
