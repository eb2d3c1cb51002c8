/*
 * sql_row.h
 *		Rows of the functions behind the views, put together column by column.
 *
 * Layer 4.
 */
#ifndef LEASEHOLD_SQL_ROW_H
#define LEASEHOLD_SQL_ROW_H

#include "postgres.h"

#include "fmgr.h"

#include "clock.h"

#define ROW_COLUMNS_MAX 20

typedef struct Row
{
	int			n;
	Datum		value[ROW_COLUMNS_MAX];
	bool		null[ROW_COLUMNS_MAX];
} Row;

/* The next column. */
extern void row_add(Row *row, Datum value, bool null);
extern void row_text(Row *row, const char *text);	/* "" or NULL stands for none */
extern void row_age(Row *row, ClockTime moment, ClockTime now); /* 0: no moment */
extern void row_ms(Row *row, int64 ms); /* 0: none */
extern void row_duration(Row *row, ClockTime duration); /* 0: none */

/* To the result of a function that InitMaterializedSRF() has prepared. */
extern void row_put(FunctionCallInfo fcinfo, Row *row);

#endif							/* LEASEHOLD_SQL_ROW_H */
