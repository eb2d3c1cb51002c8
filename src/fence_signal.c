/*
 * fence_signal.c
 *		default_transaction_read_only as clients see it: "on" while fenced.
 *
 * libpq's target_session_attrs, JDBC's targetServerType, poolers and balancers
 * read this setting from the startup reply and from the reports that follow a
 * change.  It is a signal, never the fence.
 *
 * Only what is *shown* changes: the setting itself, its source, its reset value
 * and the stack of values that open transactions would go back to stay the
 * session's own.  So whatever a role, a database, the user's SET, SET LOCAL,
 * RESET, DISCARD ALL or a rollback did meanwhile is in force, untouched, once
 * the lease returns; and what the user sets while fenced does not hide the
 * signal.  That transactions on a fenced node are read-only indeed is the work
 * of fence.c.
 *
 * Called from fence.c in sessions.  Must never write the setting to a
 * configuration file, and never decide whether something may be written.
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/guc_tables.h"

#include "compat.h"
#include "fence.h"
#include "fence_signal.h"

#define SIGNAL "default_transaction_read_only"

int			fence_signal_last = -1;

static const char *show_signal(void);

void
fence_signal_install(void)
{
	struct config_generic *setting = compat_find_setting(SIGNAL);

	if (setting == NULL || setting->vartype != PGC_BOOL)
		elog(ERROR, "setting \"%s\" not found", SIGNAL);
	((struct config_bool *) setting)->show_hook = show_signal;
}

/*
 * What SHOW says, and what is reported to the client: at session start too,
 * without any doing of ours.
 */
static const char *
show_signal(void)
{
	if (DefaultXactReadOnly)
		return "on";
	if (IsUnderPostmaster && MyProc != NULL && fence_shared != NULL &&
		fence_governs() && setting_fence == FENCE_ENFORCE &&
		shared_lease_epoch(&fence_shared->instance) == 0)
		return "on";
	return "off";
}

/*
 * The server reports a setting before the next ReadyForQuery if something
 * touched it.  Setting it for this transaction to what it is already touches
 * it and changes nothing: the end of the transaction takes it back.
 *
 * Where that is not possible now, the next statement tries again.
 */
void
fence_signal_report(bool fenced)
{
	if (setting_fence != FENCE_ENFORCE)
		fenced = false;
	if ((int) fenced == fence_signal_last)
		return;
	if (!IsTransactionState() || IsInParallelMode())
		return;
	fence_signal_last = fenced;
	(void) set_config_option(SIGNAL, DefaultXactReadOnly ? "on" : "off",
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL,
							 true, LOG, false);
}
