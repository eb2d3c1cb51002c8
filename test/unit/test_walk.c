/*
 * test_walk.c
 *		A walk as text, there and back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "walk.h"

static Walk
sample(void)
{
	Walk		walk;

	memset(&walk, 0, sizeof(walk));
	strcpy(walk.target, "node\twith \"odd\" name");
	strcpy(walk.host, "db2");
	strcpy(walk.port, "5432");
	strcpy(walk.address, "10.0.0.2");
	strcpy(walk.from, "fe80::1");
	strcpy(walk.user, "leasehold");
	strcpy(walk.database, "postgres");
	walk.encrypted = true;
	walk.phase = PHASE_AUTHENTICATE;
	walk.cause = CAUSE_NO_HBA;
	walk.fault.phase = PHASE_AUTHENTICATE;
	walk.fault.error = 111;
	walk.fault.by_server = true;
	strcpy(walk.fault.sqlstate, "28000");
	strcpy(walk.fault.routine, "ClientAuthentication");
	strcpy(walk.fault.message, "no pg_hba.conf entry\nfor host");
	for (int i = 0; i < PHASE_AUTHENTICATE; i++)
	{
		walk.step[i].status = STEP_OK;
		strcpy(walk.step[i].detail, "Fine.");
	}
	walk.step[PHASE_AUTHENTICATE].status = STEP_FAILED;
	strcpy(walk.step[PHASE_AUTHENTICATE].detail, "No line.");
	strcpy(walk.step[PHASE_AUTHENTICATE].evidence, "FATAL: \\ no");
	return walk;
}

static void
test_there_and_back(void **state)
{
	Walk		walk = sample();
	Walk		read;
	char		text[8192];

	assert_true(walk_write(text, sizeof(text), &walk));
	memset(&read, 0xff, sizeof(read));
	assert_true(walk_read(text, &read));
	assert_memory_equal(&read, &walk, sizeof(walk));
}

static void
test_no_walk(void **state)
{
	Walk		walk = sample();
	Walk		read;
	char		text[8192];

	assert_false(walk_read("", &read));
	assert_false(walk_read("error\tthis node knows no peer of that name", &read));
	/* a part of one is none */
	assert_true(walk_write(text, sizeof(text), &walk));
	text[strlen(text) - 3] = '\0';
	assert_false(walk_read(text, &read));
}

static void
test_no_room(void **state)
{
	Walk		walk = sample();
	char		text[8192];
	size_t		needed;

	assert_true(walk_write(text, sizeof(text), &walk));
	needed = strlen(text) + 1;
	assert_true(walk_write(text, needed, &walk));
	assert_false(walk_write(text, needed - 1, &walk));
	assert_false(walk_write(text, 1, &walk));
}

static void
test_names(void **state)
{
	assert_string_equal(walk_step_name(STEP_OK), "ok");
	assert_string_equal(walk_step_name(STEP_FAILED), "failed");
	assert_string_equal(walk_step_name(STEP_NOT_REACHED), "not reached");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_there_and_back),
		cmocka_unit_test(test_no_walk),
		cmocka_unit_test(test_no_room),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests_name("walk", tests, NULL, NULL);
}
