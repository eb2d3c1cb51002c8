/*
 * compat.h
 *		Every difference between server versions, in one place.
 *
 * Layer 1.  No other file of the project looks at PG_VERSION_NUM.
 */
#ifndef LEASEHOLD_COMPAT_H
#define LEASEHOLD_COMPAT_H

#include "postgres.h"

#include "storage/latch.h"
#include "storage/proc.h"

#if PG_VERSION_NUM < 150000 || PG_VERSION_NUM >= 190000
#error "leasehold needs PostgreSQL 15 to 18"
#endif

#if PG_VERSION_NUM >= 170000
#include "storage/procnumber.h"
#include "storage/waiteventset.h"
#include "utils/resowner.h"
#endif

/* The place of a process in arrays sized by all possible processes. */
#if PG_VERSION_NUM >= 170000
#define compat_proc_number() ((int) MyProcNumber)
#define compat_proc_number_of(proc) ((int) GetNumberFromPGProc(proc))
#else
#define compat_proc_number() (MyProc->pgprocno)
#define compat_proc_number_of(proc) ((proc)->pgprocno)
#endif

#endif							/* LEASEHOLD_COMPAT_H */
