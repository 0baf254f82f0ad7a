#!/bin/sh
# The part that kube-proxy plays, for one service, with nftables: packets to the ClusterIP, or to the NodePort on any
# address of this node, get a pod's address instead (DNAT). The connection is tracked, so replies are turned back.
# Runs on every node, in the node's network namespace. A service is nothing but these rules: no process listens,
# no interface has the ClusterIP.
# Beyond this: a pod that is led to itself. Where br_netfilter hands bridged frames to these rules, the bridge itself would
# have to send such a frame back out of the port that it came by: "hairpinMode": true in the bridge's CNI file.
# Usage: services.nft.sh apply POD_CIDR CLUSTER_IP PORT NODE_PORT ENDPOINT_IP:PORT...
#        services.nft.sh remove
set -eu

table='ip hard-way-services'
nft delete table $table 2>/dev/null || true
[ "$1" = apply ] || exit 0
pod_cidr=$2 cluster_ip=$3 port=$4 node_port=$5
shift 5

endpoints='' choices='' n=0
for endpoint in "$@"; do
  endpoints="$endpoints
  chain endpoint-$n {
    ip protocol tcp dnat to $endpoint
  }"
  choices="$choices${choices:+, }$n : goto endpoint-$n"
  n=$((n + 1))
done

nft -f - <<RULES
table $table {
  $endpoints

  # One endpoint for each new connection, in turn. (kube-proxy draws at random; in turn shows both sooner.)
  chain web {
    numgen inc mod $n vmap { $choices }
  }

  chain services {
    ip daddr $cluster_ip tcp dport $port goto web
    # A NodePort answers on every address of the node. The packet may leave for a pod of another node, which would
    # answer the client directly, and the client knows nothing of that pod: the mark asks for a masquerade below.
    fib daddr type local tcp dport $node_port meta mark set 0x4000 goto web
  }

  # Packets that come to this node, from pods and from outside: before the route is chosen.
  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    jump services
  }

  # Packets of the node's own programs.
  chain output {
    type nat hook output priority -100; policy accept;
    jump services
  }

  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    meta mark 0x4000 masquerade
    # Client and endpoint on this node's bridge: the endpoint would answer its neighbour directly, past this node,
    # and the client would get a reply from an address that it never asked.
    ct status dnat ip saddr $pod_cidr ip daddr $pod_cidr masquerade
  }
}
RULES
