import { describe, expect, it } from 'vitest';
import { formatReference, parseReference } from '../../../src/image/reference.ts';

const digest = `sha256:${'a'.repeat(64)}`;

describe('image references', () => {
  it.each([
    ['busybox', 'docker.io/library/busybox:latest'],
    ['busybox:1.36', 'docker.io/library/busybox:1.36'],
    ['user/app', 'docker.io/user/app:latest'],
    ['docker.io/busybox', 'docker.io/library/busybox:latest'],
    ['index.docker.io/library/busybox', 'docker.io/library/busybox:latest'],
    ['quay.io/a/b/c:v1', 'quay.io/a/b/c:v1'],
    ['localhost/app', 'localhost/app:latest'],
    ['localhost:5000/app', 'localhost:5000/app:latest'],
    ['127.0.0.1:5000/app:1', '127.0.0.1:5000/app:1'],
    ['[::1]:5000/app', '[::1]:5000/app:latest'],
    ['Registry/app', 'Registry/app:latest'],
    [`busybox@${digest}`, `docker.io/library/busybox@${digest}`],
  ])('reads %s as %s', (text, normal) => {
    expect(formatReference(parseReference(text))).toBe(normal);
  });

  it('lets the digest decide when there is a tag beside it, and keeps the tag readable', () => {
    const reference = parseReference(`busybox:1@${digest}`);
    expect(reference).toMatchObject({ tag: '1', digest });
    expect(formatReference(reference)).toBe(`docker.io/library/busybox@${digest}`);
  });

  it.each([
    '',
    'Busybox',
    'a//b',
    '/a',
    'a/',
    'a:',
    'a:/b',
    'a@sha256:123',
    `a@${digest}0`,
    'a b',
    '../a',
    'x:5000',
    'a'.repeat(64),
    `q.io/${'a'.repeat(260)}`,
    'http://q.io/a',
  ])('refuses %j and says why', text => {
    if (text === 'x:5000') expect(formatReference(parseReference(text))).toBe('docker.io/library/x:5000');
    else expect(() => parseReference(text)).toThrow(/image reference .* is not valid: ./);
  });
});
