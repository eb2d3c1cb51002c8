/*
 * shared.c
 *		What the processes of one instance tell each other in shared memory.
 *
 * See shared.h for the disciplines.  The postmaster runs the start-up part,
 * at server start and again after a crash of a backend, when all shared memory
 * is made anew: whatever was held before is not held any more.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "replication/slot.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/shmem.h"

#include "compat.h"
#include "durable.h"
#include "paths.h"
#include "opening.h"
#include "shared.h"
#include "tables.h"

LeaseholdShared *leasehold_shared = NULL;
FenceShared *fence_shared = NULL;

static shmem_request_hook_type previous_request_hook = NULL;
static shmem_startup_hook_type previous_startup_hook = NULL;

/* ------------------------------------------------------------------------
 * Making it
 * ------------------------------------------------------------------------
 */

static int
backend_places(void)
{
	return MaxBackends + NUM_AUXILIARY_PROCS;
}

static Size
survey_size(void)
{
	return MAXALIGN(sizeof(Survey)) +
		MAXALIGN(mul_size(sizeof(SurveyLease), setting_leases_max)) +
		MAXALIGN(mul_size(sizeof(SurveyNode), setting_peers_max));
}

static Size
pages_size(void)
{
	return MAXALIGN(sizeof(FenceNotice)) + MAXALIGN(sizeof(KeeperStatus)) +
		MAXALIGN(sizeof(Addresses)) + 2 * MAXALIGN(sizeof(DurableState)) +
		MAXALIGN(sizeof(Instance)) + MAXALIGN(sizeof(InstanceOrders)) +
		MAXALIGN(sizeof(Farewell));
}

static Size
shared_size(void)
{
	return add_size(add_size(MAXALIGN(sizeof(LeaseholdShared)), pages_size()),
					add_size(survey_size(),
							 PG_CACHE_LINE_SIZE + MAXALIGN(max_replication_slots) +
							 mul_size(sizeof(FenceBackendPadded),
									  backend_places())));
}

static void
request_shared(void)
{
	if (previous_request_hook)
		previous_request_hook();
	RequestAddinShmemSpace(shared_size());
	RequestAddinShmemSpace(paths_size());
	RequestAddinShmemSpace(tables_size());
	RequestAddinShmemSpace(opening_size());
	RequestNamedLWLockTranche("leasehold", 4);
}

static char *
carve(char **at, Size size)
{
	char	   *piece = *at;

	*at += MAXALIGN(size);
	return piece;
}

static void
init_page(SharedPage *page, char **at, Size size)
{
	pg_atomic_init_u32(&page->changes, 0);
	page->size = size;
	page->data = carve(at, size);
}

static void
init_fence(FenceShared *fence, char **at)
{
	pg_atomic_init_u32(&fence->governed, 0);
	pg_atomic_init_u32(&fence->draining, 0);
	pg_atomic_init_u32(&fence->zero_loss, 0);
	pg_atomic_init_u64(&fence->unprotected, 0);
	pg_atomic_init_u64(&fence->withheld, 0);
	pg_atomic_init_u64(&fence->refused, 0);
	pg_atomic_init_u64(&fence->instance.deadline, 0);
	pg_atomic_init_u64(&fence->instance.epoch, 0);
	fence->nbackends = backend_places();
	*at = (char *) TYPEALIGN(PG_CACHE_LINE_SIZE, *at);
	fence->backends = (FenceBackendPadded *)
		carve(at, sizeof(FenceBackendPadded) * fence->nbackends);
	for (int i = 0; i < fence->nbackends; i++)
	{
		FenceBackend *backend = &fence->backends[i].backend;

		pg_atomic_init_u32(&backend->in_commit, 0);
		pg_atomic_init_u32(&backend->pid, 0);
		pg_atomic_init_u64(&backend->opened_epoch, 0);
		pg_atomic_init_u32(&backend->writing, 0);
		pg_atomic_init_u32(&backend->spared, 0);
		for (int k = 0; k < FENCE_SLOTS_SHOWN; k++)
			pg_atomic_init_u32(&backend->wrote_slot[k], 0);
	}
}

static void
init_survey(LeaseholdShared *shared, char **at)
{
	Survey	   *survey = (Survey *) carve(at, sizeof(Survey));

	survey->lease = (SurveyLease *)
		carve(at, sizeof(SurveyLease) * setting_leases_max);
	survey->node = (SurveyNode *)
		carve(at, sizeof(SurveyNode) * setting_peers_max);
	shared->survey = survey;
}

static uint64
random_incarnation(void)
{
	uint64		value = 0;

	while (value == 0)
	{
		if (!pg_strong_random(&value, sizeof(value)))
			elog(FATAL, "could not generate a random incarnation");
		value >>= 1;			/* the store keeps it as a signed number */
	}
	return value;
}

/*
 * What the last run left in the data directory.  A file that cannot be read
 * means that this node was governed, and that nothing else can be relied on.
 */
static void
recall(LeaseholdShared *shared)
{
	DurableState state;
	DurableProof proof = durable_read(&state);

	shared->incarnation = random_incarnation();
	shared->previous = 0;
	if (proof == DURABLE_OURS || (proof == DURABLE_COPY && state.ended))
		shared->previous = state.incarnation;
	if (proof == DURABLE_BROKEN)
		ereport(LOG,
				(errmsg("leasehold: file \"%s\" cannot be read", DURABLE_FILE),
				 errdetail("The node stays fenced until it holds its lease.")));
	/* a copy of another node's directory has held nothing */
	if (strcmp(state.node, settings_node_name()) != 0)
		state.held_epoch = 0;
	pg_atomic_init_u64(&shared->highest_epoch, (uint64) state.epoch);
	if (proof == DURABLE_BROKEN || state.lease[0] != '\0' ||
		settings_lease()[0] != '\0')
		pg_atomic_write_u32(&shared->fence.governed, 1);
	shared_publish(&shared->persisted, &state);
}

static void
init_seat(WorkerSeat *seat)
{
	pg_atomic_init_u64(&seat->latch, 0);
	pg_atomic_init_u32(&seat->pid, 0);
	pg_atomic_init_u64(&seat->began, 0);
}

static void
init_shared(LeaseholdShared *shared)
{
	char	   *at = (char *) shared + MAXALIGN(sizeof(LeaseholdShared));
	LWLockPadded *locks = GetNamedLWLockTranche("leasehold");

	memset(shared, 0, shared_size());
	init_page(&shared->notice, &at, sizeof(FenceNotice));
	init_page(&shared->status, &at, sizeof(KeeperStatus));
	init_page(&shared->addresses, &at, sizeof(Addresses));
	init_page(&shared->to_persist, &at, sizeof(DurableState));
	init_page(&shared->persisted, &at, sizeof(DurableState));
	init_page(&shared->instance, &at, sizeof(Instance));
	init_page(&shared->orders, &at, sizeof(InstanceOrders));
	init_page(&shared->farewell, &at, sizeof(Farewell));
	init_survey(shared, &at);
	shared->slot_had_node = (bool *) carve(&at, max_replication_slots);
	init_fence(&shared->fence, &at);

	init_seat(&shared->keeper);
	init_seat(&shared->steward);
	init_seat(&shared->prober);
	shared->box.lock = &locks[0].lock;
	shared->survey_lock = &locks[1].lock;
	pg_atomic_init_u64(&shared->box.posted, 0);
	pg_atomic_init_u64(&shared->version, 0);
	pg_atomic_init_u64(&shared->closed_epoch, 0);
	pg_atomic_init_u64(&shared->healthy_at, 0);
	pg_atomic_init_u64(&shared->flush_asked, 0);
	pg_atomic_init_u64(&shared->flush_done, 0);
	pg_atomic_init_u64(&shared->flushed_to, 0);
	pg_atomic_init_u32(&shared->superseded, 0);
	pg_atomic_init_u32(&shared->end_question, END_NOT_ASKED);
	pg_atomic_init_u32(&shared->leave_asked, 0);
	pg_atomic_init_u32(&shared->left, 0);
	pg_atomic_init_u32(&shared->role_told, NODE_UNGOVERNED);
	pg_atomic_init_u32(&shared->nodes_wanted, 0);
	pg_atomic_init_u32(&shared->embedded_made, 0);
	recall(shared);
}

static void
startup_shared(void)
{
	bool		found;

	if (previous_startup_hook)
		previous_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	leasehold_shared = ShmemInitStruct("leasehold", shared_size(), &found);
	if (!found)
		init_shared(leasehold_shared);
	paths_attach();
	tables_attach();
	opening_attach();
	fence_shared = &leasehold_shared->fence;
	LWLockRelease(AddinShmemInitLock);
}

void
shared_request_hooks(void)
{
	previous_request_hook = shmem_request_hook;
	shmem_request_hook = request_shared;
	previous_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup_shared;
}

/* ------------------------------------------------------------------------
 * Pages
 * ------------------------------------------------------------------------
 */

void
shared_publish(SharedPage *page, const void *data)
{
	/* one writer: the counter needs no compare-and-swap, only order */
	uint32		changes = pg_atomic_read_u32(&page->changes) | 1;

	pg_atomic_write_u32(&page->changes, changes);
	pg_write_barrier();
	memcpy(page->data, data, page->size);
	pg_write_barrier();
	pg_atomic_write_u32(&page->changes, changes + 1);
}

bool
shared_read(SharedPage *page, void *data)
{
	/* a writer that was stopped half-way must not keep a reader for ever */
	for (int i = 0; i < 1000; i++)
	{
		uint32		before = pg_atomic_read_u32(&page->changes);

		if (before == 0)
			break;
		pg_read_barrier();
		memcpy(data, page->data, page->size);
		pg_read_barrier();
		if ((before & 1) == 0 && pg_atomic_read_u32(&page->changes) == before)
			return true;
	}
	memset(data, 0, page->size);
	return false;
}

/*
 * The epoch changes only while the deadline is 0, so that a backend which sees
 * an open deadline sees the epoch that belongs to it.
 */
void
shared_publish_lease(FenceLease *lease, uint64 deadline, uint64 epoch)
{
	bool		other = pg_atomic_read_u64(&lease->epoch) != epoch;

	if (pg_atomic_read_u64(&lease->deadline) == deadline &&
		(deadline == 0 || !other))
		return;
	if (deadline != 0 && other)
	{
		pg_atomic_write_u64(&lease->deadline, 0);
		pg_memory_barrier();
		pg_atomic_write_u64(&lease->epoch, epoch);
	}
	pg_memory_barrier();
	pg_atomic_write_u64(&lease->deadline, deadline);
	pg_memory_barrier();
}

void
shared_read_notice(FenceNotice *notice)
{
	if (leasehold_shared == NULL)
		memset(notice, 0, sizeof(*notice));
	else
		shared_read(&leasehold_shared->notice, notice);
}

/* ------------------------------------------------------------------------
 * Seats and requests
 * ------------------------------------------------------------------------
 */

static void
wake(WorkerSeat *seat)
{
	Latch	   *latch = (Latch *) (uintptr_t) pg_atomic_read_u64(&seat->latch);

	if (latch != NULL)
		SetLatch(latch);
}

void
shared_wake_keeper(void)
{
	wake(&leasehold_shared->keeper);
}

void
shared_wake_steward(void)
{
	wake(&leasehold_shared->steward);
}

void
shared_wake_prober(void)
{
	wake(&leasehold_shared->prober);
}

/* Clear only what is ours: a successor may sit there already. */
static void
leave_seat(int code, Datum arg)
{
	WorkerSeat *seat = (WorkerSeat *) DatumGetPointer(arg);

	if (pg_atomic_read_u32(&seat->pid) == (uint32) MyProcPid)
	{
		pg_atomic_write_u64(&seat->latch, 0);
		pg_atomic_write_u32(&seat->pid, 0);
	}
}

void
shared_take_seat(WorkerSeat *seat)
{
	before_shmem_exit(leave_seat, PointerGetDatum(seat));
	pg_atomic_write_u32(&seat->pid, (uint32) MyProcPid);
	pg_atomic_write_u64(&seat->latch, (uint64) (uintptr_t) &MyProc->procLatch);
}

void
shared_ask_keeper(KeeperAsk ask, const char *lease, bool force, ClockTime until)
{
	KeeperBox  *box = &leasehold_shared->box;

	LWLockAcquire(box->lock, LW_EXCLUSIVE);
	box->ask = ask;
	strlcpy(box->lease, lease, sizeof(box->lease));
	box->force = force;
	box->until = until;
	pg_write_barrier();
	pg_atomic_fetch_add_u64(&box->posted, 1);
	LWLockRelease(box->lock);
	shared_wake_keeper();
}

FenceBackend *
shared_my_backend(void)
{
	return &fence_shared->backends[compat_proc_number()].backend;
}
