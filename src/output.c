/*
 * output.c
 *		The library as an output plugin: pgoutput, without what this server only
 *		applied.
 *
 * With subscriptions in both directions every change would come back to where it
 * was made.  From PostgreSQL 16 on a subscription can ask for what was made at the
 * publisher itself (origin = none); for 15, a slot made by this plugin in place of
 * pgoutput does the same:
 *
 *		SELECT pg_create_logical_replication_slot('from_a', 'leasehold');
 *
 * All else is pgoutput's own.
 */
#include "postgres.h"

#include "fmgr.h"
#include "replication/logical.h"
#include "replication/origin.h"
#include "replication/output_plugin.h"

/* (the server's headers declare it from 16 on) */
extern PGDLLEXPORT void _PG_output_plugin_init(OutputPluginCallbacks *callbacks);

/* True: leave it out. */
static bool
was_applied(struct LogicalDecodingContext *context, RepOriginId origin)
{
	return origin != InvalidRepOriginId;
}

void
_PG_output_plugin_init(OutputPluginCallbacks *callbacks)
{
	LogicalOutputPluginInit init;

	init = (LogicalOutputPluginInit)
		load_external_function("pgoutput", "_PG_output_plugin_init", true, NULL);
	init(callbacks);
	callbacks->filter_by_origin_cb = was_applied;
}
