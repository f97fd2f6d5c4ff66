#!/bin/bash
# The first process of a node, in namespaces of its own. It obeys one command per line on standard input.
# Standard input is also the lifeline: when whoever started the node is gone it ends, this process ends,
# and the kernel takes away every process, mount and interface that was inside.
# Environment: NODE NODE_DIR LOCK ADDRESS GATEWAY ROUTES ("<pods> <via>" per line).
set -u
cd "$NODE_DIR" || exit 1

# The cluster's number stays taken for as long as one process in here lives.
exec 8<"$LOCK" && flock --shared 8 || exit 1

set -e
mount --make-rshared /
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/netns /run/lock
for place in /var/lib /var/log; do
	mount --bind "$NODE_DIR$place" "$place"
	# Out of the peer group of what it was bound from, or each mount below would show up there as well.
	mount --make-private "$place"
	mount --make-rshared "$place"
done
hostname "$NODE"
ip link set lo up
sysctl -qw net.ipv4.ip_forward=1
set +e

network() {
	ip addr add "$ADDRESS/24" dev eth0 && ip link set eth0 up && ip route add default via "$GATEWAY" || return
	while read -r pods via; do
		[ -z "$pods" ] || ip route add "$pods" via "$via" || return
	done <<<"$ROUTES"
}

start() {
	rm -f "parts/$1.exit" "parts/$1.pid"
	(
		bash "parts/$1.sh" </dev/null >>"log/$1.log" 2>&1 &
		echo $! >"parts/$1.pid.new" && mv "parts/$1.pid.new" "parts/$1.pid"
		wait $!
		echo $? >"parts/$1.exit.new" && mv "parts/$1.exit.new" "parts/$1.exit"
	) </dev/null &
}

while read -r verb part signal; do
	case $verb in
	network) network && touch network.up ;;
	start) start "$part" ;;
	signal) kill -s "$signal" "$(cat "parts/$part.pid")" ;;
	esac
done
