// Sections of containerd plugins that have no counterpart here. They are accepted whole.
import { unused } from '../notes.ts';

const ownStore = 'cri-ts keeps images, layers and records in stores of its own';
const onlyOverlayfs = 'overlayfs is the only snapshotter; layers are kept under `root`';
const quietly = { level: 'silent' } as const;

export const foreignSections = {
  'io.containerd.content.v1.content': unused(ownStore, quietly),
  'io.containerd.metadata.v1.bolt': unused(ownStore, quietly),
  'io.containerd.gc.v1.scheduler': unused('garbage collection has no settings', quietly),
  'io.containerd.differ.v1.erofs': unused('EROFS layers are not supported', quietly),
  'io.containerd.differ.v1.walking': unused(ownStore, quietly),
  'io.containerd.internal.v1.opt': unused('packages are not installed through images', quietly),
  'io.containerd.internal.v1.restart': unused('kubelet restarts containers', quietly),
  'io.containerd.monitor.v1.cgroups': unused('metrics are not switched off one by one', quietly),
  'io.containerd.monitor.v1.task': unused('metrics are not switched off one by one', quietly),
  'io.containerd.nri.v1.nri': unused('NRI plugins are not supported', quietly),
  'io.containerd.runtime.v1.linux': unused('of containerd 1; runtimes are in the runtimes table', quietly),
  'io.containerd.runtime.v2.task': unused('there are no shims', quietly),
  'io.containerd.shim.v1.manager': unused('there are no shims', quietly),
  'io.containerd.sandbox.controller.v1.shim': unused('every pod has a pause container', quietly),
  'io.containerd.service.v1.diff-service': unused(ownStore, quietly),
  'io.containerd.service.v1.tasks-service': unused('block I/O and RDT classes are not supported', quietly),
  'io.containerd.snapshotter.v1.overlayfs': unused(onlyOverlayfs, { level: 'info' }),
  'io.containerd.snapshotter.v1.aufs': unused(onlyOverlayfs, quietly),
  'io.containerd.snapshotter.v1.blockfile': unused(onlyOverlayfs, quietly),
  'io.containerd.snapshotter.v1.btrfs': unused(onlyOverlayfs, quietly),
  'io.containerd.snapshotter.v1.devmapper': unused(onlyOverlayfs, quietly),
  'io.containerd.snapshotter.v1.erofs': unused(onlyOverlayfs, quietly),
  'io.containerd.snapshotter.v1.native': unused(onlyOverlayfs, quietly),
  'io.containerd.snapshotter.v1.stargz': unused(onlyOverlayfs, quietly),
  'io.containerd.snapshotter.v1.zfs': unused(onlyOverlayfs, quietly),
  'io.containerd.mount-manager.v1.bolt': unused(ownStore, quietly),
  'io.containerd.grpc.v1.introspection': unused("containerd's own API is not served", quietly),
  'io.containerd.grpc.v1.containers': unused("containerd's own API is not served", quietly),
} as const;
