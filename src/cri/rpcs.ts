// The table of RPCs: each name of the contract, and the function that answers it. A name that is missing here is
// answered UNIMPLEMENTED.
import type { Rpc, StreamName, StreamRpc, UnaryName } from './parts.ts';
import { attach } from './rpc/attach.ts';
import { checkpointContainer } from './rpc/checkpoint-container.ts';
import { containerStats } from './rpc/container-stats.ts';
import { containerStatus } from './rpc/container-status.ts';
import { createContainer } from './rpc/create-container.ts';
import { exec } from './rpc/exec.ts';
import { execSync } from './rpc/exec-sync.ts';
import { getContainerEvents } from './rpc/get-container-events.ts';
import { imageFsInfo } from './rpc/image-fs-info.ts';
import { imageStatus } from './rpc/image-status.ts';
import { listContainerStats } from './rpc/list-container-stats.ts';
import { listContainers } from './rpc/list-containers.ts';
import { listImages } from './rpc/list-images.ts';
import { listMetricDescriptors } from './rpc/list-metric-descriptors.ts';
import { listPodSandbox } from './rpc/list-pod-sandbox.ts';
import { listPodSandboxMetrics } from './rpc/list-pod-sandbox-metrics.ts';
import { listPodSandboxStats } from './rpc/list-pod-sandbox-stats.ts';
import { podSandboxStats } from './rpc/pod-sandbox-stats.ts';
import { podSandboxStatus } from './rpc/pod-sandbox-status.ts';
import { portForward } from './rpc/port-forward.ts';
import { pullImage } from './rpc/pull-image.ts';
import { removeContainer } from './rpc/remove-container.ts';
import { removeImage } from './rpc/remove-image.ts';
import { removePodSandbox } from './rpc/remove-pod-sandbox.ts';
import { reopenContainerLog } from './rpc/reopen-container-log.ts';
import { runPodSandbox } from './rpc/run-pod-sandbox.ts';
import { runtimeConfig } from './rpc/runtime-config.ts';
import { startContainer } from './rpc/start-container.ts';
import { status } from './rpc/status.ts';
import { stopContainer } from './rpc/stop-container.ts';
import { stopPodSandbox } from './rpc/stop-pod-sandbox.ts';
import { streamContainerStats } from './rpc/stream-container-stats.ts';
import { streamContainers } from './rpc/stream-containers.ts';
import { streamImages } from './rpc/stream-images.ts';
import { streamPodSandboxMetrics } from './rpc/stream-pod-sandbox-metrics.ts';
import { streamPodSandboxStats } from './rpc/stream-pod-sandbox-stats.ts';
import { streamPodSandboxes } from './rpc/stream-pod-sandboxes.ts';
import { updateContainerResources } from './rpc/update-container-resources.ts';
import { updatePodSandboxResources } from './rpc/update-pod-sandbox-resources.ts';
import { updateRuntimeConfig } from './rpc/update-runtime-config.ts';
import { version } from './rpc/version.ts';

export const rpcs: { readonly [Name in UnaryName]?: Rpc<Name> } = {
  Version: version,
  Status: status,
  RuntimeConfig: runtimeConfig,
  UpdateRuntimeConfig: updateRuntimeConfig,

  RunPodSandbox: runPodSandbox,
  StopPodSandbox: stopPodSandbox,
  RemovePodSandbox: removePodSandbox,
  PodSandboxStatus: podSandboxStatus,
  ListPodSandbox: listPodSandbox,
  UpdatePodSandboxResources: updatePodSandboxResources,

  CreateContainer: createContainer,
  StartContainer: startContainer,
  StopContainer: stopContainer,
  RemoveContainer: removeContainer,
  ContainerStatus: containerStatus,
  ListContainers: listContainers,
  UpdateContainerResources: updateContainerResources,
  ReopenContainerLog: reopenContainerLog,
  CheckpointContainer: checkpointContainer,
  ExecSync: execSync,
  Exec: exec,
  Attach: attach,
  PortForward: portForward,

  ContainerStats: containerStats,
  ListContainerStats: listContainerStats,
  PodSandboxStats: podSandboxStats,
  ListPodSandboxStats: listPodSandboxStats,
  ListMetricDescriptors: listMetricDescriptors,
  ListPodSandboxMetrics: listPodSandboxMetrics,

  ListImages: listImages,
  ImageStatus: imageStatus,
  PullImage: pullImage,
  RemoveImage: removeImage,
  ImageFsInfo: imageFsInfo,
};

export const streamRpcs: { readonly [Name in StreamName]?: StreamRpc<Name> } = {
  StreamPodSandboxes: streamPodSandboxes,
  StreamContainers: streamContainers,
  StreamImages: streamImages,
  StreamContainerStats: streamContainerStats,
  StreamPodSandboxStats: streamPodSandboxStats,
  StreamPodSandboxMetrics: streamPodSandboxMetrics,
  GetContainerEvents: getContainerEvents,
};
