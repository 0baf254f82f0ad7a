import { isIP } from 'node:net';

/** Whether a host, with or without a port, is this machine: such registries may lack TLS, and no proxy leads there. */
export function isLoopback(host: string): boolean {
  const name = host.replace(/:[0-9]+$/, '').replace(/^\[|\]$/g, '');
  return name === 'localhost' || name === '::1' || (isIP(name) === 4 && name.startsWith('127.'));
}
