// Traces over OTLP: a span for each RPC, below the caller's own (kubelet sends a `traceparent` header), its steps as
// children, and what a step executes (CNI plugins, OCI runtimes) as children of the step. Loaded and kept only when an
// endpoint is configured: following who does what for whom costs every asynchronous call a little.
import { AsyncLocalStorage } from 'node:async_hooks';
import type { Context, Link, Span, SpanOptions } from '@opentelemetry/api';
import type { SpanExporter } from '@opentelemetry/sdk-trace';
import type { TracingConfig } from '../config/types.ts';
import { CriError, messageOf } from '../errors.ts';
import type { Logger } from '../log.ts';
import type { WorkListener } from './events.ts';

export interface Tracing extends WorkListener {
  /** Fields for log lines: the trace and span under which the caller works; none outside of any. */
  logFields(): { trace_id?: string; span_id?: string };
  /** Sends what was not sent yet, for a bounded time. */
  close(): Promise<void>;
}

/** What is done now is done for this span, as long as that is open. */
interface Scope {
  context: Context;
  span: Span;
  open: boolean;
}

const closeMs = 3000;
const scheduledDelayMillis = 1000;

export async function createTracing(config: TracingConfig, version: string, log: Logger): Promise<Tracing> {
  const api = await import('@opentelemetry/api');
  const { W3CTraceContextPropagator } = await import('@opentelemetry/core');
  const { resourceFromAttributes } = await import('@opentelemetry/resources');
  const sdk = await import('@opentelemetry/sdk-trace');
  const { ROOT_CONTEXT, SpanKind, SpanStatusCode, trace } = api;

  const exporter = reporting(await createExporter(config), config.endpoint ?? '', log);
  const provider = new sdk.TracerProvider({
    resource: resourceFromAttributes({ 'service.name': config.serviceName, 'service.version': version }),
    sampler: new sdk.ParentBasedSampler({ root: new sdk.TraceIdRatioBasedSampler(config.samplingRatio) }),
    spanProcessors: [new sdk.BatchSpanProcessor({ exporter, scheduledDelayMillis })],
  });
  const tracer = provider.getTracer('cri-ts', version);
  const propagator = new W3CTraceContextPropagator();
  const scopes = new AsyncLocalStorage<Scope>();

  /** Runs `work` in a span of its own and ends that with it. */
  async function inSpan<T>(
    name: string,
    options: SpanOptions,
    parent: Context,
    work: () => Promise<T>,
  ): Promise<T> {
    const span = tracer.startSpan(name, options, parent);
    const scope = { context: trace.setSpan(parent, span), span, open: true };
    try {
      return await scopes.run(scope, work);
    } catch (error) {
      fail(span, error);
      throw error;
    } finally {
      scope.open = false;
      span.end();
    }
  }

  /** What goes on after its span has ended is no part of it: it begins anew, and points back. */
  function parentNow(): { parent: Context; links: Link[] } {
    const scope = scopes.getStore();
    if (!scope) return { parent: ROOT_CONTEXT, links: [] };
    if (scope.open) return { parent: scope.context, links: [] };
    return { parent: ROOT_CONTEXT, links: [{ context: scope.span.spanContext() }] };
  }

  /** A span of what has just ended. */
  function ended(name: string, ms: number, attributes: SpanOptions['attributes'], error: unknown): void {
    const { parent, links } = parentNow();
    const startTime = performance.now() - ms;
    const span = tracer.startSpan(name, { startTime, attributes: { ...attributes }, links }, parent);
    if (error !== undefined) fail(span, error);
    span.end();
  }

  function fail(span: Span, error: unknown): void {
    span.setStatus({ code: SpanStatusCode.ERROR, message: messageOf(error) });
  }

  return {
    aroundRpc({ service, method, header }, work) {
      const getter = { get: (_: unknown, key: string) => header(key), keys: () => [] };
      const parent = propagator.extract(ROOT_CONTEXT, undefined, getter);
      const attributes = { 'rpc.system': 'grpc', 'rpc.service': service, 'rpc.method': method };
      return inSpan(`${service}/${method}`, { kind: SpanKind.SERVER, attributes }, parent, () =>
        withStatusAttribute(work, code => scopes.getStore()?.span.setAttribute('rpc.grpc.status_code', code)),
      );
    },
    steps: {
      around({ operation, subject, step, verb }, work) {
        const { parent, links } = parentNow();
        const attributes = {
          'cri_ts.operation': operation,
          'cri_ts.subject': subject,
          'cri_ts.step': step,
          'cri_ts.verb': verb,
        };
        const name = verb === 'do' ? step : `undo ${step}`;
        return inSpan(name, { attributes, links }, parent, work);
      },
    },
    pluginRan({ verb, plugin, network, containerId, ifName, durationMs, outcome, error }) {
      const attributes = {
        'cni.verb': verb,
        'cni.plugin': plugin,
        'cni.outcome': outcome,
        ...(network === undefined ? {} : { 'cni.network': network }),
        ...(ifName === undefined ? {} : { 'cni.ifname': ifName }),
        ...(containerId === undefined ? {} : { 'cri_ts.subject': containerId }),
      };
      ended(`CNI ${verb} ${plugin}`, durationMs, attributes, error);
    },
    runtimeRan({ program, command, ms, error }) {
      ended(`${program} ${command}`, ms, { 'process.executable.name': program }, error);
    },
    logFields() {
      const scope = scopes.getStore();
      if (!scope) return {};
      const { traceId, spanId } = scope.span.spanContext();
      return { trace_id: traceId, span_id: spanId };
    },
    async close() {
      const late = new Promise<void>(resolve => setTimeout(resolve, closeMs).unref());
      await Promise.race([provider.shutdown().catch(() => {}), late]);
    },
  };
}

async function withStatusAttribute<T>(work: () => Promise<T>, set: (code: string) => void): Promise<T> {
  try {
    const answer = await work();
    set('OK');
    return answer;
  } catch (error) {
    set(error instanceof CriError ? error.status : 'UNKNOWN');
    throw error;
  }
}

async function createExporter({ endpoint = '', protocol, insecure }: TracingConfig): Promise<SpanExporter> {
  const url = endpointUrl(endpoint, protocol, insecure);
  if (protocol === 'grpc') {
    const { OTLPTraceExporter } = await import('@opentelemetry/exporter-trace-otlp-grpc');
    return new OTLPTraceExporter({ url });
  }
  const { OTLPTraceExporter } = await import('@opentelemetry/exporter-trace-otlp-proto');
  return new OTLPTraceExporter({ url });
}

/** A bare host:port gets the scheme that `insecure` says; OTLP over HTTP without a path has the path of its specification. */
export function endpointUrl(
  endpoint: string,
  protocol: TracingConfig['protocol'],
  insecure: boolean,
): string {
  const url = new URL(endpoint.includes('://') ? endpoint : `${insecure ? 'http' : 'https'}://${endpoint}`);
  if (protocol === 'grpc') return url.origin;
  if (url.pathname === '/') url.pathname = '/v1/traces';
  return url.href;
}

/** An exporter whose failures are logged, the first of a row: a collector that is away must be noticed, not shouted about. */
function reporting(exporter: SpanExporter, endpoint: string, log: Logger): SpanExporter {
  let failing = false;
  return {
    export(spans, done) {
      exporter.export(spans, result => {
        const failed = result.error !== undefined || result.code !== 0;
        if (failed && !failing)
          log.warn(
            { endpoint, error: messageOf(result.error) },
            'traces cannot be sent; those of now are lost',
          );
        if (!failed && failing) log.info({ endpoint }, 'traces can be sent again');
        failing = failed;
        done(result);
      });
    },
    shutdown: () => exporter.shutdown(),
    forceFlush: () => exporter.forceFlush?.() ?? Promise.resolve(),
  };
}
