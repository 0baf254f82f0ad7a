// Opens what exec and attach need over SPDY: the connection, the streams that were asked for, and the status at the end.
import type { Duplex } from 'node:stream';
import { connectSpdy, type SpdyClient, textOf } from './spdy-client.ts';

/** Which streams the URL was made for. */
export interface Wanted {
  stdin?: boolean;
  stdout?: boolean;
  stderr?: boolean;
  tty?: boolean;
}

export interface RemoteCommand {
  client: SpdyClient;
  /** One of the streams that were asked for. */
  stream(name: 'stdin' | 'stdout' | 'stderr' | 'resize'): Duplex;
  /** What the error stream says: a Status object, or undefined when nothing came. */
  status: Promise<Status | undefined>;
}

export interface Status {
  status: string;
  message?: string;
  reason?: string;
  details?: { causes: { reason?: string; message: string }[] };
}

export async function openRemote(
  url: string,
  { stdin = false, stdout = true, stderr = false, tty = false }: Wanted = {},
  { flow = 'careless' as 'strict' | 'careless', protocol = 'v4.channel.k8s.io' } = {},
): Promise<RemoteCommand> {
  const { client, status: httpStatus, body } = await connectSpdy(url, [protocol], { flow });
  if (!client) throw new Error(`the server did not switch to SPDY: ${httpStatus} ${body}`);
  const error = await client.open({ streamtype: 'error' });
  const streams = new Map<string, Duplex>();
  for (const [name, yes] of Object.entries({ stdin, stdout, stderr, resize: tty })) {
    if (yes) streams.set(name, (await client.open({ streamtype: name })).duplex);
  }
  const status = textOf(error.duplex).then(text => (text === '' ? undefined : (JSON.parse(text) as Status)));
  status.catch(() => {}); // a test that closes the connection does not wait for it
  return {
    client,
    status,
    stream(name) {
      const found = streams.get(name);
      if (!found) throw new Error(`${name} was not asked for`);
      return found;
    },
  };
}

/** Gathers what comes on a stream, for tests that look at it as it grows. */
export function gather(stream: Duplex): () => string {
  const chunks: Buffer[] = [];
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  return () => Buffer.concat(chunks).toString();
}
