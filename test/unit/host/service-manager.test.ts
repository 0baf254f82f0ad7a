import { closeSync, read } from 'node:fs';
import { mkdtemp, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { check, sys } from '../../../src/host/libc.ts';
import { serviceManager } from '../../../src/host/service-manager.ts';

// systemd's end: a datagram socket, which Node has not; read(2) takes one message from it at a time.
const [addressFamilyUnix, datagram] = [1, 2];

let directory: string;
let systemd: number;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'notify-'));
  systemd = check(sys.socket(addressFamilyUnix, datagram, 0), 'socket', 'listening');
  const address = Buffer.concat([
    Buffer.from([addressFamilyUnix, 0]),
    Buffer.from(join(directory, 'socket')),
  ]);
  check(sys.bind(systemd, address, address.length), 'bind', 'listening');
});
afterEach(async () => {
  closeSync(systemd);
  await rm(directory, { recursive: true });
});

async function nextMessage(): Promise<string> {
  const { bytesRead, buffer } = await promisify(read)(systemd, Buffer.alloc(100), 0, 100, null);
  return buffer.toString('utf8', 0, bytesRead);
}

describe('the service manager', () => {
  it('is told that the daemon serves, that it lives, and that it ends', async () => {
    const manager = serviceManager({ NOTIFY_SOCKET: join(directory, 'socket'), WATCHDOG_USEC: '20000' });
    manager.ready();
    expect(await nextMessage()).toBe('READY=1');
    expect(await nextMessage()).toBe('WATCHDOG=1');
    manager.stopping();
    let last = await nextMessage();
    while (last === 'WATCHDOG=1') last = await nextMessage();
    expect(last).toBe('STOPPING=1');
  });

  it('that cannot be told once is told the next time', async () => {
    const path = join(directory, 'socket');
    const manager = serviceManager({ NOTIFY_SOCKET: path, WATCHDOG_USEC: '20000' });
    manager.ready();
    await rename(path, `${path}.away`);
    await sleep(50);
    await rename(`${path}.away`, path);
    let last = await nextMessage();
    for (let told = 0; told < 4; told++) last = await nextMessage();
    expect(last).toBe('WATCHDOG=1');
    manager.stopping();
  });

  it('is not looked for when there is none', () => {
    expect(() => serviceManager({}).ready()).not.toThrow();
  });

  it('that is gone is named in the error', () => {
    const manager = serviceManager({ NOTIFY_SOCKET: join(directory, 'gone') });
    expect(() => manager.ready()).toThrow(/READY=1 to .*gone.*ENOENT/);
  });
});
