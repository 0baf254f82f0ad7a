// The released versions of the CNI specification, and how the one to speak is chosen
// (spec section 1, "Version considerations").

/** Every released version, oldest first. */
export const specVersions = ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'] as const;
export type SpecVersion = (typeof specVersions)[number];

/** The version this package implements, and the form in which it gives results. */
export const currentVersion = '1.1.0' satisfies SpecVersion;

/** A configuration or result that names no version is of this one. */
export const versionWhenAbsent = '0.1.0' satisfies SpecVersion;

export function isSpecVersion(version: string): version is SpecVersion {
  return (specVersions as readonly string[]).includes(version);
}

export function atLeast(version: SpecVersion, other: SpecVersion): boolean {
  return specVersions.indexOf(version) >= specVersions.indexOf(other);
}

/** The highest of `versions` that this package knows; undefined when it knows none. */
export function highestKnown(versions: Iterable<string>): SpecVersion | undefined {
  const offered = new Set(versions);
  return specVersions.findLast(version => offered.has(version));
}

/**
 * The version that a network is executed with, when its plugins say what they support:
 * the highest declared one that all support; else, the highest older one that all support. The second rule goes
 * beyond the specification's text: a file that says 1.1.0 would otherwise fail with the plugins that
 * distributions ship (1.0.0), though nothing in it needs 1.1.0. The result is converted back.
 * Undefined when there is none: only newer versions are supported, or the plugins share no version.
 */
export function negotiate(
  declared: readonly SpecVersion[],
  supported: readonly (readonly string[])[],
): SpecVersion | undefined {
  const shared = specVersions.filter(version => supported.every(list => list.includes(version)));
  const exact = highestKnown(shared.filter(version => declared.includes(version)));
  if (exact !== undefined) return exact;
  const ceiling = highestKnown(declared);
  return ceiling === undefined
    ? undefined
    : highestKnown(shared.filter(version => atLeast(ceiling, version)));
}
