import { describe, expect, it } from 'vitest';
import { descriptorSchema } from '../../../src/image/oci.ts';
import { choosePlatform, platformFit } from '../../../src/image/platform.ts';

const linux = (architecture: string, variant?: string) => ({
  os: 'linux',
  architecture,
  ...(variant ? { variant } : {}),
});
const entry = (platform?: object, annotations?: object) =>
  descriptorSchema.parse({
    mediaType: 'm',
    digest: `sha256:${'0'.repeat(64)}`,
    size: 1,
    platform,
    annotations,
  });

describe('the choice of a platform', () => {
  it.each([
    [linux('amd64'), linux('amd64'), true],
    [linux('x86_64'), linux('amd64'), true],
    [linux('arm64', 'v8'), linux('arm64'), true],
    [linux('arm64'), linux('arm64', 'v8'), true],
    [linux('arm', 'v6'), linux('arm', 'v7'), true],
    [linux('arm', 'v7'), linux('arm', 'v6'), false],
    [linux('amd64', 'v3'), linux('amd64'), false],
    [linux('amd64', 'v2'), linux('amd64', 'v3'), true],
    [linux('386'), linux('amd64'), true],
    [linux('i386'), linux('amd64', 'v3'), true],
    [linux('amd64'), linux('386'), false],
    [linux('arm', 'v7'), linux('arm64'), true],
    [linux('arm', 'v8'), linux('arm64', 'v8'), true],
    [linux('arm64'), linux('arm', 'v7'), false],
    [linux('arm64', 'v8.2'), linux('arm64'), false],
    [linux('arm64', 'v8.2'), linux('arm64', 'v8.4'), true],
    [linux('arm64', 'v8.5'), linux('arm64', 'v9'), true],
    [linux('arm64', 'v8.6'), linux('arm64', 'v9'), false],
    [linux('riscv64'), linux('riscv64'), true],
    [{ os: 'windows', architecture: 'amd64' }, linux('amd64'), false],
  ])('takes %j on a node of %j: %s', (offered, wanted, fits) => {
    expect(platformFit(offered, wanted) > 0).toBe(fits);
  });

  it('prefers the newest variant that runs', () => {
    const entries = ['v5', 'v6', 'v7', 'v8'].map(variant => entry(linux('arm', variant)));
    expect(choosePlatform(entries, linux('arm', 'v7')).map(({ platform }) => platform?.variant)).toEqual([
      'v7',
      'v6',
      'v5',
    ]);
  });

  it.each([
    [linux('386'), linux('amd64')],
    [linux('arm', 'v8'), linux('arm64')],
  ])("prefers the node's own architecture to %j", (older, own) => {
    expect(choosePlatform([entry(older), entry(own)], own).map(({ platform }) => platform)).toEqual([
      own,
      older,
    ]);
  });

  it('takes an entry without a platform last, and attestations never', () => {
    const nested = entry();
    const fitting = entry(linux('amd64'));
    const attestation = entry(undefined, { 'vnd.docker.reference.type': 'attestation-manifest' });
    expect(choosePlatform([attestation, nested, fitting, entry(linux('s390x'))], linux('amd64'))).toEqual([
      fitting,
      nested,
    ]);
  });
});
