// A certificate authority and certificates of it, made by openssl for one test.
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface Certificate {
  certificateFile: string;
  keyFile: string;
  certificate: string;
  key: string;
}

function openssl(...args: string[]): void {
  execFileSync('openssl', args, { stdio: 'pipe' });
}

function read(directory: string, name: string): Certificate {
  const certificateFile = join(directory, `${name}.crt`);
  const keyFile = join(directory, `${name}.key`);
  return {
    certificateFile,
    keyFile,
    certificate: readFileSync(certificateFile, 'utf8'),
    key: readFileSync(keyFile, 'utf8'),
  };
}

const keyOptions = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];

export function makeAuthority(directory: string, name = 'ca'): Certificate {
  const [key, certificate] = [join(directory, `${name}.key`), join(directory, `${name}.crt`)];
  openssl(
    'req',
    '-x509',
    ...keyOptions,
    '-keyout',
    key,
    '-out',
    certificate,
    '-days',
    '2',
    '-subj',
    `/CN=${name}`,
  );
  return read(directory, name);
}

/** A certificate of `authority` for 127.0.0.1 and localhost, to serve or to prove oneself with. */
export function makeCertificate(directory: string, name: string, authority: Certificate): Certificate {
  const file = (end: string) => join(directory, `${name}.${end}`);
  openssl('req', ...keyOptions, '-keyout', file('key'), '-out', file('csr'), '-subj', `/CN=${name}`);
  writeFileSync(file('ext'), 'subjectAltName=IP:127.0.0.1,DNS:localhost\n');
  openssl(
    'x509',
    '-req',
    '-in',
    file('csr'),
    '-CA',
    authority.certificateFile,
    '-CAkey',
    authority.keyFile,
    '-CAcreateserial',
    '-days',
    '2',
    '-extfile',
    file('ext'),
    '-out',
    file('crt'),
  );
  return read(directory, name);
}
