// The daemon's own metrics and traces, as a Prometheus server and an OpenTelemetry collector get them.
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { credentials, Metadata } from '@grpc/grpc-js';
import { afterEach, describe, expect, it } from 'vitest';
import { type Loose, loadContract } from '../../src/cri-api/contract.ts';
import type { PodSandboxConfig } from '../../src/cri-api/types.ts';
import { failureOf } from '../support/cri-client.ts';
import { startNode, type TestNode, until } from '../support/node.ts';
import {
  type OtlpReceiver,
  type ReceivedSpan,
  receiveOtlpOverGrpc,
  receiveOtlpOverHttp,
} from '../support/otlp-receiver.ts';

let node: TestNode | undefined;
let receiver: OtlpReceiver | undefined;
afterEach(async () => {
  await node?.destroy();
  await receiver?.close();
  node = undefined;
  receiver = undefined;
});

describe('metrics of the daemon', () => {
  const config = '[metrics]\naddress = "127.0.0.1:0"\n';

  async function startWithMetrics(): Promise<{ node: TestNode; address: string }> {
    const started = await startNode({ config });
    node = started;
    const log = await started.log();
    const address = /"address":"([^"]+)".*metrics are served/.exec(log)?.[1];
    if (address === undefined) throw new Error(`the log does not say where metrics are:\n${log}`);
    return { node: started, address };
  }

  const scrape = async (address: string, path = '/metrics') =>
    (await fetch(`http://${address}${path}`)).text();
  /** The value of the sample whose line begins so. */
  const sample = (text: string, name: string, labels: string) =>
    Number(new RegExp(`^${name}\\{[^}]*${labels}[^}]*\\} (\\S+)$`, 'm').exec(text)?.[1] ?? Number.NaN);

  it('count RPCs by method and status, steps, plugins, runtimes and pulls', async () => {
    const { node: its, address } = await startWithMetrics();
    const pod = await its.runPod();
    await its.output(pod, 'true');
    await failureOf(its.cri.PodSandboxStatus({ podSandboxId: 'nobody' }));
    await failureOf(its.cri.PullImage({ image: { image: '127.0.0.1:1/no/such:image' } }));
    await its.removeAll();

    const text = await scrape(address);
    const rpc = 'cri_ts_rpc_duration_seconds_count';
    expect(sample(text, rpc, 'method="RunPodSandbox",code="OK"')).toBe(1);
    expect(sample(text, rpc, 'method="PodSandboxStatus",code="NOT_FOUND"')).toBe(1);
    const step = 'cri_ts_step_duration_seconds_count';
    const network = 'operation="RunPodSandbox",step="network \\(CNI ADD\\)",verb="do",outcome="ok"';
    expect(sample(text, step, network)).toBe(1);
    expect(sample(text, step, 'operation="StopPodSandbox",.*verb="undo",outcome="ok"')).toBe(1);
    const plugin = 'cri_ts_cni_plugin_duration_seconds_count';
    expect(sample(text, plugin, 'plugin="bridge",verb="ADD",outcome="ok"')).toBe(1);
    expect(sample(text, plugin, 'plugin="bridge",verb="DEL",outcome="ok"')).toBe(1);
    const runtime = 'cri_ts_oci_runtime_duration_seconds_count';
    expect(sample(text, runtime, 'program="runc",command="run",outcome="ok"')).toBe(1);
    expect(sample(text, runtime, 'program="runc",command="start",outcome="ok"')).toBe(1);
    expect(sample(text, runtime, 'program="conmon",command="create",outcome="ok"')).toBe(1);
    expect(sample(text, 'cri_ts_image_pull_duration_seconds_count', 'outcome="failed"')).toBe(1);
    expect(
      sample(text, 'cri_ts_rpc_duration_seconds_sum', 'method="RunPodSandbox",code="OK"'),
    ).toBeGreaterThan(0);
  });

  it('show containers and sandboxes by state', async () => {
    const { node: its, address } = await startWithMetrics();
    const states = async () => {
      const text = await scrape(address);
      return {
        created: sample(text, 'cri_ts_containers', 'state="created"'),
        running: sample(text, 'cri_ts_containers', 'state="running"'),
        exited: sample(text, 'cri_ts_containers', 'state="exited"'),
        ready: sample(text, 'cri_ts_sandboxes', 'state="ready"'),
        notready: sample(text, 'cri_ts_sandboxes', 'state="notready"'),
      };
    };
    expect(await states()).toEqual({ created: 0, running: 0, exited: 0, ready: 0, notready: 0 });
    const [pod, stopped] = [await its.runPod(), await its.runPod()];
    await its.runContainer(pod, 'sleep 1000');
    await its.createContainer(pod, 'true');
    await its.untilExited(await its.runContainer(pod, 'true'));
    await its.cri.StopPodSandbox({ podSandboxId: stopped });
    expect(await states()).toEqual({ created: 1, running: 1, exited: 1, ready: 1, notready: 1 });
  });

  it("show the process's memory and the delay of its event loop", async () => {
    const { address } = await startWithMetrics();
    const text = await scrape(address);
    for (const name of ['process_resident_memory_bytes', 'nodejs_eventloop_lag_p99_seconds'])
      expect(text).toMatch(new RegExp(`^${name} [\\d.e-]+$`, 'm'));
  });

  it("are found at containerd's path too, and nowhere else", async () => {
    const { address } = await startWithMetrics();
    expect(await scrape(address, '/v1/metrics?format=x')).toContain('cri_ts_containers');
    expect((await fetch(`http://${address}/`)).status).toBe(404);
  });

  it('stop the start when their address is taken, and say so', async () => {
    const taken = createServer();
    await new Promise<void>(resolve => taken.listen(0, '127.0.0.1', resolve));
    const bound = taken.address();
    const port = typeof bound === 'object' ? bound?.port : undefined;
    node = await startNode({ busybox: false });
    await node.stop();
    const file = join(node.directory, 'config.toml');
    await writeFile(file, `version = 3\n[metrics]\naddress = "127.0.0.1:${port}"\n`);
    await expect(node.start()).rejects.toThrow(`metrics cannot be served on 127.0.0.1:${port}`);
    taken.close();
    await writeFile(file, 'version = 3\n');
    await node.start(); // for the clean-up
  });

  it('are not served unless an address is configured', async () => {
    node = await startNode({ busybox: false });
    expect(await node.log()).not.toContain('metrics are served');
  });
});

describe('traces', () => {
  const traceId = '0af7651916cd43dd8448eb211c80319c';
  const callerSpanId = 'b7ad6b7169203331';

  async function startWithTraces(
    its: OtlpReceiver,
    protocol = 'http/protobuf',
    more = '',
  ): Promise<TestNode> {
    receiver = its;
    node = await startNode({
      config: `
        [plugins.'io.containerd.tracing.processor.v1.otlp']
        endpoint = '${its.endpoint}'
        protocol = '${protocol}'
        [plugins.'io.containerd.internal.v1.tracing']
        service_name = 'node-under-test'
        ${more}`,
    });
    return node;
  }

  const named = (spans: readonly ReceivedSpan[], name: string) =>
    until(`the span ${name}`, () => spans.find(span => span.name === name));

  /** RunPodSandbox as kubelet sends it: with its trace in the headers. */
  function runPodTraced(
    its: TestNode,
    flags: '00' | '01',
    over: Loose<PodSandboxConfig> = {},
  ): Promise<string> {
    const { RuntimeService } = loadContract();
    const client = new RuntimeService(`unix:${its.socket}`, credentials.createInsecure());
    const metadata = new Metadata();
    metadata.set('traceparent', `00-${traceId}-${callerSpanId}-${flags}`);
    return new Promise((resolve, reject) => {
      client.RunPodSandbox?.(
        { config: its.podConfig(over) },
        metadata,
        (error: Error | null, response: { podSandboxId: string }) => {
          client.close();
          if (error) reject(error);
          else resolve(response.podSandboxId);
        },
      );
    });
  }

  it("nest plugins and runtimes in steps, steps in the RPC, and the RPC in the caller's own trace", async () => {
    const its = await startWithTraces(await receiveOtlpOverHttp());
    const spans = receiver?.spans ?? [];
    const pod = await runPodTraced(its, '01');
    const rpc = await named(spans, 'runtime.v1.RuntimeService/RunPodSandbox');
    expect(rpc).toMatchObject({
      traceId,
      parentSpanId: callerSpanId,
      kind: 2,
      service: 'node-under-test',
      attributes: { 'rpc.system': 'grpc', 'rpc.method': 'RunPodSandbox', 'rpc.grpc.status_code': 'OK' },
      status: { code: 0 },
    });
    const network = await named(spans, 'network (CNI ADD)');
    expect(network).toMatchObject({
      traceId,
      parentSpanId: rpc.spanId,
      attributes: { 'cri_ts.operation': 'RunPodSandbox', 'cri_ts.subject': pod, 'cri_ts.verb': 'do' },
    });
    const plugin = await named(spans, 'CNI ADD bridge');
    expect(plugin).toMatchObject({
      traceId,
      parentSpanId: network.spanId,
      attributes: { 'cni.network': its.bridge, 'cni.ifname': 'eth0', 'cri_ts.subject': pod },
    });
    const pause = await named(spans, 'pause container (runc run)');
    expect(await named(spans, 'runc run')).toMatchObject({ traceId, parentSpanId: pause.spanId });
    for (const [inner, outer] of [
      [network, rpc],
      [pause, rpc],
    ] as const) {
      expect(inner.startNs).toBeGreaterThanOrEqual(outer.startNs);
      expect(inner.endNs).toBeLessThanOrEqual(outer.endNs);
    }
    const log = await its.log();
    const line = log.split('\n').find(text => text.includes('RunPodSandbox OK'));
    expect(JSON.parse(line ?? '{}')).toMatchObject({ trace_id: traceId, span_id: rpc.spanId });
  });

  it('begin anew for a caller without one, and tell how an RPC failed', async () => {
    const its = await startWithTraces(await receiveOtlpOverHttp());
    await failureOf(its.cri.ContainerStatus({ containerId: 'nobody' }));
    const rpc = await named(receiver?.spans ?? [], 'runtime.v1.RuntimeService/ContainerStatus');
    expect(rpc).toMatchObject({
      parentSpanId: '',
      attributes: { 'rpc.grpc.status_code': 'NOT_FOUND' },
      status: { code: 2, message: expect.stringContaining('nobody') },
    });
  });

  it("are a container's end's own, however it was started", async () => {
    const its = await startWithTraces(await receiveOtlpOverHttp());
    const spans = receiver?.spans ?? [];
    const pod = await its.runPod();
    const id = await its.runContainer(pod, 'sleep 0.5');
    await its.untilExited(id);
    const end = await until('the spans of the end', () =>
      spans.find(({ attributes }) => attributes['cri_ts.operation'] === 'ContainerEnd'),
    );
    const start = await named(spans, 'runtime.v1.RuntimeService/StartContainer');
    expect(end.parentSpanId).toBe('');
    expect(end.traceId).not.toBe(start.traceId);
  });

  it('leave out what the caller does not sample', async () => {
    const its = await startWithTraces(await receiveOtlpOverHttp());
    await runPodTraced(its, '00');
    await its.cri.Version();
    const spans = receiver?.spans ?? [];
    await named(spans, 'runtime.v1.RuntimeService/Version');
    expect(spans.filter(span => span.traceId === traceId)).toEqual([]);
  });

  it('are sampled by the configured ratio where the caller has no say', async () => {
    const its = await startWithTraces(await receiveOtlpOverHttp(), 'http/protobuf', 'sampling_ratio = 0.0');
    await its.cri.Version();
    await runPodTraced(its, '01');
    const spans = receiver?.spans ?? [];
    await named(spans, 'runtime.v1.RuntimeService/RunPodSandbox');
    expect(spans.filter(({ name }) => name.endsWith('/Version'))).toEqual([]);
  });

  it('go over gRPC too', async () => {
    const its = await startWithTraces(await receiveOtlpOverGrpc(), 'grpc');
    await its.cri.Version();
    expect(await named(receiver?.spans ?? [], 'runtime.v1.RuntimeService/Version')).toMatchObject({
      service: 'node-under-test',
    });
  });

  it('that are not sent yet are sent when the daemon ends', async () => {
    const its = await startWithTraces(await receiveOtlpOverHttp());
    await its.cri.Status();
    await its.stop();
    expect(receiver?.spans.map(({ name }) => name)).toContain('runtime.v1.RuntimeService/Status');
    await its.start(); // for the clean-up
  });

  it('do not hold the daemon up when nobody takes them', async () => {
    const away = await receiveOtlpOverHttp();
    const its = await startWithTraces(away);
    await away.close();
    const pod = await its.runPod();
    await its.output(pod, 'true');
    await until('the log says so', async () =>
      (await its.log()).includes('traces cannot be sent') ? true : undefined,
    );
  });
});
