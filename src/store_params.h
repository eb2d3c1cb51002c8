/*
 * store_params.h
 *		The parameters of a statement to a member of the store, as text.
 *
 * Layer 3, for store.c and store_tables.c alone.
 */
#ifndef LEASEHOLD_STORE_PARAMS_H
#define LEASEHOLD_STORE_PARAMS_H

#include "link.h"

/* With room for the numbers among them; begin with zeroes. */
typedef struct StoreParams
{
	int			n;
	const char *value[LINK_PARAMS_MAX];
	char		number[LINK_PARAMS_MAX][24];
} StoreParams;

/* The next one.  A text is not copied: it has to live until it is sent. */
extern void param_text(StoreParams *params, const char *text);
extern void param_int(StoreParams *params, int64 value);
extern void param_lsn(StoreParams *params, uint64 lsn);
extern void param_bool(StoreParams *params, bool value);

/* A write is known again by its nonce. */
extern int64 store_nonce(void);

/* False if the link is lost. */
extern bool params_send(Link *link, const char *sql, const StoreParams *params,
						ClockTime deadline);

#endif							/* LEASEHOLD_STORE_PARAMS_H */
