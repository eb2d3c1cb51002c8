/*
 * store_params.c
 *		The parameters of a statement to a member of the store, as text.
 *
 * See store_params.h.  Must never log or raise an error.
 */
#include "postgres.h"

#include "common/pg_prng.h"

#include "store_params.h"
#include "timeline.h"

void
param_text(StoreParams *params, const char *text)
{
	Assert(params->n < LINK_PARAMS_MAX);
	params->value[params->n++] = text;
}

void
param_int(StoreParams *params, int64 value)
{
	snprintf(params->number[params->n], sizeof(params->number[0]),
			 INT64_FORMAT, value);
	param_text(params, params->number[params->n]);
}

void
param_lsn(StoreParams *params, uint64 lsn)
{
	lsn_format(lsn, params->number[params->n], sizeof(params->number[0]));
	param_text(params, params->number[params->n]);
}

void
param_bool(StoreParams *params, bool value)
{
	param_text(params, value ? "true" : "false");
}

int64
store_nonce(void)
{
	return (int64) (pg_prng_uint64(&pg_global_prng_state) >> 1);
}

bool
params_send(Link *link, const char *sql, const StoreParams *params,
			ClockTime deadline)
{
	return link_send(link, sql, params->n, params->value, deadline);
}
