// Reads an HTTP request for a stream: which protocol it asks for, in SPDY's words or in WebSocket's, and whether it may
// ask at all.
import type { IncomingMessage } from 'node:http';
import { isIP } from 'node:net';

/** Why a request is refused, as an HTTP answer. */
export interface Refusal {
  readonly status: number;
  readonly message: string;
  readonly headers?: Readonly<Record<string, string>>;
}

export function isRefusal(value: object): value is Refusal {
  return 'status' in value;
}

/**
 * Checks that hold before anything else is looked at. A browser says where the page that it acts for comes from
 * (Origin); no page has business here, and clients of the CRI send no Origin. A page that had its own name point at
 * this node would still say that name (Host), where clients of the CRI have an address from our URL.
 */
export function refuseCaller({ method, headers }: IncomingMessage): Refusal | undefined {
  if (method !== 'GET' && method !== 'POST') {
    return {
      status: 405,
      message: `${method} is not served here; streams are opened by GET or POST`,
      headers: { Allow: 'GET, POST' },
    };
  }
  if (headers.origin !== undefined) {
    return { status: 403, message: 'requests made by browsers on behalf of web pages are refused' };
  }
  if (!isAddress(headers.host ?? '')) {
    return { status: 421, message: `nothing is served under the name ${JSON.stringify(headers.host ?? '')}` };
  }
  return undefined;
}

/** Whether a Host header (RFC 9110, 7.2) names an address or the machine itself, whatever the port. */
function isAddress(host: string): boolean {
  const [, bracketed, plain = ''] = /^(?:\[([^\]]*)\]|([^:[\]]*))(?::\d*)?$/.exec(host) ?? [];
  return plain === 'localhost' || isIP(bracketed ?? plain) === (bracketed === undefined ? 4 : 6);
}

export type Upgrade = { readonly kind: 'spdy' | 'websocket'; readonly protocols: readonly string[] };

/** What a request asks to be upgraded to, and the subprotocols it offers, best first. */
export function readUpgrade({ headers, headersDistinct, method }: IncomingMessage): Upgrade | Refusal {
  const to = headers.upgrade?.toLowerCase();
  if (to === 'websocket') {
    if (method !== 'GET')
      return { status: 405, message: 'a WebSocket is opened by GET', headers: { Allow: 'GET' } };
    return { kind: 'websocket', protocols: listed(headersDistinct['sec-websocket-protocol']) };
  }
  if (to === 'spdy/3.1')
    return { kind: 'spdy', protocols: listed(headersDistinct['x-stream-protocol-version']) };
  return { status: 400, message: `an upgrade to SPDY/3.1 or websocket is needed, not ${to ?? 'none'}` };
}

function listed(values: readonly string[] | undefined): string[] {
  return (values ?? [])
    .flatMap(value => value.split(',').map(item => item.trim()))
    .filter(item => item !== '');
}

/** The first protocol on the client's list that is served too. */
export function choose<P extends string>(offered: readonly string[], served: readonly P[]): P | Refusal {
  const isServed = (protocol: string): protocol is P => (served as readonly string[]).includes(protocol);
  const found = offered.find(isServed);
  if (found !== undefined) return found;
  return {
    status: 403,
    message: `none of the protocols ${offered.join(', ') || '(none)'} is served here; served are ${served.join(', ')}`,
    headers: { 'X-Accepted-Stream-Protocol-Versions': served.join(', ') },
  };
}
