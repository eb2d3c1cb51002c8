/*
 * test_picture.c
 *		The picture is well-formed whatever the names are, counts what it is told,
 *		and puts the blame where it belongs.  How it looks, test/t/094_picture.pl
 *		sees.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "picture_parts.h"

#define NODES	200

static PictureNode node[NODES];
static PicturePath path[NODES * NODES];
static char name[NODES][16];
static Picture picture;

/* ------------------------------------------------------------------------
 * A group, and its picture
 * ------------------------------------------------------------------------
 */

/* All is well. */
static void
make_group(int nodes, int members)
{
	memset(node, 0, sizeof(node));
	memset(path, 0, sizeof(path));
	picture = (Picture) {.lease = "main", .store = "fine", .epoch = 7,
		.nnodes = nodes + members, .node = node, .path = path};
	for (int i = 0; i < nodes + members; i++)
	{
		snprintf(name[i], sizeof(name[i]), "n%d", i);
		node[i] = (PictureNode) {.name = name[i], .role = "standby",
			.address = "host=x", .alive = true, .holder = i == 0, .self = i == 0,
			.member = i >= nodes};
	}
	for (int i = 0; i < nodes; i++)
		for (int j = 0; j < nodes + members; j++)
			if (i != j)
				path[picture.npaths++] = (PicturePath) {.source = i, .target = j,
					.status = PATH_OK, .phase = PHASE_READY, .latency_us = 1500};
}

static PicturePath *
path_of(int source, int target)
{
	for (int i = 0; i < picture.npaths; i++)
		if (path[i].source == source && path[i].target == target)
			return &path[i];
	abort();
}

static void
break_path(int source, int target)
{
	PicturePath *one = path_of(source, target);

	one->status = PATH_UNREACHABLE;
	one->phase = PHASE_CONNECT;
	one->cause = "refused";
	one->error = "Connection refused";
}

/* Text that grows. */
typedef struct Buffer
{
	char	   *text;
	size_t		used;
	size_t		size;
} Buffer;

static void
append(void *arg, const char *text)
{
	Buffer	   *buffer = arg;
	size_t		length = strlen(text);

	while (buffer->used + length + 1 > buffer->size)
	{
		buffer->size = buffer->size * 2 + 4096;
		buffer->text = realloc(buffer->text, buffer->size);
	}
	memcpy(buffer->text + buffer->used, text, length + 1);
	buffer->used += length;
}

static char *
draw(void)
{
	Buffer		buffer = {0};

	picture_draw(&picture, append, &buffer);
	return buffer.text;
}

static int
count(const char *text, const char *what)
{
	int			n = 0;

	for (text = strstr(text, what); text != NULL; text = strstr(text + 1, what))
		n++;
	return n;
}

/* ------------------------------------------------------------------------
 * Well-formed
 * ------------------------------------------------------------------------
 */

/* The name of an element, as far as it is one. */
static size_t
name_length(const char *at)
{
	return strspn(at, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");
}

/* Between tags and in values: plain, and of entities only numeric ones. */
static const char *
check_characters(const char *at, const char *end)
{
	for (; strchr(end, *at) == NULL; at++)
	{
		unsigned int code;
		int			length = 0;

		assert_true(*at == '\n' || (*at >= 0x20 && *at < 0x7f));
		assert_true(*at != '<');
		if (*at != '&')
			continue;
		assert_int_equal(sscanf(at, "&#%u;%n", &code, &length), 1);
		assert_true(length > 0);
		assert_true(code >= 0x20 && code <= 0x10ffff && code != 0xfffe && code != 0xffff);
		assert_false(code >= 0xd800 && code <= 0xdfff);
	}
	return at;
}

/* One tag; returns what follows it.  +1 for one that opens, -1 for one that closes. */
static const char *
check_tag(const char *at, char open[32][16], int *depth)
{
	bool		closes = at[1] == '/';
	const char *tag = at + 1 + closes;
	size_t		length = name_length(tag);

	assert_true(length > 0 && length < 16);
	at = tag + length;
	if (closes)
	{
		assert_true(*depth > 0);
		(*depth)--;
		assert_int_equal(strlen(open[*depth]), length);
		assert_memory_equal(open[*depth], tag, length);
		assert_int_equal(*at, '>');
		return at + 1;
	}
	while (*at == ' ')
	{
		at++;
		assert_true(strcspn(at, "=") < 16);
		at += strcspn(at, "=") + 1;
		assert_int_equal(*at, '"');
		at = check_characters(at + 1, "\"");
		at++;
	}
	if (*at == '/')
	{
		assert_int_equal(at[1], '>');
		return at + 2;
	}
	assert_int_equal(*at, '>');
	assert_true(*depth < 32);
	memcpy(open[*depth], tag, length);
	open[(*depth)++][length] = '\0';
	return at + 1;
}

static void
check(const char *text)
{
	char		open[32][16];
	int			depth = 0;
	const char *at = text;

	assert_int_equal(strncmp(text, "<svg ", 5), 0);
	while (*at != '\0')
	{
		if (depth == 0)
			assert_true(*at == '<' || *at == '\n');
		at = *at == '<' ? check_tag(at, open, &depth) : check_characters(at, "<");
		if (depth == 0)
			break;
	}
	assert_string_equal(at, "\n");
	assert_int_equal(count(text, "NaN") + count(text, "inf\""), 0);
	assert_int_equal(count(text, "width=\"-") + count(text, "height=\"-"), 0);
	assert_int_equal(count(text, "%"), count(text, "100%"));
}

/* Draw it twice, check it, and hand it over. */
static char *
checked(void)
{
	char	   *text = draw();
	char	   *again = draw();

	assert_string_equal(text, again);
	free(again);
	check(text);
	return text;
}

static void
expect(int n, const char *what)
{
	char	   *text = checked();
	int			found = count(text, what);

	if (found != n)
		print_message("\"%s\": %d, not %d\n", what, found, n);
	assert_int_equal(found, n);
	free(text);
}

static void
any_size_is_well_formed(void **state)
{
	static const int sizes[][2] = {
		{0, 0}, {1, 0}, {0, 1}, {0, 7}, {2, 0}, {2, 3}, {5, 5}, {5, 6}, {6, 0},
		{12, 0}, {13, 0}, {50, 5}, {64, 7}, {128, 0}, {150, 7}
	};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
	{
		make_group(sizes[i][0], sizes[i][1]);
		free(checked());
		for (int k = 0; k < picture.npaths; k++)
			break_path(path[k].source, path[k].target);
		free(checked());
		for (int k = 0; k < picture.npaths; k++)
			path[k].status = (PathStatus) (k % 5);
		free(checked());
	}
}

static void
what_is_not_drawn_is_told(void **state)
{
	make_group(150, 0);
	expect(1, ">22 more are not drawn<");
	make_group(128, 0);
	expect(0, "not drawn");
}

static void
nothing_need_be_known(void **state)
{
	memset(node, 0, sizeof(node));
	memset(path, 0, sizeof(path));
	path[0].target = 1;
	path[0].status = PATH_UNREACHABLE;
	picture = (Picture) {.nnodes = 2, .node = node, .npaths = 1, .path = path};
	expect(8, "(no name)</text>");
	picture = (Picture) {0};
	expect(1, ">No node is known.<");
}

static void
paths_to_nowhere_are_passed_over(void **state)
{
	make_group(2, 1);
	path[0].source = -1;
	path[1].target = 3;
	path[2].target = path[2].source;
	path[3].source = 2;
	expect(1, ">none tried<");
}

/* ------------------------------------------------------------------------
 * Texts
 * ------------------------------------------------------------------------
 */

static void
names_are_escaped(void **state)
{
	make_group(2, 0);
	node[1].name = "<a&\"'>";
	expect(0, "<a&");
	/* the card and its tooltip, a row, a column, and the tooltips of two cells */
	expect(6, "&#60;a&#38;&#34;&#39;&#62;");
	break_path(0, 1);
	path_of(0, 1)->error = "]]></text><script>";
	expect(2, "]]&#62;&#60;/text&#62;&#60;script&#62;");
}

/* The name of node 1, as its card, its row and its column show it. */
static void
expect_name(const char *given, const char *shown)
{
	char		expected[256];

	make_group(2, 0);
	node[1].name = given;
	snprintf(expected, sizeof(expected), ">%s</text>", shown);
	expect(3, expected);
}

static void
bytes_that_are_no_text_do_no_harm(void **state)
{
	expect_name("a\xff" "b", "a&#65533;b");
	expect_name("a\xc3", "a&#65533;");
	expect_name("\xc0\xaf", "&#65533;&#65533;");
	expect_name("\xe0\x80\xafx", "&#65533;x");	/* longer than it needs to be */
	expect_name("\xed\xa0\x80x", "&#65533;x");	/* a surrogate */
	expect_name("\xf4\x90\x80\x80x", "&#65533;x");	/* beyond the last character */
	expect_name("\xf0\x9f\x90", "&#65533;");
	expect_name("\xc3\xa4\xef\xbf\xbe\xef\xbf\xbf", "&#228;");	/* XML forbids them */
	expect_name("\xc3\xa4\x01\x1b\x7f\xc2\x85z", "&#228;z");
	expect_name("\xe2\x80\xae\xc3\xa4\xe2\x81\xa6", "&#228;");	/* turn text around */
	expect_name("\xc3\xa4\tb\nc", "&#228; b c");
}

static void
names_are_cut_in_the_middle(void **state)
{
	char	   *text;

	make_group(50, 0);
	node[7].name = "production-europe-west-cluster-blue-database-node-0001";
	text = checked();
	/* the card, the row and the column */
	assert_int_equal(count(text, "-0001</text>"), 3);
	assert_int_equal(count(text, "&#8230;"), 3);
	assert_int_equal(count(text, ">production-europe-west-cluster-blue-database-node-0001:"), 1);
	free(text);
}

static void
widths_go_by_the_kind_of_character(void **state)
{
	int			wide = picture_width("\xe6\x95\xb0\xe6\x8d\xae", 100, false);

	assert_true(wide >= 2 * picture_width("ab", 100, false));
	assert_true(picture_width("WW", 100, false) > picture_width("aa", 100, false));
	assert_true(picture_width("aa", 100, false) > picture_width("ii", 100, false));
	assert_true(picture_width("aa", 100, true) > picture_width("aa", 100, false));
	assert_int_equal(picture_width("", 100, false), 0);
	assert_int_equal(picture_width(NULL, 100, false), 0);
}

static void
expect_words(const char *found, const char *expected)
{
	assert_string_equal(found, expected);
}

static void
numbers_are_words(void **state)
{
	Words		words;

	expect_words(words_bytes(0, words), "0 B");
	expect_words(words_bytes(1023, words), "1023 B");
	expect_words(words_bytes(1536, words), "1.5 kB");
	expect_words(words_bytes(16 * 1024 * 1024, words), "16 MB");
	expect_words(words_bytes(INT64_MAX, words), "7.9 EB");
	expect_words(words_age(0, words), "0 s");
	expect_words(words_age(119999, words), "119 s");
	expect_words(words_age(120000, words), "2 min");
	expect_words(words_age(7200000, words), "2 h");
	expect_words(words_age(INT64_C(172800000), words), "2 d");
	expect_words(words_latency(0, words), "");
	expect_words(words_latency(-5, words), "");
	expect_words(words_latency(4, words), "0.01 ms");
	expect_words(words_latency(999, words), "0.99 ms");
	expect_words(words_latency(1500, words), "1.5 ms");
	expect_words(words_latency(183000, words), "183 ms");
	expect_words(words_latency(12000000, words), "12 s");
}

/* ------------------------------------------------------------------------
 * What it says
 * ------------------------------------------------------------------------
 */

static void
the_heading_has_it_all(void **state)
{
	make_group(3, 3);
	expect(1, ">main</text>");
	expect(1, ">7</text>");
	expect(1, ">fine</text>");
	expect(1, ">all 15 stand</text>");
	expect(1, "<title>Lease main, held by n0, epoch 7</title>");
	node[0].holder = false;
	expect(1, ">nobody</text>");
	break_path(0, 1);
	expect(1, ">1 of 15 broken</text>");
	expect(1, "Broken: n0 to n1 (connect: refused).</desc>");
}

static void
a_few_broken_paths_are_lines(void **state)
{
	make_group(3, 3);
	expect(0, "class=\"bd wire\"");
	break_path(0, 1);
	break_path(1, 4);
	expect(2, "class=\"bd wire\"");
	expect(2, "class=\"pill bd\"");
	/* both ways, for one reason: one line */
	break_path(1, 0);
	expect(2, "class=\"bd wire\"");
	path_of(1, 0)->cause = "timeout";
	expect(3, "class=\"bd wire\"");
	path_of(2, 0)->status = PATH_FLAPPING;
	expect(1, "class=\"wn wire\"");
}

static void
many_to_one_are_a_remark(void **state)
{
	make_group(50, 0);
	for (int i = 0; i < 49; i++)
		break_path(i, 49);
	expect(0, "class=\"bd wire\"");
	expect(1, ">unreachable from 49 of 49</text>");
	/* the others are not to blame */
	expect(49, ">reached from 49 of 49</text>");
	expect(0, ">reaches ");
	/* and it is one entry in the list */
	expect(1, ">n0 and 48 others</text>");
	expect(1, ">Connection refused</text>");
}

static void
one_that_reaches_nobody_is_a_remark(void **state)
{
	make_group(50, 0);
	for (int i = 0; i < 49; i++)
		break_path(49, i);
	expect(0, "class=\"bd wire\"");
	expect(1, ">reaches 0 of 49</text>");
	expect(0, ">unreachable from ");
	expect(49, ">reached from 48 of 49</text>");
	expect(1, ">n0 and 48 others</text>");
}

static void
every_path_is_in_one_entry(void **state)
{
	make_group(10, 0);
	/* n0 is dead, n9 reaches nobody, for the same reason; and one path more */
	for (int i = 1; i < 10; i++)
	{
		break_path(i, 0);
		if (i < 9)
			break_path(9, i);
	}
	path_of(9, 8)->cause = "timeout";
	expect(1, ">n1 and 8 others</text>");
	expect(1, ">n1 and 6 others</text>");
	expect(3, ">Connection refused</text>");
	expect(0, " more</text>");
	/* when there are more entries than fit, those in bundles are not counted twice */
	make_group(64, 7);
	for (int i = 0; i < picture.npaths; i++)
		break_path(path[i].source, path[i].target);
	expect(20, " and 62 others</text>");
	expect(1, ">and 3220 more</text>");
}

static void
lines_and_list_are_bounded(void **state)
{
	make_group(64, 0);
	for (int i = 0; i < 64; i++)
		break_path(i, (i + 1) % 64);
	expect(6, "class=\"bd wire\"");
	expect(1, ">More paths are broken than can be drawn");
	expect(1, ">and 44 more</text>");
	expect(20, ">Connection refused</text>");
	/* each is known where the pointer rests */
	expect(64, "unreachable; connect: refused; Connection refused</title>");
}

static void
old_news_is_marked_and_counts_for_nothing(void **state)
{
	make_group(3, 0);
	expect(0, "class=\"hatch\"");
	node[1].age_ms = 300000;
	node[2].age_ms = -1;
	break_path(1, 0);
	expect(2, "class=\"hatch\"");
	expect(1, ">5 min old</text>");
	expect(1, ">no report</text>");
	expect(1, ">last report 5 min old</text>");
	expect(1, ">has reported nothing</text>");
	expect(0, "class=\"bd wire\"");
	expect(1, ">all 2 stand</text>");
	expect(1, ">1 broken in reports that are old</text>");
	/* what is old, the caller may say */
	picture.stale_ms = 600000;
	expect(1, "class=\"hatch\"");
	expect(1, "class=\"bd wire\"");
}

static void
nothing_is_told_by_colour_alone(void **state)
{
	make_group(3, 1);
	node[2].alive = false;
	node[3].alive = false;
	/* the card, and the legend */
	expect(2, ">holds the lease</text>");
	expect(1, ">no heartbeat</text>");
	expect(1, ">no answer</text>");
	break_path(0, 1);
	path_of(0, 2)->status = PATH_DEGRADED;
	path_of(1, 0)->status = PATH_FLAPPING;
	path_of(1, 2)->status = PATH_UNKNOWN;
	/* each in the legend, too */
	expect(2, "href=\"#lh-slow\"");
	expect(4, "href=\"#lh-flap\"");
	expect(2, "href=\"#lh-none\"");
	expect(1, ">unreachable</text>");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_size_is_well_formed),
		cmocka_unit_test(what_is_not_drawn_is_told),
		cmocka_unit_test(nothing_need_be_known),
		cmocka_unit_test(paths_to_nowhere_are_passed_over),
		cmocka_unit_test(names_are_escaped),
		cmocka_unit_test(bytes_that_are_no_text_do_no_harm),
		cmocka_unit_test(names_are_cut_in_the_middle),
		cmocka_unit_test(widths_go_by_the_kind_of_character),
		cmocka_unit_test(numbers_are_words),
		cmocka_unit_test(the_heading_has_it_all),
		cmocka_unit_test(a_few_broken_paths_are_lines),
		cmocka_unit_test(many_to_one_are_a_remark),
		cmocka_unit_test(one_that_reaches_nobody_is_a_remark),
		cmocka_unit_test(every_path_is_in_one_entry),
		cmocka_unit_test(lines_and_list_are_bounded),
		cmocka_unit_test(old_news_is_marked_and_counts_for_nothing),
		cmocka_unit_test(nothing_is_told_by_colour_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
