// For each step that brought a pod or a container up, the command that a person could type to do the same by hand, with
// the very values that this pod got.
import { join } from 'node:path';
import type { ExplainedContainer, ExplainedPod, PluginRun } from './pod.ts';
import { hereDocument, word } from './shell.ts';

/** A step with its time; `commands` is empty for what happens in the daemon alone. */
export interface ExplainedStep {
  name: string;
  began: number;
  ms: number;
  /** What the step is for, or why there is nothing to type. */
  note: string;
  commands: string[];
}

type Explanation = Pick<ExplainedStep, 'note' | 'commands'>;

/** The pod's steps in the order in which they began; after the CNI step, one for each run of a plugin. */
export function podSteps(pod: ExplainedPod): ExplainedStep[] {
  const steps = byTime(pod.steps, name => podStep(pod, name));
  return steps.flatMap(step =>
    step.name === 'network (CNI ADD)' ? [step, ...pod.pluginRuns.map(pluginStep)] : [step],
  );
}

export function containerSteps(pod: ExplainedPod, container: ExplainedContainer): ExplainedStep[] {
  return byTime(container.steps, name => containerStep(pod, container, name));
}

function byTime(steps: ExplainedPod['steps'], explain: (name: string) => Explanation): ExplainedStep[] {
  // Steps that began in the same millisecond stay in the order in which they were recorded.
  return Object.entries(steps)
    .map(([name, { began, ms }]) => ({ name, began, ms, ...explain(name) }))
    .sort((a, b) => a.began - b.began);
}

const inDaemon = (note: string): Explanation => ({ note, commands: [] });

function podStep(pod: ExplainedPod, name: string): Explanation {
  const { directory, netns, id, logDirectory, spec } = pod;
  const bundle = word(directory);
  switch (name) {
    case 'reserve name':
      return inDaemon('in the daemon: no other pod may have this name, namespace, uid and attempt');
    case 'record':
      return inDaemon(
        "in the daemon's store: the intent of all that follows, so that a killed daemon knows what to undo",
      );
    case 'directory':
      return {
        note: "the pod's bundle and the files its containers share",
        commands: [
          `mkdir -p ${[directory, logDirectory]
            .filter(path => path !== '')
            .map(word)
            .join(' ')}`,
        ],
      };
    case 'runtime spec':
      return {
        note: 'what the pause container is: namespaces, cgroup, user, seccomp (whole in --script)',
        commands: [`cat ${bundle}/config.json`],
      };
    case 'files':
      return { note: 'hostname, hosts, resolv.conf and /dev/shm', commands: fileCommands(pod, bundle) };
    case 'network namespace':
      if (netns === null) return inDaemon("the pod uses the node's network");
      return {
        note: 'a namespace that lives without a process, because it is bound to a name',
        commands: [`ip netns add ${netnsName(netns)}`, ...loopbackUp(pod, netnsName(netns))],
      };
    case 'network (CNI ADD)':
      if (netns === null) return inDaemon("the pod uses the node's network");
      return inDaemon('one execution of a plugin after another, each with the result of the one before:');
    case 'pause image':
      return inDaemon(
        'which program pauses: the built-in one, or that of a configured image, kept from removal meanwhile',
      );
    case 'pause root file system':
      return pod.pauseLayers
        ? { note: "the pause image's layers", commands: [`cat /proc/mounts | grep ${word(spec.root.path)}`] }
        : inDaemon(`nothing to make: all pods share ${spec.root.path}`);
    case 'pause container (runc run)':
      return {
        note: "holds the pod's namespaces open and does nothing else",
        commands: [`${runtimeCommand(pod)} run --detach --bundle ${bundle} --pid-file ${bundle}/pid ${id}`],
      };
    case 'ready':
      return inDaemon('in the daemon: the pod is READY, and its pause process is watched');
    default:
      return inDaemon('in the daemon');
  }
}

export function fileCommands({ hostname, dns, spec }: ExplainedPod, directory: string): string[] {
  const sharesHostIpc = !namespaceTypes(spec).includes('ipc');
  const resolv = [
    ...(dns && dns.searches.length > 0 ? [`search ${dns.searches.join(' ')}`] : []),
    ...(dns?.servers ?? []).map(server => `nameserver ${server}`),
    ...(dns && dns.options.length > 0 ? [`options ${dns.options.join(' ')}`] : []),
  ];
  return [
    `echo ${hostname === '' ? '"$(hostname)"' : word(hostname)} > ${directory}/hostname`,
    `cp /etc/hosts ${directory}/hosts`,
    resolv.length > 0
      ? `printf '%s\\n' ${resolv.map(word).join(' ')} > ${directory}/resolv.conf`
      : `cp /etc/resolv.conf ${directory}/resolv.conf`,
    ...(sharesHostIpc
      ? []
      : [
          `mkdir -p ${directory}/shm`,
          `mount -t tmpfs -o nosuid,nodev,noexec,mode=1777,size=64m shm ${directory}/shm`,
        ]),
  ];
}

/** lo is up by the loopback plugin where one is configured, else by the runtime. */
export function loopbackUp({ pluginRuns }: ExplainedPod, name: string): string[] {
  return pluginRuns.some(({ plugin }) => plugin === 'loopback') ? [] : [`ip -n ${name} link set lo up`];
}

function pluginStep(run: PluginRun): ExplainedStep {
  const { plugin, network, ifName, began, ms, path, environment, stdin } = run;
  const variables = Object.entries(environment).map(([key, value]) => `${key}=${word(value)}`);
  return {
    name: `  ${plugin}`,
    began,
    ms,
    note: `network ${network}, interface ${ifName}`,
    commands: [`${variables.join(' \\\n  ')} \\\n  ${word(path)} ${hereDocument(stdin)}`],
  };
}

function containerStep(pod: ExplainedPod, container: ExplainedContainer, name: string): Explanation {
  const { id, spec, layers } = container;
  const bundle = join(pod.containersDirectory, id);
  switch (name) {
    case 'reserve name':
      return inDaemon('in the daemon: no other container of the pod may have this name and attempt');
    case 'record':
      return inDaemon("in the daemon's store: the intent of all that follows");
    case 'directory':
      return { note: "the container's bundle", commands: [`mkdir -p ${word(bundle)}`] };
    case 'root file system':
      return {
        note: "the image's layers, shared with all containers of it, and a writable one above",
        commands: layers ? overlayCommands(layers, word(spec.root.path), word(bundle)) : [],
      };
    case 'image volumes':
      return inDaemon('images that are mounted as volumes');
    case 'runtime spec':
      return {
        note: `what the container is; it runs: ${spec.process.args.map(word).join(' ')} (whole in --script)`,
        commands: [`cat ${word(bundle)}/config.json`],
      };
    case 'created':
      return inDaemon('CreateContainer ends here; StartContainer goes on');
    case 'monitor (conmon, runc create)':
      return {
        note: 'conmon keeps its output and its exit code; by hand the runtime alone will do',
        commands: [
          `${runtimeCommand(pod)} create --bundle ${word(bundle)} --pid-file ${word(bundle)}/pid ${id}`,
        ],
      };
    case 'start (runc start)':
      return {
        note: 'the created process becomes the program of the image',
        commands: [`${runtimeCommand(pod)} start ${id}`],
      };
    default:
      return inDaemon('in the daemon');
  }
}

/** Mounts layers with a writable one above, which stands in `writable`. */
export function overlayCommands(layers: readonly string[], target: string, writable: string): string[] {
  const lower = layers.map(layer => layer.replaceAll(/[\\:,]/g, '\\$&')).join(':');
  return [
    `mkdir -p ${target} ${writable}/upper ${writable}/work`,
    `mount -t overlay -o ${word(`lowerdir=${lower}`)},upperdir=${writable}/upper,workdir=${writable}/work overlay ${target}`,
  ];
}

function runtimeCommand({ runtime: { binary, root, systemdCgroup } }: ExplainedPod): string {
  return `${word(binary)} --root ${word(root)}${systemdCgroup ? ' --systemd-cgroup' : ''}`;
}

/** The name that `ip netns` has for a namespace bound below /var/run/netns. */
export function netnsName(path: string): string {
  return word(path.split('/').at(-1) ?? path);
}

function namespaceTypes({ linux }: ExplainedPod['spec']): string[] {
  const list = Array.isArray(linux.namespaces) ? linux.namespaces : [];
  return list.flatMap((entry: unknown) =>
    typeof entry === 'object' && entry !== null && 'type' in entry && typeof entry.type === 'string'
      ? [entry.type]
      : [],
  );
}
