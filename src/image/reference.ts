// Image references as people and manifests write them, read as the whole ecosystem reads them: short names
// live on docker.io, single-word names in its `library`, and a name without tag or digest means `latest`.
// First stop of every image operation; everything after it sees normalised references only.
import { CriError } from '../errors.ts';

/** A normalised reference. At least one of tag and digest is set. */
export interface Reference {
  /** Host, with port when one was given: `docker.io`, `localhost:5000`. */
  readonly host: string;
  /** Path on the host: `library/busybox`. */
  readonly path: string;
  readonly tag: string | undefined;
  /** `sha256:<hex>` or another registered algorithm. */
  readonly digest: string | undefined;
}

const component = '[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*';
const pathPattern = new RegExp(`^${component}(?:/${component})*$`);
const label = '[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?';
const hostPattern = new RegExp(`^(?:${label}(?:\\.${label})*|\\[[a-fA-F0-9:]+\\])(?::[0-9]+)?$`);
const tagPattern = /^\w[\w.-]{0,127}$/;
const digestPattern = /^(?:sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})$/;
const longestName = 255;

/** Whether `text` is a digest that the store can check: `sha256:` or `sha512:` and lower-case hex. */
export function isDigest(text: string): boolean {
  return digestPattern.test(text);
}

/**
 * Reads `text` and fills in what it leaves out.
 * @throws CriError invalidArgument, saying which part is wrong.
 */
export function parseReference(text: string): Reference {
  const refuse = (why: string): never => {
    throw new CriError('invalidArgument', `image reference ${JSON.stringify(text)} is not valid: ${why}`);
  };
  if (text === '') refuse('it is empty');
  const at = text.indexOf('@');
  const digest = at === -1 ? undefined : text.slice(at + 1);
  if (digest !== undefined && !isDigest(digest)) {
    refuse(`${JSON.stringify(digest)} is not a digest such as sha256:<64 lower-case hex digits>`);
  }
  const named = at === -1 ? text : text.slice(0, at);
  const colon = named.lastIndexOf(':');
  const hasTag = colon > named.lastIndexOf('/');
  const tag = hasTag ? named.slice(colon + 1) : undefined;
  if (tag !== undefined && !tagPattern.test(tag)) {
    refuse(`tag ${JSON.stringify(tag)} may hold letters, digits, _ . - and at most 128 of them`);
  }
  const { host, path } = splitHost(hasTag ? named.slice(0, colon) : named);
  if (!hostPattern.test(host)) refuse(`${JSON.stringify(host)} is not a host name with an optional port`);
  if (path !== path.toLowerCase()) refuse('the repository name must be lower case');
  if (!pathPattern.test(path)) refuse(`${JSON.stringify(path)} is not a repository name`);
  if (at === -1 && /^[a-f0-9]{64}$/.test(named)) {
    refuse('64 hex digits are an image id, not a repository name');
  }
  if (host.length + 1 + path.length > longestName) refuse(`a name has at most ${longestName} characters`);
  return { host, path, tag: tag ?? (digest === undefined ? 'latest' : undefined), digest };
}

/** The first component is a host only when it cannot be part of a path: a dot, a port, an upper-case letter, or localhost. */
function splitHost(name: string): { host: string; path: string } {
  const slash = name.indexOf('/');
  const first = slash === -1 ? '' : name.slice(0, slash);
  const isHost = first === 'localhost' || /[.:]/.test(first) || first !== first.toLowerCase();
  const host = isHost ? first : 'docker.io';
  const path = isHost ? name.slice(slash + 1) : name;
  if (host !== 'docker.io' && host !== 'index.docker.io') return { host, path };
  return { host: 'docker.io', path: path.includes('/') ? path : `library/${path}` };
}

/** The repository that `text` names without saying which of its images; undefined when it says so, or is no reference. */
export function bareRepository(text: string): string | undefined {
  if (text.includes('@') || text.lastIndexOf(':') > text.lastIndexOf('/')) return undefined;
  try {
    return repositoryOf(parseReference(text));
  } catch {
    return undefined; // such as an image id
  }
}

/** `host/path`, as it stands before `:tag` or `@digest`. */
export function repositoryOf(reference: Reference): string {
  return `${reference.host}/${reference.path}`;
}

/**
 * The one spelling of a reference. A tag beside a digest is dropped: the digest decides what is meant, and an
 * image pulled so must not be listed under a tag that was never looked up.
 */
export function formatReference(reference: Reference): string {
  const repository = repositoryOf(reference);
  return reference.digest === undefined
    ? `${repository}:${reference.tag}`
    : `${repository}@${reference.digest}`;
}
