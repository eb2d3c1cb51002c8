# hosts.sh
#	A host for each server: a network namespace of its own, on a bridge, so that
#	one can be cut off from all others without anybody being told.  To be read
#	after common.sh.
#
# Needs namespaces of an unprivileged user: the script begins again as one that
# may do in them what it likes.  Where there are none, $HOSTS is empty, and all
# servers live on this machine.  They vanish with the last process in them.
#
#	new_host NAME		the server of this name, made later, is to live there
#	address NAME		its address; without hosts, the folder of sockets
#	cut_off NAME		whatever it sends, and is sent, is dropped
#	reconnect NAME

HOSTS=${BENCH_HOSTS:-}
NEXT_HOST=1
declare -A HOST_NUMBER

as_owner=(unshare --user --map-current-user --keep-caps --net)
if [ -z "${BENCH_HOSTS+tried}" ]; then
	export BENCH_HOSTS=
	if "${as_owner[@]}" unshare --net ip link add probe type bridge 2>/dev/null; then
		BENCH_HOSTS=yes exec "${as_owner[@]}" "$0" "$@"
	fi
fi
if [ -n "$HOSTS" ]; then
	ip link add bridge type bridge && ip link set bridge up || die "cannot make a bridge"
fi

address() { [ -n "$HOSTS" ] && echo "10.0.0.${HOST_NUMBER[$1]}" || echo "$SOCKETS"; }

in_host_of() { [ "$(readlink "/proc/$1/ns/net")" != "$(readlink /proc/self/ns/net)" ]; }

# The hosts know each other's hardware from the start: that somebody does not
# answer the question for it would be told to whoever wants to connect.
new_host()
{
	local name=$1 pid n other
	[ -n "$HOSTS" ] || return 0
	HOST_NUMBER[$name]=$NEXT_HOST
	n=$((NEXT_HOST++))
	unshare --net sleep infinity &
	pid=$!
	wait_until 10 in_host_of $pid
	ENTER[$name]="nsenter --net=/proc/$pid/ns/net"
	ip link add "port$n" type veth peer name eth0 address "02:00:00:00:00:0$n" netns $pid
	ip link set "port$n" master bridge up
	${ENTER[$name]} ip address add "10.0.0.$n/24" dev eth0
	${ENTER[$name]} ip link set lo up
	${ENTER[$name]} ip link set eth0 up
	for ((other = 1; other < 10; other++)); do
		[ $other -eq $n ] ||
			${ENTER[$name]} ip neighbour add "10.0.0.$other" lladdr "02:00:00:00:00:0$other" dev eth0
	done
}

# The link stays up: nobody is told.
cut_off() { ip link set "port${HOST_NUMBER[$1]}" nomaster; }
reconnect() { ip link set "port${HOST_NUMBER[$1]}" master bridge; }
