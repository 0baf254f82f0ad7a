// Sends an HTTP/1.1 request that asks for an upgrade, and reads the answer by hand.
import { request as httpRequest, type IncomingHttpHeaders } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { Duplex } from 'node:stream';

export interface UpgradeAnswer {
  status: number;
  headers: IncomingHttpHeaders;
  /** The connection, when the server switched protocols. */
  socket: Duplex | undefined;
  /** The answer's text, when it did not. */
  body: string;
}

export interface UpgradeOptions {
  method?: string;
  headers: Record<string, string | string[]>;
  /** Certificate to trust. */
  ca?: string;
}

export function requestUpgrade(
  url: string,
  { method = 'GET', headers, ca }: UpgradeOptions,
): Promise<UpgradeAnswer> {
  return new Promise((resolve, reject) => {
    const options = { method, headers, agent: false as const, ...(ca === undefined ? {} : { ca }) };
    const request = url.startsWith('https') ? httpsRequest(url, options) : httpRequest(url, options);
    request.on('error', reject);
    request.on('upgrade', (response, socket, head) => {
      socket.on('error', () => {});
      if (head.length > 0) socket.unshift(head);
      resolve({ status: response.statusCode ?? 0, headers: response.headers, socket, body: '' });
    });
    request.on('response', response => {
      let body = '';
      response.setEncoding('utf8');
      response.on('data', (text: string) => (body += text));
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, headers: response.headers, socket: undefined, body }),
      );
    });
    request.end();
  });
}
