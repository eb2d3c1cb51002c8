/*
 * farewell.h
 *		The last thing that the postmaster does at a clean shutdown.
 *
 * Layer 4.
 */
#ifndef LEASEHOLD_FAREWELL_H
#define LEASEHOLD_FAREWELL_H

/* Have the postmaster say farewell.  Called from _PG_init(). */
extern void farewell_install(void);

#endif							/* LEASEHOLD_FAREWELL_H */
