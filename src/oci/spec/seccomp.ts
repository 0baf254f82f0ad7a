// From the CRI's seccomp fields to the filter in config.json: which profile is meant, and where it comes from.
import path from 'node:path';
import { z } from 'zod';
import type { SecurityProfile } from '../../cri-api/types.ts';
import { messageOf } from '../../errors.ts';
import type { HostFacts } from './host-facts.ts';
import type { SpecLookups } from './lookups.ts';
import { refuse } from './refuse.ts';
import { defaultProfile } from './seccomp-default.ts';
import { expandProfile, type SeccompProfile, seccompProfileSchema } from './seccomp-profile.ts';
import type { Seccomp } from './types.ts';

/** Which profile a container without any gets (`unset_seccomp_profile`). */
export type SeccompChoice =
  | { readonly kind: 'unconfined' }
  | { readonly kind: 'runtime-default' }
  | { readonly kind: 'localhost'; readonly path: string };

export interface SeccompRequest {
  subject: string;
  asked: SecurityProfile | null;
  /** The field of before Kubernetes 1.19, looked at when `asked` is absent: runtime/default, unconfined, localhost/PATH. */
  legacyPath: string;
  unset: SeccompChoice;
  privileged: boolean;
  /** Bounding set of the container. */
  capabilities: readonly string[];
  nativeOnly?: boolean;
  host: Pick<HostFacts, 'arch' | 'kernel' | 'seccompEnabled'>;
  lookups: Pick<SpecLookups, 'readText'>;
}

/** The filter, or undefined for an unconfined container. Refuses a profile that is missing or not valid. */
export async function buildSeccomp(request: SeccompRequest): Promise<Seccomp | undefined> {
  const { subject, privileged, host } = request;
  const choice = chosenProfile(request);
  if (privileged || choice.kind === 'unconfined') return undefined;
  if (!host.seccompEnabled) {
    if (request.asked === null && request.legacyPath === '') return undefined;
    refuse(subject, 'seccomp', "this host's kernel has no seccomp; ask for Unconfined");
  }
  const profile =
    choice.kind === 'runtime-default' ? defaultProfile : await readProfile(request, choice.path);
  return expandProfile(profile, request);
}

function chosenProfile({ subject, asked, legacyPath, unset }: SeccompRequest): SeccompChoice {
  if (asked === null) return legacyPath === '' ? unset : parseSeccompPath(subject, legacyPath);
  if (asked.profileType !== 'Localhost' && asked.localhostRef !== '') {
    refuse(
      subject,
      'seccomp.localhost_ref',
      `"${asked.localhostRef}" is given with profile type ${asked.profileType}`,
    );
  }
  switch (asked.profileType) {
    case 'RuntimeDefault':
      return { kind: 'runtime-default' };
    case 'Unconfined':
      return { kind: 'unconfined' };
    case 'Localhost':
      return { kind: 'localhost', path: asked.localhostRef.replace(/^localhost\//, '') };
  }
}

/** Reads the annotation form of a profile. */
function parseSeccompPath(subject: string, text: string): SeccompChoice {
  if (text === 'runtime/default' || text === 'docker/default') return { kind: 'runtime-default' };
  if (text === 'unconfined') return { kind: 'unconfined' };
  if (text.startsWith('localhost/')) return { kind: 'localhost', path: text.slice('localhost/'.length) };
  return refuse(
    subject,
    'seccomp_profile_path',
    `"${text}" is not runtime/default, unconfined or localhost/PATH`,
  );
}

async function readProfile({ subject, lookups }: SeccompRequest, file: string): Promise<SeccompProfile> {
  if (!path.isAbsolute(file)) refuse(subject, 'seccomp.localhost_ref', `"${file}" is not an absolute path`);
  let text: string | undefined;
  try {
    text = await lookups.readText(file);
  } catch (thrown) {
    refuse(subject, 'seccomp.localhost_ref', `${file} cannot be read: ${messageOf(thrown)}`, thrown);
  }
  if (text === undefined) refuse(subject, 'seccomp.localhost_ref', `there is no file ${file}`);
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (thrown) {
    refuse(subject, 'seccomp.localhost_ref', `${file} is not JSON: ${messageOf(thrown)}`, thrown);
  }
  const parsed = seccompProfileSchema.safeParse(json);
  if (!parsed.success) {
    refuse(
      subject,
      'seccomp.localhost_ref',
      `${file} is not a seccomp profile: ${z.prettifyError(parsed.error)}`,
    );
  }
  return parsed.data;
}
