/*
 * test_report_chance.c
 *		Reports made by chance, the same each time: what is written is read, and no
 *		text, cut or changed, does any harm.
 */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "report.h"

static char text[8192];
static size_t used;
static ReportSelf self;
static ReportPath path;
static ReportHba hba;

static uint64_t seed;

static uint32_t
chance(uint32_t n)
{
	seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t) (seed >> 33) % n;
}

static void
some_text(char *to, size_t size)
{
	static const char *const piece[] = {"a", "\t", "\n", "\\", "\\t", "=", " ", "\r", "Z9",
	"\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x90\x98", "path", "\x01"};
	size_t		n = 0;
	size_t		length = chance(3) == 0 ? size : chance((uint32_t) size);

	for (;;)
	{
		const char *next = piece[chance(sizeof(piece) / sizeof(piece[0]))];

		if (n + strlen(next) >= length)
			break;
		memcpy(to + n, next, strlen(next));
		n += strlen(next);
	}
	to[n] = '\0';
}

static int64_t
some_number(int64_t least, int64_t most)
{
	switch (chance(4))
	{
		case 0:
			return least;
		case 1:
			return most;
		default:
			return (int64_t) chance(most > 60000 ? 60000 : (uint32_t) most);
	}
}

#define SOME(member)	some_text(member, sizeof(member))

static void
some_path(void)
{
	memset(&path, 0, sizeof(path));
	SOME(path.target);
	path.member = chance(2);
	path.status = (PathStatus) chance(PATH_UNREACHABLE + 1);
	path.phase = (PathPhase) chance(PHASE_COUNT);
	path.cause = (Cause) chance(CAUSE_COUNT);
	path.latency_us = some_number(0, INT64_MAX / 1000);
	path.p50_us = some_number(0, INT64_MAX / 1000);
	path.p99_us = some_number(0, INT64_MAX / 1000);
	path.since_ms = some_number(0, INT64_MAX / CLOCK_MS);
	path.last_ok_ms = some_number(-1, INT64_MAX / CLOCK_MS);
	path.failures = (int) some_number(0, INT_MAX);
	SOME(path.sqlstate);
	SOME(path.address);
	SOME(path.from);
	SOME(path.error);
}

static void
some_self(void)
{
	memset(&self, 0, sizeof(self));
	SOME(self.role);
	SOME(self.state);
	self.timeline = (int) some_number(0, INT_MAX);
	SOME(self.lsn);
	SOME(self.sysid);
	SOME(self.version);
	SOME(self.listen);
	self.port = (int) some_number(0, 65535);
	self.tls = chance(2);
	self.accepts = chance(2);
	self.slots = (int) some_number(0, INT_MAX);
	self.slots_left = (int) some_number(-1, INT_MAX);
	self.allow_repair = chance(2);
	self.physical = chance(2);
	self.fenced = chance(2);
	SOME(self.hba_file);
	SOME(self.config_file);
	SOME(self.peer_user);
	SOME(self.peer_database);
	SOME(self.sslmode);
	SOME(self.passfile);
}

static void
some_hba(void)
{
	memset(&hba, 0, sizeof(hba));
	SOME(hba.node);
	SOME(hba.address);
	hba.encrypted = chance(2);
	hba.line = (int) some_number(0, INT_MAX);
	SOME(hba.method);
	SOME(hba.rule);
}

/* The strings are what counts, not what lies behind them: each structure is zeroed. */
static void
what_is_written_is_read(void **state)
{
	seed = 1;
	for (int i = 0; i < 3000; i++)
	{
		const char *at = text;
		const char *hba_at = text;
		ReportPath	read_path;
		ReportSelf	read_self;
		ReportHba	read_hba;

		used = 0;
		some_path();
		some_self();
		some_hba();
		assert_true(report_write_hba(text, sizeof(text), &used, &hba));
		assert_true(report_write_path(text, sizeof(text), &used, &path));
		assert_true(report_write_self(text, sizeof(text), &used, &self));
		assert_true(report_next_path(&at, &read_path));
		assert_memory_equal(&read_path, &path, sizeof(path));
		assert_false(report_next_path(&at, &read_path));
		assert_true(report_next_hba(&hba_at, &read_hba));
		assert_memory_equal(&read_hba, &hba, sizeof(hba));
		assert_true(report_read_self(text, &read_self));
		assert_memory_equal(&read_self, &self, sizeof(self));
	}
}

#define TERMINATED(member) \
	assert_non_null(memchr(member, '\0', sizeof(member)))

/* Read all there is, and see that it is within its bounds. */
static void
read_all(const char *from)
{
	const char *at = from;
	ReportPath	p;
	ReportSelf	s;
	ReportHba	h;

	while (report_next_path(&at, &p))
	{
		TERMINATED(p.target);
		TERMINATED(p.sqlstate);
		TERMINATED(p.address);
		TERMINATED(p.from);
		TERMINATED(p.error);
		assert_in_range(p.status, PATH_UNKNOWN, PATH_UNREACHABLE);
		assert_in_range(p.phase, PHASE_RESOLVE, PHASE_READY);
		assert_in_range(p.cause, CAUSE_NONE, CAUSE_OTHER);
		assert_true(p.last_ok_ms >= -1 && p.since_ms >= 0 && p.failures >= 0);
		/* and can be written again */
		used = 0;
		assert_true(report_write_path(text, sizeof(text), &used, &p));
	}
	assert_int_equal(*at, '\0');
	at = from;
	while (report_next_hba(&at, &h))
		TERMINATED(h.rule);
	report_read_self(from, &s);
	TERMINATED(s.role);
	TERMINATED(s.passfile);
}

/* Cut anywhere, and with bytes changed; from the heap, so that none beyond is read. */
static void
no_text_does_harm(void **state)
{
	static const char poison[] = "\t\n\\=-9\x80\xc3\xe2\xf0\xff";

	seed = 2;
	for (int i = 0; i < 3000; i++)
	{
		char	   *copy;
		size_t		length;

		used = 0;
		some_path();
		some_self();
		some_hba();
		report_write_path(text, sizeof(text), &used, &path);
		report_write_self(text, sizeof(text), &used, &self);
		report_write_hba(text, sizeof(text), &used, &hba);
		report_write_path(text, sizeof(text), &used, &path);
		length = chance(2) ? used : chance((uint32_t) used + 1);
		copy = malloc(length + 1);
		memcpy(copy, text, length);
		copy[length] = '\0';
		for (uint32_t n = length > 0 ? chance(40) : 0; n > 0; n--)
			copy[chance((uint32_t) length)] = chance(2) ?
				(char) (chance(255) + 1) : poison[chance(sizeof(poison) - 1)];
		read_all(copy);
		free(copy);
	}
}

static void
nor_do_bytes_by_chance(void **state)
{
	static const char *const word[] = {"path", "self", "hba", "\t", "\t", "\n", "\\", "=",
	"port=", "role=", "-", "9223372036854775808", "ok", "\xf0\x9f", "\x80", "x"};

	seed = 3;
	for (int i = 0; i < 3000; i++)
	{
		char	   *copy = calloc(1, 1);
		size_t		length = 0;

		for (uint32_t n = chance(60); n > 0; n--)
		{
			const char *next = word[chance(sizeof(word) / sizeof(word[0]))];

			copy = realloc(copy, length + strlen(next) + 1);
			strcpy(copy + length, next);
			length += strlen(next);
		}
		read_all(copy);
		free(copy);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_written_is_read),
		cmocka_unit_test(no_text_does_harm),
		cmocka_unit_test(nor_do_bytes_by_chance),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
