// Debian's containerd as a peer to compare with: its image service, with directories and a socket of its own.
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { type CriClient, connectCri } from './cri-client.ts';
import { until } from './node.ts';

/** As hack/install-deps.sh has fetched it, where none is installed. */
const fetched = fileURLToPath(new URL('../../.cache/containerd/usr/bin/containerd', import.meta.url));

export interface Containerd {
  readonly cri: CriClient;
  /** Such as `1.6.20`. */
  readonly version: string;
  stop(): Promise<void>;
}

export async function startContainerd(): Promise<Containerd> {
  const directory = await mkdtemp(join(tmpdir(), 'cri-ts-containerd-'));
  const socket = join(directory, 'containerd.sock');
  const config = join(directory, 'config.toml');
  await writeFile(
    config,
    `version = 2
root = "${directory}/root"
state = "${directory}/state"
[grpc]
  address = "${socket}"
[plugins."io.containerd.grpc.v1.cri"]
  disable_tcp_service = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    conf_dir = "${directory}"
`,
  );
  const log = join(directory, 'log');
  const program = existsSync(fetched) ? fetched : 'containerd';
  const daemon = execa(program, ['--config', config], {
    stdio: ['ignore', 'ignore', { file: log }],
    reject: false,
  });
  let cri = connectCri(socket);
  const version = await until('containerd serves', () =>
    cri.Version().then(
      ({ runtimeVersion }) => runtimeVersion,
      () => {
        // A client that has met nobody waits a second before it tries again: a new one does not.
        cri.close();
        cri = connectCri(socket);
        return undefined;
      },
    ),
  );
  return {
    cri,
    version,
    async stop() {
      cri.close();
      daemon.kill('SIGTERM');
      await daemon;
      await rm(directory, { recursive: true });
    },
  };
}
