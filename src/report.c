/*
 * report.c
 *		What a node tells the others about itself and its paths, as text.
 *
 * The fields of "self" are written with their names, so that any of them may go or
 * come; see lines.h.  Must never do I/O or depend on the server.
 */
#include "report.h"

#include <limits.h>
#include <string.h>

#include "lines.h"

#define MOST_US			(INT64_MAX / 1000)
#define MOST_MS			(INT64_MAX / CLOCK_MS)

/* The members' names stand in the text: to rename one is to change the format. */
static const Field self_field[] = {
	LINES_TEXT(ReportSelf, role),
	LINES_TEXT(ReportSelf, state),
	LINES_NUMBER(ReportSelf, timeline, 0, INT_MAX),
	LINES_TEXT(ReportSelf, lsn),
	LINES_TEXT(ReportSelf, sysid),
	LINES_TEXT(ReportSelf, version),
	LINES_TEXT(ReportSelf, listen),
	LINES_NUMBER(ReportSelf, port, 0, 65535),
	LINES_OTHER(ReportSelf, tls, FIELD_BOOL),
	LINES_OTHER(ReportSelf, accepts, FIELD_BOOL),
	LINES_NUMBER(ReportSelf, slots, 0, INT_MAX),
	LINES_NUMBER(ReportSelf, slots_left, -1, INT_MAX),
	LINES_OTHER(ReportSelf, allow_repair, FIELD_BOOL),
	LINES_OTHER(ReportSelf, physical, FIELD_BOOL),
	LINES_OTHER(ReportSelf, fenced, FIELD_BOOL),
	LINES_TEXT(ReportSelf, hba_file),
	LINES_TEXT(ReportSelf, config_file),
	LINES_TEXT(ReportSelf, data_directory),
	LINES_TEXT(ReportSelf, peer_user),
	LINES_TEXT(ReportSelf, peer_database),
	LINES_TEXT(ReportSelf, sslmode),
	LINES_TEXT(ReportSelf, passfile)
};

static const Field path_field[] = {
	LINES_TEXT(ReportPath, target),
	LINES_OTHER(ReportPath, member, FIELD_KIND),
	LINES_OTHER(ReportPath, status, FIELD_STATUS),
	LINES_OTHER(ReportPath, phase, FIELD_PHASE),
	LINES_OTHER(ReportPath, cause, FIELD_CAUSE),
	LINES_NUMBER(ReportPath, latency_us, 0, MOST_US),
	LINES_NUMBER(ReportPath, p50_us, 0, MOST_US),
	LINES_NUMBER(ReportPath, p99_us, 0, MOST_US),
	LINES_NUMBER(ReportPath, since_ms, 0, MOST_MS),
	LINES_NUMBER(ReportPath, last_ok_ms, -1, MOST_MS),
	LINES_NUMBER(ReportPath, failures, 0, INT_MAX),
	LINES_TEXT(ReportPath, sqlstate),
	LINES_TEXT(ReportPath, address),
	LINES_TEXT(ReportPath, from),
	LINES_TEXT(ReportPath, error)
};

static const Field hba_field[] = {
	LINES_TEXT(ReportHba, node),
	LINES_TEXT(ReportHba, address),
	LINES_OTHER(ReportHba, encrypted, FIELD_BOOL),
	LINES_NUMBER(ReportHba, line, 0, INT_MAX),
	LINES_TEXT(ReportHba, method),
	LINES_TEXT(ReportHba, rule),
	LINES_TEXT(ReportHba, file),
	LINES_NUMBER(ReportHba, doubt, 0, INT_MAX)
};

static const Line self_line = {
	"self", true, sizeof(ReportSelf), self_field, LINES_LENGTH(self_field)
};
static const Line path_line = {
	"path", false, sizeof(ReportPath), path_field, LINES_LENGTH(path_field)
};
static const Line hba_line = {
	"hba", false, sizeof(ReportHba), hba_field, LINES_LENGTH(hba_field)
};

bool
report_write_self(char *buffer, size_t size, size_t *used,
				  const ReportSelf *self)
{
	return line_write(buffer, size, used, &self_line, self);
}

bool
report_write_path(char *buffer, size_t size, size_t *used,
				  const ReportPath *path)
{
	return line_write(buffer, size, used, &path_line, path);
}

bool
report_write_hba(char *buffer, size_t size, size_t *used,
				 const ReportHba *hba)
{
	return line_write(buffer, size, used, &hba_line, hba);
}

bool
report_read_self(const char *text, ReportSelf *self)
{
	return line_next(&text, &self_line, self);
}

bool
report_next_path(const char **at, ReportPath *path)
{
	return line_next(at, &path_line, path);
}

bool
report_next_hba(const char **at, ReportHba *hba)
{
	return line_next(at, &hba_line, hba);
}

bool
report_find_path(const char *text, const char *target, ReportPath *path)
{
	while (report_next_path(&text, path))
		if (strcmp(path->target, target) == 0)
			return true;
	return false;
}
