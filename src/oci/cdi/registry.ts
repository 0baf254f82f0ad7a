// Container Device Interface (cncf-tags/container-device-interface, SPEC.md 0.3 to 1.0): finds what vendors say of their
// devices in spec files, JSON or YAML, of the CDI directories. The last directory wins, as the specification says.
import { readdir, readFile } from 'node:fs/promises';
import { extname, join } from 'node:path';
import { z } from 'zod';
import { CriError, codeOf, messageOf } from '../../errors.ts';

const deviceNodeSchema = z.object({
  path: z.string().startsWith('/'),
  hostPath: z.string().optional(),
  type: z.enum(['b', 'c', 'u', 'p']).optional(),
  major: z.number().int().optional(),
  minor: z.number().int().optional(),
  fileMode: z.number().int().optional(),
  permissions: z
    .string()
    .regex(/^[rwm]*$/)
    .optional(),
  uid: z.number().int().optional(),
  gid: z.number().int().optional(),
});
const mountSchema = z.object({
  hostPath: z.string(),
  containerPath: z.string().startsWith('/'),
  options: z.array(z.string()).default([]),
  type: z.string().default(''),
});
const hookSchema = z.object({
  hookName: z.enum([
    'prestart',
    'createRuntime',
    'createContainer',
    'startContainer',
    'poststart',
    'poststop',
  ]),
  path: z.string().startsWith('/'),
  args: z.array(z.string()).optional(),
  env: z.array(z.string()).optional(),
  timeout: z.number().int().optional(),
});
const editsSchema = z.object({
  env: z.array(z.string()).default([]),
  deviceNodes: z.array(deviceNodeSchema).default([]),
  mounts: z.array(mountSchema).default([]),
  hooks: z.array(hookSchema).default([]),
  additionalGids: z.array(z.number().int().nonnegative()).default([]),
});
const specSchema = z.object({
  cdiVersion: z.string(),
  kind: z.string().regex(/^[A-Za-z0-9][\w.-]*\/[A-Za-z][\w.-]*$/),
  devices: z.array(z.object({ name: z.string(), containerEdits: editsSchema.prefault({}) })).default([]),
  containerEdits: editsSchema.prefault({}),
});

export type CdiDeviceNode = z.infer<typeof deviceNodeSchema>;
export type CdiEdits = z.infer<typeof editsSchema>;
type CdiSpec = z.infer<typeof specSchema>;

/**
 * The edits of the named devices (`vendor.com/class=name`), those of each file they come from once.
 * @throws CriError invalidArgument, naming the device and the files that cannot be read
 */
export async function findCdiEdits(
  names: readonly string[],
  directories: readonly string[],
  subject: string,
): Promise<CdiEdits[]> {
  const { specs, problems } = await readSpecs(directories);
  const shared = new Set<CdiSpec>();
  const edits: CdiEdits[] = [];
  for (const name of new Set(names)) {
    const [kind = '', device = ''] = name.split('=');
    const spec = specs
      .filter(candidate => candidate.kind === kind && candidate.devices.some(each => each.name === device))
      .at(-1);
    const found = spec?.devices.find(each => each.name === device);
    if (!spec || !found) {
      const why = problems.length > 0 ? `; unreadable: ${problems.join('; ')}` : '';
      throw new CriError(
        'invalidArgument',
        `${subject}: no CDI device ${name} is defined in ${directories.join(', ')}${why}`,
      );
    }
    if (!shared.has(spec)) edits.push(spec.containerEdits);
    shared.add(spec);
    edits.push(found.containerEdits);
  }
  return edits;
}

async function readSpecs(directories: readonly string[]): Promise<{ specs: CdiSpec[]; problems: string[] }> {
  const specs: CdiSpec[] = [];
  const problems: string[] = [];
  for (const directory of directories) {
    for (const file of await specFiles(directory)) {
      try {
        const text = await readFile(file, 'utf8');
        specs.push(specSchema.parse(extname(file) === '.json' ? JSON.parse(text) : await fromYaml(text)));
      } catch (error) {
        problems.push(`${file}: ${messageOf(error)}`);
      }
    }
  }
  return { specs, problems };
}

/** The parser is loaded by nodes that have such files. */
async function fromYaml(text: string): Promise<unknown> {
  const { parse } = await import('yaml');
  return parse(text);
}

async function specFiles(directory: string): Promise<string[]> {
  try {
    const names = await readdir(directory);
    return names
      .filter(name => /\.(json|ya?ml)$/.test(name))
      .sort()
      .map(name => join(directory, name));
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return [];
    throw error;
  }
}

/** Devices that annotations ask for: `cdi.k8s.io/ANYTHING: NAME,NAME`, the way before the CRI had a field. */
export function annotatedCdiDevices(annotations: Readonly<Record<string, string>>): string[] {
  return Object.entries(annotations)
    .filter(([key]) => key.startsWith('cdi.k8s.io/'))
    .flatMap(([, names]) => names.split(',').map(name => name.trim()))
    .filter(name => name !== '');
}
