// What loadConfig makes of files: containerd's layouts, wrong values, unknown keys, imports, flags.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ConfigError, type ConfigFlags, loadConfig } from '../../../src/config/index.ts';

const fixtures = new URL('fixtures/', import.meta.url).pathname;
const v2 = 'plugins."io.containerd.grpc.v1.cri"';
const runtime = 'plugins."io.containerd.cri.v1.runtime"';
const images = 'plugins."io.containerd.cri.v1.images"';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'cri-ts-config-'));
});
afterEach(() => rmSync(dir, { recursive: true }));

function write(text: string, name = 'config.toml'): string {
  const file = join(dir, name);
  writeFileSync(file, text);
  return file;
}

const load = (text: string, flags?: ConfigFlags) => loadConfig({ file: write(text), flags });

/** The problems of a configuration that must not load, without the file's name. */
function problemsOf(text: string, flags?: ConfigFlags): string[] {
  try {
    load(text, flags);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.problems.map(({ path, message }) =>
      `${path}: ${message}`.replace(`${dir}/config.toml: `, ''),
    );
  }
  throw new Error('the configuration loaded');
}

const warningsOf = (text: string) =>
  load(text).warnings.map(({ level, path, message }) =>
    `${level} ${path}: ${message}`.replace(`${dir}/config.toml: `, ''),
  );

describe('without a file', () => {
  it('has defaults for everything', () => {
    const { config, warnings } = loadConfig();
    expect(warnings).toEqual([]);
    expect(config).toMatchObject({
      root: '/var/lib/cri-ts',
      state: '/run/cri-ts',
      server: { socketPath: '/run/cri-ts/cri-ts.sock', uid: 0, gid: 0 },
      sandbox: { image: undefined, netnsDir: '/var/run/netns', unprivilegedPorts: true },
      cni: { confDir: '/etc/cni/net.d', binDirs: ['/opt/cni/bin', '/usr/lib/cni'], maxConfNum: 0 },
      streaming: { address: '127.0.0.1', port: 0, idleTimeoutMs: 4 * 3_600_000, tls: { mode: 'off' } },
      images: { maxConcurrentDownloads: 3, pullProgressTimeoutMs: 300_000 },
      monitor: { binary: 'conmon' },
      limits: { drainExecSyncIoTimeoutMs: undefined },
    });
    expect(config.runtimes.defaultName).toBe('runc');
    expect(config.runtimes.handlers.get('runc')).toMatchObject({
      kind: 'runc',
      binary: 'runc',
      systemdCgroup: false,
    });
  });
});

describe("a node's existing containerd file", () => {
  it('of version 2 loads unmodified', () => {
    const { config, warnings } = loadConfig({ file: join(fixtures, 'hard-way.toml') });
    expect(warnings).toEqual([]);
    expect(config.images.snapshotter).toBe('overlayfs');
    expect(config.cni).toMatchObject({ binDirs: ['/opt/cni/bin'], confDir: '/etc/cni/net.d', maxConfNum: 0 });
    expect(config.runtimes.handlers.get('runc')).toMatchObject({ binary: 'runc', systemdCgroup: true });
  });

  it('of version 3 gives the same configuration', () => {
    const { config, warnings } = load(`
      version = 3
      [${images}]
        snapshotter = "overlayfs"
      [${runtime}.containerd]
        default_runtime_name = "runc"
      [${runtime}.containerd.runtimes.runc.options]
        SystemdCgroup = true
      [${runtime}.cni]
        bin_dirs = ["/opt/cni/bin"]
        conf_dir = "/etc/cni/net.d"`);
    expect(warnings).toEqual([]);
    expect(config).toEqual(loadConfig({ file: join(fixtures, 'hard-way.toml') }).config);
  });

  it('as `containerd config default` prints it says only whose directories those are', () => {
    const { config, warnings } = loadConfig({ file: join(fixtures, 'containerd-1.6-default.toml') });
    expect(warnings.map(({ level, path }) => [level, path.split(': ')[1]])).toEqual([
      ['info', 'root'],
      ['info', 'state'],
    ]);
    expect(config.root).toBe('/var/lib/containerd/cri-ts');
    expect(config.state).toBe('/run/containerd/cri-ts');
    expect(config.cni.maxConfNum).toBe(1);
    expect(config.sandbox.image).toBe('registry.k8s.io/pause:3.6');
    expect(config.sandbox.unprivilegedPorts).toBe(false);
  });

  it('has its keys of every part honoured', () => {
    const { config } = load(`
      version = 2
      [grpc]
        address = "/run/a.sock"
        gid = 7
      [debug]
        level = "warning"
      [metrics]
        address = "127.0.0.1:1338"
      [${v2}]
        sandbox_image = "example.org/pause:1"
        stream_server_address = ""
        stream_server_port = "10010"
        stream_idle_timeout = "1m30s"
        max_concurrent_downloads = 5
        image_pull_progress_timeout = "0s"
        stats_collect_period = 30
        unset_seccomp_profile = "localhost/strict.json"
        netns_mounts_under_state_dir = true
        enable_criu = false
        restrict_oom_score_adj = true
        disable_apparmor = true
      [${v2}.registry]
        config_path = "/etc/a:/etc/b"
      [${v2}.registry.headers]
        X-A = ["1", "2"]`);
    expect(config.server).toMatchObject({ socketPath: '/run/a.sock', uid: 0, gid: 7 });
    expect(config.log.level).toBe('warn');
    expect(config.metrics.address).toBe('127.0.0.1:1338');
    expect(config.sandbox).toMatchObject({ image: 'example.org/pause:1', netnsDir: '/run/cri-ts/netns' });
    expect(config.images.pinned).toEqual(new Map([['sandbox', 'example.org/pause:1']]));
    expect(config.streaming).toMatchObject({ address: undefined, port: 10010, idleTimeoutMs: 90_000 });
    expect(config.images).toMatchObject({ maxConcurrentDownloads: 5, pullProgressTimeoutMs: undefined });
    expect(config.stats.layerPeriodMs).toBe(30_000);
    expect(config.criuEnabled).toBe(false);
    expect(config.security).toMatchObject({
      restrictOomScoreAdj: true,
      apparmor: false,
      unsetSeccompProfile: { kind: 'localhost', path: 'strict.json' },
    });
    expect(config.images.registry.configPaths).toEqual(['/etc/a', '/etc/b']);
    expect(config.images.registry.headers).toEqual(new Map([['X-A', ['1', '2']]]));
  });

  it('of version 4 has the socket, debug and metrics in plugins', () => {
    const { config, warnings } = load(`
      version = 4
      [plugins."io.containerd.server.v1.grpc"]
        address = "/run/four.sock"
      [plugins."io.containerd.server.v1.metrics"]
        address = ":1338"`);
    expect(warnings).toEqual([]);
    expect(config.server.socketPath).toBe('/run/four.sock');
    expect(config.metrics.address).toBe(':1338');
  });

  it('of version 1 has plugins by short names', () => {
    const { config, warnings } = load(`[plugins.cri.cni]\nconf_dir = "/etc/one"`);
    expect(warnings).toEqual([]);
    expect(config.cni.confDir).toBe('/etc/one');
  });

  it('of a later version than is known is refused', () => {
    expect(problemsOf('version = 5')).toEqual([
      'version: 5 is not a layout known here; allowed: a whole number from 1 to 4',
    ]);
  });

  it('may spell keys in another case, as containerd allows', () => {
    const { config, warnings } = load(
      `version = 2\n[${v2}.containerd.runtimes.runc.options]\nsystemdCgroup = true\nbinaryname = "crun"`,
    );
    expect(warnings).toEqual([]);
    expect(config.runtimes.handlers.get('runc')).toMatchObject({ systemdCgroup: true, binary: 'crun' });
  });

  it("takes the transfer service's download limit while the CRI one is untouched", () => {
    const transfer = `[plugins."io.containerd.transfer.v1.local"]\nmax_concurrent_downloads = 9\n`;
    expect(load(`version = 3\n${transfer}`).config.images.maxConcurrentDownloads).toBe(9);
    expect(
      load(`version = 3\n${transfer}[${images}]\nmax_concurrent_downloads = 4`).config.images
        .maxConcurrentDownloads,
    ).toBe(4);
  });
});

describe('runtimes', () => {
  const runtimes = (text: string) => load(`version = 3\n${text}`);
  const table = (name: string) => `[${runtime}.containerd.runtimes.${name}]`;

  it('maps runtime types to executables, and lets BinaryName and runtime_path name another', () => {
    const { handlers } = runtimes(`
      ${table('gvisor')}
        runtime_type = "io.containerd.runsc.v1"
      ${table('crun')}
        runtime_type = "io.containerd.runc.v2"
        options.BinaryName = "/usr/bin/crun"
      ${table('youki')}
        runtime_type = "io.containerd.youki.v1"
        runtime_path = "/usr/bin/youki"
      ${table('shim')}
        runtime_type = "io.containerd.runc.v2"
        runtime_path = "/usr/bin/containerd-shim-runc-v2"`).config.runtimes;
    const found = [...handlers.values()].map(({ name, kind, binary }) => ({ name, kind, binary }));
    expect(found).toEqual([
      { name: 'runc', kind: 'runc', binary: 'runc' },
      { name: 'gvisor', kind: 'runsc', binary: 'runsc' },
      { name: 'crun', kind: 'runc', binary: '/usr/bin/crun' },
      { name: 'youki', kind: 'runc', binary: '/usr/bin/youki' },
      { name: 'shim', kind: 'runc', binary: 'runc' },
    ]);
  });

  it('gives each handler a state directory of its own unless Root names one', () => {
    const { handlers } = runtimes(`${table('a')}\n${table('b')}\noptions.Root = "/run/b"`).config.runtimes;
    expect(handlers.get('a')?.root).toBe('/run/cri-ts/oci/a');
    expect(handlers.get('b')?.root).toBe('/run/b');
  });

  it('carries CNI and annotation settings of a handler', () => {
    const handler = runtimes(`${table('special')}
      cni_conf_dir = "/etc/cni/special"
      cni_max_conf_num = 2
      pod_annotations = ["a.*"]
      container_annotations = ["b"]
      privileged_without_host_devices = true
      privileged_without_host_devices_all_devices_allowed = true`).config.runtimes.handlers.get('special');
    expect(handler).toMatchObject({
      cniConfDir: '/etc/cni/special',
      cniMaxConfNum: 2,
      podAnnotations: ['a.*'],
      containerAnnotations: ['b'],
      privilegedWithoutHostDevices: true,
      privilegedWithoutHostDevicesAllDevicesAllowed: true,
    });
  });

  it('leaves out a handler that needs a containerd shim, and says so', () => {
    const { config, warnings } = runtimes(`${table('kata')}\nruntime_type = "io.containerd.kata.v2"`);
    expect(config.runtimes.handlers.has('kata')).toBe(false);
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toMatchObject({
      level: 'warn',
      path: expect.stringMatching(/runtimes\.kata\.runtime_type$/),
    });
  });

  it('refuses a default runtime that is not configured or not usable', () => {
    const text = `version = 3\n[${runtime}.containerd]\ndefault_runtime_name = "kata"\n`;
    expect(problemsOf(text)).toEqual([
      `${runtime}.containerd.default_runtime_name: "kata" names no configured runtime; allowed: "runc"`,
    ]);
    expect(problemsOf(`${text}${table('kata')}\nruntime_type = "io.containerd.kata.v2"`)).toEqual([
      `${runtime}.containerd.default_runtime_name: "kata" names a runtime that cannot be used here; allowed: "runc"`,
    ]);
  });

  it('refuses a handler whose name could climb out of a directory', () => {
    expect(problemsOf(`version = 3\n${table('"../x"')}`)).toEqual([
      expect.stringContaining('runtimes."../x": not a handler name'),
    ]);
  });

  it('looks up handler names without what objects inherit', () => {
    expect(loadConfig().config.runtimes.handlers.get('constructor')).toBeUndefined();
  });

  it('warns when the handler crun would run runc', () => {
    expect(runtimes(table('crun')).warnings[0]?.message).toContain('options.BinaryName = "crun"');
  });

  it('refuses a base_runtime_spec that is not there', () => {
    const [problem] = problemsOf(`version = 3\n${table('runc')}\nbase_runtime_spec = "${dir}/none.json"`);
    expect(problem).toMatch(
      /base_runtime_spec: ".*none\.json" is not usable \(ENOENT.*allowed: an OCI runtime spec/,
    );
  });
});

describe('a wrong value', () => {
  it.each([
    ['root = "relative"', 'root: "relative" is not allowed; allowed: an absolute path'],
    ['root = 5', 'root: 5 is not allowed; allowed: an absolute path'],
    ['grpc = "x"', 'grpc: "x" is not allowed; allowed: a table'],
    ['grpc.uid = "zero"', 'grpc.uid: "zero" is not allowed; allowed: a whole number, 0 or more'],
    ['grpc.uid = -1', 'grpc.uid: -1 is not allowed; allowed: a whole number, 0 or more'],
    [
      'debug.level = "loud"',
      'debug.level: "loud" is not allowed; allowed: one of "trace", "debug", "info", "warn", "warning", "error", "fatal", "panic"',
    ],
    [
      'metrics.address = "1338"',
      'metrics.address: "1338" is not allowed; allowed: host:port, such as "127.0.0.1:1338" or "[::1]:1338"',
    ],
    [
      `${v2}.cni.max_conf_num = "all"`,
      `${v2}.cni.max_conf_num: "all" is not allowed; allowed: a whole number, 0 or more`,
    ],
    [`${v2}.cni.bin_dir = "bin"`, `${v2}.cni.bin_dir: "bin" is not allowed; allowed: an absolute path`],
    [`${v2}.cni.bin_dirs = ["/a", 3]`, `${v2}.cni.bin_dirs: 3 is not allowed; allowed: an absolute path`],
    [
      `${v2}.cni.ip_pref = "ipv5"`,
      `${v2}.cni.ip_pref: "ipv5" is not allowed; allowed: one of "ipv4", "ipv6", "cni"`,
    ],
    [
      `${v2}.containerd.snapshotter = "zfs"`,
      `${v2}.containerd.snapshotter: "zfs" is not allowed; allowed: one of "overlayfs"`,
    ],
    [`${v2}.sandbox_image = true`, `${v2}.sandbox_image: true is not allowed; allowed: an image reference`],
    [
      `${v2}.stream_server_port = "65536"`,
      `${v2}.stream_server_port: "65536" is not allowed; allowed: a port from 0 to 65535 ("0" = any free port)`,
    ],
    [
      `${v2}.stream_idle_timeout = "4 hours"`,
      `${v2}.stream_idle_timeout: "4 hours" is not allowed; allowed: a duration such as "4m", "10s" or "1h30m", or "0s" for no bound`,
    ],
    [
      `${v2}.unset_seccomp_profile = "default"`,
      `${v2}.unset_seccomp_profile: "default" is not allowed; allowed: "", "unconfined", "runtime/default", "docker/default" or "localhost/PATH"`,
    ],
    [
      `${v2}.containerd.runtimes.runc.options.SystemdCgroup = "yes"`,
      `${v2}.containerd.runtimes.runc.options.SystemdCgroup: "yes" is not allowed; allowed: true or false`,
    ],
    [
      `${v2}.containerd.runtimes.x.privileged_without_host_devices_all_devices_allowed = true`,
      `${v2}.containerd.runtimes.x.privileged_without_host_devices_all_devices_allowed: true is allowed only where privileged_without_host_devices is true`,
    ],
    [
      `plugins."io.cri-ts".cni_timeout = "0s"`,
      `plugins."io.cri-ts".cni_timeout: "0s" is not allowed; allowed: a duration above zero such as "4m", "10s" or "1h30m"`,
    ],
  ])('%s stops the start with its path, itself and what is allowed', (line, problem) => {
    expect(problemsOf(`version = 2\n${line}`)).toEqual([problem]);
  });

  it('does not hide another', () => {
    expect(problemsOf('version = 2\nroot = "a"\nstate = "b"')).toHaveLength(2);
  });

  it('in TOML itself is reported with line and column', () => {
    expect(problemsOf('version = 2\nroot = ')[0]).toMatch(/config\.toml:2:\d+: Invalid TOML document/);
  });

  it('of the file name is reported with the file', () => {
    expect(() => loadConfig({ file: join(dir, 'none.toml') })).toThrow(
      /none\.toml: .*cannot be read: ENOENT/,
    );
  });

  it('pairs TLS keys: both or neither, and only with TLS on', () => {
    const tls = (lines: string) => problemsOf(`version = 2\n[${v2}]\n${lines}`)[0];
    expect(tls('x509_key_pair_streaming.tls_key_file = "/k"')).toContain('enable_tls_streaming is false');
    expect(tls('enable_tls_streaming = true\nx509_key_pair_streaming.tls_key_file = "/k"')).toContain(
      'tls_cert_file is missing',
    );
    expect(load(`version = 2\n[${v2}]\nenable_tls_streaming = true`).config.streaming.tls).toEqual({
      mode: 'self-signed',
    });
  });

  it('is also the same thing said twice in two layouts', () => {
    expect(problemsOf(`version = 3\n[${runtime}.cni]\nbin_dir = "/a"\nbin_dirs = ["/b"]`)).toEqual([
      `${runtime}.cni.bin_dirs: means the same as ${runtime}.cni.bin_dir; keep one of the two`,
    ]);
  });
});

describe('an unknown key', () => {
  it.each([
    ['version = 2\nflavour = 1', 'warn flavour: unknown key, ignored'],
    ['version = 2\ngrpc.adress = "/x"', 'warn grpc.adress: unknown key, ignored; did you mean grpc.address?'],
    [
      `version = 2\n[${v2}]\nsandbox_imge = "x"`,
      `warn ${v2}.sandbox_imge: unknown key, ignored; did you mean ${v2}.sandbox_image?`,
    ],
    [
      `version = 2\n[${v2}.containerd.runtimes.runc.option]\nSystemdCgroup = true`,
      `warn ${v2}.containerd.runtimes.runc.option: unknown key, ignored; did you mean ${v2}.containerd.runtimes.runc.options?`,
    ],
    [
      `version = 2\n[${v2}]\nconf_dir = "/x"`,
      `warn ${v2}.conf_dir: unknown key, ignored; did you mean ${v2}.cni.conf_dir?`,
    ],
    [
      `version = 3\n[${v2}]\nsandbox_image = "x"`,
      `warn ${v2}.sandbox_image: unknown key, ignored; did you mean ${images}.pinned_images.sandbox?`,
    ],
    [
      `version = 3\n[${v2}.containerd]\ndefault_runtime_name = "runc"`,
      `warn ${v2}.containerd: unknown key, ignored; did you mean ${runtime}.containerd?`,
    ],
  ])('in %j warns with its path, and a suggestion where one is close', (text, warning) => {
    expect(warningsOf(text)).toEqual([warning]);
  });

  it('named like what objects inherit is unknown like any other', () => {
    expect(warningsOf('version = 2\nconstructor = 1\n__proto__ = 2')).toEqual([
      'warn constructor: unknown key, ignored',
      'warn __proto__: unknown key, ignored',
    ]);
  });
});

describe('a key without effect', () => {
  it('is silent with the value that asks for nothing, and told when it asks for something', () => {
    expect(warningsOf(`version = 2\n[${v2}]\ndisable_cgroup = false`)).toEqual([]);
    expect(warningsOf(`version = 2\n[${v2}]\ndisable_cgroup = true`)).toEqual([
      `warn ${v2}.disable_cgroup: has no effect: containers always get cgroups`,
    ]);
    expect(warningsOf('version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]')[0]).toMatch(
      /^info disabled_plugins: has no effect/,
    );
  });

  it('may hold anything', () => {
    expect(warningsOf(`version = 2\n[${v2}.containerd.default_runtime]\nx = { y = [1] }`)).toHaveLength(1);
  });

  it('that is deprecated is silenced by ignore_deprecation_warnings', () => {
    const mirrors = `version = 2\n[${v2}.registry.mirrors."docker.io"]\nendpoint = ["https://m"]\n`;
    expect(warningsOf(mirrors)[0]).toMatch(/registry\.mirrors: has no effect: .*hosts\.toml/);
    const silenced = `[${v2}]\nignore_deprecation_warnings = ["io.containerd.deprecation/cri-registry-mirrors"]`;
    expect(warningsOf(`${mirrors}${silenced}`)).toEqual([]);
  });
});

describe('imports', () => {
  it('go before the file that names them, later ones before earlier ones', () => {
    write('version = 3\ngrpc.gid = 2\nroot = "/one"', '10-one.toml');
    write('version = 3\ngrpc.gid = 3', '20-two.toml');
    const { config } = load('version = 3\nimports = ["*-*.toml"]\ngrpc.gid = 1\nstate = "/main"');
    expect(config.server.gid).toBe(3);
    expect(config.root).toBe('/one');
    expect(config.state).toBe('/main');
  });

  it('of imports are read too, and circles end', () => {
    write('version = 3\nimports = ["b.toml"]', 'a.toml');
    write('version = 3\nimports = ["a.toml", "config.toml"]\nroot = "/b"', 'b.toml');
    expect(load('version = 3\nimports = ["a.toml"]').config.root).toBe('/b');
  });

  it('may have another layout than the file that names them', () => {
    write(`version = 2\n[${v2}.cni]\nconf_dir = "/two"`, 'two.toml');
    expect(load('version = 3\nimports = ["two.toml"]').config.cni.confDir).toBe('/two');
  });

  it('replace values in plugins, lists too, and false replaces true', () => {
    write(`version = 3\n[${runtime}]\nenable_cdi = false\ncdi_spec_dirs = ["/b"]`, 'b.toml');
    const { config } = load(
      `version = 3\nimports = ["b.toml"]\n[${runtime}]\nenable_cdi = true\ncdi_spec_dirs = ["/a"]`,
    );
    expect(config.cdi).toEqual({ enabled: false, specDirs: ['/b'] });
  });

  it('outside plugins do not replace by empty values', () => {
    write('version = 3\nroot = ""\ngrpc.gid = 0', 'b.toml');
    const { config } = load('version = 3\nimports = ["b.toml"]\nroot = "/a"\ngrpc.gid = 5');
    expect(config.root).toBe('/a');
    expect(config.server.gid).toBe(5);
  });

  it('add runtimes to those of the file', () => {
    write(`version = 3\n[${runtime}.containerd.runtimes.b]\noptions.BinaryName = "crun"`, 'b.toml');
    const { config } = load(`version = 3\nimports = ["b.toml"]\n[${runtime}.containerd.runtimes.a]`);
    expect([...config.runtimes.handlers.keys()]).toEqual(['runc', 'a', 'b']);
  });

  it('are named by errors in them', () => {
    write('version = 3\ngrpc.uid = "x"', 'bad.toml');
    expect(problemsOf('version = 3\nimports = ["bad.toml"]')[0]).toBe(
      `${dir}/bad.toml: grpc.uid: "x" is not allowed; allowed: a whole number, 0 or more`,
    );
  });

  it('that are missing stop the start, unless they are a pattern', () => {
    expect(problemsOf('version = 3\nimports = ["none.toml"]')[0]).toContain(
      'none.toml: the configuration file cannot be read',
    );
    expect(load('version = 3\nimports = ["none/*.toml"]').warnings).toEqual([]);
  });
});

describe('flags', () => {
  it('override the file', () => {
    const { config } = load(
      `version = 2\nroot = "/f"\n[grpc]\naddress = "/f.sock"\n[${v2}.cni]\nbin_dir = "/f"`,
      {
        address: 'unix:///run/flag.sock',
        root: '/flag/root',
        state: '/flag/state',
        cniConfDir: '/flag/net.d',
        cniBinDir: ['/flag/bin', '/flag/bin2'],
        logLevel: 'debug',
      },
    );
    expect(config).toMatchObject({
      root: '/flag/root',
      state: '/flag/state',
      server: { socketPath: '/run/flag.sock' },
      cni: { confDir: '/flag/net.d', binDirs: ['/flag/bin', '/flag/bin2'] },
      log: { level: 'debug' },
    });
  });

  it('are named when they are wrong', () => {
    expect(
      problemsOf('version = 2', { root: 'rel', logLevel: 'loud' }).map(problem => problem.split(':')[0]),
    ).toEqual(['--root', '--log-level']);
  });
});

describe("containerd's own directories", () => {
  it('are left alone: cri-ts works in a directory of its own name below them', () => {
    const root = join(dir, 'containerd');
    mkdirSync(join(root, 'io.containerd.metadata.v1.bolt'), { recursive: true });
    const { config, warnings } = load(`version = 2\nroot = "${root}"`);
    expect(config.root).toBe(join(root, 'cri-ts'));
    expect(warnings).toHaveLength(1);
  });

  it('under another name are refused when they hold its data', () => {
    mkdirSync(join(dir, 'data/io.containerd.metadata.v1.bolt'), { recursive: true });
    expect(problemsOf(`version = 2\nroot = "${dir}/data"`)).toEqual([
      `root: "${dir}/data" holds data of containerd (io.containerd.metadata.v1.bolt); allowed: a directory of its own, such as "${dir}/data/cri-ts"`,
    ]);
  });

  it('root and state must differ', () => {
    expect(problemsOf('version = 2\nroot = "/x"\nstate = "/x"')[0]).toContain('is root too');
  });
});
