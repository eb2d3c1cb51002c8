/*
 * test_list.c
 *		Lists of connection strings.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "list.h"

/* All strings of a list, each in brackets. */
static const char *
strings(const char *list)
{
	static char text[256];
	const char *string;
	size_t		length;
	size_t		n = 0;

	text[0] = '\0';
	while (list_next(&list, &string, &length))
		n += (size_t) snprintf(text + n, sizeof(text) - n, "[%.*s]",
							   (int) length, string);
	return text;
}

static void
semicolons_separate(void **state)
{
	assert_string_equal(strings("host=a;host=b"), "[host=a][host=b]");
	assert_string_equal(strings("host=a"), "[host=a]");
	assert_string_equal(strings("postgresql://a/x; host=b"), "[postgresql://a/x][host=b]");
}

static void
blanks_and_empty_strings_do_not_count(void **state)
{
	assert_string_equal(strings(""), "");
	assert_string_equal(strings(" ; ;; "), "");
	assert_string_equal(strings("  host=a port=1 ;\n\thost=b;"), "[host=a port=1][host=b]");
}

static void
quotes_protect(void **state)
{
	assert_string_equal(strings("user='x;y'; host=b"), "[user='x;y'][host=b]");
	assert_string_equal(strings("user='x\\';y'; host=b"), "[user='x\\';y'][host=b]");
	/* one that is not closed takes in the rest */
	assert_string_equal(strings("user='x; host=b"), "[user='x; host=b]");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(semicolons_separate),
		cmocka_unit_test(blanks_and_empty_strings_do_not_count),
		cmocka_unit_test(quotes_protect),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
