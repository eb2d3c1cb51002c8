/*
 * lines.h
 *		Structures as lines of text, for the store: what report.c and walk.c write
 *		and read.
 *
 * Layer 0: no server headers, no I/O.  A table for each kind of line says which
 * fields it has, in which order, and where they are in memory.  Fields with names
 * may go or come; the others are told by their place, and new ones are added at the
 * end.  See report.h for the format.
 */
#ifndef LEASEHOLD_LINES_H
#define LEASEHOLD_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum FieldKind
{
	FIELD_TEXT,
	FIELD_NUMBER,
	FIELD_BOOL,
	FIELD_KIND,					/* of a target: "member" is true, "node" is not */
	FIELD_STATUS,
	FIELD_PHASE,
	FIELD_CAUSE
} FieldKind;

typedef struct Field
{
	const char *name;
	FieldKind	kind;
	size_t		offset;
	size_t		size;
	int64_t		least;			/* of numbers; also what a missing one is */
	int64_t		most;
} Field;

typedef struct Line
{
	const char *tag;
	bool		named;			/* the fields are "name=value" */
	size_t		size;			/* of the structure */
	const Field *field;
	int			n;
} Line;

/* For the tables. */
#define LINES_PLACE(type, member) \
	offsetof(type, member), sizeof(((type *) 0)->member)
#define LINES_TEXT(type, member) \
	{#member, FIELD_TEXT, LINES_PLACE(type, member), 0, 0}
#define LINES_NUMBER(type, member, least, most) \
	{#member, FIELD_NUMBER, LINES_PLACE(type, member), least, most}
#define LINES_OTHER(type, member, kind) \
	{#member, kind, LINES_PLACE(type, member), 0, 0}
#define LINES_LENGTH(array)	((int) (sizeof(array) / sizeof((array)[0])))

/*
 * line_write
 *		Append one line to the text at buffer[*used], of "size" bytes in all.  False,
 *		and nothing is appended, if there is no room.
 */
extern bool line_write(char *buffer, size_t size, size_t *used, const Line *line,
					   const void *from);

/* The next line of this kind; moves *at beyond it; false at the end. */
extern bool line_next(const char **at, const Line *line, void *to);

/* A copy that is UTF-8, whatever it was, and is cut between two characters. */
extern void line_text(char *to, size_t size, const char *from);

#endif							/* LEASEHOLD_LINES_H */
