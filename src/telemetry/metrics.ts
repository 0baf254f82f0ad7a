// The daemon's own metrics for Prometheus, at http://<metrics.address>/metrics. Loaded and kept only when an address is
// configured.
import { createServer, type Server, type ServerResponse } from 'node:http';
import { isIPv4 } from 'node:net';
import type { Gauge, Registry } from 'prom-client';
import { CriError, messageOf } from '../errors.ts';
import type { WorkListener } from './events.ts';

/** Phases of everything that exists now, asked when somebody scrapes. */
export interface States {
  containers(): readonly string[];
  sandboxes(): readonly string[];
}

export interface Metrics extends WorkListener {
  /** Begins to answer; returns where. @throws CriError unavailable when the address cannot be had */
  serve(address: string, states: States): Promise<string>;
  close(): Promise<void>;
}

/** From a file written to a plugin or a pull that hangs, in seconds. */
const buckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120];

/** States that are there from the beginning, so that a graph of them has no holes. */
const containerStates = ['created', 'running', 'exited'] as const;
const sandboxStates = ['ready', 'notready'] as const;

export async function createMetrics(): Promise<Metrics> {
  const prom = await import('prom-client');
  const registry = new prom.Registry();
  // The process and Node itself: memory, CPU, open files, delay of the event loop (nodejs_eventloop_lag_*).
  prom.collectDefaultMetrics({ register: registry });
  const histogram = <Label extends string>(name: string, help: string, labelNames: Label[]) =>
    new prom.Histogram({ name, help, labelNames, buckets, registers: [registry] });

  const rpcs = histogram('cri_ts_rpc_duration_seconds', 'RPCs by method and gRPC status.', [
    'method',
    'code',
  ]);
  const steps = histogram('cri_ts_step_duration_seconds', 'Steps of lifecycle operations, done or undone.', [
    'operation',
    'step',
    'verb',
    'outcome',
  ]);
  const plugins = histogram('cri_ts_cni_plugin_duration_seconds', 'Runs of CNI plugins.', [
    'plugin',
    'verb',
    'outcome',
  ]);
  const runtimes = histogram('cri_ts_oci_runtime_duration_seconds', 'Runs of OCI runtimes and of conmon.', [
    'program',
    'command',
    'outcome',
  ]);
  const pulls = histogram('cri_ts_image_pull_duration_seconds', 'Image pulls.', ['outcome']);
  let server: Server | undefined;

  return {
    steps: {
      after({ operation, step, verb, ms, error }) {
        steps.observe({ operation, step, verb, outcome: outcomeOf(error === undefined) }, ms / 1000);
      },
    },
    rpcEnded: ({ method, code, ms }) => rpcs.observe({ method, code }, ms / 1000),
    pluginRan: ({ plugin, verb, outcome, durationMs }) =>
      plugins.observe({ plugin, verb, outcome }, durationMs / 1000),
    runtimeRan: ({ program, command, ms, error }) =>
      runtimes.observe({ program, command, outcome: outcomeOf(error === undefined) }, ms / 1000),
    pullEnded: ({ ms, ok }) => pulls.observe({ outcome: outcomeOf(ok) }, ms / 1000),
    async serve(address, states) {
      const gauge = (name: string, help: string, known: readonly string[], now: () => readonly string[]) =>
        new prom.Gauge({
          name,
          help,
          labelNames: ['state'],
          registers: [registry],
          collect() {
            countStates(this, known, now());
          },
        });
      gauge('cri_ts_containers', 'Containers by state.', containerStates, states.containers);
      gauge('cri_ts_sandboxes', 'Pod sandboxes by state.', sandboxStates, states.sandboxes);
      server = createServer(
        (request, response) =>
          void answer(registry, request.url ?? '', response).catch(() => response.destroy()),
      );
      return listen(server, address);
    },
    async close() {
      server?.close();
      server?.closeAllConnections();
    },
  };
}

function outcomeOf(ok: boolean): 'ok' | 'failed' {
  return ok ? 'ok' : 'failed';
}

function countStates(gauge: Gauge<'state'>, known: readonly string[], now: readonly string[]): void {
  gauge.reset();
  for (const state of known) gauge.set({ state }, 0);
  for (const state of now) gauge.inc({ state });
}

/** containerd serves /v1/metrics, so that a scrape configuration made for it finds its way. */
async function answer(registry: Registry, url: string, response: ServerResponse): Promise<void> {
  const path = url.replace(/\?.*/, '');
  if (path !== '/metrics' && path !== '/v1/metrics') {
    response.writeHead(404).end('metrics are at /metrics\n');
    return;
  }
  const text = await registry.metrics();
  response.writeHead(200, { 'content-type': registry.contentType }).end(text);
}

function listen(server: Server, address: string): Promise<string> {
  const colon = address.lastIndexOf(':');
  const host = address.slice(0, colon).replace(/^\[|\]$/g, '');
  return new Promise((resolve, reject) => {
    server.once('error', error =>
      reject(
        new CriError('unavailable', `metrics cannot be served on ${address}: ${messageOf(error)}`, {
          cause: error,
        }),
      ),
    );
    server.listen({ port: Number(address.slice(colon + 1)), ...(host === '' ? {} : { host }) }, () => {
      const bound = server.address();
      if (typeof bound !== 'object' || bound === null) return;
      const shown = isIPv4(bound.address) ? bound.address : `[${bound.address}]`;
      resolve(`${shown}:${bound.port}`);
    });
    server.unref();
  });
}
