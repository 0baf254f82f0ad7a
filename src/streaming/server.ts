// The streaming server: hands out one-time URLs for exec, attach and port-forward, and serves whoever comes with one,
// over SPDY or WebSocket. It knows protocols; what is done to containers and pods is in the backends.
import { createServer as createHttpServer, type IncomingMessage, STATUS_CODES } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import { isIPv6 } from 'node:net';
import { networkInterfaces } from 'node:os';
import type { Duplex } from 'node:stream';
import { createWebSocketStream, type WebSocket, WebSocketServer } from 'ws';
import { CriError, messageOf } from '../errors.ts';
import type { Logger } from '../log.ts';
import { choose, isRefusal, type Refusal, readUpgrade, refuseCaller, type Upgrade } from './negotiate.ts';
import { type Outcome, outcomeOfExit } from './outcome.ts';
import { portForwardProtocol, servePortForwardSpdy } from './port-forward/spdy.ts';
import { servePortForwardWebSocket, webSocketPortProtocols } from './port-forward/websocket.ts';
import { acceptSpdyCommand, spdyCommandProtocols } from './remote-command/spdy.ts';
import type { RemoteStreams } from './remote-command/streams.ts';
import { acceptWebSocketCommand, webSocketCommandProtocols } from './remote-command/websocket.ts';
import {
  type AttachRequest,
  checkStreamChoice,
  type ExecRequest,
  type PortForwardRequest,
  type StreamingBackends,
  type StreamingRequest,
} from './requests.ts';
import { selfSignedCertificate } from './self-signed.ts';
import { createTokens } from './tokens.ts';

export interface StreamingServerOptions {
  /** IP address or name to listen on; undefined = the node's own address. */
  readonly address: string | undefined;
  /** 0 = any free port. */
  readonly port: number;
  /** PEM texts, or a certificate made for this run. */
  readonly tls: { readonly cert: string; readonly key: string } | 'self-signed' | undefined;
  /** A stream on which nothing moves for so long is closed; undefined = never. */
  readonly idleTimeoutMs: number | undefined;
  /** How long a client may take to open its streams once it is connected. Default 30 s. */
  readonly creationTimeoutMs?: number;
  readonly backends: StreamingBackends;
  readonly log: Logger;
}

/** The URLs that the CRI answers with. */
export interface StreamingUrls {
  /** @throws CriError invalidArgument, resourceExhausted */
  execUrl(request: ExecRequest): string;
  /** @throws CriError invalidArgument, resourceExhausted */
  attachUrl(request: AttachRequest): string;
  /** @throws CriError resourceExhausted */
  portForwardUrl(request: PortForwardRequest): string;
}

export interface StreamingServer extends StreamingUrls {
  /** `http://127.0.0.1:1234` */
  readonly baseUrl: string;
  /** Takes no new clients and breaks off those that are served. */
  close(): Promise<void>;
}

const defaultCreationTimeoutMs = 30_000;
/** How long a client that was refused may take to read why. */
const refusedLingerMs = 5_000;
/** Clients at the same time, of any kind: anybody on the host can connect, and must not use up the daemon's descriptors. */
const maxConnections = 2048;
/** The most a WebSocket client may say in one message; Kubernetes' own clients stay below 64 KiB. */
const maxMessageBytes = 4 * 1024 * 1024;
/** Subprotocol of WebSockets that carry SPDY as a byte stream, as kubectl's port-forward does. */
const tunnelProtocol = `SPDY/3.1+${portForwardProtocol}`;

/** Listens and serves. @throws CriError unavailable when it cannot listen */
export async function startStreamingServer(options: StreamingServerOptions): Promise<StreamingServer> {
  const { log, idleTimeoutMs, backends } = options;
  const creationTimeoutMs = options.creationTimeoutMs ?? defaultCreationTimeoutMs;
  const host = options.address ?? nodeAddress();
  const tokens = createTokens<StreamingRequest>();
  const connections = new Set<Duplex>();
  const tls =
    options.tls === 'self-signed' ? selfSignedCertificate([host, 'localhost', '127.0.0.1']) : options.tls;
  const server = tls ? createHttpsServer({ ...tls, minVersion: 'TLSv1.2' }) : createHttpServer();

  server.maxConnections = maxConnections;
  server.on('request', (request, response) => {
    const refusal = refuseCaller(request) ?? {
      status: 400,
      message: 'a streaming URL is for a client that upgrades to SPDY/3.1 or websocket',
    };
    response.writeHead(refusal.status, {
      ...refusal.headers,
      'Content-Type': 'text/plain',
      Connection: 'close',
    });
    response.end(`${refusal.message}\n`);
  });
  server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    socket.on('error', () => socket.destroy());
    connections.add(socket);
    socket.on('close', () => connections.delete(socket));
    const refusal = accept(request, socket, head);
    if (refusal) refuse(socket, refusal);
  });

  /** Begins to serve the request; its own promise takes over. Returns why not. */
  function accept(request: IncomingMessage, socket: Duplex, head: Buffer): Refusal | undefined {
    const refusedCaller = refuseCaller(request);
    if (refusedCaller) return refusedCaller;
    const { kind, token } = readPath(request.url);
    const asked = tokens.peek(token);
    if (!asked || asked.kind !== kind) {
      return { status: 404, message: 'this streaming URL is unknown: it was used before, or it is too old' };
    }
    const upgrade = readUpgrade(request);
    if (isRefusal(upgrade)) return upgrade;
    const plan = planService(asked, upgrade);
    if (isRefusal(plan)) return plan;
    tokens.use(token);
    const done =
      plan.over === 'spdy'
        ? plan.serve(answerSpdy(socket, head, plan.protocol))
        : answerWebSocket(request, socket, head, plan);
    done.catch((error: unknown) => {
      log.info({ stream: kind }, `stream ended: ${messageOf(error)}`);
      socket.destroy();
    });
    return undefined;
  }

  /** How a request is served over what the client offers. */
  function planService(asked: StreamingRequest, { kind, protocols }: Upgrade): Plan | Refusal {
    if (asked.kind === 'portforward') return planPortForward(asked, kind, protocols);
    if (kind === 'spdy') {
      const protocol = choose(protocols, spdyCommandProtocols);
      if (typeof protocol !== 'string') return protocol;
      const settings = { protocol, choice: asked, idleTimeoutMs, creationTimeoutMs };
      return {
        over: 'spdy',
        protocol,
        serve: async transport => carryOut(asked, await acceptSpdyCommand(transport, settings)),
      };
    }
    const protocol = protocols.length === 0 ? 'channel.k8s.io' : choose(protocols, webSocketCommandProtocols);
    if (typeof protocol !== 'string') return protocol;
    const settings = { protocol, choice: asked, idleTimeoutMs };
    return {
      over: 'websocket',
      protocol: protocols.length === 0 ? undefined : protocol,
      serve: async socket => carryOut(asked, acceptWebSocketCommand(socket, settings)),
    };
  }

  function planPortForward(
    { sandboxId, ports }: PortForwardRequest,
    kind: Upgrade['kind'],
    offered: readonly string[],
  ): Plan | Refusal {
    const settings = { connect: backends.connectTo(sandboxId), log, idleTimeoutMs, creationTimeoutMs };
    if (kind === 'spdy') {
      const protocol = choose(offered, [portForwardProtocol]);
      if (typeof protocol !== 'string') return protocol;
      return { over: 'spdy', protocol, serve: transport => servePortForwardSpdy(transport, settings) };
    }
    const protocol =
      offered.length === 0
        ? 'v4.channel.k8s.io'
        : choose(offered, [tunnelProtocol, ...webSocketPortProtocols]);
    if (typeof protocol !== 'string') return protocol;
    if (protocol === tunnelProtocol) {
      return {
        over: 'websocket',
        protocol,
        serve: socket => servePortForwardSpdy(createWebSocketStream(socket), settings),
      };
    }
    if (ports.length === 0)
      return { status: 400, message: 'port-forward over WebSocket channels needs ports' };
    const channelProtocol = protocol as (typeof webSocketPortProtocols)[number];
    return {
      over: 'websocket',
      protocol: offered.length === 0 ? undefined : protocol,
      serve: socket => servePortForwardWebSocket(socket, channelProtocol, ports, settings),
    };
  }

  async function carryOut(
    asked: Extract<StreamingRequest, { kind: 'exec' | 'attach' }>,
    streams: RemoteStreams,
  ): Promise<void> {
    const outcome = await perform(asked, streams).catch((error: unknown): Outcome => {
      const what =
        asked.kind === 'exec' ? 'error executing command in container' : 'error attaching to container';
      if (!streams.signal.aborted) log.info({ container: asked.containerId }, `${what}: ${messageOf(error)}`);
      return { kind: 'failure', message: `${what}: ${messageOf(error)}` };
    });
    await streams.finish(outcome);
  }

  async function perform(
    asked: Extract<StreamingRequest, { kind: 'exec' | 'attach' }>,
    streams: RemoteStreams,
  ): Promise<Outcome> {
    if (asked.kind === 'exec') return outcomeOfExit(await backends.exec(asked, streams));
    await backends.attach(asked, streams);
    return { kind: 'success' };
  }

  await new Promise<void>((resolve, reject) => {
    server.once('error', error =>
      reject(
        new CriError('unavailable', `the streaming server cannot listen on ${host}: ${error.message}`, {
          cause: error,
        }),
      ),
    );
    server.listen(options.port, host, resolve);
  });
  server.on('error', error => log.error({ err: error }, 'streaming server'));
  const bound = server.address();
  const port = typeof bound === 'object' && bound !== null ? bound.port : options.port;
  const baseUrl = `${tls ? 'https' : 'http'}://${isIPv6(host) ? `[${host}]` : host}:${port}`;
  const url = (asked: StreamingRequest) => `${baseUrl}/${asked.kind}/${tokens.issue(asked)}`;

  return {
    baseUrl,
    execUrl(request) {
      checkStreamChoice(request);
      return url({ ...request, kind: 'exec' });
    },
    attachUrl(request) {
      checkStreamChoice(request);
      return url({ ...request, kind: 'attach' });
    },
    portForwardUrl: request => url({ ...request, kind: 'portforward' }),
    close: () =>
      new Promise(resolve => {
        server.close(() => resolve());
        server.closeAllConnections();
        for (const connection of connections) connection.destroy();
      }),
  };
}

/** How one client is served. */
type Plan =
  | { readonly over: 'spdy'; readonly protocol: string; serve(transport: Duplex): Promise<void> }
  /** `protocol` undefined: the client named none, and is told none. */
  | {
      readonly over: 'websocket';
      readonly protocol: string | undefined;
      serve(socket: WebSocket): Promise<void>;
    };

/** `/exec/TOKEN` */
function readPath(url = ''): { kind: string; token: string } {
  const [, kind = '', token = '', ...rest] = url.split('?', 1)[0]?.split('/') ?? [];
  return rest.length > 0 ? { kind: '', token: '' } : { kind, token };
}

function answerSpdy(socket: Duplex, head: Buffer, protocol: string): Duplex {
  const lines = [
    'HTTP/1.1 101 Switching Protocols',
    'Connection: Upgrade',
    'Upgrade: SPDY/3.1',
    `X-Stream-Protocol-Version: ${protocol}`,
  ];
  socket.write(`${lines.join('\r\n')}\r\n\r\n`);
  if (head.length > 0) socket.unshift(head);
  return socket;
}

function answerWebSocket(
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  { protocol, serve }: Extract<Plan, { over: 'websocket' }>,
): Promise<void> {
  const acceptor = new WebSocketServer({
    noServer: true,
    perMessageDeflate: false,
    maxPayload: maxMessageBytes,
  });
  // The subprotocol is chosen already, and the package would refuse the slash in the tunnel's name.
  delete request.headers['sec-websocket-protocol'];
  if (protocol !== undefined)
    acceptor.on('headers', headers => headers.push(`Sec-WebSocket-Protocol: ${protocol}`));
  return new Promise((resolve, reject) => {
    // Served in the same turn: frames that came along with the request are read in the next.
    acceptor.handleUpgrade(request, socket, head, webSocket => {
      webSocket.on('error', () => {}); // the client spoke nonsense; whoever serves it hears of its end
      serve(webSocket).then(resolve, reject);
    });
  });
}

function refuse(socket: Duplex, { status, message, headers }: Refusal): void {
  const body = `${message}\n`;
  const lines = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}`,
    'Content-Type: text/plain',
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Connection: close',
    ...Object.entries(headers ?? {}).map(([name, value]) => `${name}: ${value}`),
  ];
  socket.end(`${lines.join('\r\n')}\r\n\r\n${body}`);
  // Whoever was refused must not keep the connection: its end is only seen by reading, and may never come.
  socket.resume();
  const timer = setTimeout(() => socket.destroy(), refusedLingerMs);
  socket.once('close', () => clearTimeout(timer));
}

/** The first address of this node that others can reach. */
function nodeAddress(): string {
  const addresses = Object.values(networkInterfaces()).flatMap(list => list ?? []);
  const outward = addresses.filter(({ internal, address }) => !internal && !address.startsWith('fe80:'));
  return (outward.find(({ family }) => family === 'IPv4') ?? outward[0])?.address ?? '127.0.0.1';
}
