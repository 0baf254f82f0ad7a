// Who a container's first process runs as: the CRI's run_as fields or the image's User, looked up in the
// container's own /etc/passwd and /etc/group, and the supplemental groups by the pod's policy.
import type { Int64, SupplementalGroupsPolicy } from '../../cri-api/types.ts';
import { messageOf } from '../../errors.ts';
import { exactInteger, refuse } from './refuse.ts';

/** As ContainerStatus.user reports it. `supplementalGroups` has the primary group too, ascending, each once. */
export interface ResolvedUser {
  uid: number;
  gid: number;
  supplementalGroups: number[];
}

export interface UserRequest {
  /** Names the container in errors. */
  subject: string;
  runAsUser: Int64 | undefined;
  runAsGroup: Int64 | undefined;
  /** Empty = not given. */
  runAsUsername: string;
  /** User of the image config: `user`, `uid`, or either with `:group` or `:gid`. Empty = none, which is root. */
  imageUser: string;
  supplementalGroups: readonly Int64[];
  policy: SupplementalGroupsPolicy;
  /** Texts of the root filesystem's files; undefined when it has none. Asked for only when needed. */
  passwd: () => Promise<string | undefined>;
  group: () => Promise<string | undefined>;
}

interface PasswdEntry {
  name: string;
  uid: number;
  gid: number;
}

interface GroupEntry {
  name: string;
  gid: number;
  members: string[];
}

/** runc refuses ids above the signed 32-bit range. */
const maxId = 2 ** 31 - 1;

/**
 * Resolves the user. A number that /etc/passwd does not know is taken as it is, with group 0;
 * a name that it does not know is refused.
 */
export async function resolveUser(request: UserRequest): Promise<ResolvedUser> {
  const { subject, runAsUser, runAsGroup, runAsUsername } = request;
  if (runAsUser !== undefined && runAsUsername !== '') {
    refuse(
      subject,
      'run_as_user',
      `is given together with run_as_username "${runAsUsername}"; give one of them`,
    );
  }
  if (runAsGroup !== undefined && runAsUser === undefined && runAsUsername === '') {
    refuse(subject, 'run_as_group', `${runAsGroup} is given without run_as_user or run_as_username`);
  }
  const asked = askedUser(request);
  const entry = await passwdEntry(request, asked.user, asked.field);
  const uid = entry?.uid ?? Number(asked.user);
  const gid =
    asked.group === undefined ? (entry?.gid ?? 0) : await groupId(request, asked.group, asked.field);
  const memberOf =
    request.policy === 'Merge' && entry !== undefined ? await groupsOfMember(request, entry.name) : [];
  const given = request.supplementalGroups.map(id => checkedId(request, id, 'supplemental_groups'));
  const supplementalGroups = [...new Set([gid, ...memberOf, ...given])].sort((a, b) => a - b);
  return { uid, gid, supplementalGroups };
}

function askedUser(request: UserRequest): { user: string; group: string | undefined; field: string } {
  const { subject, runAsUser, runAsGroup, runAsUsername, imageUser } = request;
  const group = runAsGroup === undefined ? undefined : String(checkedId(request, runAsGroup, 'run_as_group'));
  if (runAsUsername !== '') return { user: runAsUsername, group, field: 'run_as_username' };
  if (runAsUser !== undefined) {
    return { user: String(checkedId(request, runAsUser, 'run_as_user')), group, field: 'run_as_user' };
  }
  const [user = '', imageGroup, ...rest] = imageUser.split(':');
  if (rest.length > 0) refuse(subject, 'User of the image', `"${imageUser}" is not of the form user[:group]`);
  return {
    user: user === '' ? '0' : user,
    group: imageGroup === undefined || imageGroup === '' ? undefined : imageGroup,
    field: 'User of the image',
  };
}

async function passwdEntry(
  request: UserRequest,
  user: string,
  field: string,
): Promise<PasswdEntry | undefined> {
  const entries = parsePasswd(await read(request, '/etc/passwd', request.passwd));
  if (isNumber(user)) {
    const uid = checkedId(request, user, field);
    return entries.find(entry => entry.uid === uid);
  }
  const entry = entries.find(({ name }) => name === user);
  return entry ?? refuse(request.subject, field, `"${user}" is not a user of the container's /etc/passwd`);
}

async function groupId(request: UserRequest, group: string, field: string): Promise<number> {
  if (isNumber(group)) return checkedId(request, group, field);
  const entry = parseGroup(await read(request, '/etc/group', request.group)).find(
    ({ name }) => name === group,
  );
  return (
    entry?.gid ?? refuse(request.subject, field, `"${group}" is not a group of the container's /etc/group`)
  );
}

async function groupsOfMember(request: UserRequest, name: string): Promise<number[]> {
  return parseGroup(await read(request, '/etc/group', request.group))
    .filter(entry => entry.members.includes(name))
    .map(entry => entry.gid);
}

async function read(
  { subject }: UserRequest,
  name: string,
  file: () => Promise<string | undefined>,
): Promise<string> {
  try {
    return (await file()) ?? '';
  } catch (thrown) {
    return refuse(subject, `${name} of the image`, `cannot be read: ${messageOf(thrown)}`, thrown);
  }
}

function checkedId(request: UserRequest, id: Int64, field: string): number {
  const number = exactInteger(id, request.subject, field);
  if (number < 0 || number > maxId) {
    refuse(request.subject, field, `${id} is out of range (0 to ${maxId})`);
  }
  return number;
}

function isNumber(text: string): boolean {
  return /^-?\d+$/.test(text);
}

/** Lines of passwd(5); those without a valid uid and gid are left out. */
export function parsePasswd(text: string): PasswdEntry[] {
  return text.split('\n').flatMap(line => {
    const [name = '', , uid = '', gid = ''] = line.trim().split(':');
    return name !== '' && isId(uid) && isId(gid) ? [{ name, uid: Number(uid), gid: Number(gid) }] : [];
  });
}

/** Lines of group(5); those without a valid gid are left out. */
export function parseGroup(text: string): GroupEntry[] {
  return text.split('\n').flatMap(line => {
    const [name = '', , gid = '', members = ''] = line.trim().split(':');
    return name !== '' && isId(gid)
      ? [{ name, gid: Number(gid), members: members.split(',').filter(Boolean) }]
      : [];
  });
}

function isId(text: string): boolean {
  return /^\d+$/.test(text) && Number(text) <= maxId;
}
