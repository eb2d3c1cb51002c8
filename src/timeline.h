/*
 * timeline.h
 *		A server's timelines and positions in its WAL, as plain data.
 *
 * Layer 0: no server headers.
 */
#ifndef LEASEHOLD_TIMELINE_H
#define LEASEHOLD_TIMELINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TIMELINES_MAX	64		/* of a longer history, the latest */
#define LSN_TEXT_LEN	24

/* One of the timelines that a server has come by. */
typedef struct Timeline
{
	uint32_t	id;
	uint64_t	end;			/* where the next one branched off; 0: the last */
} Timeline;

/* All of them, the oldest first; the last is the one that it is on. */
typedef struct TimelineHistory
{
	int			n;
	Timeline	at[TIMELINES_MAX];
} TimelineHistory;

/* The timeline that the server is on; 0 if nothing is known. */
extern uint32_t timeline_present(const TimelineHistory *history);

/* Where that timeline branched off; 0 for the first, or if it is not known. */
extern uint64_t timeline_begin(const TimelineHistory *history, uint32_t id);

/*
 * timeline_contains
 *		Has the server come by this timeline, or is it on it?  Two servers may
 *		give one number to different timelines: "begin" tells them apart, unless
 *		it is 0.
 */
extern bool timeline_contains(const TimelineHistory *history, uint32_t id,
							  uint64_t begin);

/*
 * timeline_position_on
 *		How far a server that is at "position" has come on that timeline: where
 *		it left it for the next one, if it has; 0 if it never was on it.
 */
extern uint64_t timeline_position_on(const TimelineHistory *history,
									 uint32_t id, uint64_t position);

/*
 * timeline_has_left_behind
 *		Does a server that has replayed up to "position" on timeline "id" lie beyond
 *		the point where this history left that timeline?  Then it has WAL that nobody
 *		on the later timeline ever had.
 */
extern bool timeline_has_left_behind(const TimelineHistory *history, uint32_t id,
									 uint64_t position);

/* "X/Y" as the server writes it.  Returns false, and 0, for anything else. */
extern bool lsn_parse(const char *text, uint64_t *lsn);

/* "" for 0, which is no position. */
extern void lsn_format(uint64_t lsn, char *text, size_t size);

#endif							/* LEASEHOLD_TIMELINE_H */
