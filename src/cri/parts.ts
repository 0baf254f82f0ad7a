// What the RPCs work with: the parts of the daemon, and the shape that every RPC's file gives its function.
import type { Config } from '../config/types.ts';
import type { Container } from '../container/container.ts';
import type { Containers } from '../container/containers.ts';
import type { ExecSyncRequest, ExecSyncResult } from '../container/exec-sync.ts';
import type { RestoreSource } from '../container/restore.ts';
import type { Loose } from '../cri-api/contract.ts';
import type {
  ImageServiceMethods,
  LinuxContainerResources,
  RuntimeServiceMethods,
} from '../cri-api/types.ts';
import type { Images } from '../image/images.ts';
import type { Logger } from '../log.ts';
import type { PodEvents } from '../sandbox/events.ts';
import type { Sandboxes } from '../sandbox/sandboxes.ts';
import type { Stats } from '../stats/stats.ts';
import type { StreamingUrls } from '../streaming/server.ts';

/** Everything that RPCs may reach. */
export interface Parts {
  config: Config;
  version: string;
  log: Logger;
  sandboxes: Sandboxes;
  containers: Containers;
  images: Images;
  events: PodEvents;
  stats: Stats;
  streaming: StreamingUrls;
  /** Why the network of new pods is not ready; undefined when it is. */
  networkProblem(): string | undefined;
  /** What `crictl info` shows of the CNI configuration. */
  networkInfo(): unknown;
  /** What each runtime handler can do. */
  handlerFeatures(): { name: string; recursiveReadOnlyMounts: boolean; userNamespaces: boolean }[];
  /** Writes the CNI template with the pod CIDR that kubelet gave. */
  setPodCidr(podCidr: string): Promise<void>;
  execSync(
    container: Container,
    request: Pick<ExecSyncRequest, 'command' | 'timeoutMs'>,
    signal: AbortSignal,
  ): Promise<ExecSyncResult>;
  updateResources(container: Container, resources: LinuxContainerResources): Promise<void>;
  reopenLog(container: Container): Promise<void>;
  /** Writes a checkpoint of a running container. */
  checkpoint(container: Container, location: string, signal: AbortSignal): Promise<void>;
  /** The checkpoint that an image name means, and the image that it stands on; undefined when it means an image. */
  checkpointNamed(
    name: string,
    handler: string,
    signal: AbortSignal,
  ): Promise<{ source: RestoreSource; imageId: string } | undefined>;
  /** The OCI runtime spec of a container or of a sandbox's pause container, as an object. */
  runtimeSpec(id: string, kind: 'sandbox' | 'container'): Promise<unknown>;
}

export interface Call {
  /** Aborts when the client goes away or its deadline passes. */
  signal: AbortSignal;
}

export type Methods = RuntimeServiceMethods & ImageServiceMethods;
export type MethodName = keyof Methods;
export type StreamName = {
  [Name in MethodName]: Methods[Name]['stream'] extends true ? Name : never;
}[MethodName];
export type UnaryName = Exclude<MethodName, StreamName>;

/** An RPC with one answer. */
export type Rpc<Name extends UnaryName> = (
  parts: Parts,
  request: Methods[Name]['request'],
  call: Call,
) => Promise<Loose<Methods[Name]['response']>> | Loose<Methods[Name]['response']>;

/** An RPC that answers with a stream of messages. */
export type StreamRpc<Name extends StreamName> = (
  parts: Parts,
  request: Methods[Name]['request'],
  call: Call,
) => AsyncIterable<Loose<Methods[Name]['response']>>;
