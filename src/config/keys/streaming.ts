// [plugins."io.containerd.grpc.v1.cri"] as version 3 has it: the server of exec, attach, port-forward.

import { isIP } from 'node:net';
import { honoured, section, unused } from '../notes.ts';
import { duration, flag, path, port, text } from '../values.ts';

export const streamingSection = section({
  stream_server_address: honoured(
    text()
      .refine(value => value === '' || value === 'localhost' || isIP(value) !== 0, {
        error: 'an IP address, "localhost", or "" for the node\'s own address',
      })
      .default('127.0.0.1'),
    'Address of the streaming server. "" = the node\'s own address.',
  ),
  stream_server_port: honoured(port().default('0'), 'Port of the streaming server; "0" = any free port.'),
  stream_idle_timeout: honoured(
    duration({ allowZero: true }).default('4h0m0s'),
    'A stream on which nothing moves for so long is closed; "0s" = never.',
  ),
  enable_tls_streaming: honoured(
    flag().default(false),
    'Serve streams over TLS; with a self-signed certificate unless x509_key_pair_streaming names one.',
  ),
  x509_key_pair_streaming: section({
    tls_cert_file: honoured(path().default(''), 'Certificate, PEM.'),
    tls_key_file: honoured(path().default(''), 'Its private key, PEM.'),
  }),
  disable_tcp_service: unused('CRI is never served over TCP', { harmless: [true], level: 'warn' }),
});
