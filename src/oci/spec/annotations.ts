// Annotations of OCI specs: those that CRI runtimes set for tools and VM runtimes to read, and those of the
// pod and container that the runtime handler lets through.
import type { PodSandboxConfig } from '../../cri-api/types.ts';

const prefix = 'io.kubernetes.cri';

/** Who this is, in the words containerd uses, so that tools which read its specs read these. */
function identity(sandboxId: string, pod: PodSandboxConfig): Record<string, string> {
  return {
    [`${prefix}.sandbox-id`]: sandboxId,
    [`${prefix}.sandbox-name`]: pod.metadata?.name ?? '',
    [`${prefix}.sandbox-namespace`]: pod.metadata?.namespace ?? '',
    [`${prefix}.sandbox-uid`]: pod.metadata?.uid ?? '',
  };
}

/** The pod that a spec with these annotations is of. */
export function sandboxOf(annotations: Readonly<Record<string, string>>): string | undefined {
  return annotations[`${prefix}.sandbox-id`];
}

export function containerAnnotations(
  sandboxId: string,
  pod: PodSandboxConfig,
  container: { name: string; image: string },
): Record<string, string> {
  return {
    ...identity(sandboxId, pod),
    [`${prefix}.container-type`]: 'container',
    [`${prefix}.container-name`]: container.name,
    [`${prefix}.image-name`]: container.image,
  };
}

export function sandboxAnnotations(
  sandboxId: string,
  pod: PodSandboxConfig,
  image: string,
): Record<string, string> {
  const resources = pod.linux?.resources;
  return {
    ...identity(sandboxId, pod),
    [`${prefix}.container-type`]: 'sandbox',
    [`${prefix}.sandbox-log-directory`]: pod.logDirectory,
    [`${prefix}.podsandbox.image-name`]: image,
    ...(resources
      ? {
          [`${prefix}.sandbox-cpu-period`]: String(resources.cpuPeriod),
          [`${prefix}.sandbox-cpu-quota`]: String(resources.cpuQuota),
          [`${prefix}.sandbox-cpu-shares`]: String(resources.cpuShares),
          [`${prefix}.sandbox-memory`]: String(resources.memoryLimitInBytes),
        }
      : {}),
  };
}

/** Those of `annotations` whose key fits one of the handler's patterns. */
export function passedThrough(
  annotations: Readonly<Record<string, string>>,
  patterns: readonly string[],
): Record<string, string> {
  const forms = patterns.map(patternForm);
  return Object.fromEntries(
    Object.entries(annotations).filter(([key]) => forms.some(form => form.test(key))),
  );
}

/**
 * A pattern as Go's path.Match reads it: `*` and `?` stop at a slash, `[a-c]` and `[^a-c]` are classes,
 * a backslash takes the next character as it is. A malformed pattern fits nothing.
 */
function patternForm(pattern: string): RegExp {
  const tokens = pattern.match(/\\[\s\S]|\[\^?(?:\\[\s\S]|[^\]\\])+\]|[\s\S]/g) ?? [];
  if (tokens.some(token => token === '[' || token === '\\')) return nothing;
  const source = tokens.map(token => {
    if (token === '*') return '[^/]*';
    if (token === '?') return '[^/]';
    if (token.length > 1 && token.startsWith('[')) return token;
    return quote(token.at(-1) ?? '');
  });
  try {
    return new RegExp(`^${source.join('')}$`);
  } catch {
    // A class such as [z-a].
    return nothing;
  }
}

const nothing = /(?!)/;

function quote(character: string): string {
  return character.replace(/[\\^$.*+?()[\]{}|/-]/, '\\$&');
}
