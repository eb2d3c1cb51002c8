/*
 * health.c
 *		Is this instance well enough to hold a lease?
 *
 * Two proofs, in this order: the postmaster takes in a local connection and its
 * child answers; then a WAL record of our own reaches the disk.  Only when both
 * are at hand is the stamp renewed, with the time from *before* the check.  If
 * the disk hangs, so does the steward, in XLogFlush(); the stamp grows stale
 * and the keeper lets go of the lease.  That is intended.
 *
 * The connection says nothing and closes its sending side.  The server's child
 * finds the end of the connection where a first packet should be, and closes it
 * without a word in the log, before it looks at limits of connections or at the
 * state of the server: so any state in which the postmaster forks counts as an
 * answer, and so does the postmaster's own message that it cannot fork.  To ask
 * anything would be worse: a child that finds its client gone when it wants to
 * answer logs that, for each check that was given up while the postmaster stood
 * still.
 *
 * The record is XLOG_NOOP: replay and logical decoding skip it.  It is marked as
 * unimportant, so that an idle server neither checkpoints nor switches segments
 * because of it.
 *
 * Called by the steward.  Must never wait for the network.
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "access/xlog.h"
#include "access/xloginsert.h"
#include "catalog/pg_control.h"
#include "libpq/pqcomm.h"
#include "postmaster/postmaster.h"
#include "storage/latch.h"
#include "utils/varlena.h"

#include "compat.h"
#include "health.h"
#include "shared.h"

#define INTERVAL_MIN	(50 * CLOCK_MS)
#define INTERVAL_MAX	(2500 * CLOCK_MS)

typedef struct LocalAddress
{
	struct sockaddr_storage addr;
	socklen_t	len;
} LocalAddress;

void
health_init(Health *health)
{
	memset(health, 0, sizeof(*health));
	health->sock = PGINVALID_SOCKET;
	health->complain_at = CLOCK_NEVER;
}

static void
hang_up(Health *health)
{
	if (health->sock != PGINVALID_SOCKET)
		close(health->sock);
	health->sock = PGINVALID_SOCKET;
}

void
health_rest(Health *health)
{
	hang_up(health);
	health_init(health);
}

uint32
health_wants(const Health *health)
{
	if (health->sock == PGINVALID_SOCKET)
		return 0;
	return health->connecting ? WL_SOCKET_WRITEABLE : WL_SOCKET_READABLE;
}

ClockTime
health_due(const Health *health)
{
	return clock_min(health->complain_at, health->sock == PGINVALID_SOCKET ?
					 health->next : health->give_up);
}

/* ------------------------------------------------------------------------
 * The ways to the postmaster
 * ------------------------------------------------------------------------
 */

static bool
socket_address(const char *directory, LocalAddress *to)
{
	struct sockaddr_un *un = (struct sockaddr_un *) &to->addr;
	char		path[MAXPGPATH];

	memset(to, 0, sizeof(*to));
	UNIXSOCK_PATH(path, PostPortNumber, directory);
	if (strlen(path) >= sizeof(un->sun_path))
		return false;
	un->sun_family = AF_UNIX;
	strcpy(un->sun_path, path);
	to->len = offsetof(struct sockaddr_un, sun_path) + strlen(path) + 1;
	/* an abstract socket has no terminating NUL, and one in front */
	if (path[0] == '@')
	{
		un->sun_path[0] = '\0';
		to->len--;
	}
	return true;
}

static bool
numeric_address(const char *host, LocalAddress *to)
{
	struct sockaddr_in *in = (struct sockaddr_in *) &to->addr;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *) &to->addr;

	memset(to, 0, sizeof(*to));
	if (inet_pton(AF_INET, host, &in->sin_addr) == 1)
	{
		in->sin_family = AF_INET;
		in->sin_port = pg_hton16(PostPortNumber);
		to->len = sizeof(*in);
	}
	else if (inet_pton(AF_INET6, host, &in6->sin6_addr) == 1)
	{
		in6->sin6_family = AF_INET6;
		in6->sin6_port = pg_hton16(PostPortNumber);
		to->len = sizeof(*in6);
	}
	return to->len > 0;
}

/* One element of listen_addresses; names were resolved by the prober. */
static bool
listen_address(const char *host, LocalAddress *to)
{
	Addresses	addresses;

	if (strcmp(host, "*") == 0 || strcmp(host, "0.0.0.0") == 0 ||
		strcmp(host, "localhost") == 0)
		host = "127.0.0.1";
	else if (strcmp(host, "::") == 0)
		host = "::1";
	if (numeric_address(host, to))
		return true;
	shared_read(&leasehold_shared->addresses, &addresses);
	for (int i = 0; i < addresses.n; i++)
		if (strcmp(addresses.entry[i].host, host) == 0)
			return numeric_address(addresses.entry[i].address, to);
	return false;
}

/*
 * The way-th local address of this server: sockets first, then TCP; goes round
 * and round.  A socket file may have been removed, so one way is not enough.
 */
static bool
find_way(int way, LocalAddress *to)
{
	char	   *sockets = pstrdup(Unix_socket_directories ? Unix_socket_directories : "");
	char	   *hosts = pstrdup(ListenAddresses ? ListenAddresses : "");
	List	   *socket_list = NIL;
	List	   *host_list = NIL;
	int			n;

	if (!SplitDirectoriesString(sockets, ',', &socket_list))
		socket_list = NIL;
	if (!SplitGUCList(hosts, ',', &host_list))
		host_list = NIL;
	n = list_length(socket_list) + list_length(host_list);
	if (n == 0)
		return false;
	way %= n;
	if (way < list_length(socket_list))
		return socket_address(list_nth(socket_list, way), to);
	return listen_address(list_nth(host_list, way - list_length(socket_list)), to);
}

/* ------------------------------------------------------------------------
 * One check
 * ------------------------------------------------------------------------
 */

/* This way did not do: complain once, and try the next one. */
static void
fail(Health *health, ClockTime now, const char *what)
{
	hang_up(health);
	health->way++;
	health->next = now + INTERVAL_MIN;
	strlcpy(health->fault, what, sizeof(health->fault));
}

static void
begin(Health *health, ClockTime now, ClockTime timeout)
{
	LocalAddress to;

	health->began = now;
	health->give_up = now + clock_max(timeout, CLOCK_S);
	if (!find_way(health->way, &to))
	{
		fail(health, now, "no local address to connect to");
		return;
	}
	health->sock = socket(to.addr.ss_family, SOCK_STREAM, 0);
	if (health->sock == PGINVALID_SOCKET || !pg_set_noblock(health->sock))
	{
		fail(health, now, strerror(errno));
		return;
	}
	health->connecting = false;
	if (connect(health->sock, (struct sockaddr *) &to.addr, to.len) != 0)
	{
		/* a full queue of a local socket shows as EAGAIN, and may clear */
		if (errno != EINPROGRESS)
			fail(health, now, strerror(errno));
		else
			health->connecting = true;
		return;
	}
	if (shutdown(health->sock, SHUT_WR) != 0)
		fail(health, now, strerror(errno));
}

/* A connection over TCP that was not there at once. */
static void
finish_connecting(Health *health, ClockTime now)
{
	LocalAddress peer;
	int			error = 0;
	socklen_t	len = sizeof(error);

	peer.len = sizeof(peer.addr);
	if (getsockopt(health->sock, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
		error = errno;
	if (error != 0)
		fail(health, now, strerror(error));
	else if (getpeername(health->sock, (struct sockaddr *) &peer.addr,
						 &peer.len) == 0)
	{
		health->connecting = false;
		if (shutdown(health->sock, SHUT_WR) != 0)
			fail(health, now, strerror(errno));
	}
}

/* Has the other side answered, be it by hanging up? */
static bool
answered(Health *health, ClockTime now)
{
	char		answer;

	if (recv(health->sock, &answer, 1, 0) >= 0)
		return true;
	if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
		fail(health, now, strerror(errno));
	return false;
}

/*
 * A former primary must not make its WAL longer: a standby that it still feeds
 * would receive what the next primary never had, and could not follow that one.
 * Its disk is looked at again as soon as it holds the lease.
 */
static bool
may_write_wal(void)
{
	return !RecoveryInProgress() &&
		(pg_atomic_read_u32(&fence_shared->physical) == 0 ||
		 shared_lease_epoch(&fence_shared->instance) != 0);
}

/* May hang: see the head of this file. */
static void
flush_to_disk(void)
{
	XLogRecPtr	end;

	if (!may_write_wal())
		return;
	XLogBeginInsert();
	XLogSetRecordFlags(XLOG_MARK_UNIMPORTANT);
	end = XLogInsert(RM_XLOG_ID, XLOG_NOOP);
	XLogFlush(end);
}

static void
pass(Health *health, ClockTime timeout)
{
	ClockTime	last = (ClockTime) pg_atomic_read_u64(&leasehold_shared->healthy_at);

	pg_atomic_write_u64(&leasehold_shared->healthy_at, (uint64) health->began);
	/* the keeper may have given up waiting for it */
	if (last == 0 || health->began - last > timeout / 2)
		shared_wake_keeper();
	if (health->unwell_since != 0 && health->complain_at == CLOCK_NEVER)
		ereport(LOG, (errmsg("leasehold: the instance passes its health check again")));
	health->unwell_since = 0;
	health->complain_at = CLOCK_NEVER;
}

/* Once per trouble, when it has lasted for half the time allowed. */
static void
complain(Health *health, ClockTime now)
{
	if (now < health->complain_at)
		return;
	health->complain_at = CLOCK_NEVER;
	ereport(LOG,
			(errmsg("leasehold: the instance fails its own health check"),
			 errdetail("The postmaster does not answer a local connection: %s.",
					   health->sock != PGINVALID_SOCKET ?
					   "no answer yet" : health->fault)));
}

/*
 * A check that failed is repeated soon, one that passed after a quarter of the
 * timeout; which follows the lease's ttl and may have changed since.
 */
static void
begin_if_due(Health *health, ClockTime now, ClockTime timeout)
{
	if (health->unwell_since == 0)
		health->next = health->began +
			clock_min(clock_max(timeout / 4, INTERVAL_MIN), INTERVAL_MAX);
	if (now < health->next)
		return;
	if (health->unwell_since == 0)
	{
		health->unwell_since = now;
		health->complain_at = now + timeout / 2;
	}
	begin(health, now, timeout);
}

void
health_step(Health *health, ClockTime now, ClockTime timeout)
{
	if (health->sock == PGINVALID_SOCKET)
		begin_if_due(health, now, timeout);
	if (health->sock != PGINVALID_SOCKET && health->connecting)
		finish_connecting(health, now);
	if (health->sock != PGINVALID_SOCKET && !health->connecting &&
		answered(health, now))
	{
		hang_up(health);
		flush_to_disk();
		pass(health, timeout);
		begin_if_due(health, now, timeout);
		return;
	}
	if (health->sock != PGINVALID_SOCKET && now >= health->give_up)
		fail(health, now, "no answer within the time allowed");
	complain(health, now);
}
