/*
 * test_report.c
 *		What nodes tell each other: that it arrives as it was sent, that no text
 *		is misread, and the format, which other versions have to read.
 */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lines.h"
#include "report.h"

#define COPY(to, text)	snprintf(to, sizeof(to), "%s", text)

static char text[8192];
static size_t used;
static ReportSelf self;
static ReportPath path;
static ReportHba hba;

static void
begin(void)
{
	used = 0;
	text[0] = '\0';
	memset(&self, 0, sizeof(self));
	memset(&path, 0, sizeof(path));
	memset(&hba, 0, sizeof(hba));
}

/* The path of a text that has no other lines. */
static const ReportPath *
read_path(const char *from)
{
	static ReportPath read;

	memset(&read, 'x', sizeof(read));
	assert_true(report_next_path(&from, &read));
	assert_string_equal(from, "");
	return &read;
}

static const ReportSelf *
read_self(const char *from)
{
	static ReportSelf read;

	memset(&read, 'x', sizeof(read));
	assert_true(report_read_self(from, &read));
	return &read;
}

/* ------------------------------------------------------------------------
 * The format
 * ------------------------------------------------------------------------
 */

static void
a_path_as_text(void **state)
{
	begin();
	COPY(path.target, "b");
	path.status = PATH_UNREACHABLE;
	path.phase = PHASE_AUTHENTICATE;
	path.cause = CAUSE_NO_HBA;
	path.latency_us = 800;
	path.p50_us = 900;
	path.p99_us = 9000;
	path.since_ms = 61000;
	path.last_ok_ms = -1;
	path.failures = 12;
	COPY(path.sqlstate, "28000");
	COPY(path.address, "10.0.0.2");
	COPY(path.from, "10.0.0.1");
	COPY(path.error, "no pg_hba.conf entry");
	assert_true(report_write_path(text, sizeof(text), &used, &path));
	assert_string_equal(text,
						"path\tb\tnode\tunreachable\tauthenticate\tno_hba\t800\t900\t9000"
						"\t61000\t-1\t12\t28000\t10.0.0.2\t10.0.0.1\tno pg_hba.conf entry\n");
	assert_int_equal(used, strlen(text));

	begin();
	path.member = true;
	path.status = PATH_OK;
	path.phase = PHASE_READY;
	assert_true(report_write_path(text, sizeof(text), &used, &path));
	assert_string_equal(text, "path\t\tmember\tok\tready\t\t0\t0\t0\t0\t0\t0\t\t\t\t\n");
}

static void
a_rule_as_text(void **state)
{
	ReportHba	read;
	const char *at = text;

	begin();
	COPY(hba.node, "a");
	COPY(hba.address, "10.0.0.1");
	hba.encrypted = true;
	hba.line = 97;
	COPY(hba.method, "md5");
	COPY(hba.rule, "hostssl all all 10.0.0.0/8 md5");
	COPY(hba.file, "/etc/more_hba.conf");
	hba.doubt = 12;
	assert_true(report_write_hba(text, sizeof(text), &used, &hba));
	assert_string_equal(text, "hba\ta\t10.0.0.1\t1\t97\tmd5\thostssl all all 10.0.0.0/8 md5"
						"\t/etc/more_hba.conf\t12\n");
	assert_true(report_next_hba(&at, &read));
	assert_memory_equal(&read, &hba, sizeof(hba));
	assert_false(report_next_hba(&at, &read));
	assert_false(report_next_hba(&at, &read));
}

static void
a_node_as_text(void **state)
{
	begin();
	COPY(self.role, "standby");
	COPY(self.state, "following");
	self.timeline = 3;
	COPY(self.lsn, "0/3000060");
	COPY(self.sysid, "7301234567890123456");
	COPY(self.version, "15.3");
	COPY(self.listen, "*");
	self.port = 5432;
	self.tls = true;
	self.accepts = true;
	self.slots = 100;
	self.slots_left = -1;
	self.physical = true;
	COPY(self.hba_file, "/etc/pg_hba.conf");
	COPY(self.config_file, "/etc/postgresql.conf");
	COPY(self.data_directory, "/srv/pg");
	COPY(self.peer_user, "leasehold");
	COPY(self.peer_database, "a=b");
	COPY(self.sslmode, "prefer");
	COPY(self.passfile, "/home/x/.pgpass");
	assert_true(report_write_self(text, sizeof(text), &used, &self));
	assert_string_equal(text,
						"self\trole=standby\tstate=following\ttimeline=3\tlsn=0/3000060"
						"\tsysid=7301234567890123456\tversion=15.3\tlisten=*\tport=5432"
						"\ttls=1\taccepts=1\tslots=100\tslots_left=-1\tallow_repair=0"
						"\tphysical=1\tfenced=0\thba_file=/etc/pg_hba.conf"
						"\tconfig_file=/etc/postgresql.conf\tdata_directory=/srv/pg"
						"\tpeer_user=leasehold"
						"\tpeer_database=a=b\tsslmode=prefer\tpassfile=/home/x/.pgpass\n");
	assert_memory_equal(read_self(text), &self, sizeof(self));
}

static void
tabs_and_newlines_are_escaped(void **state)
{
	begin();
	COPY(path.target, "a\tb\nc\\d\\te");
	COPY(path.error, "\\");
	assert_true(report_write_path(text, sizeof(text), &used, &path));
	assert_memory_equal(text, "path\ta\\tb\\nc\\\\d\\\\te\tnode\t", 25);
	assert_string_equal(text + used - 4, "\t\\\\\n");
	assert_string_equal(read_path(text)->target, "a\tb\nc\\d\\te");
	assert_string_equal(read_path(text)->error, "\\");
	/* what nobody writes is read as it can be: another escape, and half of one */
	assert_string_equal(read_path("path\ta\\qb\\\n")->target, "aqb\\");
	assert_string_equal(read_path("path\t\\\tnode\n")->target, "\\");
}

/* ------------------------------------------------------------------------
 * Many lines
 * ------------------------------------------------------------------------
 */

static void
lines_of_all_kinds(void **state)
{
	const char *at = text;
	ReportPath	read;
	ReportHba	read_hba;

	begin();
	COPY(path.target, "b");
	COPY(hba.node, "x");
	COPY(self.role, "primary");
	assert_true(report_write_path(text, sizeof(text), &used, &path));
	assert_true(report_write_hba(text, sizeof(text), &used, &hba));
	assert_true(report_write_self(text, sizeof(text), &used, &self));
	COPY(path.target, "c");
	path.failures = 7;
	assert_true(report_write_path(text, sizeof(text), &used, &path));
	COPY(hba.node, "y");
	assert_true(report_write_hba(text, sizeof(text), &used, &hba));
	assert_int_equal(used, strlen(text));

	assert_string_equal(read_self(text)->role, "primary");
	assert_true(report_next_path(&at, &read));
	assert_string_equal(read.target, "b");
	assert_true(report_next_path(&at, &read));
	assert_string_equal(read.target, "c");
	assert_false(report_next_path(&at, &read));
	assert_string_equal(read.target, "");
	assert_false(report_next_path(&at, &read));
	at = text;
	assert_true(report_next_hba(&at, &read_hba));
	assert_string_equal(read_hba.node, "x");
	assert_true(report_next_hba(&at, &read_hba));
	assert_string_equal(read_hba.node, "y");
	assert_false(report_next_hba(&at, &read_hba));

	assert_true(report_find_path(text, "c", &read));
	assert_int_equal(read.failures, 7);
	assert_true(report_find_path(text, "b", &read));
	assert_int_equal(read.failures, 0);
	assert_false(report_find_path(text, "d", &read));
	assert_string_equal(read.target, "");
	assert_false(report_find_path(text, "", &read));
}

static void
unknown_lines_and_fields_are_passed_over(void **state)
{
	const char *at = "\n\nlater\tpath\nselfish\trole=x\nself.2\trole=y\npaths\tx\n path\tx\n"
		"path\tb\tmember\tdegraded\tready\t\t1\t2\t3\t4\t5\t6\t57P03\tx\ty\tz\tlater\tand\n"
		"self\tlater=1\trole=standby\tmore\t=\t=x\trol=a\troles=b\tstate=s\n";
	const ReportPath *read;
	ReportPath	first;

	assert_string_equal(read_self(at)->role, "standby");
	assert_string_equal(read_self(at)->state, "s");
	assert_true(report_next_path(&at, &first));
	read = &first;
	assert_string_equal(read->target, "b");
	assert_true(read->member);
	assert_int_equal(read->status, PATH_DEGRADED);
	assert_int_equal(read->latency_us, 1);
	assert_int_equal(read->p50_us, 2);
	assert_int_equal(read->p99_us, 3);
	assert_int_equal(read->since_ms, 4);
	assert_int_equal(read->last_ok_ms, 5);
	assert_int_equal(read->failures, 6);
	assert_string_equal(read->sqlstate, "57P03");
	assert_string_equal(read->address, "x");
	assert_string_equal(read->from, "y");
	assert_string_equal(read->error, "z");
}

static void
missing_fields_are_empty(void **state)
{
	ReportPath	empty;
	ReportSelf	none;

	memset(&empty, 0, sizeof(empty));
	empty.last_ok_ms = -1;
	assert_memory_equal(read_path("path\n"), &empty, sizeof(empty));
	assert_memory_equal(read_path("path\t\n"), &empty, sizeof(empty));
	assert_memory_equal(read_path("path\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\n"), &empty, sizeof(empty));
	COPY(empty.target, "b");
	empty.status = PATH_OK;
	assert_memory_equal(read_path("path\tb\t\tok\n"), &empty, sizeof(empty));

	memset(&none, 0, sizeof(none));
	none.slots_left = -1;
	assert_memory_equal(read_self("self\n"), &none, sizeof(none));
	assert_memory_equal(read_self("self\tport=\ttls=\tslots_left=\n"), &none, sizeof(none));
	memset(&self, 'x', sizeof(self));
	assert_false(report_read_self("", &self));
	assert_memory_equal(&self, &none, sizeof(none));
	memset(&self, 'x', sizeof(self));
	assert_false(report_read_self("path\tself\n", &self));
	assert_memory_equal(&self, &none, sizeof(none));
}

/* Of a target that was cut nobody knows which it is. */
static void
a_line_that_was_cut_does_not_count(void **state)
{
	ReportPath	read;

	assert_true(report_find_path("path\ta\npath\tb\n", "b", &read));
	assert_false(report_find_path("path\ta\npath\tb", "b", &read));
	assert_false(report_read_self("self\trole=primary", &self));
	assert_false(report_read_self("self", &self));
}

/* ------------------------------------------------------------------------
 * Values that are none
 * ------------------------------------------------------------------------
 */

static void
names_that_nobody_knows(void **state)
{
	const ReportPath *read;

	read = read_path("path\tb\tcloud\tfast\tquantum\tmoon\n");
	assert_false(read->member);
	assert_int_equal(read->status, PATH_UNKNOWN);
	assert_int_equal(read->phase, PHASE_RESOLVE);
	assert_int_equal(read->cause, CAUSE_OTHER);
	/* one that only begins like one, and one that is very long */
	read = read_path("path\tb\tmembers\tokay\tconnected\t"
					 "refused_and_more_and_more_and_more_and_more_and_more_and_more\n");
	assert_false(read->member);
	assert_int_equal(read->status, PATH_UNKNOWN);
	assert_int_equal(read->phase, PHASE_RESOLVE);
	assert_int_equal(read->cause, CAUSE_OTHER);
	assert_false(read_self("self\ttls=true\taccepts=10\n")->tls);
	assert_false(read_self("self\ttls=true\taccepts=10\n")->accepts);
}

/* Memory that was damaged still makes a text. */
static void
values_that_are_none_are_written(void **state)
{
	ReportHba  *bad = malloc(sizeof(*bad));

	begin();
	path.status = (PathStatus) 77;
	path.phase = (PathPhase) 77;
	path.cause = (Cause) 7777;
	memset(path.target, 'x', sizeof(path.target));
	memset(path.sqlstate, 'y', sizeof(path.sqlstate));
	COPY(path.address, "there");
	assert_true(report_write_path(text, sizeof(text), &used, &path));
	assert_int_equal(read_path(text)->status, PATH_UNKNOWN);
	assert_int_equal(read_path(text)->phase, PHASE_RESOLVE);
	assert_int_equal(read_path(text)->cause, CAUSE_OTHER);
	assert_non_null(strstr(text, "\tyyyyyy\tthere\t"));
	assert_string_equal(read_path(text)->sqlstate, "yyyyy");
	assert_int_equal(strlen(read_path(text)->target), sizeof(path.target) - 1);
	/* nothing terminates the last field, and half a character ends it */
	memset(bad, 0, sizeof(*bad));
	memset(bad->rule, '\xe2', sizeof(bad->rule));
	assert_true(report_write_hba(text, sizeof(text), &used, bad));
	assert_string_equal(text + used - 6, "?" "?\t\t0\n");
	free(bad);
}

static int64_t
failures(const char *number)
{
	snprintf(text, sizeof(text), "path\tb\t\t\t\t\t\t\t\t\t\t%s\t7\n", number);
	return read_path(text)->failures;
}

static int64_t
last_ok(const char *number)
{
	snprintf(text, sizeof(text), "path\tb\t\t\t\t\t\t\t\t\t%s\t7\n", number);
	assert_int_equal(read_path(text)->failures, 7);
	return read_path(text)->last_ok_ms;
}

static void
numbers_are_brought_into_their_range(void **state)
{
	assert_int_equal(failures("0"), 0);
	assert_int_equal(failures("2147483647"), INT_MAX);
	assert_int_equal(failures("2147483648"), INT_MAX);
	assert_int_equal(failures("4294967297"), INT_MAX);
	assert_int_equal(failures("99999999999999999999999999999999"), INT_MAX);
	assert_int_equal(failures("-1"), 0);
	assert_int_equal(failures("-99999999999999999999999999999999"), 0);
	assert_int_equal(failures("12x"), 12);
	assert_int_equal(failures("x12"), 0);
	assert_int_equal(failures(" 12"), 0);
	assert_int_equal(failures("+12"), 0);

	assert_int_equal(last_ok("12"), 12);
	assert_int_equal(last_ok("0"), 0);
	assert_int_equal(last_ok("-1"), -1);
	assert_int_equal(last_ok("-2"), -1);
	assert_int_equal(last_ok("-9223372036854775809"), -1);
	assert_int_equal(last_ok("-"), -1);
	assert_int_equal(last_ok("x"), -1);
	/* an age can be made a ClockTime */
	assert_true(last_ok("9223372036854775807") <= INT64_MAX / CLOCK_MS);
	assert_true(last_ok("9223372036854775808") > 0);
	assert_true(last_ok("18446744073709551617") > CLOCK_S);
	assert_true(read_path("path\tb\t\t\t\t\t9223372036854775807\n")->latency_us <=
				INT64_MAX / 1000);
	assert_int_equal(read_self("self\tport=70000\ttimeline=5000000000\n")->port, 65535);
	assert_int_equal(read_self("self\tport=70000\ttimeline=5000000000\n")->timeline, INT_MAX);
}

static void
what_is_too_long_is_cut_between_characters(void **state)
{
	/* the sqlstate has room for five bytes */
	static const struct
	{
		const char *written;
		const char *read;
	}			cut[] = {
		{"12345", "12345"},
		{"123456", "12345"},
		{"1234\xc3\xa9", "1234"},
		{"123\xc3\xa9", "123\xc3\xa9"},
		{"123\xe2\x82\xac", "123"},
		{"12\xe2\x82\xac", "12\xe2\x82\xac"},
		{"12\xf0\x9f\x90\x98", "12"},
		{"1\xf0\x9f\x90\x98", "1\xf0\x9f\x90\x98"},
		{"1\xf0\x9f\x90\x98\xf0\x9f\x90\x98", "1\xf0\x9f\x90\x98"},
		{"1234\\\\5", "1234\\"},
		{"12345\\", "12345"},
		{"1234\\", "1234\\"},
	};

	for (int i = 0; i < (int) (sizeof(cut) / sizeof(cut[0])); i++)
	{
		snprintf(text, sizeof(text), "path\tb\t\t\t\t\t\t\t\t\t\t\t%s\there\n", cut[i].written);
		assert_string_equal(read_path(text)->sqlstate, cut[i].read);
		assert_string_equal(read_path(text)->address, "here");
	}
}

/* As PostgreSQL would have it: the text is to be stored, and shown. */
static void
copies_are_utf8_and_cut_between_characters(void **state)
{
	char		copy[8];

	line_text(copy, sizeof(copy), "a\xFC\tb");
	assert_string_equal(copy, "a?\tb");
	line_text(copy, sizeof(copy), "123456\xC3\xBC");
	assert_string_equal(copy, "123456");
	line_text(copy, sizeof(copy), "12345\xC3\xBC" "6");
	assert_string_equal(copy, "12345\xC3\xBC");
	line_text(copy, sizeof(copy), "\xC3");
	assert_string_equal(copy, "?");
	line_text(copy, sizeof(copy), "");
	assert_string_equal(copy, "");
}

static void
what_is_not_utf8_becomes_question_marks(void **state)
{
	static const struct
	{
		const char *written;
		const char *read;
	}			bad[] = {
		{"a\x80z", "a?z"},
		{"a\xffz", "a?z"},
		{"a\xc3", "a?"},
		{"a\xc3z", "a?z"},
		{"\xe2\x82", "??"},
		{"\xe2\x82z", "??z"},
		{"\xf0\x9f\x90z", "???z"},
		{"\xc0\x80", "??"},		/* a NUL in disguise */
		{"\xc1\xbf", "??"},
		{"\xe0\x9f\xbf", "???"},
		{"\xed\xa0\x80", "???"},	/* half of a surrogate pair */
		{"\xf0\x8f\xbf\xbf", "????"},
		{"\xf4\x90\x80\x80", "????"},	/* too far */
		{"\xf5\x80\x80\x80", "????"},
		{"\xfc\x80\x80\x80\x80\x80", "??????"},
		/* and the good ones beside them */
		{"\xc2\x80", "\xc2\x80"},
		{"\xdf\xbf", "\xdf\xbf"},
		{"\xe0\xa0\x80", "\xe0\xa0\x80"},
		{"\xed\x9f\xbf", "\xed\x9f\xbf"},
		{"\xee\x80\x80", "\xee\x80\x80"},
		{"\xef\xbf\xbf", "\xef\xbf\xbf"},
		{"\xf0\x90\x80\x80", "\xf0\x90\x80\x80"},
		{"\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf"},
		{"\x01\x7f\r", "\x01\x7f\r"},
	};

	for (int i = 0; i < (int) (sizeof(bad) / sizeof(bad[0])); i++)
	{
		char		line[64];

		begin();
		COPY(path.error, bad[i].written);
		assert_true(report_write_path(text, sizeof(text), &used, &path));
		snprintf(line, sizeof(line), "\t%s\n", bad[i].read);
		assert_string_equal(text + used - strlen(line), line);
		snprintf(text, sizeof(text), "path\t%s\n", bad[i].written);
		assert_string_equal(read_path(text)->target, bad[i].read);
	}
}

/* ------------------------------------------------------------------------
 * Room
 * ------------------------------------------------------------------------
 */

/* Each size of buffer, from the heap, so that one byte beyond it is seen. */
static void
all_or_nothing(void **state)
{
	size_t		full;

	begin();
	COPY(path.target, "a\tb");
	COPY(path.error, "\\\xc3\xa9\x80\n");
	COPY(self.version, "15");
	COPY(hba.rule, "a\\b");
	assert_true(report_write_path(text, sizeof(text), &used, &path));
	assert_true(report_write_hba(text, sizeof(text), &used, &hba));
	assert_true(report_write_self(text, sizeof(text), &used, &self));
	full = used;
	for (size_t size = 0; size <= full + 1; size++)
	{
		char	   *buffer = malloc(size + 1);
		size_t		at = 0;
		size_t		lines = 0;

		memset(buffer, 'x', size + 1);
		lines += report_write_path(buffer, size, &at, &path);
		lines += lines == 1 && report_write_hba(buffer, size, &at, &hba);
		lines += lines == 2 && report_write_self(buffer, size, &at, &self);
		assert_int_equal(lines == 3, size == full + 1);
		assert_memory_equal(buffer, text, at);
		assert_int_equal(buffer[size], 'x');
		if (size > 0)
			assert_int_equal(strlen(buffer), at);
		if (lines > 0)
			assert_int_equal(buffer[at - 1], '\n');
		free(buffer);
	}
}

/* Whatever is said to be used already. */
static void
no_room_at_all(void **state)
{
	char		small[4] = "abc";
	size_t		at = 3;

	begin();
	assert_false(report_write_path(small, 4, &at, &path));
	assert_string_equal(small, "abc");
	assert_int_equal(at, 3);
	at = 4;
	assert_false(report_write_path(small, 4, &at, &path));
	at = SIZE_MAX;
	assert_false(report_write_self(small, 4, &at, &self));
	at = 0;
	assert_false(report_write_hba(small, 0, &at, &hba));
	assert_string_equal(small, "abc");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_path_as_text),
		cmocka_unit_test(a_rule_as_text),
		cmocka_unit_test(a_node_as_text),
		cmocka_unit_test(tabs_and_newlines_are_escaped),
		cmocka_unit_test(lines_of_all_kinds),
		cmocka_unit_test(unknown_lines_and_fields_are_passed_over),
		cmocka_unit_test(missing_fields_are_empty),
		cmocka_unit_test(a_line_that_was_cut_does_not_count),
		cmocka_unit_test(names_that_nobody_knows),
		cmocka_unit_test(values_that_are_none_are_written),
		cmocka_unit_test(numbers_are_brought_into_their_range),
		cmocka_unit_test(what_is_too_long_is_cut_between_characters),
		cmocka_unit_test(copies_are_utf8_and_cut_between_characters),
		cmocka_unit_test(what_is_not_utf8_becomes_question_marks),
		cmocka_unit_test(all_or_nothing),
		cmocka_unit_test(no_room_at_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
