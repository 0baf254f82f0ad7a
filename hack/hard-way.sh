#!/usr/bin/env bash
# Two nodes, the hard way: pods on two nodes reach each other with nothing but a runtime, two CNI files and `ip route`.
# On one machine, each "machine" a network namespace; the host's own interfaces, routes and rules are not touched.
#
#   ct-server 10.240.0.79      ct-node-0 10.240.0.80             ct-node-1 10.240.0.81
#        |                     cri-ts, pods 10.200.0.0/24        cri-ts, pods 10.200.1.0/24
#        |                          |                                 |
#        +---------- ct-vpc: the link 10.240.0.0/24, gateway 10.240.0.1, and the outside 192.0.2.1 ----
#
# Usage: hack/hard-way.sh [--overlay] [--dual-stack] [--keep | --up | --down] [--quiet]
#   --overlay      the nodes know no routes to pod subnets: a VXLAN device on each carries the pods' packets (flannel's part)
#   --dual-stack   nodes and pods have IPv6 beside IPv4
#   --keep         leave everything up after the walk, to explore
#   --up           make everything, without the walk, and leave it up
#   --down         remove what --keep or --up left (or an interrupted run)
#   --quiet        the titles alone
# HARD_WAY_DIR (default /run/cri-ts-hard-way) is where both nodes keep everything.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

overlay='' dual='' keep='' walk=yes down_only='' quiet=''
for argument in "$@"; do
  case $argument in
    --overlay) overlay=yes ;;
    --dual-stack) dual=yes ;;
    --keep) keep=yes ;;
    --up) keep=yes walk='' ;;
    --down) down_only=yes ;;
    --quiet) quiet=yes ;;
    *) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; [ "$argument" = --help ]; exit ;;
  esac
done

export PATH="$PATH:/usr/sbin:/sbin"
export HARD_WAY_DIR=${HARD_WAY_DIR:-/run/cri-ts-hard-way}
dir=$HARD_WAY_DIR
mark=$(basename "$dir")
nodes='node-0 node-1'
pod=hack/hard-way/pod
gateway=10.240.0.1 outside=192.0.2.1 gateway6=fd00:240::1 outside6=2001:db8::1
cluster_ip=10.32.0.10 node_port=30080
reservations=/var/lib/cni/networks/bridge # host-local's default place, by the network's name, which is the same on both
its_directories='/var/lib/cni /var/lib/cni/networks /var/lib/cni/networks/bridge'

# What differs between the nodes is a number: node-N has the address 10.240.0.8N and the pods of 10.200.N.0/24.
address() { echo "10.240.0.8${1#node-}"; }
address6() { echo "fd00:240::8${1#node-}"; }
pod_cidr() { echo "10.200.${1#node-}.0/24"; }
pod_cidr6() { echo "fd00:200:${1#node-}::/64"; }
other() { if [ "$1" = node-0 ]; then echo node-1; else echo node-0; fi; }

## ---- saying and showing

if [ -t 1 ]; then bold=$(printf '\033[1m') plain=$(printf '\033[0m'); else bold='' plain=''; fi
title() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }
note() { [ -n "$quiet" ] || printf '\n%s\n' "$*"; }
die() { printf 'hard-way: %s\n' "$*" >&2; exit 1; }
output() { [ -n "$quiet" ] || sed 's/[[:space:]]*$//; s/^/    /' "$1"; }

# show COMMAND...: prints the command, runs it, prints its output; the walk ends when it fails.
show() {
  [ -n "$quiet" ] || printf '%s  $ %s%s\n' "$bold" "$*" "$plain"
  if ! "$@" > "$dir/output" 2>&1; then
    quiet='' output "$dir/output"
    die "failed: $*"
  fi
  output "$dir/output"
}
# show_failing COMMAND...: the same for what must not work; the walk ends when it does.
show_failing() {
  [ -n "$quiet" ] || printf '%s  $ %s%s\n' "$bold" "$*" "$plain"
  local status=0
  "$@" > "$dir/output" 2>&1 || status=$?
  if [ $status = 0 ] || [ $status = 139 ]; then # 139: it crashed, which shows nothing
    quiet='' output "$dir/output"
    die "should have failed, and ended with $status: $*"
  fi
  output "$dir/output"
}
# saw TEXT: the last command's output holds it.
saw() { grep -qF -- "$1" "$dir/output" || { cat "$dir/output" >&2; die "expected to see: $1"; }; }
saw_not() { ! grep -qF -- "$1" "$dir/output" || { cat "$dir/output" >&2; die "expected not to see: $1"; }; }

in_ns() { ip netns exec "$@"; }
sysctl=$(command -v sysctl || echo 'busybox sysctl')

## ---- making the link and the machines

# The router of the link has a way to every node and to the outside, and knows nothing of pods.
make_vpc() {
  ip netns add ct-vpc
  ip -n ct-vpc link set lo up
  ip -n ct-vpc link add lan0 type bridge
  ip -n ct-vpc addr add $gateway/24 dev lan0
  ip -n ct-vpc addr add $outside/32 dev lo
  ip -n ct-vpc link set lan0 up
  in_ns ct-vpc $sysctl -qw net.ipv4.ip_forward=1
  if [ -n "$dual" ]; then
    ip -n ct-vpc addr add $gateway6/64 dev lan0 nodad
    ip -n ct-vpc addr add $outside6/128 dev lo nodad
    in_ns ct-vpc $sysctl -qw net.ipv6.conf.all.forwarding=1
  fi
  # Somebody outside, who says whom they see.
  mkdir -p "$dir/outside/cgi-bin"
  cp hack/hard-way/who.cgi "$dir/outside/cgi-bin/who"
  chmod 755 "$dir/outside/cgi-bin/who"
  WHO=outside nsenter --net=/run/netns/ct-vpc busybox httpd -f -p 80 -h "$dir/outside" > /dev/null 2>&1 < /dev/null &
  echo $! > "$dir/outside/pid"
}

# make_machine NAME ADDRESS ADDRESS6: a namespace with eth0 on the link and a default route to its router.
make_machine() {
  ip netns add "ct-$1"
  ip -n "ct-$1" link set lo up
  ip -n "ct-$1" link add eth0 type veth peer name "$1" netns ct-vpc
  ip -n ct-vpc link set "$1" master lan0 up
  ip -n "ct-$1" addr add "$2/24" dev eth0
  [ -z "$dual" ] || ip -n "ct-$1" addr add "$3/64" dev eth0 nodad
  ip -n "ct-$1" link set eth0 up
  ip -n "ct-$1" route add default via $gateway
  [ -z "$dual" ] || ip -n "ct-$1" -6 route add default via $gateway6
}

write_cni_files() { # NODE: the two files of the node's conf_dir
  local subnets="[{\"subnet\": \"$(pod_cidr "$1")\"}]" routes='{"dst": "0.0.0.0/0"}' mtu=''
  if [ -n "$dual" ]; then
    subnets="$subnets, [{\"subnet\": \"$(pod_cidr6 "$1")\"}]"
    routes="$routes, {\"dst\": \"::/0\"}"
  fi
  [ -z "$overlay" ] || mtu=$'\n  "mtu": 1450,' # VXLAN takes 50 bytes of each frame of the link's 1500
  mkdir -p "$dir/$1/net.d"
  cat > "$dir/$1/net.d/10-bridge.conf" <<JSON
{
  "cniVersion": "1.0.0",
  "name": "bridge",
  "type": "bridge",
  "bridge": "cni0",
  "isGateway": true,
  "ipMasq": true,$mtu
  "ipam": {
    "type": "host-local",
    "ranges": [$subnets],
    "routes": [$routes]
  }
}
JSON
  cat > "$dir/$1/net.d/99-loopback.conf" <<JSON
{
  "cniVersion": "1.1.0",
  "name": "lo",
  "type": "loopback"
}
JSON
}

# start_node NODE: its daemon, in the node's network namespace, with everything of its own. `nsenter --net` rather than
# `ip netns exec`, which would also give it mounts of its own, and nobody else would see the pods' namespaces.
start_node() {
  local flags=(--root "$dir/$1/root" --state "$dir/$1/state" --address "$dir/$1/cri.sock" --cni-conf-dir "$dir/$1/net.d")
  printf 'version = 3\n' > "$dir/$1/config.toml" # not the host's file, whatever that says
  flags+=(--config "$dir/$1/config.toml")
  [ -d "$dir/$1/root/layers" ] || bin/cri-ts image import --quiet "${flags[@]}" "$dir/image" > /dev/null
  nsenter --net="/run/netns/ct-$1" bin/cri-ts serve "${flags[@]}" >> "$dir/$1/daemon.log" 2>&1 < /dev/null &
  echo $! > "$dir/$1/pid"
  for _ in $(seq 200); do
    if $pod "$1" list > /dev/null 2>&1; then return 0; fi # a bare return, in a trap, has the status from before the trap
    kill -0 "$(cat "$dir/$1/pid")" 2> /dev/null || break
    sleep 0.1
  done
  tail -n 5 "$dir/$1/daemon.log" >&2
  die "the daemon of $1 does not serve"
}

# Each node and the server learn where the other pods are: that is all, four lines of ip route.
add_routes() {
  show ip -n ct-server route add 10.200.0.0/24 via 10.240.0.80
  show ip -n ct-server route add 10.200.1.0/24 via 10.240.0.81
  show ip -n ct-node-0 route add 10.200.1.0/24 via 10.240.0.81
  show ip -n ct-node-1 route add 10.200.0.0/24 via 10.240.0.80
  if [ -n "$dual" ]; then
    show ip -n ct-server route add fd00:200:0::/64 via fd00:240::80
    show ip -n ct-server route add fd00:200:1::/64 via fd00:240::81
    show ip -n ct-node-0 route add fd00:200:1::/64 via fd00:240::81
    show ip -n ct-node-1 route add fd00:200:0::/64 via fd00:240::80
  fi
}

# The same with an overlay: to a node the other's pods are behind one device, flannel.1, and one neighbour on it.
add_overlay() {
  local node there mac
  for node in $nodes; do
    show ip -n "ct-$node" link add flannel.1 type vxlan id 1 local "$(address "$node")" dev eth0 dstport 8472 nolearning
    show ip -n "ct-$node" addr add "10.200.${node#node-}.0/32" dev flannel.1
    [ -z "$dual" ] || show ip -n "ct-$node" addr add "fd00:200:${node#node-}::/128" dev flannel.1 nodad
    show ip -n "ct-$node" link set flannel.1 up
  done
  for node in $nodes; do
    there=$(other "$node")
    mac=$(ip -n "ct-$there" -br link show flannel.1 | awk '{print $3}')
    note "On $node: the pods of $there are behind 10.200.${there#node-}.0, which has the hardware address $mac, which is at $(address "$there")."
    show ip -n "ct-$node" route add "$(pod_cidr "$there")" via "10.200.${there#node-}.0" dev flannel.1 onlink
    show ip -n "ct-$node" neigh add "10.200.${there#node-}.0" lladdr "$mac" dev flannel.1 nud permanent
    show bridge -n "ct-$node" fdb append "$mac" dev flannel.1 dst "$(address "$there")"
    if [ -n "$dual" ]; then
      show ip -n "ct-$node" route add "$(pod_cidr6 "$there")" via "fd00:200:${there#node-}::" dev flannel.1 onlink
      show ip -n "ct-$node" neigh add "fd00:200:${there#node-}::" lladdr "$mac" dev flannel.1 nud permanent
    fi
  done
}

up() {
  local node
  mkdir -p "$dir"
  chmod 700 "$dir"
  for directory in $its_directories; do [ -d "$directory" ] || echo "$directory" >> "$dir/made-by-host-local"; done
  title 'Three machines on a link'
  make_vpc
  make_machine server 10.240.0.79 fd00:240::79
  for node in $nodes; do make_machine "$node" "$(address "$node")" "$(address6 "$node")"; done
  show ip netns list
  show ip -n ct-node-0 addr show eth0

  title 'Packets for others are forwarded'
  for node in $nodes; do
    show ip netns exec "ct-$node" $sysctl -w net.ipv4.ip_forward=1
    [ -z "$dual" ] || show ip netns exec "ct-$node" $sysctl -w net.ipv6.conf.all.forwarding=1
  done

  if [ -n "$overlay" ]; then
    title 'An overlay: VXLAN between the nodes'
    add_overlay
  else
    title 'Where the pods of the others are'
    add_routes
  fi

  title 'A runtime on each node, two CNI files'
  hack/hard-way/busybox-image.sh "$dir/image"
  for node in $nodes; do
    write_cni_files "$node"
    start_node "$node"
  done
  show cat "$dir/node-0/net.d/10-bridge.conf" "$dir/node-0/net.d/99-loopback.conf"
  note "cri-ts serves each node on $dir/node-N/cri.sock."

  title 'Pods'
  show $pod node-0 run web-a
  show $pod node-0 run web-b
  show $pod node-1 run web-c
  show $pod node-0 list
  show $pod node-1 list
}

## ---- the walk

# Sets ip_NAME, ip6_NAME and ns_NAME for each pod from its own node's answer.
learn_pods() {
  local node name addresses
  for node in $nodes; do
    while read -r name addresses; do
      set -- $addresses
      declare -g "ip_${name//-/_}=$1"
      shift
      case $1 in cni-*) ;; *) declare -g "ip6_${name//-/_}=$1"; shift ;; esac
      declare -g "ns_${name//-/_}=$1"
    done < <($pod "$node" list)
  done
}

walk() {
  learn_pods
  title 'The node: a bridge, and for each pod one end of a cable'
  note "web-a's namespace is $ns_web_a; its cable's other end names it by link-netns."
  show ip -n ct-node-0 link
  saw "link-netns $ns_web_a"
  saw 'master cni0'
  show ip -n ct-node-0 addr show type bridge
  saw '10.200.0.1/24'

  title 'The pod: its own eth0, lo and routes'
  show ip -n "$ns_web_a" addr
  saw "$ip_web_a/24"
  [ -z "$overlay" ] || saw 'mtu 1450'
  show ip -n "$ns_web_a" route
  saw 'default via 10.200.0.1 dev eth0'
  [ -z "$dual" ] || show ip -n "$ns_web_a" -6 route

  title 'Pod to pod on one node: through the bridge'
  show $pod node-0 exec web-a wget -qO- "http://$ip_web_b/cgi-bin/who"
  saw "this is web-b, and you are $ip_web_a"
  show $pod node-0 exec web-a traceroute -n "$ip_web_b"
  [ -z "$dual" ] || { show $pod node-0 exec web-a wget -qO- "http://[$ip6_web_b]/cgi-bin/who"; saw "you are $ip6_web_a"; }
  show bin/cri-ts net trace web-a web-b --address "$dir/node-0/cri.sock"

  title 'Pod to pod across nodes'
  show $pod node-0 exec web-a ping -c 1 "$ip_web_c"
  show $pod node-0 exec web-a traceroute -n "$ip_web_c"
  saw '10.200.0.1'
  saw "$ip_web_c"
  show ip -n "$ns_web_a" route get "$ip_web_c"
  show ip -n ct-node-0 route get "$ip_web_c" from "$ip_web_a" iif cni0
  show ip -n ct-node-1 route get "$ip_web_c" from 10.240.0.80 iif "$([ -n "$overlay" ] && echo flannel.1 || echo eth0)"
  note "With ipMasq, a packet that leaves the pod's own subnet leaves with its node's address:"
  show $pod node-0 exec web-a wget -qO- "http://$ip_web_c/cgi-bin/who"
  saw "this is web-c, and you are $([ -n "$overlay" ] && echo 10.200.0.0 || echo 10.240.0.80)"
  [ -z "$dual" ] || { show $pod node-0 exec web-a wget -qO- "http://[$ip6_web_c]/cgi-bin/who"; saw 'this is web-c'; }
  show bin/cri-ts net trace web-a web-c --address "$dir/node-0/cri.sock" --peer "$dir/node-1/cri.sock"
  saw 'web-c'
  if [ -n "$overlay" ]; then
    note 'The link carried no packet of a pod, but UDP from node to node:'
    show ip -n ct-node-0 -s link show flannel.1
    note 'Whoever has no such device has no way to a pod; the server is one:'
    show_failing ip netns exec ct-server busybox ping -c 1 -W 1 "$ip_web_c"
  fi

  title 'Pod to the outside: masquerade'
  show $pod node-0 exec web-a wget -qO- "http://$outside/cgi-bin/who"
  saw 'this is outside, and you are 10.240.0.80'
  [ -z "$dual" ] || { show $pod node-0 exec web-a wget -qO- "http://[$outside6]/cgi-bin/who"; saw 'you are fd00:240::80'; }
  note "The outside saw the node, because of these rules: not within $(pod_cidr node-0), not multicast, all else masqueraded."
  show ip netns exec ct-node-0 iptables -t nat -S
  saw "$ip_web_a/32"
  saw MASQUERADE
  show bin/cri-ts net trace web-a $outside --address "$dir/node-0/cri.sock"

  if [ -z "$overlay" ]; then
    title 'The server to a pod'
    show ip netns exec ct-server busybox wget -qO- "http://$ip_web_c/cgi-bin/who"
    saw 'this is web-c, and you are 10.240.0.79'
  fi

  walk_services
  walk_without_route
  walk_without_forwarding
  show bin/cri-ts net --address "$dir/node-0/cri.sock"
}

walk_services() {
  local node seen
  title 'A service: ClusterIP and NodePort (the part of kube-proxy)'
  for node in $nodes; do
    show ip netns exec "ct-$node" hack/hard-way/services.nft.sh apply "$(pod_cidr "$node")" $cluster_ip 80 $node_port "$ip_web_b:80" "$ip_web_c:80"
  done
  show ip netns exec ct-node-0 nft list table ip hard-way-services
  note 'From a pod to the ClusterIP, twice: both endpoints answer, one on each node.'
  show $pod node-0 exec web-a wget -qO- "http://$cluster_ip/cgi-bin/who"
  seen=$(cat "$dir/output")
  show $pod node-0 exec web-a wget -qO- "http://$cluster_ip/cgi-bin/who"
  case "$seen $(cat "$dir/output")" in *web-b*web-c* | *web-c*web-b*) ;; *) die 'the ClusterIP did not lead to both pods' ;; esac
  note 'From the server to the NodePort of each node:'
  for node in $nodes; do
    show ip netns exec ct-server busybox wget -qO- "http://$(address "$node"):$node_port/cgi-bin/who"
    saw "this is web-"
  done
  show bin/cri-ts net trace web-a "$cluster_ip" --port 80 --address "$dir/node-0/cri.sock" --peer "$dir/node-1/cri.sock"
  saw "$cluster_ip"
  for node in $nodes; do
    show ip netns exec "ct-$node" hack/hard-way/services.nft.sh remove
  done
  show_failing $pod node-0 exec web-a timeout 3 wget -qO- "http://$cluster_ip/cgi-bin/who"
}

walk_without_route() {
  title 'What breaks: a route is missing'
  show ip -n ct-node-0 route del 10.200.1.0/24
  show_failing $pod node-0 exec web-a ping -c 1 -W 1 "$ip_web_c"
  note 'The packet goes the default way, to the router, which has never heard of pods:'
  show ip -n ct-node-0 route get "$ip_web_c" from "$ip_web_a" iif cni0
  saw "via $gateway"
  show $pod node-0 exec web-a traceroute -n -m 3 -w 1 -q 1 "$ip_web_c"
  saw_not "  $ip_web_c"
  if [ -n "$overlay" ]; then
    show ip -n ct-node-0 route add 10.200.1.0/24 via 10.200.1.0 dev flannel.1 onlink
  else
    show ip -n ct-node-0 route add 10.200.1.0/24 via 10.240.0.81
  fi
  show $pod node-0 exec web-a ping -c 1 "$ip_web_c"
}

walk_without_forwarding() {
  title 'What breaks: a node does not forward'
  show ip netns exec ct-node-1 $sysctl -w net.ipv4.ip_forward=0
  show_failing $pod node-0 exec web-a ping -c 1 -W 1 "$ip_web_c"
  note 'The packet arrives at node-1 and is dropped there, silently: it is for another machine, and node-1 is no router.'
  show_failing bin/cri-ts net trace web-a web-c --address "$dir/node-0/cri.sock" --peer "$dir/node-1/cri.sock"
  saw 'ip_forward'
  show_failing $pod node-1 exec web-c ping -c 1 -W 1 "$outside"
  note "On its own bridge the pod is still reached by its node, which need not forward for that:"
  show ip netns exec ct-node-1 busybox ping -c 1 "$ip_web_c"
  show ip netns exec ct-node-1 $sysctl -w net.ipv4.ip_forward=1
  show $pod node-0 exec web-a ping -c 1 "$ip_web_c"
}

## ---- taking it down

teardown_walk() {
  title 'Pods go, and with them their interfaces and rules'
  local node
  for node in $nodes; do show $pod "$node" remove --all; done
  show ip -n ct-node-0 link
  saw_not veth
  show ip netns exec ct-node-0 iptables -t nat -S
  saw_not 10.200.0.
  show ip netns list
  saw_not cni-
}

# Removes all that `up` made, however far it came; asks the nodes themselves to remove their pods.
down() {
  local node pid name
  [ -d "$dir" ] || return 0
  for node in $nodes; do
    [ -d "$dir/$node/root" ] && [ -e "/run/netns/ct-$node" ] || continue
    if ! $pod "$node" list > /dev/null 2>&1; then
      stop "$dir/$node/pid" # one that has not come far enough to serve
      start_node "$node"
    fi
    $pod "$node" remove --all
    stop "$dir/$node/pid"
  done
  stop "$dir/outside/pid"
  for name in vpc server $nodes; do
    [ ! -e "/run/netns/ct-$name" ] || ip netns delete "ct-$name"
  done
  find /sys/fs/cgroup -depth -type d -path "*/$mark-node-[01]*" -exec rmdir {} + 2> /dev/null || true
  if [ -e "$dir/made-by-host-local" ]; then
    # host-local never removes these, nor its lock and the last addresses that it gave.
    if grep -qx $reservations "$dir/made-by-host-local" && [ -z "$(reserved)" ]; then rm -rf $reservations; fi
    tac "$dir/made-by-host-local" | xargs rmdir 2> /dev/null || true # whatever others use by now stays
  fi
  rm -rf "$dir"
}

stop() { # PIDFILE
  local pid
  [ -s "$1" ] || return 0
  pid=$(cat "$1")
  kill "$pid" 2> /dev/null || return 0
  for _ in $(seq 200); do [ -d "/proc/$pid" ] && ! grep -q '^State:.Z' "/proc/$pid/status" 2> /dev/null || return 0; sleep 0.05; done
  kill -9 "$pid" 2> /dev/null || true
}

reserved() { find $reservations -name '10.200.[01].*' -o -name 'fd00:200:*' 2> /dev/null || true; }

# Prints whatever is left of us; nothing, after down.
leftovers() {
  find /run/netns -name 'ct-*' 2> /dev/null || true
  for name in ${pod_namespaces:-}; do [ ! -e "/run/netns/$name" ] || echo "/run/netns/$name"; done
  grep -F "$dir/" /proc/self/mountinfo || true
  find /sys/fs/cgroup -type d -path "*/$mark-node-[01]*" 2> /dev/null || true
  reserved
  [ ! -e "$dir" ] || echo "$dir"
  for process in /proc/[0-9]*; do # some end while we look
    { tr '\0' ' ' < "$process/cmdline" | grep -F "$dir/"; } 2> /dev/null || true
  done
}

finish() {
  title 'Nothing is left'
  for node in $nodes; do pod_namespaces="${pod_namespaces:-} $($pod "$node" list 2> /dev/null | awk '{ print $(NF - 1) }' | tr '\n' ' ')"; done
  down
  local left
  left=$(leftovers)
  [ -z "$left" ] || die "left behind:
$left"
  echo 'no namespace, interface, mount, cgroup, process or reservation'
}

[ "$(id -u)" = 0 ] || die 'network namespaces need root'
. hack/install-deps.sh
die() { printf 'hard-way: %s\n' "$*" >&2; exit 1; } # with its own name, which install-deps.sh does not know
install_deps hard-way
build

if [ -n "$down_only" ]; then
  [ -d "$dir" ] || { echo 'nothing is up'; exit 0; }
  finish
  exit 0
fi

# Before the trap: what another run left up is not this one's to take down.
[ ! -e "$dir" ] || die "$dir is there: a run was left up or was interrupted; hack/hard-way.sh --down removes it"
# What takes it down is not interrupted itself, also not by a second Ctrl-C.
trap 'status=$?; trap "" INT TERM; if [ $status -ne 0 ] && [ -z "$keep" ]; then echo "hard-way: taking down what was made" >&2; down; fi; exit $status' EXIT
trap 'exit 130' INT TERM
up
[ -z "$walk" ] || walk
if [ -n "$keep" ]; then
  title 'Left up'
  cat <<TEXT
Explore:  ip -n ct-node-0 link        $pod node-0 list        bin/cri-ts net --address $dir/node-0/cri.sock
Remove:   hack/hard-way.sh --down
TEXT
  exit 0
fi
teardown_walk
finish
title 'Every step was as expected'
