// The registry client against registries that lie, without workers and stores around it.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createRegistryClient, type RegistryClient } from '../../../src/image/registry/client.ts';
import { registryHosts } from '../../../src/image/registry/hosts.ts';
import { createTransport, type Transport } from '../../../src/image/registry/transport.ts';
import type { RegistryAccess } from '../../../src/image/registry/types.ts';
import { type Liar, startLiar, type TakeOver } from '../../support/image/liar.ts';
import { blobOf } from '../../support/image/make-image.ts';

const { signal } = new AbortController();
const blob = blobOf(Buffer.from('{"some":"document"}'), 'application/octet-stream');
let transport: Transport;
const liars: Liar[] = [];
beforeEach(() => {
  transport = createTransport();
});
afterEach(async () => {
  transport.close();
  await Promise.all(liars.splice(0).map(liar => liar.close()));
});

async function serve(takeOver?: TakeOver): Promise<Liar> {
  const liar = await startLiar(takeOver);
  liar.add(blob, 'latest');
  liars.push(liar);
  return liar;
}

async function accessTo(liar: Liar, settings: Partial<RegistryAccess> = {}): Promise<RegistryAccess> {
  return {
    registry: liar.address,
    repository: 'app',
    hosts: await registryHosts(liar.address, []),
    credentials: undefined,
    headers: [],
    proxy: { http: undefined, https: undefined, no: undefined },
    progressTimeoutMs: undefined,
    grants: {},
    plainHosts: [],
    ...settings,
  };
}

async function clientOf(liar: Liar, settings: Partial<RegistryAccess> = {}): Promise<RegistryClient> {
  return createRegistryClient(await accessTo(liar, settings), transport);
}

describe('a host that a registry redirects to', () => {
  it.each(['Basic realm="r"', 'Bearer realm="REALM",service="s"'])(
    'gets no credentials for its challenge %s',
    async challenge => {
      const realm = await serve();
      const other = await serve((_, response) => {
        const named = challenge.replace('REALM', `http://${realm.address}/token`);
        response.writeHead(401, { 'www-authenticate': named }).end();
        return true;
      });
      const liar = await serve((_, response) => {
        response.writeHead(307, { location: `http://${other.address}/elsewhere` }).end();
        return true;
      });
      const client = await clientOf(liar, { credentials: { username: 'user', password: 'secret' } });
      await expect(client.document(blob.digest, signal)).rejects.toMatchObject({
        kind: 'unauthenticated',
        message: expect.stringContaining(
          `to http://${other.address}, which asks for credentials: they are not sent there`,
        ),
      });
      expect(realm.requests).toEqual([]);
      expect(liar.requests.map(({ headers }) => headers.authorization)).toEqual([undefined]);
      expect(other.requests.map(({ headers }) => headers.authorization)).toEqual([undefined]);
    },
  );
});
