/*
 * store_care.h
 *		The statements of people: requests, making and dropping leases, the
 *		list of members, copies of rows.
 *
 * Layer 3.  Sent by SQL functions alone (see group.h); the keeper's own
 * statements are in store.c, which lists these too.
 */
#ifndef LEASEHOLD_STORE_CARE_H
#define LEASEHOLD_STORE_CARE_H

#include "postgres.h"

/* Requests: they change neither epoch nor version. */
extern const char store_request_sql[];	/* name, seq, ttl, pause, handover */
extern const char store_withdraw_sql[]; /* name, seq, ttl, pause */
extern const char store_watch_sql[];	/* name, name of a node */

/* What store_watch_sql answers: one row, or none. */
enum
{
	WATCH_HOLDER, WATCH_EPOCH, WATCH_FROZEN, WATCH_SEQ, WATCH_ANSWER,
	WATCH_INCARNATION, WATCH_NODE_INCARNATION, WATCH_BEAT,
	WATCH_OPEN, WATCH_COUNT
};

/* Leases. */
extern const char store_create_sql[];	/* name, ttl, kind, sysid, timeline,
										 * generation */
extern const char store_undrop_sql[];	/* name, ttl, kind, sysid, timeline */
extern const char store_drop_sql[]; /* name */
extern const char store_take_back_drop_sql[];	/* name */
extern const char store_freeze_sql[];	/* name */
extern const char store_unfreeze_sql[];	/* name, the request withdrawn */
extern const char store_thaw_sql[]; /* name, epoch below which a held row may
									 * be thawed */

/* Nodes. */
extern const char store_drop_node_sql[];	/* name, incarnation */
extern const char store_rename_node_sql[];	/* name, new name, incarnation */
extern const char store_copy_node_sql[];	/* the nine columns of a node */

/* Leases of tables; lists are arrays in the server's notation. */
extern const char store_for_tables_sql[];	/* name */
extern const char store_all_memberships_sql[];
extern const char store_memberships_anew_sql[];	/* number, generation, leases,
												 * nodes, priorities, highest
												 * number before */
extern const char store_reserve_sql[];	/* number, generation */
extern const char store_protect_sql[];	/* number, generation, database, schema,
										 * table, lease */
extern const char store_all_known_sql[];

/* The list of members (R10). */
extern const char store_form_sql[]; /* list */
extern const char store_commit_sql[];	/* generation, list, old generation */
extern const char store_seal_sql[]; /* name, generation */
extern const char store_names_sql[];
extern const char store_rows_sql[];
extern const char store_copy_sql[]; /* the columns of a lease, generation */
extern const char store_copy_protections_sql[]; /* number, generation, databases,
												 * schemas, tables, leases,
												 * numbers */
extern const char store_copy_memberships_sql[]; /* number, generation, leases,
												 * nodes, priorities */
extern const char store_settle_sql[];	/* generation, list */
extern const char store_anew_sql[]; /* store id */
extern const char store_blank_sql[];

/* A whole lease row, in the order of store_copy_sql's parameters. */
enum
{
	ROW_NAME, ROW_HOLDER, ROW_INCARNATION, ROW_EPOCH, ROW_VERSION, ROW_NONCE,
	ROW_TTL, ROW_FROZEN, ROW_RESERVED, ROW_SEQ, ROW_TTL_WANTED,
	ROW_PAUSE_WANTED, ROW_HANDOVER, ROW_ANSWER, ROW_KIND, ROW_SCOPE,
	ROW_SYSID, ROW_TIMELINE, ROW_TIMELINE_BEGIN, ROW_TIMELINE_EPOCH,
	ROW_HOLDER_LSN, ROW_SYNC_SET, ROW_READY, ROW_DROPPED,
	ROW_COUNT
};

/* What check() asks a member about its durability. */
extern const char store_durability_sql[];

/*
 * store_read_script
 *		The statements of the installed script that makes a store: all before its
 *		first psql command.  palloc'd; raises an error if it cannot be read.
 */
#define STORE_SCRIPT	"leasehold-store.sql"
extern char *store_read_script(void);

#endif							/* LEASEHOLD_STORE_CARE_H */
