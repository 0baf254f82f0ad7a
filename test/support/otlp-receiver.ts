// A stand-in for an OpenTelemetry collector, on loopback: takes traces over HTTP or gRPC, and keeps their spans. The
// messages are declared from the field numbers of opentelemetry-proto, as far as the tests look at them.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Server, ServerCredentials, type ServerUnaryCall, type sendUnaryData } from '@grpc/grpc-js';
import protobuf from 'protobufjs';

export interface ReceivedSpan {
  traceId: string;
  spanId: string;
  /** '' = the first of its trace. */
  parentSpanId: string;
  name: string;
  /** 2 = server. */
  kind: number;
  attributes: Record<string, string>;
  /** 2 = error. */
  status: { code: number; message: string };
  links: { traceId: string; spanId: string }[];
  startNs: bigint;
  endNs: bigint;
  service: string;
}

export interface OtlpReceiver {
  /** URL of the endpoint, without a path. */
  readonly endpoint: string;
  readonly spans: ReceivedSpan[];
  close(): Promise<void>;
}

const messages = protobuf.parse(`
  syntax = "proto3";
  message Request { repeated ResourceSpans resource_spans = 1; }
  message ResourceSpans { Resource resource = 1; repeated ScopeSpans scope_spans = 2; }
  message Resource { repeated KeyValue attributes = 1; }
  message ScopeSpans { repeated Span spans = 2; }
  message Span {
    bytes trace_id = 1; bytes span_id = 2; bytes parent_span_id = 4; string name = 5; int32 kind = 6;
    fixed64 start_time_unix_nano = 7; fixed64 end_time_unix_nano = 8; repeated KeyValue attributes = 9;
    repeated Link links = 13; Status status = 15;
  }
  message Link { bytes trace_id = 1; bytes span_id = 2; }
  message Status { string message = 2; int32 code = 3; }
  message KeyValue { string key = 1; AnyValue value = 2; }
  message AnyValue { string string_value = 1; bool bool_value = 2; int64 int_value = 3; }
`).root;

interface Attribute {
  key: string;
  value?: { stringValue?: string };
}

interface RequestMessage {
  resourceSpans: {
    resource: { attributes: Attribute[] };
    scopeSpans: { spans: SpanMessage[] }[];
  }[];
}

interface SpanMessage {
  traceId: Uint8Array;
  spanId: Uint8Array;
  parentSpanId: Uint8Array;
  name: string;
  kind: number;
  startTimeUnixNano: { toString(): string };
  endTimeUnixNano: { toString(): string };
  attributes: Attribute[];
  links: { traceId: Uint8Array; spanId: Uint8Array }[];
  status: { code: number; message: string } | null;
}

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const record = (attributes: Attribute[]) =>
  Object.fromEntries(attributes.map(({ key, value }) => [key, value?.stringValue ?? '']));

function spansOf(body: Uint8Array): ReceivedSpan[] {
  const { resourceSpans } = messages.lookupType('Request').decode(body) as unknown as RequestMessage;
  return resourceSpans.flatMap(({ resource, scopeSpans }) =>
    scopeSpans.flatMap(({ spans }) =>
      spans.map(span => ({
        traceId: hex(span.traceId),
        spanId: hex(span.spanId),
        parentSpanId: hex(span.parentSpanId),
        name: span.name,
        kind: span.kind,
        attributes: record(span.attributes),
        status: { code: span.status?.code ?? 0, message: span.status?.message ?? '' },
        links: span.links.map(link => ({ traceId: hex(link.traceId), spanId: hex(link.spanId) })),
        startNs: BigInt(span.startTimeUnixNano.toString()),
        endNs: BigInt(span.endTimeUnixNano.toString()),
        service: record(resource.attributes)['service.name'] ?? '',
      })),
    ),
  );
}

/** Takes POST /v1/traces with protobuf bodies. */
export async function receiveOtlpOverHttp(): Promise<OtlpReceiver> {
  const spans: ReceivedSpan[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      if (request.url !== '/v1/traces') {
        response.writeHead(404).end();
        return;
      }
      spans.push(...spansOf(Buffer.concat(chunks)));
      response.writeHead(200, { 'content-type': 'application/x-protobuf' }).end();
    });
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    endpoint: `http://127.0.0.1:${port}`,
    spans,
    close: () =>
      new Promise(resolve => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

/** Serves opentelemetry.proto.collector.trace.v1.TraceService/Export, without TLS. */
export async function receiveOtlpOverGrpc(): Promise<OtlpReceiver> {
  const spans: ReceivedSpan[] = [];
  const server = new Server();
  const raw = (bytes: Buffer) => bytes;
  server.addService(
    {
      Export: {
        path: '/opentelemetry.proto.collector.trace.v1.TraceService/Export',
        requestStream: false,
        responseStream: false,
        requestSerialize: raw,
        requestDeserialize: raw,
        responseSerialize: raw,
        responseDeserialize: raw,
      },
    },
    {
      Export: (call: ServerUnaryCall<Buffer, Buffer>, reply: sendUnaryData<Buffer>) => {
        spans.push(...spansOf(call.request));
        reply(null, Buffer.alloc(0));
      },
    },
  );
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
  return { endpoint: `http://127.0.0.1:${port}`, spans, close: async () => server.forceShutdown() };
}
