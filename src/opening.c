/*
 * opening.c
 *		Between taking a table lease and writing its tables: shared memory.
 *
 * See opening.h.
 */
#include "postgres.h"

#include "storage/shmem.h"

#include "opening.h"

/* What a worker's answer may take on its way. */
#define GRACE			(500 * CLOCK_MS)

/* One that failed is tried anew if it is asked for so much later. */
#define RETRY_AFTER		CLOCK_S

OpeningShared *leasehold_opening = NULL;

/* ------------------------------------------------------------------------
 * Making it
 * ------------------------------------------------------------------------
 */

Size
opening_size(void)
{
	Size		slot = MAXALIGN(sizeof(SharedPage)) +
		MAXALIGN(sizeof(OpeningRequest)) +
		OPENING_DESKS_MAX * MAXALIGN(sizeof(OpeningAnswer));

	return add_size(MAXALIGN(sizeof(OpeningShared)),
					mul_size(slot, setting_leases_max));
}

static void
init_desk(OpeningDesk *desk, char **at)
{
	pg_atomic_init_u64(&desk->seat.latch, 0);
	pg_atomic_init_u32(&desk->seat.pid, 0);
	pg_atomic_init_u64(&desk->seat.began, 0);
	pg_atomic_init_u32(&desk->left, 0);
	desk->answer = (OpeningAnswer *) *at;
	*at += MAXALIGN(sizeof(OpeningAnswer)) * setting_leases_max;
	for (int i = 0; i < setting_leases_max; i++)
		pg_atomic_init_u64(&desk->answer[i].done, 0);
}

static void
init_opening(OpeningShared *opening)
{
	char	   *at = (char *) opening + MAXALIGN(sizeof(OpeningShared));

	memset(opening, 0, opening_size());
	opening->request = (SharedPage *) at;
	at += MAXALIGN(sizeof(SharedPage)) * setting_leases_max;
	for (int i = 0; i < setting_leases_max; i++)
	{
		pg_atomic_init_u32(&opening->request[i].changes, 0);
		opening->request[i].size = sizeof(OpeningRequest);
		opening->request[i].data = at;
		at += MAXALIGN(sizeof(OpeningRequest));
	}
	for (int i = 0; i < OPENING_DESKS_MAX; i++)
		init_desk(&opening->desk[i], &at);
}

/* The caller holds AddinShmemInitLock. */
void
opening_attach(void)
{
	bool		found;

	leasehold_opening = ShmemInitStruct("leasehold opening", opening_size(), &found);
	if (!found)
		init_opening(leasehold_opening);
}

/* ------------------------------------------------------------------------
 * Answers
 * ------------------------------------------------------------------------
 */

/*
 * What a desk says to this request.  Its words stand before its number does, and
 * stay until it is asked something new, which only the reader does.
 */
static OpeningState
read_answer(int desk, int slot, uint64 number, char *why)
{
	OpeningAnswer *answer = &leasehold_opening->desk[desk].answer[slot];
	uint64		done = pg_atomic_read_u64(&answer->done);

	if (done / 4 != number)
		return OPENING_PENDING;
	pg_read_barrier();
	if (why != NULL)
		strlcpy(why, answer->why, OPENING_WHY_LEN);
	return (OpeningState) (done % 4);
}

void
opening_answer(int desk, int slot, uint64 number, OpeningState state,
			   const char *why)
{
	OpeningAnswer *answer = &leasehold_opening->desk[desk].answer[slot];

	strlcpy(answer->why, why, OPENING_WHY_LEN);
	pg_write_barrier();
	pg_atomic_write_u64(&answer->done, number * 4 + state);
	shared_wake_keeper();
}

bool
opening_read(int desk, int slot, OpeningRequest *request)
{
	return shared_read(&leasehold_opening->request[slot], request) &&
		request->kind != OPENING_NO_REQUEST &&
		(request->desks & ((uint32) 1 << desk)) != 0 &&
		read_answer(desk, slot, request->number, NULL) == OPENING_PENDING;
}

bool
opening_wanted(int desk)
{
	int			nslots = (int) pg_atomic_read_u32(&leasehold_tables->nslots);
	OpeningRequest request;

	for (int slot = 0; slot < nslots; slot++)
		if (opening_read(desk, slot, &request))
			return true;
	return false;
}

void
opening_give_up(int desk, const char *why)
{
	int			nslots = (int) pg_atomic_read_u32(&leasehold_tables->nslots);
	OpeningRequest request;

	for (int slot = 0; slot < nslots; slot++)
		if (opening_read(desk, slot, &request))
			opening_answer(desk, slot, request.number, OPENING_FAILED, why);
}

/* ------------------------------------------------------------------------
 * Asking
 * ------------------------------------------------------------------------
 */

/* By the writer of the requests, who need not fear that one changes meanwhile. */
static OpeningRequest *
current_request(int slot)
{
	return (OpeningRequest *) leasehold_opening->request[slot].data;
}

static bool
is_desk_needed(int desk)
{
	int			nslots = (int) pg_atomic_read_u32(&leasehold_tables->nslots);

	for (int slot = 0; slot < nslots; slot++)
		if (current_request(slot)->kind != OPENING_NO_REQUEST &&
			(current_request(slot)->desks & ((uint32) 1 << desk)) != 0)
			return true;
	return false;
}

/* -1 if all are in use. */
static int
find_desk(const char *database)
{
	int			unused = -1;

	for (int i = 0; i < OPENING_DESKS_MAX; i++)
	{
		OpeningDesk *desk = &leasehold_opening->desk[i];

		if (strcmp(desk->database, database) == 0)
			return i;
		if (unused < 0 && pg_atomic_read_u32(&desk->seat.pid) == 0 &&
			!is_desk_needed(i))
			unused = i;
	}
	if (unused >= 0)
		strlcpy(leasehold_opening->desk[unused].database, database, NAMEDATALEN);
	return unused;
}

static void
refuse(OpeningRequest *request, const char *why)
{
	request->refused = true;
	strlcpy(request->why, why, sizeof(request->why));
}

/* The list is the keeper's own; nobody else changes it. */
static void
find_desks(int slot, OpeningRequest *request)
{
	TablesShared *tables = leasehold_tables;
	TableList  *list = tables->page[pg_atomic_read_u32(&tables->current)];

	if (list->unknown)
		refuse(request, "the list of protected tables is not known");
	for (int i = 0; i < list->n; i++)
	{
		int			desk;

		if (list->entry[i].slot != slot)
			continue;
		desk = find_desk(list->entry[i].database);
		if (desk < 0)
			refuse(request, "too many databases have tables of leases that are being opened");
		else
			request->desks |= (uint32) 1 << desk;
	}
}

static void
wake_desks(uint32 desks)
{
	for (int i = 0; i < OPENING_DESKS_MAX; i++)
	{
		Latch	   *latch;

		if ((desks & ((uint32) 1 << i)) == 0)
			continue;
		latch = (Latch *) (uintptr_t)
			pg_atomic_read_u64(&leasehold_opening->desk[i].seat.latch);
		if (latch != NULL)
			SetLatch(latch);
		else
			shared_wake_steward();
	}
}

static void
ask(int slot, OpeningKind kind, int64 key, const char *from,
	const char *address, uint64 lsn, uint32 how)
{
	OpeningRequest request = {0};

	request.number = current_request(slot)->number + 1;
	request.kind = kind;
	request.key = key;
	strlcpy(request.from, from, sizeof(request.from));
	strlcpy(request.address, address, sizeof(request.address));
	request.lsn = lsn;
	request.how = how;
	request.asked_at = clock_now();
	request.until = request.asked_at + OPENING_TIME;
	if (strcmp(from, settings_node_name()) != 0)
		find_desks(slot, &request);
	shared_publish(&leasehold_opening->request[slot], &request);
	pg_memory_barrier();
	wake_desks(request.desks);
}

/*
 * What has come of a request.  Who had nobody to wait for need not wait for a
 * session either, be it ever so late: its tables had better be open.
 */
static OpeningState
judge(int slot, OpeningKind kind, int64 key, char *why)
{
	OpeningRequest *request = current_request(slot);
	OpeningState state = OPENING_READY;
	int			waits_for = -1;

	why[0] = '\0';
	if (request->kind != kind || request->key != key)
		return OPENING_NONE;
	if (request->refused)
	{
		strlcpy(why, request->why, OPENING_WHY_LEN);
		state = OPENING_FAILED;
	}
	for (int i = 0; i < OPENING_DESKS_MAX && state != OPENING_FAILED; i++)
	{
		OpeningState answer;

		if ((request->desks & ((uint32) 1 << i)) == 0)
			continue;
		answer = read_answer(i, slot, request->number, why);
		if (answer == OPENING_PENDING)
			waits_for = i;
		else
			state = answer;
	}
	if (state == OPENING_READY && waits_for >= 0)
	{
		if (clock_now() < request->until + GRACE)
			return OPENING_PENDING;
		snprintf(why, OPENING_WHY_LEN,
				 "no worker answered in time in database \"%s\"",
				 leasehold_opening->desk[waits_for].database);
		state = OPENING_FAILED;
	}
	if (state == OPENING_READY)
		why[0] = '\0';
	return state;
}

void
opening_prepare(int slot, int64 seq, const char *from, const char *address)
{
	OpeningRequest *request = current_request(slot);
	char		why[OPENING_WHY_LEN];

	if (request->kind == OPENING_TO_PREPARE && request->key == seq &&
		strcmp(request->from, from) == 0 &&
		(judge(slot, OPENING_TO_PREPARE, seq, why) != OPENING_FAILED ||
		 clock_now() < request->asked_at + RETRY_AFTER))
		return;
	ask(slot, OPENING_TO_PREPARE, seq, from, address, 0, 0);
}

OpeningState
opening_prepared(int slot, int64 seq, char *why)
{
	return judge(slot, OPENING_TO_PREPARE, seq, why);
}

void
opening_begin(int slot, int64 epoch, const char *from, const char *address,
			  uint64 lsn, uint32 how)
{
	OpeningRequest *request = current_request(slot);

	if (request->kind == OPENING_TO_BEGIN && request->key == epoch)
		return;
	/* a node that is new may not be known by name any more: it was, at first */
	if (from[0] == '\0' && lsn != 0 && request->kind == OPENING_TO_PREPARE)
	{
		from = request->from;
		address = request->address;
	}
	/* a position is of no use if nobody can be asked for what led to it */
	ask(slot, OPENING_TO_BEGIN, epoch, from, address, from[0] != '\0' ? lsn : 0,
		how);
}

/*
 * An error may be over in a moment, and a worker that ended has a successor: what
 * has nobody to wait for is asked again for as long as it may take.  False: enough.
 */
static bool
try_again(int slot)
{
	OpeningRequest request = *current_request(slot);
	ClockTime	now = clock_now();

	if (request.refused || now + RETRY_AFTER >= request.until)
		return false;
	if (now >= request.asked_at + RETRY_AFTER)
	{
		request.number++;
		request.asked_at = now;
		shared_publish(&leasehold_opening->request[slot], &request);
		pg_memory_barrier();
		wake_desks(request.desks);
	}
	return true;
}

OpeningState
opening_state(int slot, int64 epoch, char *why)
{
	OpeningState state = judge(slot, OPENING_TO_BEGIN, epoch, why);

	if (state == OPENING_FAILED && current_request(slot)->lsn == 0)
	{
		if (try_again(slot))
			return OPENING_PENDING;
		ereport(LOG,
				(errmsg("leasehold: the tables of lease \"%s\" are opened, though it could not be seen to their sequences",
						leasehold_tables->slot[slot].name),
				 errdetail("The reason: %s.", why)));
		/* said once */
		current_request(slot)->refused = false;
		current_request(slot)->desks = 0;
		why[0] = '\0';
		state = OPENING_READY;
	}
	return state;
}

void
opening_forget(int slot)
{
	OpeningRequest request = {0};

	if (current_request(slot)->kind == OPENING_NO_REQUEST)
		return;
	request.number = current_request(slot)->number;
	shared_publish(&leasehold_opening->request[slot], &request);
}
