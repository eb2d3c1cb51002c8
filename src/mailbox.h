/*
 * mailbox.h
 *		Ask another node for something, through the store.
 *
 * Layer 4.  For SQL functions.  The other side is prober_mail.c.
 */
#ifndef LEASEHOLD_MAILBOX_H
#define LEASEHOLD_MAILBOX_H

#include "postgres.h"

#include "clock.h"

/*
 * mailbox_ask
 *		The answer of node "to", palloc'd; NULL, and *fault (a sentence), if there
 *		is none by "until".  Serves interrupts.
 */
extern char *mailbox_ask(const char *to, const char *operation,
						 const char *arguments, ClockTime until, char **fault);

#endif							/* LEASEHOLD_MAILBOX_H */
