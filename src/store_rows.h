/*
 * store_rows.h
 *		The columns of a lease row, as all statements read them, and their values.
 *
 * Layer 3, for store.c and store_tables.c alone.
 */
#ifndef LEASEHOLD_STORE_ROWS_H
#define LEASEHOLD_STORE_ROWS_H

#include "store.h"

#define STORE_LEASE(t) \
	t ".name, " t ".holder, " t ".incarnation, " t ".epoch, " t ".version, " \
	t ".ttl_ms, " t ".frozen, " t ".reserved_for, " t ".request_seq, " \
	t ".ttl_wanted_ms, " t ".pause_wanted, " t ".handover_to, " \
	t ".kind, " t ".scope, " t ".dropped, " t ".system_identifier, " \
	t ".timeline, " t ".timeline_begin, " t ".timeline_epoch, " \
	t ".holder_lsn, " t ".sync_set, " t ".ready_seq"

/* Their places. */
enum
{
	STORE_COL_NAME, COL_HOLDER, COL_INCARNATION, COL_EPOCH, COL_VERSION, COL_TTL,
	COL_FROZEN, COL_RESERVED, COL_SEQ, COL_TTL_WANTED, COL_PAUSE_WANTED,
	COL_HANDOVER, COL_KIND, COL_SCOPE, COL_DROPPED, COL_SYSID, COL_TIMELINE,
	COL_TIMELINE_BEGIN, COL_TIMELINE_EPOCH, COL_HOLDER_LSN, COL_SYNC_SET,
	COL_READY, STORE_LEASE_COLUMNS
};

static inline int64
store_get_int(const PGresult *result, int row, int column)
{
	return strtoll(PQgetvalue(result, row, column), NULL, 10);
}

static inline bool
store_get_bool(const PGresult *result, int row, int column)
{
	return PQgetvalue(result, row, column)[0] == 't';
}

extern void store_read_lease(const PGresult *result, int row, int at,
							 StoreLease *lease);

#endif							/* LEASEHOLD_STORE_ROWS_H */
