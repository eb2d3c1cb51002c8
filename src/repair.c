/*
 * repair.c
 *		Asking for operations from a fixed list, which this node performs on itself.
 *
 * A request lies in a box in shared memory; a short-lived worker (repairer.c), one
 * for each request, takes it up, performs it, and puts the answer there.  There is
 * one box, so nothing is ever repaired by two at a time.
 *
 * Called by the prober, which must not wait, and by sessions, which may.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "paths.h"
#include "repair.h"
#include "shared.h"
#include "workers.h"

/* What the prober has taken up last. */
typedef struct Request
{
	RemedyAction action;
	char		source[LEASEHOLD_NAME_LEN];
	char		from[LEASEHOLD_NAME_LEN];
	uint64		number;			/* 0: it has no place in the box yet */
} Request;

static Request request;

/* ------------------------------------------------------------------------
 * The box
 * ------------------------------------------------------------------------
 */

static bool
is_free(const RepairBox *box, ClockTime now)
{
	return box->state == REPAIR_FREE ||
		(box->state != REPAIR_RUNNING && now >= box->until);
}

/* The number of the request, 0 if there is another one.  Needs the lock. */
static uint64
put_in(RemedyAction action, const char *source, const char *by, bool by_node)
{
	RepairBox  *box = &leasehold_paths->repair;
	ClockTime	now = clock_now();

	if (!is_free(box, now))
		return 0;
	box->state = REPAIR_ASKED;
	box->number++;
	box->action = action;
	strlcpy(box->source, source, sizeof(box->source));
	strlcpy(box->by, by, sizeof(box->by));
	box->by_node = by_node;
	box->pid = MyProcPid;
	box->until = now + REPAIR_MAX;
	return box->number;
}

/* Needs the lock. */
static bool
take_out(uint64 number, char *answer, Size size)
{
	RepairBox  *box = &leasehold_paths->repair;

	if (box->number != number || box->state != REPAIR_DONE)
		return false;
	strlcpy(answer, box->answer, size);
	box->state = REPAIR_FREE;
	return true;
}

/* Nobody waits for the answer any more.  Needs the lock. */
static void
give_up(uint64 number)
{
	RepairBox  *box = &leasehold_paths->repair;

	if (box->number != number)
		return;
	if (box->state == REPAIR_RUNNING)
		box->until = 0;
	else
		box->state = REPAIR_FREE;
}

static bool
start_worker(uint64 number)
{
	BackgroundWorkerHandle *worker =
		workers_begin("repairer", "leasehold_repairer_main",
					  BgWorkerStart_ConsistentState, UInt32GetDatum((uint32) number),
					  "");

	if (worker == NULL)
		return false;
	pfree(worker);
	return true;
}

#define NO_WORKER \
	"error\tthe server has no free worker process: max_worker_processes is too low"

/* ------------------------------------------------------------------------
 * For the prober
 * ------------------------------------------------------------------------
 */

static const char *
read_arguments(const char *arguments)
{
	const char *tab = strchr(arguments, '\t');
	char		name[32];
	int			action;

	if (tab == NULL || tab - arguments >= sizeof(name) || strchr(tab + 1, '\t') != NULL ||
		tab[1] == '\0' || strlen(tab + 1) >= LEASEHOLD_NAME_LEN)
		return "the request is not one that this node understands";
	memcpy(name, arguments, tab - arguments);
	name[tab - arguments] = '\0';
	action = remedy_action_of(name);
	if (action <= ACTION_NONE)
		return "this node does not know that operation";
	request.action = (RemedyAction) action;
	strlcpy(request.source, tab + 1, sizeof(request.source));
	return NULL;
}

const char *
repair_begin(const char *from, const char *arguments, bool may)
{
	const char *fault = NULL;

	memset(&request, 0, sizeof(request));
	strlcpy(request.from, from, sizeof(request.from));
	if (!setting_allow_repair)
		fault = "leasehold.allow_repair is off there";
	else if (!may)
		fault = "whoever wrote the request has no right to ask for repairs";
	else
		fault = read_arguments(arguments);
	if (fault != NULL)
		ereport(LOG,
				(errmsg("leasehold: refused to repair what node \"%s\" asked for", from),
				 errdetail_internal("%s", fault)));
	return fault;
}

char *
repair_answer(void)
{
	char	   *answer = palloc(REPAIR_ANSWER_LEN);
	bool		begins = request.number == 0;
	bool		ended;

	if (!LWLockConditionalAcquire(leasehold_paths->lock, LW_EXCLUSIVE))
		return NULL;
	if (begins)
		request.number = put_in(request.action, request.source, request.from, true);
	ended = take_out(request.number, answer, REPAIR_ANSWER_LEN);
	LWLockRelease(leasehold_paths->lock);
	if (begins && request.number != 0 && !start_worker(request.number))
	{
		/* (else others have to wait until its time is over) */
		if (LWLockConditionalAcquire(leasehold_paths->lock, LW_EXCLUSIVE))
		{
			give_up(request.number);
			LWLockRelease(leasehold_paths->lock);
		}
		return pstrdup(NO_WORKER);
	}
	return ended ? answer : NULL;
}

/* ------------------------------------------------------------------------
 * For sessions
 * ------------------------------------------------------------------------
 */

uint64
repair_ask(RemedyAction action, const char *source)
{
	const char *user = GetUserNameFromId(GetUserId(), false);
	RepairBox  *box = &leasehold_paths->repair;
	uint64		number;

	LWLockAcquire(leasehold_paths->lock, LW_EXCLUSIVE);
	number = put_in(action, source, user, false);
	LWLockRelease(leasehold_paths->lock);
	if (number == 0 || start_worker(number))
		return number;

	/* (nobody else can have this request) */
	LWLockAcquire(leasehold_paths->lock, LW_EXCLUSIVE);
	strlcpy(box->answer, NO_WORKER, sizeof(box->answer));
	box->state = REPAIR_DONE;
	LWLockRelease(leasehold_paths->lock);
	return number;
}

bool
repair_take(uint64 number, char *answer, Size size)
{
	bool		ended;

	LWLockAcquire(leasehold_paths->lock, LW_EXCLUSIVE);
	ended = take_out(number, answer, size);
	LWLockRelease(leasehold_paths->lock);
	return ended;
}

void
repair_drop(uint64 number)
{
	LWLockAcquire(leasehold_paths->lock, LW_EXCLUSIVE);
	give_up(number);
	LWLockRelease(leasehold_paths->lock);
}
