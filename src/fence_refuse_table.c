/*
 * fence_refuse_table.c
 *		What is said when the fence refuses for the lease of a table.
 *
 * As with the lease of the instance (fence_refuse.c), and with the table's name.
 * What is known of the lease stands in shared memory, under a lock that is not
 * waited for: a refusal must not depend on who holds it.
 *
 * Called from fence_notes.c and fence_ddl.c, which decide.
 */
#include "postgres.h"

#include "access/xact.h"
#include "tcop/utility.h"
#include "utils/lsyscache.h"

#include "fence.h"
#include "fence_refuse.h"
#include "fence_refuse_table.h"

/* What is known of a lease at this moment. */
typedef struct Known
{
	bool		readable;
	TableStatus status;
	char		node[LEASEHOLD_NAME_LEN];	/* this one */
	char		address[256];	/* the holder's, "" if not known */
} Known;

static void
read_address(Known *known)
{
	Survey	   *survey = leasehold_shared->survey;

	if (!LWLockConditionalAcquire(leasehold_shared->survey_lock, LW_SHARED))
		return;
	for (int i = 0; i < survey->nnodes; i++)
		if (strcmp(survey->node[i].name, known->status.holder) == 0)
			strlcpy(known->address, survey->node[i].advertise,
					sizeof(known->address));
	LWLockRelease(leasehold_shared->survey_lock);
}

static void
read_known(const FenceTableLease *lease, Known *known)
{
	memset(known, 0, sizeof(*known));
	strlcpy(known->node, settings_node_name(), sizeof(known->node));
	if (lease->slot == TABLES_NO_SLOT ||
		!LWLockConditionalAcquire(leasehold_tables->status_lock, LW_SHARED))
		return;
	known->status = leasehold_tables->status[lease->slot];
	known->readable = true;
	LWLockRelease(leasehold_tables->status_lock);
	if (known->status.holder[0] != '\0')
		read_address(known);
}

/* "schema.table", or what can be said of it. */
static const char *
table_name(Oid relid)
{
	char	   *schema;
	char	   *name;

	if (!OidIsValid(relid))
		return "a new table";
	schema = get_namespace_name(get_rel_namespace(relid));
	name = get_rel_name(relid);
	if (schema == NULL || name == NULL)
		return "a table that has been dropped";
	return psprintf("table \"%s.%s\"", schema, name);
}

static bool
held_elsewhere(const Known *known)
{
	return known->status.holder[0] != '\0' &&
		strcmp(known->status.holder, known->node) != 0;
}

static int
table_detail(const FenceTableLease *lease, const Known *known)
{
	const TableStatus *status = &known->status;

	if (lease->slot == TABLES_NO_SLOT)
		return errdetail("This node takes no part in lease \"%s\".", lease->name);
	if (!known->readable)
		return errdetail("Who holds lease \"%s\" is not known at this moment.",
						 lease->name);
	if (held_elsewhere(known))
		return errdetail("Lease \"%s\" is held by node \"%s\" under epoch %lld.",
						 lease->name, status->holder, (long long) status->epoch);
	/* the keeper has not said anything since: it may be stopped */
	if (status->holder[0] != '\0' && status->reason[0] == '\0')
		return errdetail("This node held lease \"%s\" under epoch %lld until its time ran out; who holds it now is not known here.",
						 lease->name, (long long) status->epoch);
	return errdetail("Nobody holds lease \"%s\"; the highest epoch known is %lld.%s%s",
					 lease->name, (long long) status->epoch,
					 status->reason[0] != '\0' ? " " : "", status->reason);
}

static int
table_hint(const Known *known)
{
	if (held_elsewhere(known) && known->address[0] != '\0')
		return errhint("Connect to node \"%s\" at %s.",
					   known->status.holder, known->address);
	return errhint("Function leasehold.writer() says which node writes a table.");
}

static int
unknown_detail(void)
{
	return errdetail("File \"leasehold.tables\" of the data directory cannot be read and the store has not been reached yet, so any table may be protected.");
}

/* Count it; the message is the caller's. */
static void
count_refusal(void)
{
	pg_atomic_fetch_add_u64(&fence_shared->refused, 1);
}

static void
warn_of(const char *command, Oid relid, const FenceTableLease *lease)
{
	Known		known;

	fence_transaction.warned = true;
	read_known(lease, &known);
	ereport(LOG,
			(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
			 errmsg("would have refused %s on %s: this node does not hold lease \"%s\"",
					command, table_name(relid), lease->name),
			 table_detail(lease, &known)));
}

void
fence_refuse_table(const char *command, const void *statement, Oid relid,
				   const FenceTableLease *lease, uint64 held)
{
	Known		known;

	if (command == NULL)
		command = CreateCommandName((Node *) statement);
	if (setting_fence == FENCE_WARN)
	{
		if (!fence_already_warned(statement))
			warn_of(command, relid, lease);
		return;
	}
	count_refusal();
	if (fence_tables_unknown)
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot execute %s on %s: the list of protected tables could not be read",
						command, table_name(relid)),
				 unknown_detail()));
	if (held != 0)
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot execute %s on %s: this transaction has seen this node without lease \"%s\"",
						command, table_name(relid), lease->name),
				 errdetail("This node holds lease \"%s\" under epoch %lld now, but the transaction began before.",
						   lease->name, (long long) held),
				 errhint("Start a new transaction.")));
	read_known(lease, &known);
	ereport(ERROR,
			(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
			 errmsg("cannot execute %s on %s: this node does not hold lease \"%s\"",
					command, table_name(relid), lease->name),
			 table_detail(lease, &known),
			 table_hint(&known)));
}

static void
warn_of_commit(Oid relid, const FenceTableLease *lease)
{
	Known		known;

	if (fence_transaction.warned)
		return;
	fence_transaction.warned = true;
	read_known(lease, &known);
	ereport(LOG,
			(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
			 errmsg("would have refused to commit: %s was written without lease \"%s\"",
					table_name(relid), lease->name),
			 table_detail(lease, &known)));
}

void
fence_refuse_table_commit(Oid relid, const FenceTableLease *lease,
						  FenceTableFault fault)
{
	uint64		held = tables_held_epoch(lease->slot);
	Known		known;

	if (setting_fence == FENCE_WARN)
	{
		warn_of_commit(relid, lease);
		return;
	}
	count_refusal();
	if (fence_tables_unknown && fault == TABLE_UNNOTED)
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot commit: this transaction wrote %s, and the list of protected tables could not be read",
						table_name(relid)),
				 unknown_detail()));
	read_known(lease, &known);
	ereport(ERROR,
			(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
			 fault == TABLE_LOST ?
			 errmsg("cannot commit: lease \"%s\" of %s was lost during this transaction",
					lease->name, table_name(relid)) :
			 fault == TABLE_UNHELD ?
			 errmsg("cannot commit: this transaction wrote %s while this node did not hold lease \"%s\"",
					table_name(relid), lease->name) :
			 errmsg("cannot commit: this transaction wrote %s without lease \"%s\"",
					table_name(relid), lease->name),
			 held == 0 ? table_detail(lease, &known) :
			 fault != TABLE_UNNOTED ?
			 errdetail("This node holds lease \"%s\" under epoch %lld now, but the transaction met it under another one, or without.",
					   lease->name, (long long) held) :
			 errdetail("The table came under the lease while the transaction ran, or was not written by a statement."),
			 held == 0 ? table_hint(&known) : errhint("Run the transaction again.")));
}

void
fence_refuse_altered(const FenceAltered *altered, const FenceTableLease *lease)
{
	Known		known;

	read_known(lease, &known);
	if (setting_fence == FENCE_WARN)
	{
		if (!fence_transaction.warned)
			ereport(LOG,
					(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
					 errmsg("would have refused to commit: table \"%s.%s\" was altered or dropped without lease \"%s\"",
							altered->schema, altered->name, lease->name),
					 table_detail(lease, &known)));
		fence_transaction.warned = true;
		return;
	}
	count_refusal();
	if (fence_tables_unknown)
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot commit: this transaction has altered or dropped table \"%s.%s\", and the list of protected tables could not be read",
						altered->schema, altered->name),
				 unknown_detail()));
	ereport(ERROR,
			(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
			 errmsg("cannot commit: this transaction has altered or dropped table \"%s.%s\" without lease \"%s\"",
					altered->schema, altered->name, lease->name),
			 table_detail(lease, &known),
			 table_hint(&known)));
}

void
fence_refuse_changed_list(void)
{
	if (setting_fence == FENCE_WARN)
	{
		if (!fence_transaction.warned)
			ereport(LOG,
					(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
					 errmsg("would have refused to commit: the list of protected tables has changed during this transaction")));
		fence_transaction.warned = true;
		return;
	}
	count_refusal();
	ereport(ERROR,
			(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
			 errmsg("cannot commit: the list of protected tables has changed during this transaction"),
			 errdetail("With \"track_counts\" off, it cannot be told whether the transaction wrote one of them."),
			 errhint("Run the transaction again.")));
}

void
fence_refuse_table_finish(const char *gid, Oid relid)
{
	if (setting_fence == FENCE_WARN)
	{
		ereport(LOG,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("would have refused COMMIT PREPARED: transaction \"%s\" may have written %s before it was protected",
						gid, table_name(relid))));
		return;
	}
	count_refusal();
	ereport(ERROR,
			(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
			 errmsg("cannot execute COMMIT PREPARED: transaction \"%s\" may have written %s before it was protected",
					gid, table_name(relid)),
			 errhint("Roll it back with ROLLBACK PREPARED.")));
}

void
fence_refuse_table_prepare(const FenceNote *notes, int n)
{
	Oid			relid = InvalidOid;

	for (int i = 0; i < n && !OidIsValid(relid); i++)
		if (notes[i].wrote)
			relid = notes[i].relid;
	if (setting_fence == FENCE_WARN)
		return;
	count_refusal();
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("cannot PREPARE a transaction that has written %s, which has a lease of its own",
					table_name(relid))));
}

void
fence_refuse_rename(const char *what, const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_IN_USE),
			 errmsg("cannot rename, move or drop %s \"%s\" while a lease protects %s",
					what, name, strcmp(what, "table") == 0 ? "it" : "tables in it"),
			 errdetail("Protected tables are known by their names, on all nodes."),
			 errhint("Call leasehold.unprotect() first.")));
}
