/*
 * lines.c
 *		Structures as lines of text, for the store.
 *
 * Must never do I/O or depend on the server.
 */
#include "lines.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cause.h"
#include "path.h"

/* ------------------------------------------------------------------------
 * Characters
 * ------------------------------------------------------------------------
 */

static bool
continues(const char *at, const char *end)
{
	return at < end && ((unsigned char) *at & 0xC0) == 0x80;
}

/*
 * How many bytes the character has that stands here; 0 if it is none: what PostgreSQL
 * would not take for one (too long a form, half of a surrogate pair, beyond U+10FFFF).
 */
static size_t
character_length(const char *at, const char *end)
{
	unsigned char lead = (unsigned char) at[0];
	size_t		length = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
	unsigned char second;

	if (length == 1)
		return 1;
	if (lead < 0xC2 || lead > 0xF4)
		return 0;
	for (size_t i = 1; i < length; i++)
		if (!continues(at + i, end))
			return 0;
	second = (unsigned char) at[1];
	if ((lead == 0xE0 && second < 0xA0) || (lead == 0xED && second > 0x9F) ||
		(lead == 0xF0 && second < 0x90) || (lead == 0xF4 && second > 0x8F))
		return 0;
	return length;
}

/* ------------------------------------------------------------------------
 * Writing
 * ------------------------------------------------------------------------
 */

typedef struct Writer
{
	char	   *buffer;
	size_t		size;			/* with the NUL at the end */
	size_t		used;
	bool		full;			/* it did not fit */
} Writer;

static void
put(Writer *writer, const char *bytes, size_t n)
{
	if (writer->full || n >= writer->size - writer->used)
	{
		writer->full = true;
		return;
	}
	memcpy(writer->buffer + writer->used, bytes, n);
	writer->used += n;
	writer->buffer[writer->used] = '\0';
}

static void
put_string(Writer *writer, const char *text)
{
	put(writer, text, strlen(text));
}

static void
put_text(Writer *writer, const char *text, size_t size)
{
	const char *end = text + strnlen(text, size);

	while (text < end)
	{
		size_t		n = character_length(text, end);

		if (n == 0)
			put(writer, "?", 1);
		else if (*text == '\\')
			put(writer, "\\\\", 2);
		else if (*text == '\t')
			put(writer, "\\t", 2);
		else if (*text == '\n')
			put(writer, "\\n", 2);
		else
			put(writer, text, n);
		text += n > 0 ? n : 1;
	}
}

static void
put_number(Writer *writer, const char *from, size_t size)
{
	char		text[24];

	snprintf(text, sizeof(text), "%" PRId64, size == sizeof(int64_t) ?
			 *(const int64_t *) from : (int64_t) *(const int *) from);
	put_string(writer, text);
}

/* None is an empty field, whatever name it may have. */
static void
put_cause(Writer *writer, Cause cause)
{
	if (cause != CAUSE_NONE)
		put_string(writer, cause_name((unsigned int) cause < CAUSE_COUNT ?
									  cause : CAUSE_OTHER));
}

static void
put_field(Writer *writer, const Field *field, const char *from)
{
	switch (field->kind)
	{
		case FIELD_TEXT:
			put_text(writer, from, field->size);
			break;
		case FIELD_NUMBER:
			put_number(writer, from, field->size);
			break;
		case FIELD_BOOL:
			put_string(writer, *(const bool *) from ? "1" : "0");
			break;
		case FIELD_KIND:
			put_string(writer, *(const bool *) from ? "member" : "node");
			break;
		case FIELD_STATUS:
			put_string(writer, path_status_name(*(const PathStatus *) from));
			break;
		case FIELD_PHASE:
			put_string(writer, path_phase_name(*(const PathPhase *) from));
			break;
		case FIELD_CAUSE:
			put_cause(writer, *(const Cause *) from);
			break;
	}
}

bool
line_write(char *buffer, size_t size, size_t *used, const Line *line,
		   const void *from)
{
	Writer		writer = {buffer, size, *used, false};

	if (*used >= size)
		return false;
	put_string(&writer, line->tag);
	for (int i = 0; i < line->n; i++)
	{
		const Field *field = &line->field[i];

		put_string(&writer, "\t");
		if (line->named)
		{
			put_string(&writer, field->name);
			put_string(&writer, "=");
		}
		put_field(&writer, field, (const char *) from + field->offset);
	}
	put_string(&writer, "\n");
	if (writer.full)
	{
		buffer[*used] = '\0';
		return false;
	}
	*used = writer.used;
	return true;
}

/* ------------------------------------------------------------------------
 * Reading
 * ------------------------------------------------------------------------
 */

/* One character, "?" for what is none; false if there is no room.  Moves *at. */
static bool
get_character(char *to, size_t size, size_t *used, const char **at, const char *end)
{
	size_t		n = character_length(*at, end);
	size_t		length = n > 0 ? n : 1;

	if (*used + length >= size)
		return false;
	memcpy(to + *used, n > 0 ? *at : "?", length);
	*used += length;
	*at += length;
	return true;
}

void
line_text(char *to, size_t size, const char *from)
{
	const char *end = from + strlen(from);
	size_t		used = 0;

	while (from < end && get_character(to, size, &used, &from, end))
		 /* the next one */ ;
	to[used] = '\0';
}

static char
unescaped(char c)
{
	return c == 't' ? '\t' : c == 'n' ? '\n' : c;
}

static void
get_text(char *to, size_t size, const char *at, const char *end)
{
	size_t		used = 0;

	while (at < end)
	{
		bool		escaped = *at == '\\' && at + 1 < end;
		size_t		start = used;

		if (escaped)
			at++;
		if (!get_character(to, size, &used, &at, end))
			break;
		if (escaped)
			to[start] = unescaped(to[start]);
	}
	to[used] = '\0';
}

/* The number as far as there are digits, brought into the field's range. */
static int64_t
get_number(const Field *field, const char *at, const char *end)
{
	bool		negative = at < end && *at == '-';
	int64_t		number = 0;

	if (negative)
		at++;
	if (at == end || *at < '0' || *at > '9')
		return field->least;
	for (; at < end && *at >= '0' && *at <= '9'; at++)
	{
		int			digit = *at - '0';

		if (number > (INT64_MAX - digit) / 10)
			number = INT64_MAX;
		else
			number = number * 10 + digit;
	}
	if (negative)
		number = -number;
	return number < field->least ? field->least :
		number > field->most ? field->most : number;
}

static void
put_in(char *to, size_t size, int64_t number)
{
	if (size == sizeof(int64_t))
		*(int64_t *) to = number;
	else
		*(int *) to = (int) number;
}

static void
get_field(const Field *field, char *to, const char *at, const char *end)
{
	char		name[32];
	int			number;

	get_text(name, sizeof(name), at, end);
	switch (field->kind)
	{
		case FIELD_TEXT:
			get_text(to, field->size, at, end);
			break;
		case FIELD_NUMBER:
			put_in(to, field->size, get_number(field, at, end));
			break;
		case FIELD_BOOL:
			*(bool *) to = strcmp(name, "1") == 0;
			break;
		case FIELD_KIND:
			*(bool *) to = strcmp(name, "member") == 0;
			break;
		case FIELD_STATUS:
			number = path_status_of(name);
			*(PathStatus *) to = number >= 0 ? (PathStatus) number : PATH_UNKNOWN;
			break;
		case FIELD_PHASE:
			number = path_phase_of(name);
			*(PathPhase *) to = number >= 0 ? (PathPhase) number : PHASE_RESOLVE;
			break;
		case FIELD_CAUSE:
			number = name[0] == '\0' ? CAUSE_NONE : cause_of_name(name);
			*(Cause *) to = number >= 0 ? (Cause) number : CAUSE_OTHER;
			break;
	}
}

/* Which field it is, by its name or by its place; NULL if we do not know it. */
static const Field *
find_field(const Line *line, int place, const char **at, const char *end)
{
	const char *equals;

	if (!line->named)
		return place < line->n ? &line->field[place] : NULL;
	equals = memchr(*at, '=', (size_t) (end - *at));
	for (int i = 0; equals != NULL && i < line->n; i++)
	{
		size_t		length = (size_t) (equals - *at);

		if (strlen(line->field[i].name) == length &&
			memcmp(line->field[i].name, *at, length) == 0)
		{
			*at = equals + 1;
			return &line->field[i];
		}
	}
	return NULL;
}

/* What stands in a structure for which there is no line. */
static void
make_empty(const Line *line, char *to)
{
	memset(to, 0, line->size);
	for (int i = 0; i < line->n; i++)
		if (line->field[i].kind == FIELD_NUMBER)
			put_in(to + line->field[i].offset, line->field[i].size,
				   line->field[i].least);
}

/* The fields between the tag and the end of the line. */
static void
read_fields(const Line *line, char *to, const char *at, const char *end)
{
	for (int place = 0; at < end; place++)
	{
		const char *start = at + 1; /* behind a tab */
		const char *stop = memchr(start, '\t', (size_t) (end - start));
		const Field *field;

		if (stop == NULL)
			stop = end;
		field = find_field(line, place, &start, stop);
		if (field != NULL)
			get_field(field, to + field->offset, start, stop);
		at = stop;
	}
}

bool
line_next(const char **at, const Line *line, void *to)
{
	size_t		length = strlen(line->tag);
	const char *end;

	make_empty(line, to);
	while ((end = strchr(*at, '\n')) != NULL)
	{
		const char *start = *at;

		*at = end + 1;
		if (strncmp(start, line->tag, length) == 0 &&
			(start[length] == '\t' || start[length] == '\n'))
		{
			read_fields(line, to, start + length, end);
			return true;
		}
	}
	*at += strlen(*at);
	return false;
}
