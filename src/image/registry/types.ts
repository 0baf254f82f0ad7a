// What is needed to talk to a registry about one repository, as plain data: it is made on the main thread and
// handed to worker processes, which fetch layers on their own connections. It holds credentials: it is never
// logged and never stored.

/** One host that serves a registry: the registry itself or a mirror (containerd's hosts.toml). */
export interface RegistryHost {
  readonly scheme: 'http' | 'https';
  /** Host name with port, as in a URL. */
  readonly host: string;
  /** API root, usually `/v2`. */
  readonly path: string;
  /** May answer what a tag stands for. */
  readonly canResolve: boolean;
  /** May serve manifests and blobs by digest. */
  readonly canPull: boolean;
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly tls: TlsSettings;
  /** Milliseconds to wait for a connection. */
  readonly dialTimeoutMs: number;
  /** Whether http may be tried when the host does not speak TLS: loopback registries only. */
  readonly plainFallback: boolean;
}

export interface TlsSettings {
  /** PEM texts, trusted beside the system's. */
  readonly ca: readonly string[];
  /** Client certificates with their keys, PEM. */
  readonly client: readonly { readonly cert: string; readonly key: string }[];
  readonly skipVerify: boolean;
}

/** CRI's AuthConfig after reading (`auth` decoded, `server_address` checked). */
export interface Credentials {
  readonly username?: string | undefined;
  readonly password?: string | undefined;
  /** An OAuth2 refresh token. */
  readonly identityToken?: string | undefined;
  /** A bearer token, sent as it is. */
  readonly registryToken?: string | undefined;
}

/** Proxies from the environment, the lower-case names too. */
export interface ProxySettings {
  readonly http: string | undefined;
  readonly https: string | undefined;
  readonly no: string | undefined;
}

/** An Authorization header value that worked, until it expires. */
export interface Grant {
  authorization: string;
  expiresMs: number;
}

export interface RegistryAccess {
  /** The registry as the reference names it: `docker.io`, `localhost:5000`. */
  readonly registry: string;
  /** Path of the repository: `library/busybox`. */
  readonly repository: string;
  /** In the order in which they are tried. */
  readonly hosts: readonly RegistryHost[];
  /** What is for which host; a host that is not in it is asked without. */
  readonly credentials: Readonly<Record<string, Credentials>>;
  /** Sent with every request to these hosts. */
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly proxy: ProxySettings;
  /** A body on which less than a trickle moves for so long is given up; undefined = never. */
  readonly progressTimeoutMs: number | undefined;
  /** What authorised earlier requests, by host. */
  readonly grants: Record<string, Grant>;
  /** Loopback hosts that turned out not to speak TLS. */
  readonly plainHosts: string[];
}

/** A blob in a registry. */
export interface RegistrySource {
  readonly kind: 'registry';
  readonly access: RegistryAccess;
  readonly digest: string;
  readonly size: number;
}
