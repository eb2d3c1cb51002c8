/*
 * remedy_text.h
 *		Text in which names are quoted as the reader needs it.
 *
 * Layer 0: no server headers, no I/O.
 */
#ifndef LEASEHOLD_REMEDY_TEXT_H
#define LEASEHOLD_REMEDY_TEXT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct Text
{
	char	   *buffer;
	size_t		size;
	size_t		used;
	bool		failed;			/* it does not fit, or cannot be quoted */
} Text;

extern void text_begin(Text *text, char *buffer, size_t size);

/*
 * text_add
 *		Append by a format:
 *
 *		%s	as it is			%d	a number			%%	a per cent sign
 *		%I	an SQL identifier	%L	an SQL literal
 *		%S	one word for sh		%H	a name in pg_hba.conf
 *		%C	a value in a connection string
 *		%P	a field of a password file
 *
 *		Identifiers are always quoted, the others where they have to be.
 */
extern void text_add(Text *text, const char *format,...);
extern void text_add_va(Text *text, const char *format, va_list arguments);

/* Is it an address, and nothing but that?  Its family, 4 or 6; else 0. */
extern int	text_address_family(const char *address);

#endif							/* LEASEHOLD_REMEDY_TEXT_H */
