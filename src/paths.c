/*
 * paths.c
 *		What the prober shows the others, in shared memory.
 *
 * Made by the postmaster with the rest of shared memory; filled by the prober.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/shmem.h"

#include "paths.h"
#include "shared.h"

Paths	   *leasehold_paths = NULL;

int
paths_entries_max(void)
{
	return setting_peers_max + LEASE_MEMBERS_MAX;
}

/*
 * A path that stands takes 150 bytes, one with a fault 350: not all are broken.  Two
 * lines of pg_hba.conf take 200.
 */
Size
paths_report_size(void)
{
	return 4096 + 400 * (Size) paths_entries_max();
}

static int
reports_max(void)
{
	return setting_peers_max + 1;
}

Size
paths_size(void)
{
	return MAXALIGN(sizeof(Paths)) +
		MAXALIGN(mul_size(sizeof(PathEntry), paths_entries_max())) +
		MAXALIGN(mul_size(sizeof(PathReport), reports_max())) +
		mul_size(MAXALIGN(paths_report_size()), reports_max());
}

static void
init_paths(Paths *paths)
{
	char	   *at = (char *) paths + MAXALIGN(sizeof(Paths));

	memset(paths, 0, paths_size());
	paths->entry = (PathEntry *) at;
	at += MAXALIGN(sizeof(PathEntry) * paths_entries_max());
	paths->report = (PathReport *) at;
	at += MAXALIGN(sizeof(PathReport) * reports_max());
	for (int i = 0; i < reports_max(); i++)
	{
		paths->report[i].text = at;
		at += MAXALIGN(paths_report_size());
	}
	paths->lock = &GetNamedLWLockTranche("leasehold")[2].lock;
}

/* The caller holds AddinShmemInitLock. */
void
paths_attach(void)
{
	bool		found;

	leasehold_paths = ShmemInitStruct("leasehold paths", paths_size(), &found);
	if (!found)
		init_paths(leasehold_paths);
}

/* ------------------------------------------------------------------------
 * Reading
 * ------------------------------------------------------------------------
 */

Paths *
paths_copy(void)
{
	Paths	   *from = leasehold_paths;
	Paths	   *copy = palloc(sizeof(Paths));

	LWLockAcquire(from->lock, LW_SHARED);
	memcpy(copy, from, sizeof(Paths));
	copy->entry = palloc(sizeof(PathEntry) * Max(from->nentries, 1));
	memcpy(copy->entry, from->entry, sizeof(PathEntry) * from->nentries);
	copy->report = palloc(sizeof(PathReport) * Max(from->nreports, 1));
	memcpy(copy->report, from->report, sizeof(PathReport) * from->nreports);
	for (int i = 0; i < from->nreports; i++)
		copy->report[i].text = pstrdup(from->report[i].text);
	LWLockRelease(from->lock);
	return copy;
}

const PathReport *
paths_find_report(const Paths *paths, const char *node)
{
	for (int i = 0; i < paths->nreports; i++)
		if (strcmp(paths->report[i].node, node) == 0)
			return &paths->report[i];
	return NULL;
}

const PathEntry *
paths_find_entry(const Paths *paths, const char *target)
{
	for (int i = 0; i < paths->nentries; i++)
		if (strcmp(paths->entry[i].target, target) == 0)
			return &paths->entry[i];
	return NULL;
}

/* ------------------------------------------------------------------------
 * Walks
 * ------------------------------------------------------------------------
 */

static bool
is_free(const WalkBox *box, ClockTime now)
{
	return box->ask == WALK_FREE || (box->ask != WALK_RUNNING && now >= box->until);
}

uint64
paths_ask_walk(const char *target, ClockTime until)
{
	Paths	   *paths = leasehold_paths;
	ClockTime	now = clock_now();
	uint64		number = 0;

	LWLockAcquire(paths->lock, LW_EXCLUSIVE);
	for (int i = 0; i < WALKS_MAX && number == 0; i++)
	{
		WalkBox    *box = &paths->walk[i];

		if (!is_free(box, now))
			continue;
		number = ++paths->last_walk;
		box->number = number;
		box->ask = WALK_ASKED;
		box->pid = MyProcPid;
		box->until = until;
		strlcpy(box->target, target, sizeof(box->target));
	}
	LWLockRelease(paths->lock);
	if (number != 0)
		shared_wake_prober();
	return number;
}

bool
paths_take_walk(uint64 number, Walk *walk)
{
	Paths	   *paths = leasehold_paths;
	bool		done = false;

	LWLockAcquire(paths->lock, LW_EXCLUSIVE);
	for (int i = 0; i < WALKS_MAX; i++)
	{
		WalkBox    *box = &paths->walk[i];

		if (box->number != number || box->ask != WALK_DONE)
			continue;
		*walk = box->walk;
		box->ask = WALK_FREE;
		done = true;
	}
	LWLockRelease(paths->lock);
	return done;
}
