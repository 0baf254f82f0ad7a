// A self-signed certificate for the streaming server, when TLS is wanted and no certificate is configured. Node makes
// keys but no certificates, so its DER (X.509 v3, RFC 5280) is written here. It lives as long as the daemon.
import { generateKeyPairSync, randomBytes, sign } from 'node:crypto';
import { isIPv4, isIPv6 } from 'node:net';

const validForMs = 365 * 24 * 3600 * 1000;

/** @param hosts IP addresses and names that the certificate is for */
export function selfSignedCertificate(hosts: readonly string[]): { cert: string; key: string } {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const now = Date.now();
  const name = sequence(set(sequence(objectId('2.5.4.3'), utf8('cri-ts streaming'))));
  const algorithm = sequence(objectId('1.2.840.10045.4.3.2')); // ecdsa-with-SHA256
  const body = sequence(
    explicit(0, integer(Buffer.from([2]))), // version 3
    integer(Buffer.concat([Buffer.from([0x40]), randomBytes(15)])), // a positive serial number
    algorithm,
    name,
    sequence(time(new Date(now - 3600_000)), time(new Date(now + validForMs))),
    name,
    publicKey.export({ type: 'spki', format: 'der' }),
    explicit(3, sequence(subjectAltNames(hosts))),
  );
  const signature = sign('sha256', body, privateKey);
  const certificate = sequence(body, algorithm, bitString(signature));
  const base64 = certificate.toString('base64').replace(/(.{64})(?=.)/g, '$1\n');
  return {
    cert: `-----BEGIN CERTIFICATE-----\n${base64}\n-----END CERTIFICATE-----\n`,
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  };
}

/** RFC 5280, section 4.2.1.6: tag 2 = a DNS name, 7 = an address. */
function subjectAltNames(hosts: readonly string[]): Buffer {
  const names = hosts.map(host => {
    if (isIPv4(host)) return element(0x87, Buffer.from(host.split('.').map(Number)));
    if (isIPv6(host)) return element(0x87, ipv6Bytes(host));
    return element(0x82, Buffer.from(host, 'latin1'));
  });
  return sequence(objectId('2.5.29.17'), element(0x04, sequence(...names)));
}

function ipv6Bytes(address: string): Buffer {
  const groups = (text: string) =>
    text === '' ? [] : text.split(':').map(group => Number.parseInt(group, 16));
  const [head = '', tail] = address.split('::');
  const [before, after] = [groups(head), groups(tail ?? '')];
  const middle = tail === undefined ? [] : Array<number>(8 - before.length - after.length).fill(0);
  const bytes = Buffer.alloc(16);
  [...before, ...middle, ...after].forEach((group, i) => void bytes.writeUInt16BE(group, i * 2));
  return bytes;
}

/** DER: tag, length, content. */
function element(tag: number, ...contents: readonly Uint8Array[]): Buffer {
  const content = Buffer.concat(contents);
  const { length } = content;
  const size =
    length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...size]), content]);
}

const sequence = (...contents: readonly Uint8Array[]): Buffer => element(0x30, ...contents);
const set = (...contents: readonly Uint8Array[]): Buffer => element(0x31, ...contents);
const integer = (bytes: Uint8Array): Buffer => element(0x02, bytes);
const utf8 = (text: string): Buffer => element(0x0c, Buffer.from(text));
const bitString = (bytes: Uint8Array): Buffer => element(0x03, Buffer.from([0]), bytes);
const explicit = (number: number, content: Uint8Array): Buffer => element(0xa0 | number, content);

/** UTCTime, which holds until 2049. */
function time(date: Date): Buffer {
  const digits = date.toISOString().replace(/[-:T]/g, '').slice(2, 14);
  return element(0x17, Buffer.from(`${digits}Z`));
}

function objectId(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number);
  const bytes = [first * 40 + second];
  for (const arc of rest) {
    const septets = [arc & 0x7f];
    for (let left = arc >>> 7; left > 0; left >>>= 7) septets.unshift((left & 0x7f) | 0x80);
    bytes.push(...septets);
  }
  return element(0x06, Buffer.from(bytes));
}
