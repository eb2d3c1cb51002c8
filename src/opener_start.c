/*
 * opener_start.c
 *		In the steward: workers for the desks where the keeper's requests lie.
 *
 * A worker stays for some seconds after its last request, so most find one there.
 * One that ends without having answered gives no answer any more; so we do, and
 * the keeper may ask again.  Must never wait.
 */
#include "postgres.h"

#include "access/xlog.h"

#include "opener.h"
#include "workers.h"

#define POLL			(20 * CLOCK_MS)
#define RETRY_AFTER		CLOCK_S

void
openers_init(Openers *openers)
{
	memset(openers, 0, sizeof(*openers));
}

static void
fail(Openers *openers, int desk, ClockTime now, const char *why)
{
	openers->next[desk] = now + RETRY_AFTER;
	opening_give_up(desk, why);
}

static void
start(Openers *openers, int i, ClockTime now)
{
	OpeningDesk *desk = &leasehold_opening->desk[i];
	char		database[NAMEDATALEN];

	strlcpy(database, desk->database, sizeof(database));
	pg_atomic_write_u32(&desk->left, 0);
	openers->worker[i] = workers_begin("opener", "leasehold_opener_main",
									   BgWorkerStart_RecoveryFinished,
									   Int32GetDatum(i), database);
	if (openers->worker[i] == NULL)
		fail(openers, i, now,
			 "the server has no free worker process: raise max_worker_processes");
}

/* Has the worker ended, and was that its own will? */
static void
look_after(Openers *openers, int i, ClockTime now)
{
	pid_t		pid;

	if (GetBackgroundWorkerPid(openers->worker[i], &pid) != BGWH_STOPPED)
		return;
	pfree(openers->worker[i]);
	openers->worker[i] = NULL;
	if (pg_atomic_read_u32(&leasehold_opening->desk[i].left) == 0)
		fail(openers, i, now,
			 "the worker that was to see to it ended before its time: see the server's log");
}

void
openers_step(Openers *openers, ClockTime now)
{
	if (RecoveryInProgress())
		return;
	for (int i = 0; i < OPENING_DESKS_MAX; i++)
	{
		if (openers->worker[i] != NULL)
			look_after(openers, i, now);
		/* a steward started anew may find one that it does not know */
		if (openers->worker[i] == NULL && now >= openers->next[i] &&
			pg_atomic_read_u32(&leasehold_opening->desk[i].seat.pid) == 0 &&
			opening_wanted(i))
			start(openers, i, now);
	}
}

ClockTime
openers_due(const Openers *openers)
{
	for (int i = 0; i < OPENING_DESKS_MAX; i++)
		if (leasehold_opening->desk[i].database[0] != '\0' && opening_wanted(i))
			return clock_now() + POLL;
	return CLOCK_NEVER;
}
