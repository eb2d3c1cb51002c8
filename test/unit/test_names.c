/*
 * test_names.c
 *		Slots are found again by other versions and other machines, so what
 *		stands here stands for ever; and no two nodes share one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "names.h"

static void
expect(const char *node, const char *expected)
{
	char		slot[LEASEHOLD_SLOT_NAME_LEN];

	memset(slot, 'x', sizeof(slot));
	leasehold_slot_name(node, slot);
	assert_string_equal(slot, expected);
}

static void
plain_names_stay(void **state)
{
	expect("a", "leasehold_a");
	expect("node_7", "leasehold_node_7");
	expect("", "leasehold_");
}

static void
replaced_characters_bring_a_hash(void **state)
{
	expect("db1.example", "leasehold_db1_example_c975c706");
	expect("db1-example", "leasehold_db1_example_88a3b015");
	expect("DB1", "leasehold___1_f9034736");
	expect("db1:5432", "leasehold_db1_5432_95972d60");
}

static void
length_is_bounded(void **state)
{
	char		slot[LEASEHOLD_SLOT_NAME_LEN];
	char		other[LEASEHOLD_SLOT_NAME_LEN];

	/* 10 and 53 characters just fit */
	expect("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
		   "leasehold_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
	leasehold_slot_name("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", slot);
	assert_int_equal(strlen(slot), LEASEHOLD_SLOT_NAME_LEN - 1);
	assert_memory_equal(slot, "leasehold_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa_", 55);
	/* two that differ only behind the cut */
	leasehold_slot_name("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", other);
	assert_int_equal(strlen(other), LEASEHOLD_SLOT_NAME_LEN - 1);
	assert_string_not_equal(slot, other);
}

static void
every_name_gives_a_slot_name(void **state)
{
	char		node[64];
	char		slot[LEASEHOLD_SLOT_NAME_LEN];

	for (int length = 0; length < 64; length++)
	{
		memset(node, ".Az0"[length % 4], sizeof(node));
		node[length] = '\0';
		leasehold_slot_name(node, slot);
		assert_true(strlen(slot) < LEASEHOLD_SLOT_NAME_LEN);
		assert_int_equal(strspn(slot, "abcdefghijklmnopqrstuvwxyz0123456789_"),
						 strlen(slot));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_names_stay),
		cmocka_unit_test(replaced_characters_bring_a_hash),
		cmocka_unit_test(length_is_bounded),
		cmocka_unit_test(every_name_gives_a_slot_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
