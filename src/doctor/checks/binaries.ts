// The programs that cri-ts runs: found or not, and which version.
import { basename } from 'node:path';
import type { Config, RuntimeHandlerConfig } from '../../config/index.ts';
import { type Check, type Finding, fail, info, ok, warn } from '../finding.ts';
import type { HostView } from '../host-view.ts';
import { cgroupLayout } from './cgroups.ts';

/** Where Debian, Fedora and others put catatonit. */
const pausePlaces = [
  '/usr/bin/catatonit',
  '/usr/libexec/podman/catatonit',
  '/usr/libexec/catatonit/catatonit',
];

export const ociRuntimes: Check = {
  name: 'OCI runtimes',
  run: (host, config) =>
    Promise.all([...config.runtimes.handlers.values()].map(handler => judgeRuntime(host, config, handler))),
};

async function judgeRuntime(host: HostView, config: Config, handler: RuntimeHandlerConfig): Promise<Finding> {
  const isDefault = handler.name === config.runtimes.defaultName;
  const subject = `runtime ${handler.name}${isDefault ? ' (default)' : ''}`;
  const why = isDefault
    ? 'it runs the containers of every pod that names no runtime class'
    : `it runs the containers of pods whose runtime class has the handler ${handler.name}`;
  const path = host.findExecutable(handler.binary);
  if (path === undefined) {
    const report = isDefault ? fail : warn;
    return report(`${subject}: ${handler.binary} is not there`, why, mendRuntime(handler));
  }
  const version = await versionOf(host, path);
  if (version === undefined) {
    const report = isDefault ? fail : warn;
    return report(`${subject}: ${path} does not tell its version`, why, `Try: ${path} --version`);
  }
  if (basename(path) === 'crun' && cgroupLayout(host).kind === 'hybrid') {
    return warn(
      `${subject}: ${path}, ${version}, on a hybrid cgroup layout`,
      'crun refuses cgroup v1 with a v2 hierarchy beside it',
      'Boot with cgroup v2 (systemd.unified_cgroup_hierarchy=1), or use runc.',
    );
  }
  return ok(`${subject}: ${path}, ${version}`, why);
}

function mendRuntime({ name, binary }: RuntimeHandlerConfig): string {
  const program = basename(binary);
  const install = program === 'runc' || program === 'crun' ? `apt install ${program}, or n` : 'N';
  return `${install}ame its path in runtimes.${name}.options.BinaryName.`;
}

export const conmon: Check = {
  name: 'conmon',
  run: async (host, config) => {
    const why = 'it watches each container, writes its log and outlives the daemon';
    const path = host.findExecutable(config.monitor.binary);
    if (path === undefined) {
      return [
        fail(
          `${config.monitor.binary} is not there`,
          why,
          'apt install conmon, or name its path in [plugins."io.cri-ts"] conmon_path.',
        ),
      ];
    }
    return [ok(`${path}, ${(await versionOf(host, path)) ?? 'which does not tell its version'}`, why)];
  },
};

export const pauseProgram: Check = {
  name: 'pause program',
  run: (host, config) => {
    const why = "it is the first process of each pod and holds the pod's namespaces";
    if (config.sandbox.image !== undefined) {
      return [
        info(
          `from the image ${config.sandbox.image}`,
          `${why}; the image must be there, or a registry that has it`,
        ),
      ];
    }
    const places = config.sandbox.pausePath === undefined ? pausePlaces : [config.sandbox.pausePath];
    const path = places.find(place => host.findExecutable(place) !== undefined);
    if (path !== undefined) return [ok(path, why)];
    return [
      fail(
        `none at ${places.join(', ')}`,
        why,
        'apt install catatonit, or name a static pause program in [plugins."io.cri-ts"] pause_path.',
      ),
    ];
  },
};

export const helpers: Check = {
  name: 'helpers',
  run: host =>
    Promise.all([
      judgeHelper(host, 'iptables', 'the portmap, firewall and bridge (ipMasq) CNI plugins run it', warn),
      judgeHelper(host, 'criu', 'only checkpoints of containers need it', info),
    ]),
};

async function judgeHelper(
  host: HostView,
  program: string,
  why: string,
  report: typeof warn | typeof info,
): Promise<Finding> {
  const path = host.findExecutable(program);
  if (path === undefined) return report(`${program} is not there`, why, `apt install ${program}`);
  return ok(`${path}, ${(await versionOf(host, path)) ?? 'which does not tell its version'}`, why);
}

export const nodeVersion: Check = {
  name: 'Node.js',
  run: host => {
    const major = Number(/^v(\d+)/.exec(host.nodeVersion)?.[1] ?? 0);
    const why = 'cri-ts is a program for Node.js 20 and later';
    if (major >= 20) return [ok(host.nodeVersion, why)];
    return [fail(host.nodeVersion, why, 'Install Node.js 20 or later.')];
  },
};

/** The first line of `--version`; undefined when the program does not run. */
async function versionOf(host: HostView, path: string): Promise<string | undefined> {
  const result = await host.run(path, ['--version']);
  if (result.exitCode !== 0) return undefined;
  return result.stdout.split('\n')[0]?.trim();
}
