// Which of an index's images fits this node (image-spec, image-index.md, "platform"; the variant rules are
// the ecosystem's: an arm64 node takes v8 or none, an arm node any variant up to its own).
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

/** How well `offered` fits `wanted`: 0 = not at all, else the higher the better. */
export function platformFit(offered: Platform, wanted: Platform): number {
  const have = normalise(offered);
  const want = normalise(wanted);
  if (have.os !== want.os || have.architecture !== want.architecture) return 0;
  const haveLevel = level(have.variant);
  const wantLevel = level(want.variant);
  if (haveLevel === undefined || wantLevel === undefined) return have.variant === want.variant ? 100 : 0;
  // Code for an older variant runs on a newer one, not the other way round.
  return haveLevel > wantLevel ? 0 : 100 - (wantLevel - haveLevel);
}

function normalise({ os, architecture, variant }: Platform): {
  os: string;
  architecture: string;
  variant: string;
} {
  const arch = architecture.toLowerCase();
  const given = variant?.toLowerCase() ?? '';
  switch (arch) {
    case 'x86_64':
    case 'x86-64':
    case 'amd64':
      return { os, architecture: 'amd64', variant: given === '' ? 'v1' : given };
    case 'aarch64':
    case 'arm64':
      return { os, architecture: 'arm64', variant: given === '' || given === '8' ? 'v8' : given };
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
      return { os, architecture: '386', variant: given };
    default:
      return { os, architecture: arch, variant: given };
  }
}

function level(variant: string): number | undefined {
  const match = /^v([0-9]{1,2})$/.exec(variant);
  return match ? Number(match[1]) : undefined;
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
