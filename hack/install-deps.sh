# Installs what building, running and testing need, and only what is missing; says what it does. To be sourced by
# a script that has changed into the root of the repository:
#   . hack/install-deps.sh
#   install_deps             to build and to run
#   install_deps hard-way    for hack/hard-way.sh too
#   install_deps test        to run the tests too, that of the hard way among them
#   install_deps vm          for hack/vm
# Packages are Debian's (12 or newer). Nothing is ever removed for them. Those that only go into images of the tests are
# fetched into .cache and not installed; nor is containerd, which one test compares with.

say() { printf '%s\n' "$@"; }
die() { printf '%s\n' "$*" >&2; exit 1; }

# Prints the packages whose programs are missing. A program from elsewhere (another distribution's runc, say) serves too.
missing_packages() {
  wanted='runc:runc conmon:conmon catatonit:catatonit ip:iproute2 iptables:iptables unshare:util-linux mount:mount'
  [ -z "${1:-}" ] || wanted="$wanted nft:nftables"
  [ "${1:-}" != test ] || wanted="$wanted skopeo:skopeo umoci:umoci docker-registry:docker-registry zstd:zstd openssl:openssl git:git ps:procps"
  [ "${1:-}" != vm ] || wanted="mmdebstrap:mmdebstrap qemu-system-x86_64:qemu-system-x86 qemu-img:qemu-utils mke2fs:e2fsprogs cpio:cpio xz:xz-utils modprobe:kmod systemctl:systemd git:git"
  for pair in $wanted; do
    PATH="$PATH:/usr/sbin:/sbin" command -v "${pair%%:*}" >/dev/null || printf '%s ' "${pair#*:}"
  done
  [ "${1:-}" != vm ] || return 0
  [ -x /usr/lib/cni/bridge ] || [ -x /opt/cni/bin/bridge ] || printf 'containernetworking-plugins '
  # It goes into an image that holds no library.
  if ! [ -x /bin/busybox ] || ldd /bin/busybox >/dev/null 2>&1; then printf 'busybox-static '; fi
}

install_packages() {
  packages=$(missing_packages "${1:-}")
  [ -n "$packages" ] || return 0
  command -v apt-get >/dev/null || die "missing, and there is no apt-get to install them: $packages"
  [ "$(id -u)" = 0 ] || die "missing: $packages; run as root, or install them with apt-get"
  say "installing Debian packages: $packages"
  log=$(mktemp)
  # shellcheck disable=SC2086
  if ! { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends --no-remove $packages; } >"$log" 2>&1 </dev/null; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    die "apt-get could not install: $packages"
  fi
  rm -f "$log"
  packages=$(missing_packages "${1:-}")
  [ -z "$packages" ] || die "still missing after their installation: $packages"
}

install_node_modules() {
  command -v node >/dev/null || die 'Node.js 20 or newer is needed, and there is no node on the PATH'
  node -e 'process.exit(Number(process.versions.node.split(".")[0]) < 20 ? 1 : 0)' ||
    die "Node.js 20 or newer is needed, this is $(node --version)"
  if node_modules_are_current; then return 0; fi
  say 'installing npm packages'
  log=$(mktemp)
  if ! npm ci --no-audit --no-fund >"$log" 2>&1; then
    grep '^npm error' "$log" | head -n 20 >&2
    rm -f "$log"
    die 'npm ci failed'
  fi
  rm -f "$log"
}

# True when every package of the lock file is there in its version; optional ones may be of another platform.
node_modules_are_current() {
  node -e '
    const packages = file => JSON.parse(require("fs").readFileSync(file, "utf8")).packages;
    const [wanted, present] = [packages("package-lock.json"), packages("node_modules/.package-lock.json")];
    const isThere = ([path, { version, optional }]) => path === "" || optional || present[path]?.version === version;
    process.exit(Object.entries(wanted).every(isThere) ? 0 : 1);
  ' 2>/dev/null
}

# Compiles src into dist unless dist is newer than everything it is made of.
build() {
  if [ -e dist/.built ] && [ -z "$(find src proto hack/bundle.ts package.json tsconfig.json tsconfig.build.json -newer dist/.built -print -quit)" ]; then
    return 0
  fi
  say 'building'
  npm run --silent build || die 'the build failed'
}

# Prints the libraries that packages depend on.
libraries_of() {
  apt-cache depends --important "$@" | awk '$1 ~ /Depends:$/ && $2 ~ /^(lib|zlib)/ { print $2 }' | sort -u
}

# Fetches packages into .cache/NAME without installing them: fetch_packages NAME COMMAND   (it prints the packages)
fetch_packages() {
  cache=$PWD/.cache/$1
  [ ! -e "$cache/complete" ] || return 0
  command -v apt-get >/dev/null || die "the packages of $1 are wanted for the tests, and there is no apt-get to fetch them"
  say "fetching Debian packages for the tests: $1"
  mkdir -p "$cache"
  log=$(mktemp)
  # shellcheck disable=SC2046
  if ! (cd "$cache" && rm -f ./*.deb && apt-get -qq update && apt-get -qq download $("$2")) >"$log" 2>&1 </dev/null; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    die "apt-get could not fetch $1"
  fi
  rm -f "$log"
}

# nginx-light with the libraries of its program and what these need: the tests lay them into an image.
packages_of_nginx() {
  libraries=$(libraries_of nginx)
  # shellcheck disable=SC2086
  printf '%s\n' nginx-light nginx nginx-common libnginx-mod-http-echo $libraries $(libraries_of $libraries) | sort -u
}

# containerd, which the image service is compared with: laid beside the tests where it is not installed, for the package
# would start it as the machine's runtime.
packages_of_containerd() { printf 'containerd\n'; }

fetch_for_tests() {
  fetch_packages nginx-light packages_of_nginx && touch .cache/nginx-light/complete
  if ! command -v containerd >/dev/null && [ ! -e .cache/containerd/complete ]; then
    fetch_packages containerd packages_of_containerd
    dpkg-deb --extract .cache/containerd/containerd_*.deb .cache/containerd || die 'containerd could not be unpacked'
    touch .cache/containerd/complete
  fi
}

install_deps() {
  install_packages "${1:-}"
  [ "${1:-}" != test ] || fetch_for_tests
  install_node_modules
}
