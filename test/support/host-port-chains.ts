// The chains that the portmap plugin makes once for all pods, and leaves.
import { execa } from 'execa';

export async function removeHostPortChains(): Promise<void> {
  for (const iptables of ['iptables', 'ip6tables']) {
    const { stdout } = await execa(iptables, ['-t', 'nat', '-S'], { reject: false });
    const rules = stdout.split('\n').filter(line => line.includes('CNI-HOSTPORT'));
    const run = (...args: string[]) => execa(iptables, ['-t', 'nat', ...args], { reject: false });
    for (const rule of rules.filter(line => line.startsWith('-A')))
      await execa('sh', ['-c', `${iptables} -t nat ${rule.replace('-A', '-D')}`], { reject: false });
    for (const rule of rules.filter(line => line.startsWith('-N'))) await run('-X', rule.slice(3));
  }
}
