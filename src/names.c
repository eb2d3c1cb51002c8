/*
 * names.c
 *		Names that are made of a node's name.
 *
 * See names.h.  Must never do I/O or depend on the server.
 */
#include "names.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define HASH_SUFFIX_LEN	9		/* "_" and eight hexadecimal digits */

/* FNV-1a, 32 bit: the same on every machine and in every release. */
static uint32_t
stable_hash(const char *text)
{
	uint32_t	hash = 2166136261u;

	for (; *text != '\0'; text++)
		hash = (hash ^ (unsigned char) *text) * 16777619u;
	return hash;
}

static bool
is_slot_character(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
}

void
leasehold_slot_name(const char *node, char slot[LEASEHOLD_SLOT_NAME_LEN])
{
	size_t		used = strlen(LEASEHOLD_SLOT_PREFIX);
	size_t		longest = LEASEHOLD_SLOT_NAME_LEN - 1;
	bool		as_it_is = used + strlen(node) <= longest;
	const char *at;

	for (at = node; *at != '\0' && as_it_is; at++)
		as_it_is = is_slot_character(*at);
	if (!as_it_is)
		longest -= HASH_SUFFIX_LEN;
	memcpy(slot, LEASEHOLD_SLOT_PREFIX, used);
	for (at = node; *at != '\0' && used < longest; at++)
		slot[used++] = is_slot_character(*at) ? *at : '_';
	slot[used] = '\0';
	if (!as_it_is)
		snprintf(slot + used, HASH_SUFFIX_LEN + 1, "_%08x",
				 (unsigned int) stable_hash(node));
}
