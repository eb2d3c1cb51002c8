/*
 * leasehold_openertest.c
 *		The openers, asked by hand: for tests only.
 *
 * Plays the keeper's part towards the workers that see to the data of a table
 * lease, with no store and no lease.  The keeper itself has to be stopped.  Must
 * never be installed where anybody's data is.
 */
#include "postgres.h"

#include <unistd.h>

#include "compat.h"

#include "fmgr.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/pg_lsn.h"
#include "catalog/pg_type.h"

#include "opening.h"

PG_MODULE_MAGIC;

/* Enough for a test. */
#define ENTRIES_MAX	32

PG_FUNCTION_INFO_V1(openertest_protect);
PG_FUNCTION_INFO_V1(openertest_prepare);
PG_FUNCTION_INFO_V1(openertest_begin);
PG_FUNCTION_INFO_V1(openertest_forget);

static const char *const state_name[] = {"none", "pending", "ready", "failed"};

static int
slot_of(FunctionCallInfo fcinfo)
{
	return tables_give_slot(text_to_cstring(PG_GETARG_TEXT_PP(0)));
}

static void
add_entry(TableList *list, char *table, const char *lease)
{
	TableEntry *entry = &list->entry[list->n++];
	char	   *schema = strchr(table, '.');
	char	   *name = schema ? strchr(schema + 1, '.') : NULL;

	if (name == NULL)
		elog(ERROR, "not database.schema.name: %s", table);
	*schema++ = '\0';
	*name++ = '\0';
	strlcpy(entry->database, table, NAMEDATALEN);
	strlcpy(entry->schema, schema, NAMEDATALEN);
	strlcpy(entry->name, name, NAMEDATALEN);
	strlcpy(entry->lease, lease, LEASEHOLD_NAME_LEN);
	entry->slot = tables_give_slot(lease);
	entry->seq = list->n;
}

Datum
openertest_protect(PG_FUNCTION_ARGS)
{
	TableList  *list = palloc0(offsetof(TableList, entry) +
							   sizeof(TableEntry) * ENTRIES_MAX);
	Datum	   *tables;
	Datum	   *leases;
	int			ntables;
	int			nleases;

	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), TEXTOID, -1, false, TYPALIGN_INT,
					  &tables, NULL, &ntables);
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), TEXTOID, -1, false, TYPALIGN_INT,
					  &leases, NULL, &nleases);
	for (int i = 0; i < Min(Min(ntables, nleases), ENTRIES_MAX); i++)
		add_entry(list, TextDatumGetCString(tables[i]), TextDatumGetCString(leases[i]));
	list->seq = list->n;
	tables_publish(list);
	PG_RETURN_VOID();
}

typedef OpeningState (*Look) (int slot, int64 key, char *why);

static Datum
wait_for(FunctionCallInfo fcinfo, Look look, int64 key, ClockTime began, int ms)
{
	int			slot = slot_of(fcinfo);
	char		why[OPENING_WHY_LEN] = "";
	OpeningState state;
	TupleDesc	desc;
	Datum		values[3];
	bool		nulls[3] = {0};

	while ((state = look(slot, key, why)) == OPENING_PENDING &&
		   clock_now() < began + clock_ms(ms))
	{
		CHECK_FOR_INTERRUPTS();
		usleep(50);
	}
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = CStringGetTextDatum(state_name[state]);
	values[1] = CStringGetTextDatum(why);
	values[2] = Float8GetDatum((clock_now() - began) / 1e6);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

Datum
openertest_prepare(PG_FUNCTION_ARGS)
{
	ClockTime	began = clock_now();

	opening_prepare(slot_of(fcinfo), PG_GETARG_INT64(1),
					text_to_cstring(PG_GETARG_TEXT_PP(2)), "");
	return wait_for(fcinfo, opening_prepared, PG_GETARG_INT64(1), began, PG_GETARG_INT32(3));
}

Datum
openertest_begin(PG_FUNCTION_ARGS)
{
	ClockTime	began = clock_now();

	opening_begin(slot_of(fcinfo), PG_GETARG_INT64(1),
				  text_to_cstring(PG_GETARG_TEXT_PP(2)),
				  text_to_cstring(PG_GETARG_TEXT_PP(5)), PG_GETARG_LSN(3),
				  PG_GETARG_LSN(3) != 0 ? OPENING_HANDED : 0);
	return wait_for(fcinfo, opening_state, PG_GETARG_INT64(1), began, PG_GETARG_INT32(4));
}

Datum
openertest_forget(PG_FUNCTION_ARGS)
{
	opening_forget(slot_of(fcinfo));
	PG_RETURN_VOID();
}
