// From the CRI's AppArmor fields to `process.apparmorProfile`.
import type { SecurityProfile } from '../../cri-api/types.ts';
import type { SpecLookups } from './lookups.ts';
import { refuse } from './refuse.ts';

export interface ApparmorRequest {
  subject: string;
  asked: SecurityProfile | null;
  /** The older field, looked at when `asked` is absent: runtime/default, unconfined, localhost/NAME. */
  legacyProfile: string;
  privileged: boolean;
  /** The host has AppArmor and the configuration does not turn it off. */
  enabled: boolean;
  /** Name of the loaded profile that runtime/default means; undefined = none is loaded. */
  defaultProfile: string | undefined;
  lookups: Pick<SpecLookups, 'readText'>;
}

/** The profile's name, or undefined for none. Refuses a profile where there is no AppArmor, and one that is not loaded. */
export async function buildApparmor(request: ApparmorRequest): Promise<string | undefined> {
  const { subject, privileged, enabled, defaultProfile } = request;
  const choice = chosen(request);
  if (choice?.kind === 'unconfined') return undefined;
  if (!enabled) {
    if (choice === undefined) return undefined;
    refuse(subject, 'apparmor', 'AppArmor is not available on this host; ask for Unconfined');
  }
  if (choice?.kind === 'localhost') {
    await checkLoaded(request, choice.name);
    return choice.name;
  }
  if (privileged) return undefined;
  if (choice?.kind === 'runtime-default' && defaultProfile === undefined) {
    const advice = 'install it (apt-get install apparmor), or ask for Unconfined';
    refuse(
      subject,
      'apparmor',
      `the default profile cannot be loaded: there is no apparmor_parser; ${advice}`,
    );
  }
  return defaultProfile;
}

type Choice = { kind: 'unconfined' } | { kind: 'runtime-default' } | { kind: 'localhost'; name: string };

function chosen({ subject, asked, legacyProfile }: ApparmorRequest): Choice | undefined {
  if (asked === null) return legacyProfile === '' ? undefined : parseLegacy(subject, legacyProfile);
  if (asked.profileType !== 'Localhost' && asked.localhostRef !== '') {
    refuse(
      subject,
      'apparmor.localhost_ref',
      `"${asked.localhostRef}" is given with profile type ${asked.profileType}`,
    );
  }
  switch (asked.profileType) {
    case 'RuntimeDefault':
      return { kind: 'runtime-default' };
    case 'Unconfined':
      return { kind: 'unconfined' };
    case 'Localhost':
      return { kind: 'localhost', name: asked.localhostRef.replace(/^localhost\//, '') };
  }
}

function parseLegacy(subject: string, text: string): Choice {
  if (text === 'runtime/default') return { kind: 'runtime-default' };
  if (text === 'unconfined') return { kind: 'unconfined' };
  if (text.startsWith('localhost/')) return { kind: 'localhost', name: text.slice('localhost/'.length) };
  return refuse(
    subject,
    'apparmor_profile',
    `"${text}" is not runtime/default, unconfined or localhost/NAME`,
  );
}

async function checkLoaded({ subject, lookups }: ApparmorRequest, name: string): Promise<void> {
  const loaded = (await lookups.readText('/sys/kernel/security/apparmor/profiles')) ?? '';
  if (!loaded.split('\n').some(line => line.startsWith(`${name} (`))) {
    refuse(subject, 'apparmor.localhost_ref', `no AppArmor profile "${name}" is loaded on this host`);
  }
}
