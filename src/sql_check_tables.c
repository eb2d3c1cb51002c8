/*
 * sql_check_tables.c
 *		leasehold.check(): leases of tables, and what they protect.
 *
 * Nothing is said of them where nothing is protected and this node takes part in
 * no lease of tables.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "group_tables.h"
#include "settings.h"
#include "sql_check.h"

#define LEASES_MAX	1000

/* Does this node fence all that the store says? */
static void
check_known(Check *check, const TableList *list, const GroupTables *tables)
{
	bool		on_disk = pg_atomic_read_u32(&leasehold_tables->on_disk) ==
		list->generation;

	if (list->unknown)
		check_put(check, "protected tables", false,
			"This node does not know which tables are protected, and fences all of them.",
			"Mend the members below: it has to read a majority of them once. If the log says that there is no room, raise leasehold.tables_max.");
	else if (list->seq < tables->known)
		check_put(check, "protected tables", false,
			psprintf("This node knows the changes of the list up to number " INT64_FORMAT ", the store has them up to " INT64_FORMAT ".",
					 list->seq, tables->known),
			"It reads them within moments; if this stays, see its log.");
	else if (!on_disk)
		check_put(check, "protected tables", false,
			"The list of protected tables is not on this node's disk yet.",
			"See the server's log: the data directory has to be writable and have space.");
	else
		check_put(check, "protected tables", true,
			psprintf("This node knows the list of protected tables up to number " INT64_FORMAT ".",
					 list->seq), NULL);
}

/* A name that no table has: it was renamed, or dropped. */
static void
check_names(Check *check, const GroupTables *tables)
{
	const char *database = get_database_name(MyDatabaseId);
	int			missing = 0;
	int			here = 0;

	for (int i = 0; i < tables->n; i++)
	{
		const TableEntry *entry = &tables->entry[i];
		Oid			schema;

		if (entry->lease[0] == '\0' || strcmp(entry->database, database) != 0)
			continue;
		here++;
		schema = get_namespace_oid(entry->schema, true);
		if (OidIsValid(schema) && OidIsValid(get_relname_relid(entry->name, schema)))
			continue;
		missing++;
		check_put(check, psprintf("protected table %s.%s", entry->schema, entry->name),
			false,
			psprintf("Lease \"%s\" protects this name, and no table has it here: one that was renamed is not protected.",
					 entry->lease),
			psprintf("Give the table its name back, or protect it under its new one and SELECT leasehold.unprotect(%s, %s, %s).",
					 quote_literal_cstr(database), quote_literal_cstr(entry->schema),
					 quote_literal_cstr(entry->name)));
	}
	if (here > 0 && missing == 0)
		check_put(check, "protected tables", true,
			psprintf("All %d protected tables of this database exist.", here), NULL);
}

static const StoreLease *
find_lease(const StoreLease *lease, int n, const char *name)
{
	for (int i = 0; i < n; i++)
		if (strcmp(lease[i].name, name) == 0)
			return &lease[i];
	return NULL;
}

/* Could anybody ever hold the lease of this table? */
static const char *
why_nobody(const char *name, const StoreLease *lease, const GroupMemberships *rows)
{
	int			willing = 0;
	int			members = 0;

	if (lease == NULL)
		return "The store knows no such lease.";
	if (strcmp(lease->scope, "tables") != 0)
		return "It does not govern tables.";
	for (int i = 0; i < rows->n; i++)
		if (strcmp(rows->row[i].lease, name) == 0)
		{
			members++;
			willing += rows->row[i].priority > 0;
		}
	if (members == 0)
		return "No node takes part in it.";
	if (willing == 0 && lease->row.holder[0] == '\0')
		return "Nobody holds it, and no node takes it by itself.";
	return NULL;
}

static void
check_leases(Check *check, const GroupTables *tables, const GroupMemberships *rows)
{
	StoreLease *lease = palloc(sizeof(StoreLease) * LEASES_MAX);
	int			n = group_leases(check->group, lease, LEASES_MAX);
	const char **seen = palloc(sizeof(char *) * (tables->n + 1));
	int			nseen = 0;

	for (int i = 0; i < tables->n; i++)
	{
		const char *name = tables->entry[i].lease;
		const char *why;
		int			k = 0;

		while (k < nseen && strcmp(seen[k], name) != 0)
			k++;
		if (name[0] == '\0' || k < nseen)
			continue;
		seen[nseen++] = name;
		why = why_nobody(name, find_lease(lease, n, name), rows);
		check_put(check, psprintf("table lease %s", name), why == NULL,
			why != NULL ? psprintf("%s Its tables are written nowhere.", why) :
			"It exists, and nodes take part in it.",
			"leasehold.create_lease() and leasehold.join_lease() make it usable, leasehold.unprotect() takes a table out.");
	}
	check_put(check, "leases_max", n <= setting_leases_max,
		psprintf("The store has %d leases; shared memory has room for %d.", n,
				 setting_leases_max),
		"Raise leasehold.leases_max and restart.");
}

static void
check_room(Check *check, const GroupTables *tables)
{
	int			n = 0;

	for (int i = 0; i < tables->n; i++)
		n += tables->entry[i].lease[0] != '\0';
	check_put(check, "tables_max", n <= setting_tables_max,
		psprintf("%d tables are protected; shared memory has room for %d.", n,
				 setting_tables_max),
		"Raise leasehold.tables_max and restart.");
}

void
check_tables(Check *check)
{
	TableList  *list = palloc(tables_list_size());
	StoreGroup *group = check->group;
	GroupTables tables;
	GroupMemberships rows = {0};
	bool		concerned = false;
	int			answered;

	if (group == NULL || group->roster.generation == 0 ||
		group_count(group, group_counted) < group_majority(group))
		return;
	answered = group_read_tables(group, group_counted, &tables);
	if (answered >= group_majority(group))
		answered = group_read_memberships(group, group_counted,
										  group_majority(group), &rows);
	if (answered < group_majority(group))
		return;					/* the members' own rows say why */
	for (int i = 0; i < tables.n; i++)
		concerned |= tables.entry[i].lease[0] != '\0';
	for (int i = 0; i < rows.n; i++)
		concerned |= strcmp(rows.row[i].node, settings_node_name()) == 0;
	if (!concerned || !tables_read(list))
		return;
	check_known(check, list, &tables);
	check_names(check, &tables);
	check_leases(check, &tables, &rows);
	check_room(check, &tables);
}
