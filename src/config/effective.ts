// From a checked file to `Config`: our names, milliseconds instead of durations, and the rules that
// concern more than one key.
import { readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { parseDuration } from './duration.ts';
import {
  type ConfigFile,
  criPlugin,
  imagesPlugin,
  otlpPlugin,
  ownPlugin,
  runtimePlugin,
  tracingPlugin,
  transferPlugin,
  verifierPlugin,
} from './keys.ts';
import { deriveRuntimes, type Findings } from './runtimes.ts';
import type {
  Config,
  ImagesConfig,
  LogLevel,
  SeccompProfileChoice,
  StreamingConfig,
  StreamingTls,
  VerifiersConfig,
} from './types.ts';

/** Derives the configuration; what is wrong or remarkable goes to `found`. */
export function deriveConfig(file: ConfigFile, found: Findings): Config {
  const runtime = file.plugins[runtimePlugin];
  const own = file.plugins[ownPlugin];
  const otlp = file.plugins[otlpPlugin];
  const tracing = file.plugins[tracingPlugin];
  const root = ownDirectory('root', file.root, found);
  const state = ownDirectory('state', file.state, found);
  if (root === state)
    found.error(['state'], `${JSON.stringify(state)} is root too; allowed: another directory`);
  const images = deriveImages(file);
  return {
    root,
    state,
    server: {
      socketPath: file.grpc.address.replace(/^unix:\/\//, ''),
      uid: file.grpc.uid,
      gid: file.grpc.gid,
      maxReceiveBytes: file.grpc.max_recv_message_size,
      maxSendBytes: file.grpc.max_send_message_size,
    },
    runtimes: deriveRuntimes(file, state, found),
    sandbox: {
      image: images.pinned.get('sandbox'),
      pausePath: own.pause_path || undefined,
      netnsDir: runtime.netns_mounts_under_state_dir ? join(state, 'netns') : '/var/run/netns',
      unprivilegedPorts: runtime.enable_unprivileged_ports,
      unprivilegedIcmp: runtime.enable_unprivileged_icmp,
    },
    cni: {
      confDir: runtime.cni.conf_dir,
      binDirs: runtime.cni.bin_dirs,
      maxConfNum: runtime.cni.max_conf_num,
      confTemplate: runtime.cni.conf_template || undefined,
      ipPreference: runtime.cni.ip_pref,
      useInternalLoopback: runtime.cni.use_internal_loopback,
      pluginTimeoutMs: milliseconds(own.cni_timeout),
    },
    images,
    streaming: deriveStreaming(file, found),
    security: {
      restrictOomScoreAdj: runtime.restrict_oom_score_adj,
      selinux: runtime.enable_selinux,
      selinuxCategoryRange: runtime.selinux_category_range || 1024,
      apparmor: !runtime.disable_apparmor,
      unsetSeccompProfile: seccompChoice(runtime.unset_seccomp_profile),
      deviceOwnershipFromSecurityContext: runtime.device_ownership_from_security_context,
      ignoreImageDefinedVolumes: runtime.ignore_image_defined_volumes,
    },
    cgroups: {
      ignoreBlockioClasses: runtime.containerd.ignore_blockio_not_enabled_errors,
      ignoreRdtClasses: runtime.containerd.ignore_rdt_not_enabled_errors,
      disableHugetlbController: runtime.disable_hugetlb_controller,
      tolerateMissingHugetlbController: runtime.tolerate_missing_hugetlb_controller,
    },
    criuEnabled: runtime.enable_criu,
    cdi: { enabled: runtime.enable_cdi, specDirs: runtime.cdi_spec_dirs },
    monitor: { binary: own.conmon_path },
    limits: {
      runtimeTimeoutMs: milliseconds(own.runtime_timeout),
      stepTimeoutMs: milliseconds(own.step_timeout),
      undoTimeoutMs: milliseconds(own.undo_timeout),
      drainExecSyncIoTimeoutMs: millisecondsOrNever(runtime.drain_exec_sync_io_timeout),
    },
    stats: {
      collectPeriodMs: milliseconds(runtime.stats_collect_period),
      retentionPeriodMs: milliseconds(runtime.stats_retention_period),
      layerPeriodMs: file.plugins[imagesPlugin].stats_collect_period * 1000,
    },
    log: { level: logLevel(file.debug.level), format: file.debug.format },
    metrics: { address: file.metrics.address || undefined },
    tracing: {
      endpoint: otlp.endpoint || undefined,
      protocol: otlp.protocol,
      insecure: otlp.insecure,
      samplingRatio: tracing.sampling_ratio,
      serviceName: tracing.service_name,
    },
  };
}

/**
 * A node's containerd file gives containerd's own directories. cri-ts then works in a subdirectory of its
 * own name, so that neither program ever takes the other's files for its own. A directory of another name
 * that holds containerd's data is refused: by the next start it might look different, and which directory
 * is ours must not depend on that.
 */
function ownDirectory(key: 'root' | 'state', path: string, found: Findings): string {
  if (basename(path) === 'containerd') {
    const own = join(path, 'cri-ts');
    found.note('info', [key], `${path} is containerd's own directory; cri-ts works in ${own}`);
    return own;
  }
  const foreign = entriesOf(path).find(entry => entry.startsWith('io.containerd.'));
  if (foreign !== undefined) {
    found.error(
      [key],
      `${JSON.stringify(path)} holds data of containerd (${foreign}); allowed: a directory of its own, such as ${JSON.stringify(join(path, 'cri-ts'))}`,
    );
  }
  return path;
}

function entriesOf(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return []; // not there yet, or not readable by this user: then it is not used by this process either
  }
}

function deriveImages(file: ConfigFile): ImagesConfig {
  const images = file.plugins[imagesPlugin];
  const { headers, config_path: configPath } = images.registry;
  return {
    snapshotter: images.snapshotter,
    pinned: new Map(Object.entries(images.pinned_images)),
    registry: {
      configPaths: configPath.split(':').filter(part => part !== ''),
      headers: new Map(Object.entries(headers)),
    },
    // containerd 2.1 and later: the transfer service's limit counts as long as the CRI one is untouched
    maxConcurrentDownloads:
      images.max_concurrent_downloads === 3
        ? file.plugins[transferPlugin].max_concurrent_downloads
        : images.max_concurrent_downloads,
    pullProgressTimeoutMs: millisecondsOrNever(images.image_pull_progress_timeout),
    verifiers: deriveVerifiers(file),
  };
}

function deriveVerifiers(file: ConfigFile): VerifiersConfig {
  const verifiers = file.plugins[verifierPlugin];
  return {
    directory: verifiers.bin_dir,
    limit: verifiers.max_verifiers < 0 ? undefined : verifiers.max_verifiers,
    timeoutMs: milliseconds(verifiers.per_verifier_timeout),
  };
}

function deriveStreaming(file: ConfigFile, found: Findings): StreamingConfig {
  const streaming = file.plugins[criPlugin];
  return {
    address: streaming.stream_server_address || undefined,
    port: Number(streaming.stream_server_port),
    idleTimeoutMs: millisecondsOrNever(streaming.stream_idle_timeout),
    tls: deriveTls(streaming, found),
  };
}

function deriveTls(streaming: ConfigFile['plugins'][typeof criPlugin], found: Findings): StreamingTls {
  const { tls_cert_file: certFile, tls_key_file: keyFile } = streaming.x509_key_pair_streaming;
  const table = ['plugins', criPlugin, 'x509_key_pair_streaming'];
  if (!streaming.enable_tls_streaming) {
    if (certFile !== '' || keyFile !== '') {
      found.error(table, 'a key pair is given but enable_tls_streaming is false; allowed: both, or neither');
    }
    return { mode: 'off' };
  }
  if (certFile === '' && keyFile === '') return { mode: 'self-signed' };
  if (certFile === '' || keyFile === '') {
    const missing = certFile === '' ? 'tls_cert_file' : 'tls_key_file';
    found.error(table, `${missing} is missing; allowed: certificate and key, or neither`);
  }
  return { mode: 'files', certFile, keyFile };
}

function seccompChoice(profile: string): SeccompProfileChoice {
  if (profile === '' || profile === 'unconfined') return { kind: 'unconfined' };
  if (profile.startsWith('localhost/'))
    return { kind: 'localhost', path: profile.slice('localhost/'.length) };
  return { kind: 'runtime-default' };
}

function logLevel(level: ConfigFile['debug']['level']): LogLevel {
  if (level === 'warning') return 'warn';
  if (level === 'panic') return 'fatal';
  return level;
}

function milliseconds(duration: string): number {
  const value = parseDuration(duration);
  if (value === undefined) throw new Error(`${duration} passed the schema but is no duration`);
  return value;
}

function millisecondsOrNever(duration: string): number | undefined {
  return milliseconds(duration) || undefined;
}
