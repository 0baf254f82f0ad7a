#!/usr/bin/env bash
# Installs this built tree (npm ci && npm run build) as a service. Over an older installation it is the upgrade: pods
# that run go on. Changes no configuration that is there, and starts nothing.
#   hack/install.sh [--destdir DIR]     below DIR, for those who make packages or disks
set -eu
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. hack/install-deps.sh

destdir=
while [ $# -gt 0 ]; do
  case $1 in
    --destdir) destdir=${2:?--destdir takes a directory}; shift 2 ;;
    *) die 'usage: hack/install.sh [--destdir DIR]' ;;
  esac
done
[ -e dist/.built ] || die 'nothing is built yet: npm ci && npm run build'
[ -n "$destdir" ] || [ "$(id -u)" = 0 ] || die 'run it as root, or give --destdir'

# The packages that the program itself needs, as paths, from the lock file.
production_modules() {
  node -e '
    const { packages } = JSON.parse(require("fs").readFileSync("package-lock.json", "utf8"));
    const isOurs = ([path, { dev }]) => path !== "" && !dev && require("fs").existsSync(path);
    console.log(Object.entries(packages).filter(isOurs).map(([path]) => path).join("\n"));
  '
}

library=$destdir/usr/local/lib/cri-ts
install -d "$library.new" "$destdir/usr/local/bin" "$destdir/etc/systemd/system"
{
  printf '%s\n' bin dist proto docs package.json LICENSE README.md
  production_modules
} | tar --create --exclude='*.map' --exclude='*.ts' --exclude='*.[cm]ts' --owner root --group root --files-from - | tar --extract --no-same-owner --directory "$library.new"

# Made whole beside the old one and put in its place at once: a daemon that starts meanwhile finds the one or the other.
rm -rf "$library.old"
[ ! -e "$library" ] || mv "$library" "$library.old"
mv "$library.new" "$library"
rm -rf "$library.old"

ln -sf ../lib/cri-ts/bin/cri-ts "$destdir/usr/local/bin/cri-ts"
install -m 644 hack/packaging/cri-ts.service "$destdir/etc/systemd/system/cri-ts.service"
[ -e "$destdir/etc/crictl.yaml" ] || install -m 644 hack/packaging/crictl.yaml "$destdir/etc/crictl.yaml"

say "installed in $library"
[ -z "$destdir" ] || exit 0
if [ ! -d /run/systemd/system ]; then
  say 'systemd does not run here; start it with: cri-ts serve'
  exit 0
fi
systemctl daemon-reload
if systemctl --quiet is-active cri-ts; then
  say 'systemctl restart cri-ts    takes the new version into use; pods go on'
else
  say 'cri-ts doctor                    says what this node lacks' \
    'systemctl enable --now cri-ts    starts it now and at each boot'
fi
