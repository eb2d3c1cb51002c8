/*
 * plan.c
 *		What leasehold-rejoin decides.
 *
 * See plan.h.  Must never do I/O or depend on the server.
 */
#include "plan.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------
 * Who holds
 * ------------------------------------------------------------------------
 */

static bool
same_holder(const PlanRow *a, const PlanRow *b)
{
	return a->epoch == b->epoch && strcmp(a->holder, b->holder) == 0 &&
		(a->holder[0] == '\0' || a->incarnation == b->incarnation);
}

PlanHolder
plan_holder(const PlanRow *row, int n, int majority, int *which)
{
	int			counted = 0;
	int			unknown = 0;
	int			best = -1;
	int			agree = 0;

	for (int i = 0; i < n; i++)
	{
		counted += row[i].counted;
		unknown += row[i].counted && !row[i].present;
	}
	if (majority <= 0 || counted < majority)
		return PLAN_HOLDER_TOO_FEW;
	if (unknown >= majority)
		return PLAN_HOLDER_NO_LEASE;

	/* Of one epoch there may be rows with a holder, and released ones. */
	for (int i = 0; i < n && agree < majority; i++)
	{
		if (!row[i].counted || !row[i].present)
			continue;
		best = i;
		agree = 0;
		for (int j = 0; j < n; j++)
		{
			if (!row[j].counted || !row[j].present ||
				!same_holder(&row[i], &row[j]))
				continue;
			agree++;
			if (row[j].version > row[best].version)
				best = j;
		}
	}
	if (agree < majority)
		return PLAN_HOLDER_UNDECIDED;
	*which = best;
	return row[best].holder[0] == '\0' ? PLAN_HOLDER_NONE : PLAN_HOLDER_KNOWN;
}

/* ------------------------------------------------------------------------
 * Where histories part
 * ------------------------------------------------------------------------
 */

static bool
append(PlanHistory *history, uint32_t id, uint64_t end)
{
	PlanTimeline *last = &history->timeline[history->n];

	if (history->n > 0 &&
		(last[-1].id >= id || end < last[-1].end))
		return false;
	last->id = id;
	last->begin = history->n > 0 ? last[-1].end : 0;
	last->end = end;
	history->n++;
	return true;
}

static int
count_lines(const char *text)
{
	int			n = 1;

	for (; *text != '\0'; text++)
		n += *text == '\n';
	return n;
}

bool
plan_parse_history(const char *text, uint32_t present, PlanHistory *history)
{
	history->n = 0;
	history->timeline = calloc(count_lines(text) + 1, sizeof(PlanTimeline));
	if (history->timeline == NULL)
		return false;
	while (*text != '\0')
	{
		const char *end = text + strcspn(text, "\n");
		unsigned int id;
		unsigned int high;
		unsigned int low;

		while (text < end && isspace((unsigned char) *text))
			text++;
		if (text < end && *text != '#' &&
			(sscanf(text, "%u %X/%X", &id, &high, &low) != 3 ||
			 !append(history, id, ((uint64_t) high << 32) | low)))
			return false;
		text = *end == '\n' ? end + 1 : end;
	}
	return append(history, present, PLAN_END_OPEN);
}

bool
plan_contains(const PlanHistory *history, uint32_t id)
{
	for (int i = 0; i < history->n; i++)
		if (history->timeline[i].id == id)
			return true;
	return false;
}

PlanFork
plan_fork(const PlanHistory *ours, const PlanHistory *theirs)
{
	PlanFork	fork = {false, 0, 0};

	for (int i = 0; i < ours->n && i < theirs->n; i++)
	{
		const PlanTimeline *a = &ours->timeline[i];
		const PlanTimeline *b = &theirs->timeline[i];

		/* two nodes may have given two timelines the same number */
		if (a->id != b->id || a->begin != b->begin)
			break;
		fork.found = true;
		fork.id = a->id;
		fork.lsn = a->end < b->end ? a->end : b->end;
	}
	return fork;
}

/* ------------------------------------------------------------------------
 * What to do
 * ------------------------------------------------------------------------
 */

PlanKind
plan_decide(const PlanLocal *local, const PlanFork *fork,
			uint32_t holder_timeline, PlanReason *reason)
{
	bool		beyond;

	/*
	 * Half of the pages may be those of the holder that was rewound to, as
	 * late as the moment of the interruption.  Only the same timeline is
	 * known to contain that moment.
	 */
	if (local->half_rewound != 0)
	{
		*reason = local->half_rewound == holder_timeline ?
			PLAN_REPEAT : PLAN_HALF_REWOUND;
		return *reason == PLAN_REPEAT ? PLAN_REWIND : PLAN_BACKUP;
	}
	if (!fork->found)
	{
		*reason = PLAN_UNRELATED;
		return PLAN_BACKUP;
	}
	if (fork->lsn == PLAN_END_OPEN)
	{
		/*
		 * A timeline has one primary, and that is the holder: if this
		 * directory was primary on it too, both have given their timelines
		 * the same number, and nothing can tell where they part.
		 */
		*reason = local->was_primary && !local->is_backup ?
			PLAN_COLLISION : PLAN_SAME_TIMELINE;
		return *reason == PLAN_COLLISION ? PLAN_BACKUP : PLAN_FOLLOW;
	}
	/*
	 * Where a backup ends is written in the log that it needs, and recovery
	 * by itself does not pass for done before it has come to that point.
	 */
	beyond = local->timeline != fork->id ||
		(local->data_end_known ? local->data_end > fork->lsn :
		 !local->is_backup);
	if (!beyond)
	{
		*reason = PLAN_ANCESTOR;
		return PLAN_FOLLOW;
	}
	if (local->is_backup)
		*reason = PLAN_BACKUP_AHEAD;
	else if (!local->rewindable)
		*reason = PLAN_NO_HINTS;
	else
		*reason = PLAN_DIVERGED;
	return *reason == PLAN_DIVERGED ? PLAN_REWIND : PLAN_BACKUP;
}

const char *
plan_reason_text(PlanReason reason)
{
	switch (reason)
	{
		case PLAN_ANCESTOR:
			return "the holder has everything that is here";
		case PLAN_SAME_TIMELINE:
			return "it is on the holder's timeline";
		case PLAN_DIVERGED:
			return "it has gone on where the holder's history had left it";
		case PLAN_REPEAT:
			return "an earlier rewind was interrupted";
		case PLAN_UNRELATED:
			return "it has no history in common with the holder";
		case PLAN_COLLISION:
			return "its log and the holder's differ on a timeline that has the same number in both";
		case PLAN_NO_HINTS:
			return "it has diverged from the holder, and neither data checksums nor wal_log_hints were on, without which pg_rewind cannot work";
		case PLAN_BACKUP_AHEAD:
			return "it is a copy, never started, of a history that the holder has not followed";
		case PLAN_HALF_REWOUND:
			return "an earlier rewind was interrupted half-way, and went to another timeline than the holder's present one";
	}
	return "unknown";
}
