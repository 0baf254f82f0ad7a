// The same pod as a shell script: network namespace, plugins, pause container and containers, by nothing but ip, the CNI
// plugins, mount and runc. Names are its own, so that it runs beside the pod it was made from, with the daemon up or down.
import { join } from 'node:path';
import { fileCommands, loopbackUp, overlayCommands } from './commands.ts';
import {
  type ExplainedContainer,
  type ExplainedPod,
  type PluginRun,
  pluginConfig,
  type Spec,
} from './pod.ts';
import { hereDocument, word } from './shell.ts';

export function podScript(pod: ExplainedPod): string {
  const containers = pod.containers.filter(({ running, layers }) => running && layers !== undefined);
  const left = pod.containers.filter(container => !containers.includes(container));
  const name = pod.name.replaceAll(/[^A-Za-z0-9-]/g, '-');
  return `${[
    '#!/bin/sh',
    `# Builds by hand a pod like ${oneLine(`${pod.namespace}/${pod.name}`)}: what the daemon did for it, step by step.`,
    '# Usage: sh SCRIPT [up | down]',
    '#   up     builds the pod and prints its addresses',
    '#   down   takes it away again, also what is left of an up that failed',
    "# Run it as root, in the node's network namespace. ID names the pod and all that is made of it.",
    'set -eu',
    `ID=\${ID:-by-hand-${name}}`,
    `DIR=\${DIR:-/run/$ID}`,
    'NETNS=/var/run/netns/$ID',
    'PAUSE=0   # pid of the pause process, once it runs',
    `oci_runtime() { ${word(pod.runtime.binary)}${pod.runtime.systemdCgroup ? ' --systemd-cgroup' : ''} --root "$DIR/runc" "$@"; }`,
    '',
    "# Puts this pod's own names into a text that was written with the other pod's.",
    'fill() { sed -e "s|@ID@|$ID|g" -e "s|@DIR@|$DIR|g" -e "s|@NETNS@|$NETNS|g" -e "s|@PAUSE@|$PAUSE|g"; }',
    ...(pod.netns === null ? [] : ['', cniFunctions(pod)]),
    '',
    'up() {',
    "# ---- the pod: a directory, its pause container's spec, the files that containers share",
    'mkdir -p "$DIR/pause"',
    `fill > "$DIR/pause/config.json" ${specDocument(pod.spec, pauseNames(pod))}`,
    ...fileCommands(pod, '"$DIR"'),
    ...(pod.netns === null ? [] : networkUp(pod)),
    '',
    '# ---- the pause container holds the namespaces',
    ...(pod.pauseLayers ? overlayCommands(pod.pauseLayers, '"$DIR/pause/rootfs"', '"$DIR/pause"') : []),
    'oci_runtime run --detach --bundle "$DIR/pause" --pid-file "$DIR/pause/pid" "$ID" < /dev/null > "$DIR/pause/output" 2>&1',
    'PAUSE=$(cat "$DIR/pause/pid")',
    ...containers.flatMap((container, i) => containerUp(pod, container, i)),
    ...left.map(({ name: other }) => `# container ${oneLine(other)} does not run, and is left out`),
    '',
    pod.netns === null
      ? 'echo "the pod uses the network of the node"'
      : 'ip -n "$ID" -o addr show scope global | awk \'{ print $2, $4 }\'',
    '}',
    '',
    'down() {',
    ...containers.map((_, i) => `oci_runtime delete --force "$ID-${i}" 2> /dev/null || true`).reverse(),
    'oci_runtime delete --force "$ID" 2> /dev/null || true',
    ...containers.map((_, i) => `umount "$DIR/${i}/rootfs" 2> /dev/null || true`).reverse(),
    ...(pod.pauseLayers ? ['umount "$DIR/pause/rootfs" 2> /dev/null || true'] : []),
    ...(pod.netns === null ? [] : networkDown(pod)),
    'umount "$DIR/shm" 2> /dev/null || true',
    'rm -rf "$DIR"',
    '}',
    '',
    `case \${1:-up} in`,
    '  up) up ;;',
    '  down) down ;;',
    '  *) echo "usage: sh $0 [up | down]" >&2; exit 2 ;;',
    'esac',
  ].join('\n')}\n`;
}

/** What stands for a name of the original pod in texts that go through \`fill\`; the longer first. */
type Names = readonly (readonly [string, string])[];

function pauseNames(pod: ExplainedPod): Names {
  return [
    ...(pod.pauseLayers ? [[pod.spec.root.path, '@DIR@/pause/rootfs'] as const] : []),
    [pod.directory, '@DIR@'],
    ...(pod.netns === null ? [] : [[pod.netns, '@NETNS@'] as const]),
    [pod.id, '@ID@'],
  ];
}

function containerNames(pod: ExplainedPod, { id, spec }: ExplainedContainer, i: number): Names {
  return [
    [spec.root.path, `@DIR@/${i}/rootfs`],
    [join(pod.containersDirectory, id), `@DIR@/${i}`],
    [`/proc/${pod.pid}/`, '/proc/@PAUSE@/'],
    ...pauseNames(pod),
    [id, `@ID@-${i}`],
  ];
}

function renamed(text: string, names: Names): string {
  return names.reduce((result, [from, to]) => result.replaceAll(from, to), text);
}

function specDocument(spec: Spec, names: Names): string {
  // Nobody holds the other end of a terminal here.
  const plain = { ...spec, process: { ...spec.process, terminal: false } };
  return hereDocument(renamed(JSON.stringify(plain, null, 1), names));
}

/** How plugins are executed, once; each is then a line with its configuration. */
function cniFunctions({ id, pluginRuns }: ExplainedPod): string {
  const environment = pluginRuns[0]?.environment ?? {};
  const args = renamed(environment.CNI_ARGS ?? '', [[id, '$ID']]).replaceAll(/["`\\]/g, '\\$&');
  return [
    '# cni VERB PLUGIN INTERFACE: executes a plugin as the CNI specification says: parameters in the environment,',
    '# configuration on standard input. Its result goes to a file; of a failure that is what it says of it.',
    'cni() {',
    `  fill | CNI_COMMAND=$1 CNI_CONTAINERID=$ID CNI_NETNS=$NETNS CNI_IFNAME=$3 \\`,
    `    CNI_PATH=${word(environment.CNI_PATH ?? '')} CNI_ARGS="${args}" "$2" > "$DIR/answer" || {`,
    '    cat "$DIR/answer" >&2',
    '    return 1',
    '  }',
    '}',
    '# Adds to a configuration what the plugin before returned.',
    'after() { sed \'$ s/}$//\'; printf \',"prevResult":%s}\\n\' "$(cat "$1")"; }',
  ].join('\n');
}

/** The results of the networks stand in $DIR, by the interface's name, for DEL. */
const resultFile = (ifName: string) => `"$DIR/result-${ifName.replaceAll(/[^A-Za-z0-9._-]/g, '-')}"`;

/** The plugin's configuration as a here-document, without the result of the one before: that is the other pod's. */
function configuration(pod: ExplainedPod, run: PluginRun): string {
  return hereDocument(renamed(JSON.stringify(pluginConfig(run).config), pauseNames(pod)));
}

/** A here-document stands after the first line of the command that reads it. */
function fed(reader: string, rest: string, document: string): string {
  return `${reader} ${document.replace('\n', () => `${rest}\n`)}`;
}

function networkUp(pod: ExplainedPod): string[] {
  return [
    '',
    '# ---- its network namespace, bound to a name',
    'ip netns add "$ID"',
    ...loopbackUp(pod, '"$ID"'),
    '# ---- its networks: each plugin in turn, which gets the result of the one before',
    ...pod.pluginRuns.flatMap(run => {
      const { path, ifName, network } = run;
      const file = resultFile(ifName);
      const add = `cni ADD ${word(path)} ${word(ifName)}`;
      const document = configuration(pod, run);
      return [
        `# network ${oneLine(network)}, interface ${oneLine(ifName)}`,
        pluginConfig(run).prevResult === undefined
          ? `${add} ${document}`
          : fed(`after ${file}`, ` | ${add}`, document),
        `mv "$DIR/answer" ${file}`,
      ];
    }),
  ];
}

/** DEL runs from the last plugin to the first, each with the result of the whole ADD. */
function networkDown(pod: ExplainedPod): string[] {
  return [
    'if [ -e "$NETNS" ]; then',
    ...[...pod.pluginRuns].reverse().map(run => {
      const file = resultFile(run.ifName);
      const del = ` | cni DEL ${word(run.path)} ${word(run.ifName)} || true`;
      return fed(`[ ! -e ${file} ] || after ${file}`, del, configuration(pod, run));
    }),
    'ip netns delete "$ID"',
    'fi',
  ];
}

function containerUp(pod: ExplainedPod, container: ExplainedContainer, i: number): string[] {
  const { name, spec, layers } = container;
  const bundle = `"$DIR/${i}"`;
  return [
    '',
    `# ---- container ${oneLine(name)}: ${oneLine(spec.process.args.join(' '))}`,
    ...overlayCommands(layers ?? [], `"$DIR/${i}/rootfs"`, bundle),
    `fill > "$DIR/${i}/config.json" ${specDocument(spec, containerNames(pod, container, i))}`,
    `oci_runtime run --detach --bundle ${bundle} "$ID-${i}" < /dev/null > "$DIR/${i}/output" 2>&1`,
  ];
}

/** Text for a comment. */
function oneLine(text: string): string {
  return text.replaceAll(/[\r\n]+/g, ' ').slice(0, 120);
}
