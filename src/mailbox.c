/*
 * mailbox.c
 *		Ask another node for something, through the store.
 *
 * The request goes to every member that answers; the first one that has the answer
 * will do.  It is taken away again, also on the way out of an error; what a run of
 * this node has left behind, the prober of the next one takes away.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "mailbox.h"
#include "sql.h"
#include "store_paths.h"

#define POLL_MS			30
#define CLEAN_UP_MS		1000

static char *
find_answer(const StoreGroup *group)
{
	for (int i = 0; i < group->n; i++)
		if (group_took(group, i))
			return pstrdup(PQgetvalue(group->member[i].result, 0, 0));
	return NULL;
}

static char *
wait_for_answer(StoreGroup *group, const char *id, ClockTime until)
{
	char	   *answer;

	for (;;)
	{
		if (group_send(group, group_connected, store_read_answer_sql, 1, &id) > 0 &&
			(answer = find_answer(group)) != NULL)
			return answer;
		if (clock_now() >= until || group_count(group, group_connected) == 0)
			return NULL;
		sql_sleep(POLL_MS);
	}
}

/* Also on the way out of an error: raises none, serves no interrupts. */
static void
clear(StoreGroup *group, const char *sql, const char *id)
{
	MemoryContext old = MemoryContextSwitchTo(group->context);

	HOLD_INTERRUPTS();
	group->deadline = clock_now() + clock_ms(CLEAN_UP_MS);
	group_settle(group);
	(void) group_send(group, group_connected, sql, 1, &id);
	RESUME_INTERRUPTS();
	MemoryContextSwitchTo(old);
}

static char *
post_and_wait(StoreGroup *group, const char *sql, const char *const *values,
			  ClockTime until, char **fault)
{
	char	   *answer;

	if (group_send(group, group_connected, sql, 6, values) == 0)
	{
		*fault = psprintf("No member of the store takes requests. %s",
						  group_faults(group));
		return NULL;
	}
	(void) group_send(group, group_connected, store_hasten_sql, 0, NULL);
	answer = wait_for_answer(group, values[0], until);
	if (answer == NULL)
		*fault = psprintf("Node \"%s\" has not answered through the store.", values[1]);
	return answer;
}

char *
mailbox_ask(const char *to, const char *operation, const char *arguments,
			ClockTime until, char **fault)
{
	StoreGroup *group = group_configured("", until);
	const char *values[] = {
		sql_uuid(), to, settings_node_name(),
		psprintf(INT64_FORMAT, (int64) leasehold_shared->incarnation),
		operation, arguments
	};
	bool		repair = strcmp(operation, "repair") == 0;
	char	   *answer = NULL;

	*fault = NULL;
	PG_TRY();
	{
		answer = post_and_wait(group, repair ? store_post_repair_sql : store_post_sql,
							   values, until, fault);
	}
	PG_FINALLY();
	{
		clear(group, repair ? store_clear_repair_sql : store_clear_mail_sql, values[0]);
		group_close(group);
	}
	PG_END_TRY();
	return answer;
}
