// Which of an index's images fits this node (image-spec, image-index.md, "platform"). The rules are containerd's
// (containerd/platforms, Only): a node runs what was built for older variants of its architecture and, where there is
// one, for the architecture of 32 bits.
import type { Descriptor, ImageConfig, Platform } from './oci.ts';

const architectures: Readonly<Record<string, string>> = {
  x64: 'amd64',
  ia32: '386',
  arm64: 'arm64',
  arm: 'arm',
  ppc64: 'ppc64le',
  s390x: 's390x',
  riscv64: 'riscv64',
  loong64: 'loong64',
};

/** The platform that this program runs on. */
export function hostPlatform(): Platform {
  const architecture = architectures[process.arch] ?? process.arch;
  return architecture === 'arm'
    ? { os: 'linux', architecture, variant: 'v7' }
    : { os: 'linux', architecture };
}

/** How well `offered` fits `wanted`: 0 = not at all, else more than 1 and the higher the better. */
export function platformFit(offered: Platform, wanted: Platform): number {
  const have = normalise(offered);
  if (have.os !== wanted.os) return 0;
  const able = runnable(normalise(wanted));
  const rank = able.findIndex(
    ({ architecture, variant }) => architecture === have.architecture && variant === have.variant,
  );
  return rank === -1 ? 0 : 1 + able.length - rank;
}

interface Machine {
  architecture: string;
  /** Without one where it is the architecture's first: amd64 is v1, arm64 is v8. */
  variant: string;
}

/** What code runs on `machine`, the best first. */
function runnable({ architecture, variant }: Machine): Machine[] {
  const level = /^v([0-9]+)(?:\.([0-9]+))?$/.exec(variant);
  const [major, minor] = [Number(level?.[1] ?? 0), Number(level?.[2] ?? 0)];
  switch (architecture) {
    case 'amd64':
      return [
        ...downTo(1, major).map(level => ({ architecture, variant: level === 1 ? '' : `v${level}` })),
        ...(major === 0 ? [{ architecture, variant }] : []),
        { architecture: '386', variant: '' },
      ];
    case 'arm64': {
      // Armv9.N has all of Armv8.(N + 5).
      const nine = major === 9 ? downTo(0, minor).map(each => (each === 0 ? 'v9' : `v9.${each}`)) : [];
      const newest = major === 9 ? Math.min(minor + 5, 9) : minor;
      const eight = downTo(0, newest).map(each => (each === 0 ? '' : `v8.${each}`));
      return [
        ...[...nine, ...eight].map(each => ({ architecture, variant: each })),
        ...runnable({ architecture: 'arm', variant: 'v8' }),
      ];
    }
    case 'arm':
      return major > 5
        ? downTo(5, major).map(level => ({ architecture, variant: `v${level}` }))
        : [{ architecture, variant }];
    default:
      return [{ architecture, variant }];
  }
}

/** `from`, `from - 1`, ... `last`. */
function downTo(last: number, from: number): number[] {
  return Array.from({ length: Math.max(0, from - last + 1) }, (_, index) => from - index);
}

function normalise({ os, architecture, variant }: Platform): Machine & { os: string } {
  const arch = architecture.toLowerCase();
  const given = variant?.toLowerCase() ?? '';
  switch (arch) {
    case 'x86_64':
    case 'x86-64':
    case 'amd64':
      return { os, architecture: 'amd64', variant: given === 'v1' ? '' : given };
    case 'aarch64':
    case 'arm64':
      return { os, architecture: 'arm64', variant: arm64Variant(given) };
    case 'armhf':
      return { os, architecture: 'arm', variant: 'v7' };
    case 'armel':
      return { os, architecture: 'arm', variant: 'v6' };
    case 'arm':
      return {
        os,
        architecture: 'arm',
        variant: given === '' ? 'v7' : /^[0-9]/.test(given) ? `v${given}` : given,
      };
    case 'i386':
      return { os, architecture: '386', variant: '' };
    default:
      return { os, architecture: arch, variant: given };
  }
}

function arm64Variant(given: string): string {
  if (['8', 'v8', 'v8.0'].includes(given)) return '';
  return ['9', '9.0', 'v9.0'].includes(given) ? 'v9' : given;
}

/**
 * The entries of an index that may hold this platform's image, the best first. An entry without a platform may
 * be a nested index or an image whose config alone tells; it comes last.
 */
export function choosePlatform(entries: readonly Descriptor[], wanted: Platform): Descriptor[] {
  const rated = entries
    .filter(entry => entry.annotations?.['vnd.docker.reference.type'] === undefined)
    .map(entry => ({ entry, fit: entry.platform ? platformFit(entry.platform, wanted) : 1 }))
    .filter(({ fit }) => fit > 0);
  return rated.sort((a, b) => b.fit - a.fit).map(({ entry }) => entry);
}

/** The platform that an image's config states; undefined when it states none. */
export function platformOf({ os, architecture, variant }: ImageConfig): Platform | undefined {
  if (os === '' && architecture === '') return undefined;
  return { os, architecture, ...(variant === undefined ? {} : { variant }) };
}

export function formatPlatform({ os, architecture, variant }: Platform): string {
  return [os, architecture, variant].filter(Boolean).join('/');
}
