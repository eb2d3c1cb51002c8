/*
 * sql_row.c
 *		Rows of the functions behind the views, put together column by column.
 */
#include "postgres.h"

#include "funcapi.h"
#include "nodes/execnodes.h"
#include "utils/builtins.h"

#include "sql.h"
#include "sql_row.h"

void
row_add(Row *row, Datum value, bool null)
{
	Assert(row->n < ROW_COLUMNS_MAX);
	row->value[row->n] = value;
	row->null[row->n++] = null;
}

void
row_text(Row *row, const char *text)
{
	if (text == NULL || text[0] == '\0')
		row_add(row, (Datum) 0, true);
	else
		row_add(row, CStringGetTextDatum(text), false);
}

void
row_age(Row *row, ClockTime moment, ClockTime now)
{
	if (moment == 0)
		row_add(row, (Datum) 0, true);
	else
		row_add(row, sql_interval(clock_max(now - moment, 0)), false);
}

void
row_ms(Row *row, int64 ms)
{
	row_duration(row, clock_ms(ms));
}

void
row_duration(Row *row, ClockTime duration)
{
	if (duration == 0)
		row_add(row, (Datum) 0, true);
	else
		row_add(row, sql_interval(duration), false);
}

void
row_put(FunctionCallInfo fcinfo, Row *row)
{
	ReturnSetInfo *to = (ReturnSetInfo *) fcinfo->resultinfo;

	tuplestore_putvalues(to->setResult, to->setDesc, row->value, row->null);
}
