/*
 * list.h
 *		Lists of connection strings, as leasehold.store has them.
 *
 * Layer 0: no server headers.  The library and leasehold-rejoin read them alike.
 */
#ifndef LEASEHOLD_LIST_H
#define LEASEHOLD_LIST_H

#include <stdbool.h>
#include <stddef.h>

/*
 * list_next
 *		The next string of a list separated by semicolons, without the blanks
 *		around it; quotes protect a semicolon.  Moves *at beyond it; false at the
 *		end of the list.
 */
extern bool list_next(const char **at, const char **string, size_t *length);

#endif							/* LEASEHOLD_LIST_H */
