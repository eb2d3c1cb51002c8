/*
 * fence_ddl.h
 *		Which tables a utility statement is about: the fence's knowledge of DDL.
 *
 * Layer 2.  Nothing here looks at a lease.
 */
#ifndef LEASEHOLD_FENCE_DDL_H
#define LEASEHOLD_FENCE_DDL_H

#include "postgres.h"

#include "catalog/objectaccess.h"
#include "nodes/parsenodes.h"

#include "fence_tables.h"

#pragma GCC visibility push(hidden)	/* see fence.h */

/* The tables that a utility statement names. */
typedef struct FenceNamed
{
	List	   *relids;
	bool		whole;			/* and all below them are concerned */
	bool		partly;			/* it may be about more than these */
	const FenceNeed *made;		/* of a table that it makes and fills, or NULL */
} FenceNamed;

extern void fence_named_tables(Node *statement, FenceNamed *named);

/*
 * fence_changed_table
 *		The table that an object is, or belongs to, of which the object access hook
 *		was told; InvalidOid if to none, or if what happens is not the table's
 *		affair.
 */
extern Oid	fence_changed_table(ObjectAccessType access, Oid class, Oid object);

/*
 * A table that the transaction at hand has dropped, or whose schema it has
 * changed, whether that took a lease then or not: until it commits, the table may
 * come under one.  By the time it is judged it may be gone, or have another name.
 */
typedef struct FenceAltered
{
	TransactionId xid;			/* of the subtransaction that did it */
	Oid			relid;
	char	   *schema;			/* its name before */
	char	   *name;
	List	   *parents;		/* of one dropped: OIDs of what it was a part of */
} FenceAltered;

/*
 * fence_altered_by
 *		The tables whose schema a utility statement is about to change, as a list of
 *		FenceAltered, for fence_remember_altered() once it has; NIL if there are
 *		none.
 */
extern List *fence_altered_by(Node *statement);
extern void fence_remember_altered(List *altered);

/* The same for what the object access hook was told of. */
extern void fence_remember_change(ObjectAccessType access, Oid class, Oid object);

/*
 * fence_check_rename
 *		The list of protected tables goes by names: ERROR 55006 if the statement
 *		renames one, or moves it, or the schema or database that it is in.
 */
extern void fence_check_rename(Node *statement);

#pragma GCC visibility pop

#endif							/* LEASEHOLD_FENCE_DDL_H */
