/*
 * candidacy.c
 *		May this instance take a lease of kind "physical" (R12)?
 *
 * See candidacy.h.  Must never do I/O or depend on the server.
 */
#include "candidacy.h"

#include <string.h>

#include "syncset.h"

uint64_t
candidacy_lag(const Instance *instance, const LeaseRow *row)
{
	uint64_t	position = instance->position;

	if (row->wrote.timeline != 0)
		position = timeline_position_on(&instance->history,
										(uint32_t) row->wrote.timeline, position);
	return row->wrote.lsn > position ? row->wrote.lsn - position : 0;
}

/*
 * A primary is one by the lease if it is the one that wrote last, or if it took
 * the lease after that and was promoted, but did not come to write.  Any other
 * was promoted by hand, or is a copy as of some moment; its timeline may even
 * have the number of the last holder's.
 */
static bool
is_by_lease(const Instance *instance, const LeaseRow *row)
{
	if (instance->held_epoch > row->wrote.epoch)
		return true;
	return instance->held_epoch == row->wrote.epoch &&
		timeline_present(&instance->history) == (uint32_t) row->wrote.timeline;
}

Candidacy
candidacy_judge(const Instance *instance, const LeaseRow *row,
				const char *node, bool promote, uint64_t max_lag, bool forced)
{
	if (!instance->known || instance->history.n == 0)
		return CANDIDACY_UNKNOWN;
	if (instance->in_recovery && !instance->standby)
		return CANDIDACY_RECOVERING;
	if (row->sysid[0] != '\0' && strcmp(row->sysid, instance->sysid) != 0)
		return CANDIDACY_OTHER_SYSTEM;
	if (row->wrote.epoch == 0)
		return instance->in_recovery ? CANDIDACY_NEVER_HELD : CANDIDACY_FIT;
	if (row->wrote.timeline != 0 &&
		!timeline_contains(&instance->history,
						   (uint32_t) row->wrote.timeline, row->wrote.begin))
		return CANDIDACY_DIVERGED;

	if (!instance->in_recovery && !forced && !is_by_lease(instance, row))
		return CANDIDACY_PROMOTED;
	if (!syncset_allows(row->wrote.sync_set, node) &&
		(instance->in_recovery || !is_by_lease(instance, row)))
		return CANDIDACY_NOT_SYNCHRONOUS;
	if (instance->in_recovery && !promote)
		return CANDIDACY_NO_PROMOTION;
	if (!forced && max_lag != CANDIDACY_NO_LIMIT &&
		candidacy_lag(instance, row) > max_lag)
		return CANDIDACY_LAGS;
	return CANDIDACY_FIT;
}

bool
candidacy_is_superseded(const Instance *instance, const LeaseRow *row,
						const char *node)
{
	if (!instance->known || instance->in_recovery || !row->present ||
		!row->pinned || row->epoch == 0)
		return false;
	if (row->holder[0] != '\0' && strcmp(row->holder, node) != 0)
		return true;
	if (row->wrote.epoch != 0 && !is_by_lease(instance, row))
		return true;
	return row->wrote.timeline != 0 &&
		!timeline_contains(&instance->history,
						   (uint32_t) row->wrote.timeline, row->wrote.begin);
}
