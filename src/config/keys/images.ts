// [plugins."io.containerd.cri.v1.images"]: pulling images and unpacking them.
import { z } from 'zod';
import { honoured, section, unused } from '../notes.ts';
import { duration, listOf, oneOf, path, text, wholeNumber } from '../values.ts';

const hostsToml = 'deprecated by containerd; describe the registry in config_path/HOST/hosts.toml';

const registry = section({
  config_path: honoured(
    text('directories, separated by ":"')
      .refine(value => value === '' || value.split(':').every(part => part === '' || part.startsWith('/')), {
        error: 'absolute paths, separated by ":"',
      })
      .default('/etc/containerd/certs.d:/etc/docker/certs.d'),
    'Directories with HOST/hosts.toml (mirrors, certificates) or docker-style HOST/*.crt; the first that has the host is used.',
  ),
  headers: honoured(
    z
      .record(z.string(), listOf(text(), 'header values'), {
        error: 'a table of header names and lists of values',
      })
      .default({}),
    'HTTP headers added to every request to every registry.',
    'X-Meta-Source = ["node-1"]',
  ),
  mirrors: unused(`${hostsToml} as [host."https://MIRROR"]`, {
    deprecation: 'io.containerd.deprecation/cri-registry-mirrors',
    level: 'warn',
  }),
  configs: unused(`${hostsToml}; credentials come from kubelet (imagePullSecrets)`, {
    deprecation: 'io.containerd.deprecation/cri-registry-configs',
    level: 'warn',
  }),
  auths: unused('deprecated by containerd; credentials come from kubelet (imagePullSecrets)', {
    deprecation: 'io.containerd.deprecation/cri-registry-auths',
    level: 'warn',
  }),
});

export const imagesSection = section({
  snapshotter: honoured(
    oneOf('overlayfs').default('overlayfs'),
    'How root filesystems are made from layers.',
  ),
  max_concurrent_downloads: honoured(
    wholeNumber(1).default(3),
    'Layers of one image fetched at the same time.',
  ),
  image_pull_progress_timeout: honoured(
    duration({ allowZero: true }).default('5m0s'),
    'A pull during which nothing arrives for so long is given up; "0s" = never.',
  ),
  stats_collect_period: honoured(
    wholeNumber(1).default(10),
    'Seconds between measurements of the disk usage of layers.',
  ),
  pinned_images: honoured(
    z
      .record(z.string(), text('an image reference'), { error: 'a table of names and image references' })
      .default({}),
    'Images that kubelet must not remove. `sandbox` is the pause image; without it the built-in pause program is used.',
    'sandbox = "registry.k8s.io/pause:3.10.2"',
  ),
  registry,
  disable_snapshot_annotations: unused('for remote snapshotters, which are not supported', {
    harmless: [true, false],
  }),
  discard_unpacked_layers: unused('cri-ts itself decides which blobs it keeps', {
    harmless: [true, false],
  }),
  concurrent_layer_fetch_buffer: unused('each layer is fetched in one request', { harmless: [0] }),
  image_pull_with_sync_fs: unused('that layers are on disk before they count as present is not optional', {
    harmless: [true, false],
  }),
  use_local_image_pull: unused('there is one way of pulling', { harmless: [true, false] }),
  runtime_platforms: unused("only the node's own platform is pulled", { harmless: [], level: 'warn' }),
  runtime_platform: unused("only the node's own platform is pulled", { harmless: [], level: 'warn' }),
  image_decryption: section({
    key_model: unused('encrypted images are not supported', { harmless: ['', 'node'] }),
  }),
});

/** [plugins."io.containerd.image-verifier.v1.bindir"]: programs that must accept an image before it is unpacked. */
export const verifierSection = section({
  bin_dir: honoured(
    path().default('/opt/containerd/image-verifier/bin'),
    'Directory of programs, each of which must accept an image that is pulled. Where it is missing there are none.',
  ),
  max_verifiers: honoured(
    wholeNumber(Number.MIN_SAFE_INTEGER).default(10),
    'Only so many of them are asked, the first by name; below 0 = all.',
  ),
  per_verifier_timeout: honoured(
    duration({ allowZero: false }).default('10s'),
    'One that has not answered by then has not accepted.',
  ),
});

/** [plugins."io.containerd.transfer.v1.local"]: since containerd 2.1 a second place for the download limit. */
export const transferSection = section({
  max_concurrent_downloads: honoured(
    wholeNumber(1).default(3),
    'Used instead of the key of the same name in the images section when that one is 3.',
  ),
  config_path: unused('of `ctr`; the registry section of the images section counts', { harmless: [''] }),
  concurrent_layer_fetch_buffer: unused('each layer is fetched in one request', { harmless: [0] }),
  max_concurrent_uploaded_layers: unused('images are not pushed', { harmless: [3] }),
  max_concurrent_unpacks: unused('unpacking has no settings', { harmless: [0, 1] }),
  check_platform_supported: unused('always checked', { harmless: [true, false] }),
  unpack_config: unused("only overlayfs and the node's own platform are supported", { harmless: [] }),
});
