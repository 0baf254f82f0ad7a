// What is known of how a pod came up: asked of the daemon, which keeps the times of its steps, the runs of the CNI
// plugins and the OCI specs. Everything that `cri-ts explain` says is made from this.
import { join } from 'node:path';
import { z } from 'zod';
import type { RuntimeClient } from '../cri-api/client.ts';
import { CriError } from '../errors.ts';
import { overlayLayers } from '../host/overlay-layers.ts';

const stepTimesSchema = z.record(z.string(), z.object({ began: z.number(), ms: z.number() })).default({});

/** Name -> when it began (milliseconds since the epoch) and how long it took. */
export type StepTimes = z.infer<typeof stepTimesSchema>;

const specSchema = z.looseObject({
  process: z.looseObject({ args: z.array(z.string()).default([]), terminal: z.boolean().default(false) }),
  root: z.looseObject({ path: z.string() }),
  linux: z.looseObject({ cgroupsPath: z.string().default('') }),
});

/** A runtime spec, as far as it matters here; the rest of it stays in it. */
export type Spec = z.infer<typeof specSchema>;

const pluginRunSchema = z.object({
  plugin: z.string(),
  path: z.string(),
  network: z.string(),
  ifName: z.string(),
  began: z.number(),
  ms: z.number(),
  environment: z.record(z.string(), z.string()),
  /** The plugin's configuration: JSON. */
  stdin: z.string(),
});

export type PluginRun = z.infer<typeof pluginRunSchema>;

const pluginConfigSchema = z.looseObject({ prevResult: z.unknown().optional() });

/** What a plugin was given, and apart from it the result of the plugin before, where there was one. */
export function pluginConfig({ stdin }: PluginRun): { config: Record<string, unknown>; prevResult: unknown } {
  const { prevResult, ...config } = pluginConfigSchema.parse(JSON.parse(stdin));
  return { config, prevResult };
}

const dnsSchema = z.object({
  servers: z.array(z.string()),
  searches: z.array(z.string()),
  options: z.array(z.string()),
});

const podInfoSchema = z.object({
  pid: z.number().default(0),
  netNamespace: z.string().nullable(),
  config: z.object({
    hostname: z.string().default(''),
    logDirectory: z.string().default(''),
    dnsConfig: dnsSchema.nullish(),
  }),
  runtimeSpec: specSchema,
  pluginRuns: z.array(pluginRunSchema).default([]),
  steps: stepTimesSchema,
});

const containerInfoSchema = z.object({ runtimeSpec: specSchema, steps: stepTimesSchema });

const configSchema = z.object({
  root: z.string(),
  state: z.string(),
  runtimes: z.object({
    defaultName: z.string(),
    handlers: z.record(
      z.string(),
      z.object({ binary: z.string(), root: z.string(), systemdCgroup: z.boolean() }),
    ),
  }),
});
const daemonSchema = z.object({ pid: z.number().int().positive() });

export interface ExplainedContainer {
  id: string;
  name: string;
  running: boolean;
  spec: Spec;
  steps: StepTimes;
  /** Lower directories of its root file system, the uppermost first, absolute; undefined when none is mounted. */
  layers: string[] | undefined;
}

export interface ExplainedPod {
  id: string;
  name: string;
  namespace: string;
  ips: string[];
  /** Pid of the pause process. */
  pid: number;
  netns: string | null;
  hostname: string;
  logDirectory: string;
  dns: z.infer<typeof dnsSchema> | undefined;
  /** The sandbox's own directory: its bundle and the files that its containers share. */
  directory: string;
  /** The daemon's directory of containers' bundles. */
  containersDirectory: string;
  spec: Spec;
  /** Lower directories of the pause container's root file system when that is an overlay of an image. */
  pauseLayers: string[] | undefined;
  runtime: { binary: string; root: string; systemdCgroup: boolean };
  pluginRuns: PluginRun[];
  steps: StepTimes;
  containers: ExplainedContainer[];
}

/**
 * @param wanted a pod's name, namespace/name, or the beginning of its id
 * @throws CriError notFound, ambiguousId, wrongState when the pod is not up (its bundle is gone then)
 */
export async function readPod(client: RuntimeClient, wanted: string): Promise<ExplainedPod> {
  const { items } = await client.call('ListPodSandbox');
  const found = items.filter(
    ({ id, metadata }) =>
      [metadata?.name, `${metadata?.namespace}/${metadata?.name}`].includes(wanted) ||
      (wanted.length >= 4 && id.startsWith(wanted)),
  );
  const ready = found.filter(({ state }) => state === 'SANDBOX_READY');
  const [sandbox, another] = ready;
  if (another) {
    const ids = ready.map(({ id }) => id.slice(0, 13)).join(', ');
    throw new CriError('ambiguousId', `"${wanted}" fits ${ready.length} pods: name one by its id: ${ids}`);
  }
  if (!sandbox) {
    if (found.length > 0)
      throw new CriError('wrongState', `pod "${wanted}" is stopped: what it was made of is gone`);
    const names = items.map(({ metadata }) => metadata?.name).join(', ') || 'none';
    throw new CriError('notFound', `there is no pod "${wanted}"; known are: ${names}`);
  }
  const [node, { status, info }, { containers }] = await Promise.all([
    client.call('Status', { verbose: true }),
    client.call('PodSandboxStatus', { podSandboxId: sandbox.id, verbose: true }),
    client.call('ListContainers', { filter: { podSandboxId: sandbox.id } }),
  ]);
  const config = configSchema.parse(JSON.parse(node.info.config ?? '{}'));
  const { pid: daemon } = daemonSchema.parse(JSON.parse(node.info.daemon ?? '{}'));
  const pod = podInfoSchema.parse(JSON.parse(info.info ?? '{}'));
  const handler = sandbox.runtimeHandler || config.runtimes.defaultName;
  const runtime = config.runtimes.handlers[handler];
  if (!runtime) throw new CriError('notFound', `the runtime handler ${handler} is not configured any more`);
  const layersOf = async (rootfs: string) =>
    // The daemon mounts from where the layers are, by their short names.
    (await overlayLayers(daemon, rootfs))?.map(layer =>
      layer.startsWith('/') ? layer : join(config.root, 'layers', layer),
    );
  return {
    id: sandbox.id,
    name: sandbox.metadata?.name ?? '',
    namespace: sandbox.metadata?.namespace ?? '',
    ips: [status?.network?.ip ?? '', ...(status?.network?.additionalIps ?? []).map(({ ip }) => ip)].filter(
      ip => ip !== '',
    ),
    pid: pod.pid,
    netns: pod.netNamespace,
    hostname: pod.config.hostname,
    logDirectory: pod.config.logDirectory,
    dns: pod.config.dnsConfig ?? undefined,
    directory: join(config.state, 'sandboxes', sandbox.id),
    containersDirectory: join(config.state, 'containers'),
    spec: pod.runtimeSpec,
    pauseLayers: await layersOf(pod.runtimeSpec.root.path),
    runtime,
    pluginRuns: pod.pluginRuns,
    steps: pod.steps,
    containers: await Promise.all(
      containers.map(async ({ id, metadata, state }) => {
        const status = await client.call('ContainerStatus', { containerId: id, verbose: true });
        const { runtimeSpec: spec, steps } = containerInfoSchema.parse(JSON.parse(status.info.info ?? '{}'));
        const running = state === 'CONTAINER_RUNNING';
        return {
          id,
          name: metadata?.name ?? id,
          running,
          spec,
          steps,
          layers: await layersOf(spec.root.path),
        };
      }),
    ),
  };
}
