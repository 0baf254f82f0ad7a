// HTTP proxies as the environment names them: HTTP_PROXY, HTTPS_PROXY, NO_PROXY and their lower-case twins,
// with the rules that Go programs follow, so that a node's existing drop-in file for containerd works.
import { BlockList, isIP, isIPv6 } from 'node:net';
import { isLoopback } from './loopback.ts';
import type { ProxySettings } from './types.ts';

export function proxyFromEnvironment(environment: NodeJS.ProcessEnv): ProxySettings {
  const read = (name: string) => environment[name] || environment[name.toLowerCase()] || undefined;
  return { http: read('HTTP_PROXY'), https: read('HTTPS_PROXY'), no: read('NO_PROXY') };
}

/** The proxy for `url`, or undefined when it is reached directly. */
export function proxyFor(url: URL, settings: ProxySettings): URL | undefined {
  const named = url.protocol === 'https:' ? settings.https : settings.http;
  if (named === undefined || isLoopback(url.host) || isExcepted(url, settings.no ?? '')) return undefined;
  return new URL(named.includes('://') ? named : `http://${named}`);
}

/** NO_PROXY: `*`, names (with their subdomains), `.suffixes`, addresses, CIDR ranges, each with an optional port. */
function isExcepted(url: URL, no: string): boolean {
  const host = url.hostname.replace(/^\[|\]$/g, '').toLowerCase();
  const port = url.port || (url.protocol === 'https:' ? '443' : '80');
  return no
    .split(',')
    .map(entry => entry.trim().toLowerCase())
    .filter(entry => entry !== '')
    .some(entry => {
      if (entry === '*') return true;
      const cidr = /^(.*)\/([0-9]+)$/.exec(entry);
      if (cidr) return inRange(host, cidr[1] ?? '', Number(cidr[2]));
      const withPort = isIPv6(entry) ? null : /^(.*):([0-9]+)$/.exec(entry);
      if (withPort && withPort[2] !== port) return false;
      const name = (withPort?.[1] ?? entry).replace(/^\*?\./, '.').replace(/^\[|\]$/g, '');
      if (name.startsWith('.')) return host.endsWith(name);
      return host === name || (isIP(host) === 0 && host.endsWith(`.${name}`));
    });
}

function inRange(host: string, network: string, prefix: number): boolean {
  const family = isIP(network) === 6 ? 'ipv6' : 'ipv4';
  if (isIP(host) === 0 || isIP(network) === 0 || prefix > (family === 'ipv6' ? 128 : 32)) return false;
  const list = new BlockList();
  list.addSubnet(network, prefix, family);
  return list.check(host, isIP(host) === 6 ? 'ipv6' : 'ipv4');
}
