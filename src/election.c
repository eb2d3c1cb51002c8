/*
 * election.c
 *		Who takes part, and who goes first.
 *
 * See election.h.  Must never do I/O or depend on the server.
 */
#include "election.h"

#include <string.h>

void
election_watch_name(NameWatch *watch, bool present, uint64_t incarnation,
					int64_t beat, ClockTime now)
{
	bool		same_run = watch->seen && watch->present && present &&
		watch->incarnation == incarnation;

	if (!same_run)
		watch->moved = false;
	else if (watch->beat != beat)
		watch->moved = true;
	if (!same_run || watch->beat != beat)
		watch->unchanged_since = now;
	watch->seen = true;
	watch->present = present;
	watch->incarnation = incarnation;
	watch->beat = beat;
}

NameVerdict
election_name(const NameWatch *watch, uint64_t incarnation, uint64_t previous,
			  ClockTime observation, ClockTime now)
{
	if (!watch->seen)
		return NAME_UNKNOWN;
	if (!watch->present)
		return NAME_FREE;
	if (watch->incarnation == incarnation)
		return NAME_MINE;
	if (previous != 0 && watch->incarnation == previous && !watch->moved)
		return NAME_FREE;
	if (now >= watch->unchanged_since + observation)
		return NAME_FREE;
	return watch->moved ? NAME_TAKEN : NAME_UNKNOWN;
}

bool
election_outranks(int32_t priority, const char *name, int32_t own_priority,
				  const char *self)
{
	return priority > 0 &&
		(priority > own_priority ||
		 (priority == own_priority && strcmp(name, self) < 0));
}

/* Does the other one go before us? */
static bool
goes_before(const Candidate *other, const Electorate *us)
{
	if (us->by_position && other->position != us->position)
		return other->position > us->position;
	return election_outranks(other->priority, other->name, us->priority, us->self);
}

/* Is it somebody else who may want the lease? */
static bool
competes(const Candidate *other, const Electorate *us)
{
	return other->alive && other->priority > 0 &&
		strcmp(other->name, us->self) != 0 &&
		strcmp(other->name, us->last_holder) != 0;
}

ClockTime
election_stagger(const Electorate *us)
{
	int			before = 0;
	bool		complete = true;

	for (int i = 0; i < us->n; i++)
	{
		const Candidate *other = &us->candidate[i];

		if (!competes(other, us))
			continue;
		if (!us->by_position || other->stands)
			before += goes_before(other, us);
		else if (other->incarnation != us->last_incarnation)
			complete = false;
	}
	return (complete ? 0 : us->patience) + before * us->step;
}
