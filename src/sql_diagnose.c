/*
 * sql_diagnose.c
 *		leasehold.diagnose(), remedies() and repair(): why a path fails, what mends it,
 *		and have that done.
 */
#include "postgres.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "inquiry.h"
#include "mailbox.h"
#include "repair.h"
#include "sql_row.h"

PG_FUNCTION_INFO_V1(leasehold_diagnose);
PG_FUNCTION_INFO_V1(leasehold_remedies);
PG_FUNCTION_INFO_V1(leasehold_repair);

/* After a repair: how often it is tried whether another cause lay beneath. */
#define ROUNDS_MAX		5
/* Until what was done has taken effect. */
#define EFFECT_MAX		(5 * CLOCK_S)
#define EFFECT_POLL_MS	200

static void
require_target(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the target must not be null")));
}

/* ------------------------------------------------------------------------
 * diagnose
 * ------------------------------------------------------------------------
 */

static void
put_step(FunctionCallInfo fcinfo, int number, const char *phase, const char *status,
		 const char *detail, const char *evidence, const Remedy *remedy)
{
	Row			row = {0};

	row_add(&row, Int32GetDatum(number), false);
	row_text(&row, phase);
	row_text(&row, status);
	row_text(&row, detail);
	row_text(&row, evidence);
	row_text(&row, remedy ? remedy->operation : "");
	row_text(&row, remedy ? remedy->run_on : "");
	row_put(fcinfo, &row);
}

/* What was found by the target's own word is said instead of what it looked like. */
static const char *
step_detail(const Inquiry *inquiry, int phase)
{
	const WalkStep *step = &inquiry->walk.step[phase];

	if (step->status == STEP_FAILED && inquiry->facts.cause != inquiry->walk.cause)
		return cause_text(inquiry->facts.cause);
	return step->detail;
}

/*
 * leasehold_diagnose
 *		Walk one path layer by layer, and hear the witnesses.
 */
Datum
leasehold_diagnose(PG_FUNCTION_ARGS)
{
	Remedy	   *remedy = palloc(sizeof(Remedy) * REMEDY_MAX);
	Inquiry    *inquiry;
	int			n;
	int			number = 0;

	sql_require_preloaded();
	require_target(fcinfo);
	InitMaterializedSRF(fcinfo, 0);
	inquiry = inquiry_make(sql_text(fcinfo, 1), sql_text(fcinfo, 0));
	n = inquiry_remedies(inquiry, remedy);
	for (int i = 0; i < PHASE_COUNT; i++)
	{
		const WalkStep *step = &inquiry->walk.step[i];

		put_step(fcinfo, ++number, path_phase_name(i), walk_step_name(step->status),
				 step_detail(inquiry, i), step->evidence,
				 step->status == STEP_FAILED && n > 0 ? &remedy[0] : NULL);
	}
	put_step(fcinfo, ++number, "source",
			 inquiry->witnesses.source_reaches > 0 ||
			 inquiry->witnesses.source_tries == 0 ? "ok" : "failed",
			 inquiry_of_source(inquiry), inquiry->not_walked, NULL);
	put_step(fcinfo, ++number, "target", inquiry->member ? "not reached" :
			 inquiry->witnesses.target_alive ? "ok" : "failed",
			 inquiry_of_target(inquiry), NULL, NULL);
	put_step(fcinfo, ++number, "others", inquiry->witnesses.others == 0 ?
			 "not reached" : inquiry->witnesses.others_reach_target > 0 ? "ok" : "failed",
			 inquiry_of_others(inquiry), NULL, NULL);
	put_step(fcinfo, ++number, "verdict",
			 inquiry->verdict == VERDICT_STANDS ? "ok" : "failed",
			 verdict_text(inquiry->verdict),
			 psprintf("%s%s%s", verdict_name(inquiry->verdict),
					  inquiry->facts.cause == CAUSE_NONE ? "" : ": ",
					  inquiry->facts.cause == CAUSE_NONE ? "" :
					  cause_name(inquiry->facts.cause)), NULL);
	return (Datum) 0;
}

/* ------------------------------------------------------------------------
 * remedies
 * ------------------------------------------------------------------------
 */

static void
put_remedy(FunctionCallInfo fcinfo, int seq, const Remedy *remedy, const char *done)
{
	Row			row = {0};

	row_add(&row, Int32GetDatum(seq), false);
	row_text(&row, remedy->run_on);
	row_text(&row, remedy_kind_name(remedy->kind));
	row_text(&row, remedy->operation);
	row_text(&row, remedy->why);
	row_add(&row, BoolGetDatum(remedy->safe), false);
	if (done != NULL)
		row_text(&row, done);
	row_put(fcinfo, &row);
}

/*
 * leasehold_remedies
 *		The operations that, when performed, establish the path.
 */
Datum
leasehold_remedies(PG_FUNCTION_ARGS)
{
	Remedy	   *remedy = palloc(sizeof(Remedy) * REMEDY_MAX);
	int			n;

	sql_require_preloaded();
	require_target(fcinfo);
	InitMaterializedSRF(fcinfo, 0);
	n = inquiry_remedies(inquiry_make(sql_text(fcinfo, 1), sql_text(fcinfo, 0)),
						 remedy);
	for (int i = 0; i < n; i++)
		put_remedy(fcinfo, i + 1, &remedy[i], NULL);
	return (Datum) 0;
}

/* ------------------------------------------------------------------------
 * repair
 * ------------------------------------------------------------------------
 */

static bool
wait_for_repair(uint64 number, char *answer)
{
	ClockTime	until = clock_now() + REPAIR_MAX;

	while (!repair_take(number, answer, REPAIR_ANSWER_LEN))
	{
		if (clock_now() >= until)
			return false;
		sql_sleep(50);
	}
	return true;
}

/* By this node itself; NULL, and *fault, if it does not come to an end. */
static char *
perform_here(RemedyAction action, const char *source, char **fault)
{
	char	   *answer = palloc(REPAIR_ANSWER_LEN);
	volatile bool ended = false;
	uint64		number;

	/* what is done is done as a superuser would, and this function can be granted */
	if (!setting_allow_repair && !superuser())
		return "error\tleasehold.allow_repair is off here, and only superusers may do without it";
	number = repair_ask(action, source);
	if (number == 0)
	{
		*fault = "Something else is being repaired here just now.";
		return NULL;
	}
	PG_TRY();
	{
		ended = wait_for_repair(number, answer);
	}
	PG_FINALLY();
	{
		repair_drop(number);
	}
	PG_END_TRY();
	*fault = "This node does not come to it.";
	return ended ? answer : NULL;
}

/* What came of it, for the row; *done says whether it was performed. */
static char *
perform(const Inquiry *inquiry, const Remedy *remedy, bool *done)
{
	char	   *fault = NULL;
	char	   *answer;

	*done = false;
	if (strcmp(remedy->run_on, settings_node_name()) == 0)
		answer = perform_here(remedy->action, inquiry->source, &fault);
	else
		answer = mailbox_ask(remedy->run_on, "repair",
							 psprintf("%s\t%s", remedy_action_name(remedy->action),
									  inquiry->source),
							 clock_now() + REPAIR_MAX, &fault);
	if (answer == NULL)
		return psprintf("not performed: %s", fault);
	if (strncmp(answer, "ok\t", 3) != 0)
		return psprintf("not performed: %s",
						strncmp(answer, "error\t", 6) == 0 ? answer + 6 : answer);
	*done = true;
	return psprintf("performed: %s", answer + 3);
}

/* A reload takes a moment: until the path stands or fails in another way. */
static Inquiry *
wait_for_effect(const Inquiry *before)
{
	ClockTime	until = clock_now() + EFFECT_MAX;
	Inquiry    *after;

	for (;;)
	{
		after = inquiry_make(before->source, before->target);
		if (after->facts.cause != before->facts.cause || clock_now() >= until)
			return after;
		sql_sleep(EFFECT_POLL_MS);
	}
}

/* One cause; returns whether anything was performed. */
static bool
repair_cause(FunctionCallInfo fcinfo, const Inquiry *inquiry, bool apply, int *seq)
{
	Remedy	   *remedy = palloc(sizeof(Remedy) * REMEDY_MAX);
	int			n = inquiry_remedies(inquiry, remedy);
	bool		any = false;

	for (int i = 0; i < n; i++)
	{
		bool		done = false;
		const char *words = "";

		if (apply && remedy[i].safe)
			words = perform(inquiry, &remedy[i], &done);
		else if (apply)
			words = "not performed: it is left to people";
		put_remedy(fcinfo, ++(*seq), &remedy[i], words);
		any |= done;
	}
	return any;
}

static void
put_check(FunctionCallInfo fcinfo, const Inquiry *inquiry, int seq)
{
	Remedy	   *row = palloc0(sizeof(Remedy));

	strlcpy(row->run_on, settings_node_name(), sizeof(row->run_on));
	row->kind = REMEDY_SQL;
	snprintf(row->operation, sizeof(row->operation),
			 "SELECT * FROM leasehold.diagnose(%s, %s);",
			 quote_literal_cstr(inquiry->target), quote_literal_cstr(inquiry->source));
	strlcpy(row->why, "The path is tried again.", sizeof(row->why));
	row->safe = true;
	put_remedy(fcinfo, seq, row, psprintf("%s: %s", verdict_name(inquiry->verdict),
										  verdict_text(inquiry->verdict)));
}

/*
 * leasehold_repair
 *		The same list; with apply, what is safe is performed, where it has to be, and
 *		the path is tried again: another cause may lie beneath the first.
 */
Datum
leasehold_repair(PG_FUNCTION_ARGS)
{
	char	   *target = sql_text(fcinfo, 0);
	char	   *source = sql_text(fcinfo, 1);
	bool		apply = !PG_ARGISNULL(2) && PG_GETARG_BOOL(2);
	Inquiry    *inquiry;
	int			seq = 0;

	sql_require_preloaded();
	require_target(fcinfo);
	InitMaterializedSRF(fcinfo, 0);
	inquiry = inquiry_make(source, target);
	for (int round = 0; round < ROUNDS_MAX; round++)
	{
		Cause		before = inquiry->facts.cause;

		if (!repair_cause(fcinfo, inquiry, apply, &seq))
			break;
		inquiry = wait_for_effect(inquiry);
		if (inquiry->facts.cause == before || inquiry->facts.cause == CAUSE_NONE)
			break;
	}
	if (apply)
		put_check(fcinfo, inquiry, seq + 1);
	return (Datum) 0;
}
