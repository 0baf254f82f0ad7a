// The files that the configuration names and that must be there and of their kind when the daemon starts.
import { readFileSync } from 'node:fs';
import { messageOf } from '../errors.ts';
import { criPlugin, runtimePlugin } from './keys.ts';
import type { Findings } from './runtimes.ts';
import type { Config } from './types.ts';

/** Reads base specs and TLS files; what is missing or of another kind goes to `found`. */
export function checkNamedFiles(config: Config, found: Findings): void {
  for (const { name, baseRuntimeSpec } of config.runtimes.handlers.values()) {
    if (baseRuntimeSpec === undefined) continue;
    const path = ['plugins', runtimePlugin, 'containerd', 'runtimes', name, 'base_runtime_spec'];
    checkReadable(baseRuntimeSpec, 'an OCI runtime spec in JSON', path, found, text => {
      const spec: unknown = JSON.parse(text);
      if (typeof spec !== 'object' || spec === null || !('ociVersion' in spec))
        throw new Error('no ociVersion in it');
    });
  }
  if (config.streaming.tls.mode === 'files') {
    const table = ['plugins', criPlugin, 'x509_key_pair_streaming'];
    const { certFile, keyFile } = config.streaming.tls;
    checkReadable(certFile, 'a PEM certificate', [...table, 'tls_cert_file'], found, hasPem('CERTIFICATE'));
    checkReadable(keyFile, 'a PEM private key', [...table, 'tls_key_file'], found, hasPem('PRIVATE KEY'));
  }
}

function checkReadable(
  file: string,
  what: string,
  path: readonly string[],
  found: Findings,
  check: (text: string) => void,
): void {
  if (file === '') return; // already reported as missing
  try {
    check(readFileSync(file, 'utf8'));
  } catch (error) {
    found.error(path, `${JSON.stringify(file)} is not usable (${messageOf(error)}); allowed: ${what}`);
  }
}

function hasPem(label: string): (text: string) => void {
  return text => {
    if (!new RegExp(`-----BEGIN [A-Z ]*${label}-----`).test(text)) throw new Error(`no ${label} block in it`);
  };
}
