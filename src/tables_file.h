/*
 * tables_file.h
 *		The list of protected tables on this node's disk (R11).
 *
 * Layer 1.  Written by the steward, read by the postmaster before anybody else
 * runs: a node that cannot reach the store fences what it fenced before.
 */
#ifndef LEASEHOLD_TABLES_FILE_H
#define LEASEHOLD_TABLES_FILE_H

#include "postgres.h"

#include "tables.h"

#define TABLES_FILE		"leasehold.tables"

typedef enum TablesFileState
{
	TABLES_FILE_ABSENT,
	TABLES_FILE_GOOD,
	TABLES_FILE_BROKEN			/* it is there, and cannot be relied on */
} TablesFileState;

/* Fill the list (of tables_list_size() bytes); empty unless the file is good. */
extern TablesFileState tables_file_read(TableList *list);

/* Write and fsync it; false, and a line in the log, if that failed. */
extern bool tables_file_write(const TableList *list);

/*
 * tables_file_follow
 *		Write the current list if it is not on the disk yet, and say so there.
 *		[steward]
 */
extern void tables_file_follow(void);

#endif							/* LEASEHOLD_TABLES_FILE_H */
