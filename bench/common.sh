# common.sh
#	What the measuring scripts share: servers that come and go with the script.
#	To be read by bash:  . "$(dirname "$0")/common.sh"
#
# Scripts run through test/as-user ("make bench"): as a user who may start
# servers, with TESTDIR and PATH set, in a copy of the source tree.  They print
# figures, one per line, by "figure"; they judge nothing.
#
#	new_server NAME [SETTING...]    initialise and start an instance
#	new_member NAME [SETTING...]    the same, with a store's database
#	new_node NAME [SETTING...]      a node of the store in $STORE
#	new_group TTL NAME...           member "store", nodes, lease "main" governing
#	start NAME, stop NAME [MODE]    again
#	kill_server NAME                SIGKILL to all of its processes
#	clear_away NAME                 remove what a killed one left in memory
#	connstr NAME [DBNAME]           how to reach it
#	sql NAME SQL [DBNAME]           run SQL, print the answer
#	processes NAME                  its process ids, by its data directory
#	worker NAME keeper|steward|prober
#	wait_until SECONDS COMMAND...   poll until the command succeeds, or die
#	within SECONDS COMMAND...       the same, false if it does not in this time
#	wait_holder NAME                until it holds the lease
#	figure NAME VALUE UNIT          one figure
#	median                          of the numbers on standard input
#	percentile P                    the same, any percentile
#	writer ..., judge ...           the tools of test/tools

set -u

BENCH=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
TOP=$(dirname "$BENCH")
: "${TESTDIR:?run this through make bench}"
DIR=$TESTDIR/bench.$$
SOCKETS=$DIR/s
mkdir -p "$SOCKETS"
export PGUSER=postgres
STORE=
SERVERS=()
declare -A PORT PID ENTER		# ENTER: a command before the server's, hosts.sh
NEXT_PORT=6001

writer() { "$TOP/test/tools/writer" "$@"; }
judge() { "$TOP/test/tools/judge" "$@"; }

cleanup()
{
	local name pid
	trap '' HUP INT TERM
	for name in "${SERVERS[@]}"; do
		pid=${PID[$name]:-}
		[ -n "$pid" ] || continue
		kill -CONT $(processes "$name") 2>/dev/null
		kill -QUIT "$pid" 2>/dev/null
		wait "$pid" 2>/dev/null
	done
	for name in "${SERVERS[@]}"; do clear_away "$name"; done
	for pid in $(jobs -p); do kill "$pid" 2>/dev/null; done
	rm -rf "$DIR"
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM

die()
{
	echo "$*" >&2
	# as-user hands them out
	mkdir -p "$TESTDIR/tmp_check/log" && cp "$DIR"/*.log "$TESTDIR/tmp_check/log" 2>/dev/null
	exit 1
}

connstr() { echo "host=$SOCKETS port=${PORT[$1]} dbname=${2:-postgres} user=postgres"; }

sql() { psql -XAtq -v ON_ERROR_STOP=1 -d "$(connstr "$1" "${3:-postgres}")" -c "$2"; }

within()
{
	local deadline=$((SECONDS + $1))
	shift
	until "$@"; do
		[ $SECONDS -lt $deadline ] || return 1
		sleep 0.02
	done
}
wait_until() { within "$@" || die "waited in vain: $*"; }

ready() { pg_isready -q -h "$SOCKETS" -p "${PORT[$1]}"; }

# Servers are children of the script, so that a killed one is gone at once.
start()
{
	(cd "$DIR/$1" && exec ${ENTER[$1]:-} postgres -D "$DIR/$1") >>"$DIR/$1.log" 2>&1 </dev/null &
	PID[$1]=$!
	wait_until 60 ready "$1"
}

stop()
{
	pg_ctl -s -D "$DIR/$1" -m "${2:-fast}" stop
	wait "${PID[$1]}" 2>/dev/null
	PID[$1]=
}

new_server()
{
	local name=$1
	shift
	SERVERS+=("$name")
	PORT[$name]=$((NEXT_PORT++))
	initdb -D "$DIR/$name" -A trust -U postgres -N >"$DIR/$name.log" 2>&1 || die "$(cat "$DIR/$name.log")"
	{
		printf '%s\n' "port = ${PORT[$name]}" "listen_addresses = ''" \
			"unix_socket_directories = '$SOCKETS'" \
			"dynamic_shared_memory_type = mmap" "max_prepared_transactions = 10"
		[ $# -eq 0 ] || printf '%s\n' "$@"
	} >>"$DIR/$name/postgresql.conf"
	echo "host all,replication all samenet trust" >>"$DIR/$name/pg_hba.conf"
	start "$name"
}

new_member()
{
	new_server "$@"
	sql "$1" 'CREATE DATABASE leasehold_store'
	psql -XAtq -v ON_ERROR_STOP=1 -d "$(connstr "$1" leasehold_store)" \
		-f "$(pg_config --sharedir)/extension/leasehold-store.sql" >/dev/null
	STORE="${STORE:+$STORE; }$(connstr "$1" leasehold_store)"
}

new_node()
{
	local name=$1
	shift
	new_server "$name" "shared_preload_libraries = 'leasehold'" \
		"leasehold.node_name = '$name'" "leasehold.store = '$STORE'" \
		"leasehold.advertise = 'host=$SOCKETS port=$NEXT_PORT'" "$@"
	sql "$name" 'CREATE EXTENSION leasehold'
	sql "$name" 'CREATE TABLE writes (client int, seq bigint, epoch bigint, PRIMARY KEY (client, seq))'
}

govern()
{
	sql "$1" "ALTER SYSTEM SET leasehold.lease = 'main'"
	sql "$1" 'SELECT pg_reload_conf()' >/dev/null
}

new_group()
{
	local ttl=$1 name
	shift
	[ -n "$STORE" ] || new_member store
	for name in "$@"; do new_node "$name"; done
	sql "$1" "SELECT leasehold.create_lease('main', ttl => '$ttl', kind => 'independent')" >/dev/null
	govern "$1"
	wait_holder "$1"
	shift
	for name in "$@"; do govern "$name"; done
}

holds() { [ "$(sql "$1" "SELECT leasehold.holds('main')" 2>/dev/null)" = t ]; }
wait_holder() { wait_until 60 holds "$1"; }

processes()
{
	local p
	for p in /proc/[0-9]*; do
		[ "$(readlink "$p/cwd" 2>/dev/null)" != "$DIR/$1" ] || echo "${p#/proc/}"
	done
}

worker()
{
	local pid
	for pid in $(processes "$1"); do
		case $(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null) in
			*"leasehold $2"*) echo "$pid" ;;
		esac
	done
}

# All in one call, the keeper first: it outlives the postmaster if it is let.
# Bash need not tell which of its children were killed.
kill_server()
{
	local pids
	pids="$(worker "$1" keeper) $(processes "$1")"
	kill -KILL $pids 2>/dev/null
	while pids=$(processes "$1") && [ -n "$pids" ]; do
		kill -KILL $pids 2>/dev/null
	done
	wait "${PID[$1]}" 2>/dev/null
	clear_away "$1"
	PID[$1]=
} 2>/dev/null

# Its System V segment is named in a file that goes with the folder.
clear_away()
{
	set -- $(sed -n 7p "$DIR/$1/postmaster.pid" 2>/dev/null)
	[ $# -lt 2 ] || ipcrm -m "$2" 2>/dev/null
}

figure() { printf '%-56s %12s %s\n' "$1" "$2" "${3:-}"; }

percentile()
{
	sort -n | awk -v p="$1" '{ v[NR] = $1 } END { if (NR) { i = int((NR - 1) * p / 100 + 0.5) + 1; print v[i] } }'
}
median() { percentile 50; }
