/*
 * walk.c
 *		One attempt to reach a node or a member, as text.
 *
 * One line for the whole, then one for each phase, in order.  Must never do I/O or
 * depend on the server.
 */
#include "walk.h"

#include <limits.h>
#include <string.h>

#include "lines.h"

static const Field walk_field[] = {
	LINES_TEXT(Walk, target),
	LINES_OTHER(Walk, member, FIELD_KIND),
	LINES_TEXT(Walk, host),
	LINES_TEXT(Walk, port),
	LINES_TEXT(Walk, address),
	LINES_TEXT(Walk, from),
	LINES_TEXT(Walk, user),
	LINES_TEXT(Walk, database),
	LINES_OTHER(Walk, encrypted, FIELD_BOOL),
	LINES_OTHER(Walk, phase, FIELD_PHASE),
	LINES_OTHER(Walk, cause, FIELD_CAUSE),
	LINES_OTHER(Walk, fault.phase, FIELD_PHASE),
	LINES_OTHER(Walk, fault.timed_out, FIELD_BOOL),
	LINES_NUMBER(Walk, fault.error, 0, INT_MAX),
	LINES_OTHER(Walk, fault.by_server, FIELD_BOOL),
	LINES_TEXT(Walk, fault.sqlstate),
	LINES_TEXT(Walk, fault.routine),
	LINES_TEXT(Walk, fault.message),
	LINES_OTHER(Walk, fault.encrypted, FIELD_BOOL),
	LINES_OTHER(Walk, fault.local, FIELD_BOOL),
	LINES_OTHER(Walk, fault.member, FIELD_BOOL)
};

static const Field step_field[] = {
	LINES_NUMBER(WalkStep, status, STEP_NOT_REACHED, STEP_FAILED),
	LINES_TEXT(WalkStep, detail),
	LINES_TEXT(WalkStep, evidence)
};

static const Line walk_line = {
	"walk", true, sizeof(Walk), walk_field, LINES_LENGTH(walk_field)
};
static const Line step_line = {
	"step", false, sizeof(WalkStep), step_field, LINES_LENGTH(step_field)
};

const char *
walk_step_name(StepStatus status)
{
	return status == STEP_OK ? "ok" : status == STEP_FAILED ? "failed" : "not reached";
}

bool
walk_write(char *buffer, size_t size, const Walk *walk)
{
	size_t		used = 0;

	if (!line_write(buffer, size, &used, &walk_line, walk))
		return false;
	for (int i = 0; i < PHASE_COUNT; i++)
		if (!line_write(buffer, size, &used, &step_line, &walk->step[i]))
			return false;
	return true;
}

bool
walk_read(const char *text, Walk *walk)
{
	if (!line_next(&text, &walk_line, walk))
		return false;
	for (int i = 0; i < PHASE_COUNT; i++)
		if (!line_next(&text, &step_line, &walk->step[i]))
			return false;
	return true;
}
