// What the kernel must do with packets of pods: forward them, and show bridged ones to iptables.
import { type Check, fail, info, ok, warn } from '../finding.ts';
import type { HostView } from '../host-view.ts';

const on = (host: HostView, file: string): boolean => host.readText(file)?.trim() === '1';

export const ipForwarding: Check = {
  name: 'IP forwarding',
  run: host => {
    const why = 'packets between pods and everything else pass through this node';
    const v4 = on(host, '/proc/sys/net/ipv4/ip_forward')
      ? ok('net.ipv4.ip_forward = 1', why)
      : fail(
          'net.ipv4.ip_forward = 0',
          `${why} (a bridge plugin with isGateway would turn it on, the first time it runs)`,
          "echo 'net.ipv4.ip_forward = 1' > /etc/sysctl.d/99-kubernetes.conf && sysctl --system",
        );
    if (!host.exists('/proc/sys/net/ipv6/conf/all/forwarding')) return [v4];
    const v6 = on(host, '/proc/sys/net/ipv6/conf/all/forwarding')
      ? ok('net.ipv6.conf.all.forwarding = 1', why)
      : info(
          'net.ipv6.conf.all.forwarding = 0',
          'only pods with IPv6 addresses need it',
          "echo 'net.ipv6.conf.all.forwarding = 1' >> /etc/sysctl.d/99-kubernetes.conf && sysctl --system",
        );
    return [v4, v6];
  },
};

export const bridgedTraffic: Check = {
  name: 'bridged traffic',
  run: host => {
    const file = '/proc/sys/net/bridge/bridge-nf-call-iptables';
    const why =
      'kube-proxy in its iptables mode sees traffic between pods of one bridge only through br_netfilter';
    if (!host.exists(file)) {
      return [
        warn(
          'br_netfilter is not loaded',
          `${why}; without it a pod does not reach a Service whose endpoint is on its own node`,
          'echo br_netfilter > /etc/modules-load.d/kubernetes.conf && modprobe br_netfilter',
        ),
      ];
    }
    if (on(host, file)) return [ok('net.bridge.bridge-nf-call-iptables = 1', why)];
    return [
      warn(
        'net.bridge.bridge-nf-call-iptables = 0',
        why,
        "echo 'net.bridge.bridge-nf-call-iptables = 1' >> /etc/sysctl.d/99-kubernetes.conf && sysctl --system",
      ),
    ];
  },
};
