/*
 * opener_sequences.c
 *		Moving the sequences of protected tables on, before the tables are opened.
 *
 * Past what was given out elsewhere, as their publisher has told, or past what is
 * stored here, and farther if there may be more that nobody here has seen.  Must
 * never move one back.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"

#include "opener.h"

/* See beyond_unseen(): blocks in a round, numbers in one, and rounds in a range. */
#define TURNS			64
#define ROUND_MAX		(UINT64CONST(1) << 22)
#define TAKEOVERS_MIN	4096

/* Is it further on, in the direction of this sequence? */
static bool
is_beyond(const PlanSequence *sequence, int64 value, int64 than)
{
	return sequence->increment > 0 ? value > than : value < than;
}

/*
 * The first value of this sequence's own row of numbers that is "value" or beyond:
 * where each node was given numbers of its own (1, 3, 5 and 2, 4, 6) it keeps them.
 * Within the bounds: at its end, a sequence says so by itself.
 */
static int64
own_number(const PlanSequence *sequence, int64 value, int64 here)
{
	uint64		step = sequence->increment > 0 ? (uint64) sequence->increment :
		(uint64) 0 - (uint64) sequence->increment;
	uint64		distance = sequence->increment > 0 ? (uint64) value - (uint64) here :
		(uint64) here - (uint64) value;
	uint64		room = sequence->increment > 0 ? (uint64) sequence->maximum - (uint64) here :
		(uint64) here - (uint64) sequence->minimum;
	uint64		steps = distance / step + (distance % step != 0 ? 1 : 0);

	if (distance > room || steps > room / step)
		return sequence->increment > 0 ? sequence->maximum : sequence->minimum;
	return (int64) (sequence->increment > 0 ? (uint64) here + steps * step :
					(uint64) here - steps * step);
}

/* The furthest value stored in its columns; false if there is none. */
static bool
furthest_stored(const PlanSequence *sequence, int64 *value)
{
	bool		found = false;
	ListCell   *cell;

	foreach(cell, sequence->maxima)
	{
		char	   *text;
		int64		stored;

		opener_query(lfirst(cell), 0, NULL, NULL);
		if (SPI_processed != 1 || (text = opener_text_at(0, 1)) == NULL)
			continue;
		/* what no sequence can have given out saturates */
		stored = strtoll(text, NULL, 10);
		if (!found || is_beyond(sequence, stored, *value))
			*value = stored;
		found = true;
	}
	return found;
}

/*
 * Where to go on after "value" although numbers beyond it were given out, which
 * nobody here has seen: in rows that are late, and come yet.  How many, nobody
 * knows.  The range is divided into blocks, and each node has one in TURNS of them;
 * this one goes on in its next block, a whole one away at least.  So two nodes that
 * go on from the same number without having heard of each other do not meet either.
 * A sequence whose range is too small for that, or nearly used up, has no margin.
 */
static int64
beyond_unseen(const PlanSequence *sequence, int64 value, int turn)
{
	bool		up = sequence->increment > 0;
	uint64		step = up ? (uint64) sequence->increment : (uint64) 0 - (uint64) sequence->increment;
	uint64		room = ((uint64) sequence->maximum - (uint64) sequence->minimum) / step;
	uint64		block = Min(room / TAKEOVERS_MIN, ROUND_MAX) / TURNS;
	uint64		round = block * TURNS;
	uint64		least = (up ? (uint64) value - (uint64) sequence->minimum :
						 (uint64) sequence->maximum - (uint64) value) / step + block;
	uint64		at;

	if (block == 0 || least > room - 2 * round)
		return value;
	at = least - least % round + (uint64) (turn % TURNS) * block;
	if (at < least)
		at += round;
	return (int64) (up ? (uint64) sequence->minimum + at * step :
					(uint64) sequence->maximum - at * step);
}

/* "turn" is this node's, or PLAN_ALL_SEEN. */
static void
move(const PlanSequence *sequence, int64 here, bool called, int turn)
{
	int64		value = sequence->remote_value;
	bool		given = sequence->remote_called;
	Oid			types[3] = {REGCLASSOID, INT8OID, BOOLOID};
	Datum		values[3];

	if (!sequence->told)
	{
		given = furthest_stored(sequence, &value);
		if (!given)
			value = here;
	}
	if (turn != PLAN_ALL_SEEN)
		value = beyond_unseen(sequence, is_beyond(sequence, here, value) ? here : value, turn);
	/* never back; the same value counts only if it was given out there, not here */
	if (is_beyond(sequence, value, here))
		value = own_number(sequence, value, here);
	else if (value != here || !given || called)
		return;
	values[0] = ObjectIdGetDatum(sequence->oid);
	values[1] = Int64GetDatum(value);
	values[2] = BoolGetDatum(given);
	opener_query("SELECT pg_catalog.setval($1, $2, $3)", 3, types, values);
}

int
plan_move_sequences(const OpeningPlan *plan, int turn)
{
	StringInfoData sql;
	ListCell   *cell;
	SPITupleTable *here;
	int			untold = 0;

	if (plan->sequences == NIL)
		return 0;
	opener_begin_work();
	initStringInfo(&sql);
	foreach(cell, plan->sequences)
		appendStringInfo(&sql, "%sSELECT %d, last_value, is_called FROM %s",
						 sql.len > 0 ? " UNION ALL " : "",
						 foreach_current_index(cell),
						 ((PlanSequence *) lfirst(cell))->name);
	opener_query(sql.data, 0, NULL, NULL);
	here = SPI_tuptable;
	for (uint64 i = 0; i < here->numvals; i++)
	{
		HeapTuple	row = here->vals[i];
		PlanSequence *sequence;
		bool		isnull;

		sequence = list_nth(plan->sequences,
							DatumGetInt32(SPI_getbinval(row, here->tupdesc, 1, &isnull)));
		untold += !sequence->told;
		move(sequence, DatumGetInt64(SPI_getbinval(row, here->tupdesc, 2, &isnull)),
			 DatumGetBool(SPI_getbinval(row, here->tupdesc, 3, &isnull)), turn);
	}
	opener_end_work();
	return untold;
}
