/*
 * list.c
 *		Lists of connection strings, as leasehold.store has them.
 *
 * See list.h.  Must never do I/O or depend on the server.
 */
#include "list.h"

#include <ctype.h>

/* Where this string ends: at a semicolon that no quotes protect. */
static const char *
string_end(const char *at)
{
	bool		quoted = false;

	for (; *at != '\0'; at++)
	{
		if (quoted && *at == '\\' && at[1] != '\0')
			at++;
		else if (*at == '\'')
			quoted = !quoted;
		else if (*at == ';' && !quoted)
			break;
	}
	return at;
}

bool
list_next(const char **at, const char **string, size_t *length)
{
	while (**at != '\0')
	{
		const char *start = *at;
		const char *end = string_end(start);

		*at = *end == ';' ? end + 1 : end;
		while (start < end && isspace((unsigned char) *start))
			start++;
		while (end > start && isspace((unsigned char) end[-1]))
			end--;
		*string = start;
		*length = (size_t) (end - start);
		if (end > start)
			return true;
	}
	return false;
}
