// Classes of block I/O and of cache and memory bandwidth (RDT), which pods choose by annotations. This runtime has no
// such classes; a pod that counts on one is told so, unless the configuration says to go on without.
import { refuse } from './refuse.ts';

export interface ClassRequest {
  subject: string;
  containerName: string;
  annotations: Readonly<Record<string, string>>;
  podAnnotations: Readonly<Record<string, string>>;
  /** Go on without a block I/O class (`ignore_blockio_not_enabled_errors`). */
  ignoreBlockio: boolean;
  /** Go on without an RDT class (`ignore_rdt_not_enabled_errors`). */
  ignoreRdt: boolean;
  warn: (message: string) => void;
}

const kinds = [
  { name: 'blockio', what: 'block I/O classes', ignored: 'ignore_blockio_not_enabled_errors' },
  { name: 'rdt', what: 'RDT classes', ignored: 'ignore_rdt_not_enabled_errors' },
] as const;

/** @throws CriError invalidArgument for a class that the container would get */
export function refuseResourceClasses(request: ClassRequest): void {
  const { subject, ignoreBlockio, ignoreRdt, warn } = request;
  for (const { name, what, ignored } of kinds) {
    const asked = chosenClass(request, name);
    if (asked === undefined) continue;
    if (name === 'blockio' ? ignoreBlockio : ignoreRdt) {
      warn(`${subject}: ${asked.key} = "${asked.value}" has no effect: ${what} are not supported`);
      continue;
    }
    const advice = `take the annotation away, or set ${ignored} = true to run without`;
    refuse(subject, `annotations["${asked.key}"]`, `"${asked.value}": ${what} are not supported; ${advice}`);
  }
}

/** The container's own annotation, its pod's for it, or its pod's for all. An empty class is none. */
function chosenClass(
  { containerName, annotations, podAnnotations }: ClassRequest,
  name: 'blockio' | 'rdt',
): { key: string; value: string } | undefined {
  const candidates = [
    [annotations, `io.kubernetes.cri.${name}-class`],
    [podAnnotations, `${name}.resources.beta.kubernetes.io/container.${containerName}`],
    [podAnnotations, `${name}.resources.beta.kubernetes.io/pod`],
  ] as const;
  for (const [table, key] of candidates) {
    const value = table[key];
    if (value !== undefined) return value === '' ? undefined : { key, value };
  }
  return undefined;
}
