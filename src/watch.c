/*
 * watch.c
 *		What the members of a group say of its lease, one round after another.
 */
#include "postgres.h"

#include "store_care.h"
#include "watch.h"

/* What one member says. */
typedef struct WatchRow
{
	const char *holder;
	uint64		incarnation;
	int64		epoch;
	bool		frozen;
	int64		seq;
	const char *answer;
	uint64		node_incarnation;	/* of the node asked for */
	int64		beat;
	bool		open;			/* its holder has come to use it */
} WatchRow;

static int64
get_int(const PGresult *result, int column)
{
	return strtoll(PQgetvalue(result, 0, column), NULL, 10);
}

static void
read_row(const PGresult *result, WatchRow *row)
{
	row->holder = PQgetvalue(result, 0, WATCH_HOLDER);
	row->incarnation = (uint64) get_int(result, WATCH_INCARNATION);
	row->epoch = get_int(result, WATCH_EPOCH);
	row->frozen = PQgetvalue(result, 0, WATCH_FROZEN)[0] == 't';
	row->seq = get_int(result, WATCH_SEQ);
	row->answer = PQgetvalue(result, 0, WATCH_ANSWER);
	row->node_incarnation = (uint64) get_int(result, WATCH_NODE_INCARNATION);
	row->beat = get_int(result, WATCH_BEAT);
	row->open = PQgetvalue(result, 0, WATCH_OPEN)[0] == 't';
}

static bool
is_same(const WatchRow *a, const WatchRow *b)
{
	return a->epoch == b->epoch && a->incarnation == b->incarnation &&
		strcmp(a->holder, b->holder) == 0;
}

/*
 * Whose is it?  What most members say; a higher epoch that few have seen is an
 * attempt that failed, or one that has not succeeded yet.
 */
static void
find_holder(Watch *watch, const WatchRow *row, int n, int majority)
{
	const WatchRow *best = NULL;
	int			best_count = 0;

	for (int i = 0; i < n; i++)
	{
		int			count = 0;

		for (int k = 0; k < n; k++)
			count += is_same(&row[i], &row[k]);
		if (count < best_count ||
			(count == best_count && row[i].epoch <= best->epoch))
			continue;
		best = &row[i];
		best_count = count;
	}
	if (best == NULL)
		return;
	watch->agreed = best_count >= majority;
	watch->epoch = best->epoch;
	watch->incarnation = best->incarnation;
	strlcpy(watch->holder, best->holder, sizeof(watch->holder));
}

/* Whose heartbeat is it, and has it moved?  See watch.h. */
static void
find_run(Watch *watch, const WatchRow *row, int n, int majority)
{
	int			current = 0;

	for (int i = 0; i < n; i++)
	{
		bool		same = row[i].node_incarnation == watch->incarnation;

		current += same && row[i].incarnation == watch->incarnation &&
			row[i].epoch == watch->epoch;
		watch->beats += row[i].beat;
		watch->run_beats += same ? row[i].beat : 0;
	}
	watch->current = watch->agreed && current >= majority;
}

/* A table's next writer has to apply what was written before. */
static void
find_open(Watch *watch, const WatchRow *row, int n, int majority)
{
	int			open = 0;

	for (int i = 0; i < n; i++)
		open += row[i].open && row[i].epoch == watch->epoch &&
			row[i].incarnation == watch->incarnation;
	watch->open = watch->agreed && open >= majority;
}

void
watch_store(StoreGroup *group, Watch *watch, const char *node, int64 seq)
{
	const char *values[2] = {group->lease, node};
	WatchRow	row[GROUP_MEMBERS_MAX];
	int			n = 0;

	memset(watch, 0, sizeof(*watch));
	if (group_count(group, group_counted) < group_majority(group))
		group_open(group);
	group_send(group, group_counted, store_watch_sql, 2, values);
	for (int i = 0; i < group->n; i++)
	{
		if (!group_took(group, i) ||
			PQnfields(group->member[i].result) != WATCH_COUNT)
			continue;
		read_row(group->member[i].result, &row[n]);
		watch->frozen += row[n].frozen;
		watch->seq = Max(watch->seq, row[n].seq);
		if (row[n].seq == seq && row[n].answer[0] != '\0')
			strlcpy(watch->answer, row[n].answer, sizeof(watch->answer));
		n++;
	}
	watch->seen = n;
	find_holder(watch, row, n, group_majority(group));
	find_run(watch, row, n, group_majority(group));
	find_open(watch, row, n, group_majority(group));
}

bool
watch_heard(const StoreGroup *group, const Watch *watch)
{
	return watch->seen >= group_majority(group);
}

ClockTime
watch_pulse(WatchPulse *pulse, const StoreGroup *group, const Watch *watch,
			int64 beats)
{
	ClockTime	now = clock_now();

	if (pulse->moved_at == 0 || pulse->beats != beats ||
		!watch_heard(group, watch))
		pulse->moved_at = now;
	pulse->beats = beats;
	return now - pulse->moved_at;
}
