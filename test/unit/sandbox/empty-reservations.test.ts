import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseNetworkConfigList } from '../../../src/cni-invoker/index.ts';
import { lockFile } from '../../../src/host/lock.ts';
import { removeEmptyReservations } from '../../../src/sandbox/empty-reservations.ts';

let dataDir: string;
beforeEach(() => {
  dataDir = mkdtempSync(join(tmpdir(), 'cri-ts-reservations-'));
  mkdirSync(join(dataDir, 'pods'));
});
afterEach(() => rmSync(dataDir, { recursive: true }));

const at = (name: string) => join(dataDir, 'pods', name);

function networkWith(ipam: object) {
  const plugins = [{ type: 'bridge', ipam }, { type: 'portmap' }];
  return parseNetworkConfigList(JSON.stringify({ cniVersion: '1.0.0', name: 'pods', plugins }));
}

describe('reservations of host-local', () => {
  const collect = () => removeEmptyReservations([networkWith({ type: 'host-local', dataDir })]);

  it('that hold nothing, or nothing but NULs, are removed; those of containers stay, and so does what is no address', () => {
    writeFileSync(at('10.85.0.2'), '');
    writeFileSync(at('fd00:85::2'), '\0\0\0\0');
    writeFileSync(at('10.85.0.3'), 'id\r\neth0');
    writeFileSync(at('last_reserved_ip.0'), '');
    expect(collect().sort()).toEqual([at('10.85.0.2'), at('fd00:85::2')]);
    expect(['10.85.0.2', 'fd00:85::2'].filter(name => existsSync(at(name)))).toEqual([]);
    expect(['10.85.0.3', 'last_reserved_ip.0'].filter(name => !existsSync(at(name)))).toEqual([]);
  });

  it('are left alone while a plugin holds the lock, which may be writing one of them', () => {
    writeFileSync(at('10.85.0.2'), '');
    const lock = lockFile(at('lock'));
    expect(collect()).toEqual([]);
    lock?.release();
    expect(collect()).toEqual([at('10.85.0.2')]);
  });

  it('of a network that has given no address yet are none', () => {
    rmSync(join(dataDir, 'pods'), { recursive: true });
    expect(collect()).toEqual([]);
  });

  it("of another IPAM plugin are not host-local's", () => {
    writeFileSync(at('10.85.0.2'), '');
    expect(removeEmptyReservations([networkWith({ type: 'other', dataDir })])).toEqual([]);
    expect(existsSync(at('10.85.0.2'))).toBe(true);
  });
});
