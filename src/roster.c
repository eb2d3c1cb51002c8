/*
 * roster.c
 *		The agreed list of store members, and when a node may count by it (R10).
 *
 * See roster.h.  Must never do I/O or depend on the server.
 */
#include "roster.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Copy up to a delimiter; NULL if the field is too long or has no end. */
static const char *
take_field(const char *from, char delimiter, char *to, size_t size)
{
	const char *end = strchr(from, delimiter);

	if (end == NULL || (size_t) (end - from) >= size)
		return NULL;
	memcpy(to, from, end - from);
	to[end - from] = '\0';
	return end + 1;
}

bool
roster_parse(Roster *roster, int64_t generation, const char *text)
{
	memset(roster, 0, sizeof(*roster));
	if (generation == 0 && text[0] == '\0')
		return true;
	if (generation <= 0 ||
		(text = take_field(text, ';', roster->lineage, ROSTER_ID_LEN)) == NULL)
		return false;
	while (*text != '\0')
	{
		RosterId   *id = &roster->id[roster->n];
		char	   *end;

		if (roster->n >= LEASE_MEMBERS_MAX ||
			(text = take_field(text, '/', id->store_id, ROSTER_ID_LEN)) == NULL ||
			(text = take_field(text, '/', id->sysid, ROSTER_SYSID_LEN)) == NULL)
			return false;
		id->timeline = (int32_t) strtol(text, &end, 10);
		if (end == text || (*end != ',' && *end != '\0') || id->timeline < 0)
			return false;
		text = *end == ',' ? end + 1 : end;
		roster->n++;
	}
	roster->generation = generation;
	return roster->n > 0;
}

bool
roster_format(const Roster *roster, char *text, size_t size)
{
	size_t		used = (size_t) snprintf(text, size, "%s;", roster->lineage);

	for (int i = 0; i < roster->n && used < size; i++)
		used += (size_t) snprintf(text + used, size - used,
								  "%s%s/%s/%" PRId32, i > 0 ? "," : "",
								  roster->id[i].store_id,
								  roster->id[i].sysid,
								  roster->id[i].timeline);
	return used < size;
}

bool
roster_same_id(const RosterId *a, const RosterId *b)
{
	return strcmp(a->store_id, b->store_id) == 0 &&
		strcmp(a->sysid, b->sysid) == 0 && a->timeline == b->timeline;
}

static const RosterId *
find_id(const Roster *roster, const char *store_id)
{
	for (int i = 0; i < roster->n; i++)
		if (strcmp(roster->id[i].store_id, store_id) == 0)
			return &roster->id[i];
	return NULL;
}

/* Two changes at once may have given two lists the same generation. */
static bool
same_list(const Roster *a, const Roster *b)
{
	if (a->generation != b->generation || a->n != b->n)
		return false;
	for (int i = 0; i < a->n; i++)
		if (!roster_same_id(&a->id[i], &b->id[i]))
			return false;
	return true;
}

/* How many members of the list say that exactly this list is settled? */
static int
count_settled(const Roster *roster, const RosterReport *report, int n)
{
	int			settled = 0;

	for (int i = 0; i < roster->n; i++)
		for (int j = 0; j < n; j++)
			if (report[j].known && report[j].settled &&
				roster_same_id(&report[j].id, &roster->id[i]) &&
				same_list(&report[j].roster, roster) &&
				strcmp(report[j].roster.lineage, roster->lineage) == 0)
			{
				settled++;
				break;
			}
	return settled;
}

bool
roster_adopt(Roster *roster, const RosterReport *report, int n)
{
	const Roster *best = NULL;

	for (int i = 0; i < n; i++)
	{
		const Roster *candidate = &report[i].roster;

		if (!report[i].known || candidate->generation <= roster->generation)
			continue;
		if (roster->generation > 0 &&
			strcmp(candidate->lineage, roster->lineage) != 0)
			continue;
		if (best != NULL && candidate->generation <= best->generation)
			continue;
		if (count_settled(candidate, report, n) >= candidate->n / 2 + 1)
			best = candidate;
	}
	if (best == NULL)
		return false;
	*roster = *best;
	return true;
}

RosterStanding
roster_standing(const Roster *roster, const RosterReport *report, int i)
{
	const RosterReport *mine = &report[i];
	const RosterId *listed;

	if (!mine->known)
		return ROSTER_NOT_ASKED;
	if (mine->roster.generation == 0)
		return ROSTER_NO_LIST;
	if (roster->generation == 0)
		return ROSTER_OLD_GENERATION;
	if (strcmp(mine->roster.lineage, roster->lineage) != 0)
		return ROSTER_OTHER_LINEAGE;
	listed = find_id(roster, mine->id.store_id);
	if (listed == NULL)
		return ROSTER_NOT_LISTED;
	if (!roster_same_id(listed, &mine->id))
		return ROSTER_OTHER_SYSTEM;
	if (!same_list(&mine->roster, roster))
		return ROSTER_OLD_GENERATION;
	if (!mine->settled)
		return ROSTER_NOT_SETTLED;
	for (int j = 0; j < i; j++)
		if (report[j].known && roster_same_id(&report[j].id, &mine->id))
			return ROSTER_DOUBLE;
	return ROSTER_COUNTED;
}

const char *
roster_standing_text(RosterStanding standing)
{
	switch (standing)
	{
		case ROSTER_COUNTED:
			return "counted";
		case ROSTER_NOT_ASKED:
			return "not asked yet";
		case ROSTER_NO_LIST:
			return "a fresh store that belongs to no list of members";
		case ROSTER_NOT_LISTED:
			return "not on the agreed list of members";
		case ROSTER_OTHER_LINEAGE:
			return "a member of another store";
		case ROSTER_OTHER_SYSTEM:
			return "another server, or another timeline, than the list says";
		case ROSTER_OLD_GENERATION:
			return "another generation of the list of members";
		case ROSTER_NOT_SETTLED:
			return "about to take over the list of members";
		case ROSTER_DOUBLE:
			return "the same member as one named before it";
	}
	return "unknown";
}
