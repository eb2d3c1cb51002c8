/*
 * opening.c
 *		Between taking a table lease and writing its tables: shared memory.
 *
 * See opening.h.
 */
#include "postgres.h"

#include "opening.h"

Size
opening_size(void)
{
	return 0;
}

void
opening_attach(void)
{
}

void
opening_prepare(int slot, int64 seq, const char *from, const char *address)
{
}

OpeningState
opening_prepared(int slot, int64 seq, char *why)
{
	return OPENING_READY;
}

void
opening_begin(int slot, int64 epoch, const char *from, const char *address,
			  uint64 lsn)
{
}

OpeningState
opening_state(int slot, int64 epoch, char *why)
{
	return OPENING_READY;
}

void
opening_forget(int slot)
{
}
