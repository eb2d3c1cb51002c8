/*
 * farewell.c
 *		The last thing that the postmaster does at a clean shutdown: release the
 *		lease.
 *
 * The keeper has to end before the shutdown checkpoint is written, and the
 * standbys are sent that checkpoint after it.  If the lease were free any
 * earlier, a standby would be promoted without that last record, and this
 * instance could not follow it without pg_rewind.  So the keeper closes the
 * fence, drains, and leaves the release to the postmaster, which ends when
 * everybody else has: the walsenders too, which go when their standbys have
 * confirmed all there is.
 *
 * Here, and only here, the postmaster talks to the network; it has nothing else
 * left to do, and takes at most FAREWELL_MAX over it.  If it does not succeed,
 * the lease runs out.
 */
#include "postgres.h"

#include <poll.h>

#include "access/xlog.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"

#include "conninfo.h"
#include "farewell.h"
#include "link.h"
#include "shared.h"
#include "store.h"

#define FAREWELL_MAX	(1500 * CLOCK_MS)

typedef struct Guest
{
	Link		link;
	bool		sent;
	bool		done;			/* it has answered, or cannot */
	bool		notify;
} Guest;

static shmem_startup_hook_type previous_startup_hook = NULL;

/* ------------------------------------------------------------------------
 * One member
 * ------------------------------------------------------------------------
 */

static void
begin(Guest *guest, const Conninfo *conninfo, const Addresses *addresses,
	  ClockTime deadline)
{
	const char *const *keywords;
	const char *const *values;
	const char *unresolved;

	guest->link.socket = PGINVALID_SOCKET;
	guest->done = !conninfo_start_values(conninfo, addresses, &keywords,
										 &values, &unresolved) ||
		!link_start(&guest->link, keywords, values, deadline);
}

static void
send_release(Guest *guest, const Farewell *farewell, ClockTime deadline)
{
	StoreNode	self = {{0}};
	LeaseRequest request = {0};

	strlcpy(self.name, settings_node_name(), sizeof(self.name));
	self.incarnation = leasehold_shared->incarnation;
	request.op = LEASE_OP_RELEASE;
	request.epoch = farewell->epoch;
	request.version = farewell->version + 1;
	request.wrote.timeline = farewell->timeline;
	request.wrote.begin = farewell->timeline_begin;
	request.wrote.epoch = farewell->epoch;
	strlcpy(request.wrote.sync_set, farewell->sync_set,
			sizeof(request.wrote.sync_set));
	request.wrote.lsn = GetFlushRecPtr(NULL);
	guest->sent = true;
	guest->done = !store_send_release(&guest->link, farewell->lease, &self,
									  &request, "clean shutdown", deadline);
}

static void
attend(Guest *guest, const Farewell *farewell, ClockTime deadline)
{
	PGresult   *result = NULL;

	switch (link_poll(&guest->link, clock_now(), &result))
	{
		case LINK_NOTHING:
			break;
		case LINK_CONNECTED:
			send_release(guest, farewell, deadline);
			break;
		case LINK_RESULT:
			if (PQresultStatus(result) == PGRES_TUPLES_OK && !guest->notify)
			{
				/* it hastens, where it is offered; nobody waits for it */
				guest->notify = true;
				guest->done = !store_send_notify(&guest->link, deadline);
			}
			else
				guest->done = true;
			PQclear(result);
			break;
		case LINK_LOST:
			guest->done = true;
			break;
	}
}

/* ------------------------------------------------------------------------
 * All of them
 * ------------------------------------------------------------------------
 */

static bool
wait_for_guests(Guest *guest, int n, ClockTime deadline)
{
	struct pollfd fd[LEASE_MEMBERS_MAX];
	int			waiting = 0;

	for (int i = 0; i < n; i++)
	{
		if (guest[i].done || guest[i].link.socket == PGINVALID_SOCKET)
			continue;
		fd[waiting].fd = guest[i].link.socket;
		fd[waiting].events = guest[i].link.wants & WL_SOCKET_WRITEABLE ?
			POLLOUT : POLLIN;
		fd[waiting++].revents = 0;
	}
	if (waiting == 0)
		return false;
	(void) poll(fd, waiting, (int) clock_wait_ms(clock_now(), deadline));
	return clock_now() < deadline;
}

static void
release(const Farewell *farewell)
{
	ClockTime	deadline = clock_now() + FAREWELL_MAX;
	Conninfo   *conninfo = palloc0(sizeof(Conninfo) * LEASE_MEMBERS_MAX);
	Guest	   *guest = palloc0(sizeof(Guest) * LEASE_MEMBERS_MAX);
	Addresses	addresses;
	int			n = conninfo_split(setting_store, conninfo, LEASE_MEMBERS_MAX);

	shared_read(&leasehold_shared->addresses, &addresses);
	for (int i = 0; i < n; i++)
		begin(&guest[i], &conninfo[i], &addresses, deadline);
	while (wait_for_guests(guest, n, deadline))
		for (int i = 0; i < n; i++)
			if (!guest[i].done)
				attend(&guest[i], farewell, deadline);
	for (int i = 0; i < n; i++)
		link_close(&guest[i].link);
}

/*
 * on_shmem_exit callback of the postmaster: all its children are gone, and
 * shared memory is still there.  After a crash of a backend it is called, too,
 * before everything is made anew; then the keeper has left nothing to do.
 */
static void
say_farewell(int code, Datum arg)
{
	Farewell	farewell;

	if (MyProcPid != PostmasterPid || code != 0 ||
		!shared_read(&leasehold_shared->farewell, &farewell) ||
		!farewell.release)
		return;
	release(&farewell);
}

static void
startup(void)
{
	if (previous_startup_hook)
		previous_startup_hook();
	if (!IsUnderPostmaster)
		on_shmem_exit(say_farewell, (Datum) 0);
}

void
farewell_install(void)
{
	previous_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup;
}
