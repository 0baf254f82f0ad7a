// The tables outside [plugins]: directories, the socket, logs, metrics.
import { honoured, section, unused } from '../notes.ts';
import { flag, hostAndPort, listOf, oneOf, path, socketPath, text, wholeNumber } from '../values.ts';

const noTcp = 'CRI is served on the unix socket alone';
const noTtrpc = 'shims are what speaks ttrpc, and there are none';
const noDebugSocket = 'there is no debug socket; logs, metrics and traces tell what goes on';

/** The highest layout of the file that is understood; containerd 2.3 writes it. */
export const newestVersion = 4;

/** The layout that keys.ts declares and the program prints. */
export const canonicalVersion = 3;

export const daemonKeys = {
  version: honoured(
    wholeNumber(1, newestVersion).default(canonicalVersion),
    'Layout of this file: containerd 1.x writes 2, containerd 2.x writes 3 or 4.',
  ),
  root: honoured(path().default('/var/lib/cri-ts'), 'Directory for what survives a reboot.'),
  state: honoured(path().default('/run/cri-ts'), 'Directory for what a reboot may lose.'),
  imports: honoured(
    listOf(text(), 'paths, with * where wanted').default([]),
    'Further files, read after this one; what they say goes before it.',
  ),
  grpc: section({
    address: honoured(socketPath().default('/run/cri-ts/cri-ts.sock'), 'The CRI socket.'),
    uid: honoured(wholeNumber(0).default(0), 'Owner of the socket.'),
    gid: honoured(wholeNumber(0).default(0), 'Group of the socket (mode 0660).'),
    max_recv_message_size: honoured(wholeNumber(1).default(16777216), 'Largest request, bytes.'),
    max_send_message_size: honoured(wholeNumber(1).default(16777216), 'Largest answer, bytes.'),
    tcp_address: unused(noTcp, { harmless: [''], level: 'warn' }),
    tcp_tls_ca: unused(noTcp, { harmless: [''] }),
    tcp_tls_cert: unused(noTcp, { harmless: [''] }),
    tcp_tls_key: unused(noTcp, { harmless: [''] }),
    tcp_tls_common_name: unused(noTcp, { harmless: [''] }),
  }),
  debug: section({
    level: honoured(
      oneOf('trace', 'debug', 'info', 'warn', 'warning', 'error', 'fatal', 'panic').default('info'),
      'The least severe lines to log.',
    ),
    format: honoured(oneOf('json', 'text').default('json'), 'How a log line is written.'),
    log_trace_id: unused('log lines of a request carry its trace id when it is traced', {
      harmless: [true, false],
    }),
    address: unused(noDebugSocket, { harmless: [''] }),
    uid: unused(noDebugSocket, { harmless: [0] }),
    gid: unused(noDebugSocket, { harmless: [0] }),
  }),
  metrics: section({
    address: honoured(hostAndPort().default(''), 'host:port of the Prometheus endpoint. "" = none.'),
    grpc_histogram: unused('latencies of requests are always recorded as histograms', {
      harmless: [true, false],
    }),
  }),
  ttrpc: section({
    address: unused(noTtrpc, { harmless: [''] }),
    uid: unused(noTtrpc, { harmless: [0] }),
    gid: unused(noTtrpc, { harmless: [0] }),
  }),
  cgroup: section({
    path: unused("kubelet gives each pod's cgroup; the daemon stays in its service's", {
      harmless: [''],
      level: 'warn',
    }),
  }),
  temp: unused('temporary files live under root and state', { harmless: [''] }),
  plugin_dir: unused('there are no dynamic plugins', { harmless: [''] }),
  oom_score: unused('set OOMScoreAdjust= in the service unit', { harmless: [0] }),
  disabled_plugins: unused("cri-ts serves CRI whether or not containerd's own CRI plugin is disabled"),
  required_plugins: unused("plugins are containerd's own"),
  proxy_plugins: unused('remote snapshotters and other proxies are not supported', { level: 'warn' }),
  stream_processors: unused('encrypted images are not supported', { level: 'silent' }),
  timeouts: unused('they bound calls to shims, and there are none; see [plugins."io.cri-ts"]', {
    level: 'silent',
  }),
} as const;

/** [plugins."io.containerd.tracing.processor.v1.otlp"] */
export const otlpSection = section({
  endpoint: honoured(
    text()
      .refine(value => value === '' || /^https?:\/\/\S+$/.test(value) || /^[^/\s]+:\d{1,5}$/.test(value), {
        error: 'a URL such as "http://127.0.0.1:4318", or host:port',
      })
      .default(''),
    'OTLP endpoint for traces. "" = none.',
  ),
  protocol: honoured(oneOf('http/protobuf', 'grpc').default('http/protobuf'), 'OTLP transport.'),
  insecure: honoured(flag().default(false), 'Speak to the endpoint without TLS.'),
});
