#!/usr/bin/env bash
# The main job, before your eyes: installs what is missing, builds, starts the daemon on its embedded defaults, runs
# a pod of two containers and a second pod beside it, lets them talk, takes everything down and shows that
# nothing is left. Needs root, Debian 12 or newer and Node.js 20 or newer. The walk itself is hack/quickstart/walk.ts.
set -eu
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. hack/install-deps.sh
[ "$(id -u)" = 0 ] || die 'quickstart makes network namespaces and mounts: run it as root'
export PATH="$PATH:/usr/sbin:/sbin"
install_deps
build
exec node --import tsx hack/quickstart/main.ts
