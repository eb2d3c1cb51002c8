/*
 * fence_sequence.c
 *		Sequences that belong to tables with leases of their own.
 *
 * On a node that a lease governs, nextval() needs that lease, unless the sequence
 * belongs to a column of a protected table: then the table's lease does, so that
 * rows can be put into a table with a serial column.  (An identity column asks
 * for its number in another way, which no hook tells of.)
 *
 * The object access hook tells that nextval() is called, not for which sequence.
 * But while a plan is being started it is called once for each expression of that
 * plan, and those that fill columns are known: so many calls are covered, and if
 * there is one more, that is refused, or the one that comes last in its place.
 *
 * Called from fence_hooks.c and fence.c.
 */
#include "postgres.h"

#include "catalog/dependency.h"
#include "catalog/pg_depend.h"
#include "nodes/nodeFuncs.h"
#include "utils/fmgroids.h"

#include "fence_notes.h"
#include "fence_sequence.h"
#include "fence_statement.h"

static const PlannedStmt *starting = NULL;
static int	covered;			/* calls to come; -1: not counted yet */

void
fence_sequence_begin(const PlannedStmt *stmt)
{
	starting = stmt;
	covered = -1;
}

void
fence_sequence_end(void)
{
	starting = NULL;
}

static bool
belongs(Oid sequence)
{
	Oid			table;
	int32		column;

	return (sequenceIsOwned(sequence, DEPENDENCY_AUTO, &table, &column) ||
			sequenceIsOwned(sequence, DEPENDENCY_INTERNAL, &table, &column)) &&
		fence_notes_cover(fence_table(table).need);
}

static bool
count_covered(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, FuncExpr) && ((FuncExpr *) node)->funcid == F_NEXTVAL)
	{
		Node	   *argument = linitial(((FuncExpr *) node)->args);

		if (IsA(argument, Const) && !((Const *) argument)->constisnull &&
			belongs(DatumGetObjectId(((Const *) argument)->constvalue)))
			covered++;
	}
	return expression_tree_walker(node, count_covered, context);
}

/*
 * What fills the columns stands right below the node that writes, and is
 * initialised with it, all of it, once.
 */
static void
count_plan(const PlannedStmt *stmt)
{
	covered = 0;
	if (IsA(stmt->planTree, ModifyTable) && outerPlan(stmt->planTree) != NULL)
		(void) count_covered((Node *) outerPlan(stmt->planTree)->targetlist, NULL);
}

bool
fence_sequence_is_covered(void)
{
	if (starting == NULL)
		return false;
	if (covered < 0)
		count_plan(starting);
	if (covered == 0)
		return false;
	covered--;
	return true;
}
