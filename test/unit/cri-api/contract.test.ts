// Facts about the CRI contract that must not drift: it is that of Kubernetes, the generated types are those of
// the contract, and messages come out of the loader as the types say.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { MethodDefinition } from '@grpc/grpc-js';
import protobuf from 'protobufjs';
import { describe, expect, it } from 'vitest';
import { contractText } from '../../../hack/contract-text.ts';
import { generate } from '../../../hack/gen-cri-types.ts';
import { type Loose, loadContract } from '../../../src/cri-api/contract.ts';
import type {
  ContainerStatsResponse,
  ContainerStatusResponse,
  CreateContainerRequest,
  ExecSyncResponse,
  ListContainersRequest,
} from '../../../src/cri-api/types.ts';

const read = (path: string) => readFileSync(new URL(`../../../${path}`, import.meta.url), 'utf8');
const proto = read('proto/api.proto');
const { RuntimeService, ImageService } = loadContract();

type Method = MethodDefinition<object, object>;
const methods = (service: { service: object }): [name: string, method: Method][] =>
  Object.entries(service.service);

function method(name: string): Method {
  const found = [...methods(RuntimeService), ...methods(ImageService)].find(([key]) => key === name);
  if (!found) throw new Error(`the contract has no method ${name}`);
  return found[1];
}

/** What the other side gets when this request is sent. */
function requestSent<T>(name: string, message: Loose<T>): T {
  const { requestSerialize, requestDeserialize } = method(name);
  return requestDeserialize(requestSerialize(message as object)) as T;
}

/** What the other side gets when this response is sent. */
function responseSent<T>(name: string, message: Loose<T>): T {
  const { responseSerialize, responseDeserialize } = method(name);
  return responseDeserialize(responseSerialize(message as object)) as T;
}

describe('the contract', () => {
  // The digest was taken from the api.proto of k8s.io/cri-api v0.36.3, and it is blind to comments and layout.
  // If it fails without a move to another Kubernetes, proto/api.proto no longer is what kubelets speak: mend it.
  // To move: get pkg/apis/runtime/v1/api.proto of the new release, and bring proto/api.proto to where
  // hack/contract-text.ts gives the same text for both (its first lines show the command). Then put here what
  // `npx tsx hack/contract-text.ts <the release's file> | sha256sum` prints, name the release here and at the
  // head of proto/api.proto, extend the list of calls below, and run `npm run generate`.
  it('is that of Kubernetes 1.36, name for name and number for number', () => {
    expect(createHash('sha256').update(contractText(proto)).digest('hex')).toBe(
      '571a9ccbee4867dbfc66c93724017bc5a8ede078566e2901c3c51b172e4b7b42',
    );
  });

  it('has a digest that notices changed numbers, names, types and options, and no comments', () => {
    const changed = (from: string, to: string) => {
      expect(proto).toContain(from);
      return contractText(proto.replace(from, to));
    };
    expect(changed('message VersionRequest {', '// new\nmessage  VersionRequest\n{')).toBe(
      contractText(proto),
    );
    const drifted = [
      changed('uint32 cpu_group = 2;', 'uint32 cpu_group = 3;'),
      changed('uint32 cpu_group = 2;', 'uint32 cpuGroup = 2;'),
      changed('uint32 cpu_group = 2;', 'int32 cpu_group = 2;'),
      changed('repeated int32 port = 2;', 'int32 port = 2;'),
      changed('map<string, string> sysctls', 'map<string, bytes> sysctls'),
      changed(' [deprecated = true]', ''),
      changed('SIGRTMAX = 65;', 'SIGRTMAX = 66;'),
      changed('returns (stream ContainerEventResponse)', 'returns (ContainerEventResponse)'),
      changed('rpc ListImages(ListImagesRequest)', 'rpc ListImages(StreamImagesRequest)'),
      changed('message GetEventsRequest {}', 'message GetEventsRequest {}\nmessage Further {}'),
      changed('package runtime.v1;', 'package runtime.v2;'),
    ];
    expect(new Set([contractText(proto), ...drifted]).size).toBe(1 + drifted.length);
  });

  it('has these calls of the runtime, of which these stream', () => {
    expect(calls(RuntimeService)).toEqual({
      Version: 'unary',
      RunPodSandbox: 'unary',
      StopPodSandbox: 'unary',
      RemovePodSandbox: 'unary',
      PodSandboxStatus: 'unary',
      ListPodSandbox: 'unary',
      StreamPodSandboxes: 'stream',
      CreateContainer: 'unary',
      StartContainer: 'unary',
      StopContainer: 'unary',
      RemoveContainer: 'unary',
      ListContainers: 'unary',
      StreamContainers: 'stream',
      ContainerStatus: 'unary',
      UpdateContainerResources: 'unary',
      ReopenContainerLog: 'unary',
      ExecSync: 'unary',
      Exec: 'unary',
      Attach: 'unary',
      PortForward: 'unary',
      ContainerStats: 'unary',
      ListContainerStats: 'unary',
      StreamContainerStats: 'stream',
      PodSandboxStats: 'unary',
      ListPodSandboxStats: 'unary',
      StreamPodSandboxStats: 'stream',
      UpdateRuntimeConfig: 'unary',
      Status: 'unary',
      CheckpointContainer: 'unary',
      GetContainerEvents: 'stream',
      ListMetricDescriptors: 'unary',
      ListPodSandboxMetrics: 'unary',
      StreamPodSandboxMetrics: 'stream',
      RuntimeConfig: 'unary',
      UpdatePodSandboxResources: 'unary',
    });
  });

  it('has these calls for images, of which one streams', () => {
    expect(calls(ImageService)).toEqual({
      ListImages: 'unary',
      StreamImages: 'stream',
      ImageStatus: 'unary',
      PullImage: 'unary',
      RemoveImage: 'unary',
      ImageFsInfo: 'unary',
    });
  });

  it('is served under the paths that kubelets call', () => {
    for (const [name, { path }] of methods(RuntimeService))
      expect(path).toBe(`/runtime.v1.RuntimeService/${name}`);
    for (const [name, { path }] of methods(ImageService))
      expect(path).toBe(`/runtime.v1.ImageService/${name}`);
  });
});

function calls(service: { service: object }): Record<string, string> {
  return Object.fromEntries(
    methods(service).map(([name, { requestStream, responseStream }]) => [
      name,
      `${requestStream ? 'streamed request, ' : ''}${responseStream ? 'stream' : 'unary'}`,
    ]),
  );
}

describe('the generated types', () => {
  it('are those of proto/api.proto', () => {
    expect(generate(proto), 'src/cri-api/types.ts is stale: run `npm run generate`').toBe(
      read('src/cri-api/types.ts'),
    );
  });

  it('are refused for a file that is not the contract', () => {
    expect(() => generate('syntax = "proto3"; package other; message A {}')).toThrow('no package runtime.v1');
  });
});

describe('a message', () => {
  const { root } = protobuf.parse(proto, { keepCase: false });
  root.resolveAll();

  /** A message of which nothing was sent, by the rule at the head of src/cri-api/types.ts. */
  function empty(typeName: string): Record<string, unknown> {
    const type = root.lookupType(`runtime.v1.${typeName}`);
    return Object.fromEntries(type.fieldsArray.map(field => [field.name, nothing(field)]));
  }

  function nothing(field: protobuf.Field): unknown {
    if (field instanceof protobuf.MapField) return {};
    if (field.repeated) return [];
    if (field.resolvedType instanceof protobuf.Type) return null;
    if (field.resolvedType instanceof protobuf.Enum) return field.resolvedType.valuesById[0];
    if (field.type === 'string') return '';
    if (field.type === 'bool') return false;
    if (field.type === 'bytes') return Buffer.alloc(0);
    return field.type.endsWith('64') ? '0' : 0;
  }

  it.each([...methods(RuntimeService), ...methods(ImageService)])(
    'of %s has every field present when nothing was sent',
    (name, { requestDeserialize, responseDeserialize }) => {
      const service = root.lookupService(name in RuntimeService.service ? 'RuntimeService' : 'ImageService');
      const { requestType, responseType } = service.methods[name] ?? {};
      expect(requestDeserialize(Buffer.alloc(0))).toEqual(empty(String(requestType)));
      expect(responseDeserialize(Buffer.alloc(0))).toEqual(empty(String(responseType)));
    },
  );

  it('comes back as it was sent: lists, maps, bytes, enums, nested messages', () => {
    const request = requestSent<CreateContainerRequest>('CreateContainer', {
      podSandboxId: 'pod',
      config: {
        metadata: { name: 'app', attempt: 3 },
        command: ['sh', '-c'],
        envs: [{ key: 'LATIN1', value: new Uint8Array([0xe9, 0x00, 0xff]) }],
        mounts: [
          { containerPath: '/data', hostPath: '/srv', propagation: 'PROPAGATION_HOST_TO_CONTAINER' },
          { containerPath: '/ids', uidMappings: [{ hostId: 4294967295, containerId: 0, length: 1 }] },
        ],
        annotations: { 'example.org/a': 'x', '': 'empty key' },
        CDIDevices: [{ name: 'vendor.com/gpu=0' }],
        stopSignal: 'SIGRTMINPLUS3',
      },
    });
    expect(request).toMatchObject({
      podSandboxId: 'pod',
      config: {
        metadata: { name: 'app', attempt: 3 },
        command: ['sh', '-c'],
        args: [],
        envs: [{ key: 'LATIN1', value: Buffer.from([0xe9, 0x00, 0xff]) }],
        mounts: [
          { hostPath: '/srv', propagation: 'PROPAGATION_HOST_TO_CONTAINER', uidMappings: [], image: null },
          {
            propagation: 'PROPAGATION_PRIVATE',
            uidMappings: [{ hostId: 4294967295, containerId: 0, length: 1 }],
          },
        ],
        labels: {},
        annotations: { 'example.org/a': 'x', '': 'empty key' },
        linux: null,
        CDIDevices: [{ name: 'vendor.com/gpu=0' }],
        stopSignal: 'SIGRTMINPLUS3',
      },
      sandboxConfig: null,
    });
  });

  it('keeps 64-bit integers whole, as decimal strings', () => {
    const { status } = responseSent<ContainerStatusResponse>('ContainerStatus', {
      status: {
        createdAt: '1722470400123456789',
        startedAt: 1722470400,
        resources: { linux: { cpuQuota: -1, oomScoreAdj: '-998' } },
      },
    });
    expect(status).toMatchObject({
      createdAt: '1722470400123456789',
      startedAt: '1722470400',
      finishedAt: '0',
      resources: { linux: { cpuQuota: '-1', oomScoreAdj: '-998', memoryLimitInBytes: '0' } },
    });
    const { stats } = responseSent<ContainerStatsResponse>('ContainerStats', {
      stats: { cpu: { usageCoreNanoSeconds: { value: '18446744073709551615' } } },
    });
    expect(stats?.cpu?.usageCoreNanoSeconds).toEqual({ value: '18446744073709551615' });
  });

  it('tells a wrapped zero from nothing', () => {
    const context = (user: { value?: string } | null) =>
      requestSent<CreateContainerRequest>('CreateContainer', {
        config: { linux: { securityContext: { runAsUser: user } } },
      }).config?.linux?.securityContext;
    expect(context({ value: '0' })).toMatchObject({ runAsUser: { value: '0' }, runAsGroup: null });
    expect(context(null)).toMatchObject({ runAsUser: null });
    const created = requestSent<ListContainersRequest>('ListContainers', { filter: { state: {} } });
    expect(created.filter?.state).toEqual({ state: 'CONTAINER_CREATED' });
    expect(requestSent<ListContainersRequest>('ListContainers', { filter: {} }).filter?.state).toBeNull();
  });

  it('keeps fractions, and the capital letters of the contract', () => {
    const { stats } = responseSent<ContainerStatsResponse>('ContainerStats', {
      stats: { io: { psi: { Full: { Total: '7', Avg10: 0.25 } } } },
    });
    expect(stats?.io?.psi).toEqual({ Full: { Total: '7', Avg10: 0.25, Avg60: 0, Avg300: 0 }, Some: null });
  });

  it('has the bytes that other implementations write and read', () => {
    const { responseSerialize, responseDeserialize } = method('ExecSync');
    // stdout = 1 (bytes), exit_code = 3 (varint; -1 takes ten bytes).
    const wire = Buffer.from('0a026f6b18ffffffffffffffffff01', 'hex');
    const message: Loose<ExecSyncResponse> = { stdout: Buffer.from('ok'), exitCode: -1 };
    expect(responseSerialize(message)).toEqual(wire);
    expect(responseDeserialize(wire)).toEqual({
      stdout: Buffer.from('ok'),
      stderr: Buffer.alloc(0),
      exitCode: -1,
    });
  });

  it('from a newer client is read without the fields that this contract does not know', () => {
    const { requestDeserialize } = method('StopContainer');
    // container_id = 1: "c", an unknown field 100, timeout = 2: 30.
    expect(requestDeserialize(Buffer.from('0a0163a206017a101e', 'hex'))).toEqual({
      containerId: 'c',
      timeout: '30',
    });
  });
});
