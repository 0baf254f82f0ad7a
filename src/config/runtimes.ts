// From the `runtimes` table to runtime handlers: which executable each handler runs, and as what.
import { basename, join } from 'node:path';
import type { ConfigFile } from './keys.ts';
import { imagesPlugin, runtimePlugin } from './keys.ts';
import type { KeyPath } from './tree.ts';
import type { RuntimeHandlerConfig, RuntimeKind, RuntimesConfig, Snapshotter } from './types.ts';

type HandlerTable = ConfigFile['plugins'][typeof runtimePlugin]['containerd']['runtimes'][string];

/** What was found while deriving; paths are canonical. */
export interface Findings {
  error(path: KeyPath, message: string): void;
  note(level: 'info' | 'warn', path: KeyPath, message: string): void;
}

const containerdPath = ['plugins', runtimePlugin, 'containerd'];

/** Runtime types of containerd and the executable behind each. */
const executablesByType: ReadonlyMap<string, RuntimeKind> = new Map([
  ['io.containerd.runc.v2', 'runc'],
  ['io.containerd.runc.v1', 'runc'],
  ['io.containerd.runtime.v1.linux', 'runc'],
  ['io.containerd.runsc.v1', 'runsc'],
]);

export function deriveRuntimes(file: ConfigFile, state: string, found: Findings): RuntimesConfig {
  const { default_runtime_name: defaultName, runtimes } = file.plugins[runtimePlugin].containerd;
  const defaultSnapshotter = file.plugins[imagesPlugin].snapshotter;
  const tables = new Map(Object.entries(runtimes));
  const handlers = new Map<string, RuntimeHandlerConfig>();
  for (const [name, table] of tables) {
    const handler = deriveHandler(name, table, { state, defaultSnapshotter }, found);
    if (handler !== undefined) handlers.set(name, handler);
  }
  if (!handlers.has(defaultName)) {
    const why = tables.has(defaultName)
      ? 'names a runtime that cannot be used here'
      : 'names no configured runtime';
    const allowed = [...handlers.keys()].map(name => JSON.stringify(name)).join(', ');
    found.error(
      [...containerdPath, 'default_runtime_name'],
      `${JSON.stringify(defaultName)} ${why}; allowed: ${allowed}`,
    );
  }
  return { defaultName, handlers };
}

function deriveHandler(
  name: string,
  table: HandlerTable,
  { state, defaultSnapshotter }: { state: string; defaultSnapshotter: Snapshotter },
  found: Findings,
): RuntimeHandlerConfig | undefined {
  const path = [...containerdPath, 'runtimes', name];
  if (!isHandlerName(name)) {
    found.error(path, 'not a handler name; allowed: letters, digits, and between them "-", "_" and "."');
    return undefined;
  }
  const executable = deriveExecutable(path, table, found);
  if (executable === undefined) return undefined;
  if (table.privileged_without_host_devices_all_devices_allowed && !table.privileged_without_host_devices) {
    found.error(
      [...path, 'privileged_without_host_devices_all_devices_allowed'],
      'true is allowed only where privileged_without_host_devices is true',
    );
  }
  if (name === 'crun' && basename(executable.binary) === 'runc') {
    found.note('warn', path, 'this handler runs runc; set options.BinaryName = "crun"');
  }
  return {
    name,
    ...executable,
    root: table.options.Root === '' ? join(state, 'oci', name) : table.options.Root,
    systemdCgroup: table.options.SystemdCgroup,
    privilegedWithoutHostDevices: table.privileged_without_host_devices,
    privilegedWithoutHostDevicesAllDevicesAllowed: table.privileged_without_host_devices_all_devices_allowed,
    podAnnotations: table.pod_annotations,
    containerAnnotations: table.container_annotations,
    cgroupWritable: table.cgroup_writable,
    baseRuntimeSpec: table.base_runtime_spec === '' ? undefined : table.base_runtime_spec,
    criuPath: table.options.CriuPath === '' ? undefined : table.options.CriuPath,
    snapshotter: table.snapshotter || defaultSnapshotter,
    cniConfDir: table.cni_conf_dir === '' ? undefined : table.cni_conf_dir,
    cniMaxConfNum: table.cni_max_conf_num,
  };
}

function deriveExecutable(
  path: KeyPath,
  table: HandlerTable,
  found: Findings,
): { kind: RuntimeKind; binary: string } | undefined {
  const isShim = basename(table.runtime_path).startsWith('containerd-shim');
  if (isShim) {
    found.note(
      'info',
      [...path, 'runtime_path'],
      'a containerd shim is not used here; the runtime itself is run',
    );
  }
  const runtimePath = isShim ? '' : table.runtime_path;
  const byType = executablesByType.get(table.runtime_type);
  if (byType === undefined && runtimePath === '') {
    const allowed = [...executablesByType.keys()].map(type => JSON.stringify(type)).join(', ');
    found.note(
      'warn',
      [...path, 'runtime_type'],
      `${JSON.stringify(table.runtime_type)} needs a containerd shim, which cri-ts does not run; pods of this handler ` +
        `are refused. Usable: ${allowed}, or a runtime with runc's command line in runtime_path`,
    );
    return undefined;
  }
  const binary = table.options.BinaryName || runtimePath || (byType ?? 'runc');
  return { kind: byType === 'runsc' || basename(binary) === 'runsc' ? 'runsc' : 'runc', binary };
}

// Kubernetes allows DNS labels alone. The name is also the name of a directory.
function isHandlerName(name: string): boolean {
  return /^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$/.test(name);
}
