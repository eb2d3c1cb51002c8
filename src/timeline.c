/*
 * timeline.c
 *		A server's timelines and positions in its WAL, as plain data.
 *
 * See timeline.h.  Must never do I/O or depend on the server.
 */
#include "timeline.h"

#include <inttypes.h>
#include <stdio.h>

uint32_t
timeline_present(const TimelineHistory *history)
{
	return history->n > 0 ? history->at[history->n - 1].id : 0;
}

uint64_t
timeline_begin(const TimelineHistory *history, uint32_t id)
{
	for (int i = 1; i < history->n; i++)
		if (history->at[i].id == id)
			return history->at[i - 1].end;
	return 0;
}

bool
timeline_contains(const TimelineHistory *history, uint32_t id, uint64_t begin)
{
	uint64_t	known = timeline_begin(history, id);

	for (int i = 0; i < history->n; i++)
		if (history->at[i].id == id)
			return begin == 0 || known == 0 || begin == known;
	return false;
}

uint64_t
timeline_position_on(const TimelineHistory *history, uint32_t id,
					 uint64_t position)
{
	for (int i = 0; i < history->n; i++)
	{
		const Timeline *timeline = &history->at[i];

		if (timeline->id != id)
			continue;
		/* a server that still replays may not have come as far as that */
		return timeline->end != 0 && timeline->end < position ?
			timeline->end : position;
	}
	return 0;
}

bool
timeline_has_left_behind(const TimelineHistory *history, uint32_t id,
						 uint64_t position)
{
	for (int i = 0; i < history->n; i++)
		if (history->at[i].id == id)
			return history->at[i].end != 0 && history->at[i].end < position;
	return false;
}

bool
lsn_parse(const char *text, uint64_t *lsn)
{
	uint32_t	high;
	uint32_t	low;
	char		rest;

	*lsn = 0;
	if (sscanf(text, "%8" SCNx32 "/%8" SCNx32 "%c", &high, &low, &rest) != 2)
		return false;
	*lsn = (uint64_t) high << 32 | low;
	return true;
}

void
lsn_format(uint64_t lsn, char *text, size_t size)
{
	if (lsn == 0)
		text[0] = '\0';
	else
		snprintf(text, size, "%" PRIX32 "/%" PRIX32, (uint32_t) (lsn >> 32),
				 (uint32_t) lsn);
}
