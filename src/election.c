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

/* Does a go before b? */
static bool
goes_before(const char *a, int32_t a_priority, const char *b, int32_t b_priority)
{
	if (a_priority != b_priority)
		return a_priority > b_priority;
	return strcmp(a, b) < 0;
}

ClockTime
election_stagger(const Candidate *candidate, int n, const char *self,
				 int32_t priority, const char *last_holder, ClockTime step)
{
	int			before = 0;

	for (int i = 0; i < n; i++)
		if (candidate[i].alive && candidate[i].priority > 0 &&
			strcmp(candidate[i].name, self) != 0 &&
			strcmp(candidate[i].name, last_holder) != 0 &&
			goes_before(candidate[i].name, candidate[i].priority, self, priority))
			before++;
	return before * step;
}
