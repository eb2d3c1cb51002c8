/*
 * names.c
 *		Names that several programs have to make in the same way.
 *
 * See names.h.  Must never do I/O or depend on the server.
 */
#include "names.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define HASH_LEN	9			/* "_" and eight digits */

/* FNV-1a, 32 bits: stable over versions and machines. */
static uint32_t
hash(const char *text)
{
	uint32_t	h = 2166136261u;

	for (; *text != '\0'; text++)
		h = (h ^ (unsigned char) *text) * 16777619u;
	return h;
}

void
leasehold_slot_name(const char *node, char *slot, size_t size)
{
	char		name[SLOT_NAME_LEN];
	size_t		n = strlen(SLOT_PREFIX);
	int			changed = 0;

	memcpy(name, SLOT_PREFIX, n);
	for (const char *c = node; *c != '\0'; c++)
	{
		int			fits = (*c >= 'a' && *c <= 'z') ||
			(*c >= '0' && *c <= '9') || *c == '_';

		if (n == SLOT_NAME_LEN - 1)
		{
			changed = 1;
			break;
		}
		changed |= !fits;
		name[n++] = fits ? *c : '_';
	}
	if (changed && n > SLOT_NAME_LEN - 1 - HASH_LEN)
		n = SLOT_NAME_LEN - 1 - HASH_LEN;
	name[n] = '\0';
	if (changed)
		snprintf(slot, size, "%s_%08x", name, hash(node));
	else
		snprintf(slot, size, "%s", name);
}
