import { expect, test } from 'vitest';
import { resolveUser, type UserRequest } from '../../../src/oci/spec/user.ts';

const passwd = 'root:x:0:0::/root:/bin/sh\nalice:x:1000:1001::/:/bin/sh\nbroken line\n500:x:1500:1501::/:\n';
const group = 'root:x:0:root\nalice:x:1001:\nwheel:x:2000:bob,alice\nalice-too:x:2001:alice\n';

function resolve(over: Partial<UserRequest>) {
  return resolveUser({
    subject: 'container "c" (1)',
    runAsUser: undefined,
    runAsGroup: undefined,
    runAsUsername: '',
    imageUser: '',
    supplementalGroups: [],
    policy: 'Merge',
    passwd: async () => passwd,
    group: async () => group,
    ...over,
  });
}

test('without any user it is root with the groups of root', async () => {
  expect(await resolve({})).toEqual({ uid: 0, gid: 0, supplementalGroups: [0] });
});

test('a uid known to the image gets its primary group and the groups it is a member of', async () => {
  expect(await resolve({ runAsUser: '1000' })).toEqual({
    uid: 1000,
    gid: 1001,
    supplementalGroups: [1001, 2000, 2001],
  });
});

test('a uid the image does not know gets group 0', async () => {
  expect(await resolve({ runAsUser: '77' })).toEqual({ uid: 77, gid: 0, supplementalGroups: [0] });
});

test('policy Strict leaves out the groups of the image', async () => {
  expect(await resolve({ runAsUser: '1000', policy: 'Strict', supplementalGroups: ['9', '8'] })).toEqual({
    uid: 1000,
    gid: 1001,
    supplementalGroups: [8, 9, 1001],
  });
});

test('policy Merge joins the groups asked for with those of the image, each once', async () => {
  const user = await resolve({ runAsUsername: 'alice', supplementalGroups: [2000, 5] });
  expect(user.supplementalGroups).toEqual([5, 1001, 2000, 2001]);
});

test('run_as_group takes the place of the primary group', async () => {
  expect(await resolve({ runAsUsername: 'alice', runAsGroup: '42', policy: 'Strict' })).toEqual({
    uid: 1000,
    gid: 42,
    supplementalGroups: [42],
  });
});

test.each([
  ['alice', 1000, 1001],
  ['1000', 1000, 1001],
  ['1000:7', 1000, 7],
  ['alice:wheel', 1000, 2000],
  ['33:wheel', 33, 2000],
  ['alice:', 1000, 1001],
])('the User "%s" of the image is %i:%i', async (imageUser, uid, gid) => {
  expect(await resolve({ imageUser })).toMatchObject({ uid, gid });
});

test('the fields of the container win over the User of the image', async () => {
  expect(await resolve({ imageUser: 'alice', runAsUser: '5' })).toMatchObject({ uid: 5, gid: 0 });
});

test('an image without /etc/passwd runs under a number, not under a name', async () => {
  const none = { passwd: async () => undefined, group: async () => undefined };
  expect(await resolve({ ...none, runAsUser: '12' })).toMatchObject({ uid: 12, gid: 0 });
  await expect(resolve({ ...none, imageUser: 'alice' })).rejects.toThrow('"alice" is not a user');
});

test.each<[Partial<UserRequest>, string]>([
  [{ runAsGroup: '5' }, 'run_as_group: 5 is given without run_as_user'],
  [{ runAsUser: '5', runAsUsername: 'alice' }, 'run_as_user: is given together with run_as_username'],
  [{ runAsUsername: 'mallory' }, 'run_as_username: "mallory" is not a user'],
  [{ runAsUser: '-1' }, 'run_as_user: -1 is out of range'],
  [{ runAsUser: '2147483648' }, 'out of range'],
  [{ imageUser: '99999999999' }, 'User of the image: 99999999999 is out of range'],
  [{ imageUser: 'alice:nobody' }, '"nobody" is not a group'],
  [{ imageUser: 'a:b:c' }, 'is not of the form user[:group]'],
  [{ supplementalGroups: [-3] }, 'supplemental_groups: -3 is out of range'],
])('%j is refused', async (over, message) => {
  const refused = resolve(over);
  await expect(refused).rejects.toThrow(message);
  await expect(refused).rejects.toMatchObject({ kind: 'invalidArgument' });
  await expect(refused).rejects.toThrow('container "c" (1): ');
});
