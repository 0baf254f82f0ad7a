#!/bin/sh
# Draws the pictures of docs/networking.md anew, from nodes that are really up: docs/images/{two-nodes,overlay,thirty-pods}.svg.
# Usage: hack/in-namespaces hack/hard-way/pictures.sh
set -eu
cd "$(dirname "$0")/../.."
export HARD_WAY_DIR="${HARD_WAY_DIR:-/run/cri-ts-hard-way}"
node_0=$HARD_WAY_DIR/node-0/cri.sock
node_1=$HARD_WAY_DIR/node-1/cri.sock
images=docs/images
trap 'hack/hard-way.sh --down --quiet' EXIT

hack/hard-way.sh --up --quiet
bin/cri-ts net --address "$node_0" --peer "$node_1" --svg $images/two-nodes.svg
for number in $(seq 28); do hack/hard-way/pod node-0 run "shop-$number"; done
bin/cri-ts net --address "$node_0" --svg $images/thirty-pods.svg
hack/hard-way.sh --down --quiet

hack/hard-way.sh --up --overlay --dual-stack --quiet
bin/cri-ts net --address "$node_0" --peer "$node_1" --svg $images/overlay.svg
