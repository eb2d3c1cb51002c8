/*
 * remedy_text.c
 *		Text in which names are quoted as the reader needs it.
 *
 * See remedy_text.h.  Must never do I/O or depend on the server.
 */
#include "remedy_text.h"

#include <stdio.h>
#include <string.h>

void
text_begin(Text *text, char *buffer, size_t size)
{
	text->buffer = buffer;
	text->size = size;
	text->used = 0;
	text->failed = false;
	buffer[0] = '\0';
}

static void
add_char(Text *text, char c)
{
	if (text->used + 1 >= text->size)
	{
		text->failed = true;
		return;
	}
	text->buffer[text->used++] = c;
	text->buffer[text->used] = '\0';
}

static void
add_string(Text *text, const char *string)
{
	for (; *string != '\0'; string++)
		add_char(text, *string);
}

/* Add a string, and before each of "marked" what stands for a mark. */
static void
add_marked(Text *text, const char *string, const char *marked, char mark)
{
	for (; *string != '\0'; string++)
	{
		if (strchr(marked, *string) != NULL)
			add_char(text, mark != '\0' ? mark : *string);
		add_char(text, *string);
	}
}

/* Of ASCII, whatever the locale says. */
static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool
is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Is it made of letters, digits and these alone? */
static bool
is_plain(const char *string, const char *others)
{
	if (*string == '\0')
		return false;
	for (; *string != '\0'; string++)
		if (!is_letter(*string) && !is_digit(*string) &&
			strchr(others, *string) == NULL)
			return false;
	return true;
}

static bool
has_control(const char *string)
{
	for (; *string != '\0'; string++)
		if ((unsigned char) *string < ' ' || *string == 0x7F)
			return true;
	return false;
}

/* ------------------------------------------------------------------------
 * Quoting
 * ------------------------------------------------------------------------
 */

static void
add_identifier(Text *text, const char *name)
{
	/* there is no such thing; and psql's own commands end with the line, quoted or not */
	if (*name == '\0' || has_control(name))
		text->failed = true;
	add_char(text, '"');
	add_marked(text, name, "\"", '\0');
	add_char(text, '"');
}

/* As the server's quote_literal(): right with any standard_conforming_strings. */
static void
add_literal(Text *text, const char *value)
{
	if (strchr(value, '\\') != NULL)
		add_char(text, 'E');
	add_char(text, '\'');
	add_marked(text, value, "'\\", '\0');
	add_char(text, '\'');
}

/*
 * No quotes keep a command from taking for an option what begins like one; and what
 * is meant to be one line should not be pasted as two.
 */
static void
add_word(Text *text, const char *word)
{
	if (*word == '-' || has_control(word))
		text->failed = true;
	if (is_plain(word, "_./:@%+=,-"))
	{
		add_string(text, word);
		return;
	}
	add_char(text, '\'');
	for (; *word != '\0'; word++)
	{
		if (*word == '\'')
			add_string(text, "'\\'");
		add_char(text, *word);
	}
	add_char(text, '\'');
}

/*
 * A name that means itself, and no keyword, group or file.  What begins with a slash
 * is a regular expression from 16 on, quoted or not; and a line is a line.
 */
static void
add_hba_name(Text *text, const char *name)
{
	static const char *const keywords[] = {
		"all", "sameuser", "samerole", "samegroup", "replication", NULL
	};
	bool		plain = is_plain(name, "_-.");

	if (*name == '\0' || *name == '/' || has_control(name))
		text->failed = true;
	for (int i = 0; keywords[i] != NULL; i++)
		plain = plain && strcmp(name, keywords[i]) != 0;
	if (plain)
	{
		add_string(text, name);
		return;
	}
	add_char(text, '"');
	add_marked(text, name, "\"", '\0');
	add_char(text, '"');
}

static void
add_conninfo_value(Text *text, const char *value)
{
	if (is_plain(value, "_./:@%+,-"))
	{
		add_string(text, value);
		return;
	}
	add_char(text, '\'');
	add_marked(text, value, "'\\", '\\');
	add_char(text, '\'');
}

static void
add_passfile_field(Text *text, const char *field)
{
	if (has_control(field))
		text->failed = true;
	add_marked(text, field, ":\\", '\\');
}

/* ------------------------------------------------------------------------
 * Formats
 * ------------------------------------------------------------------------
 */

static void
add_quoted(Text *text, char how, const char *string)
{
	switch (how)
	{
		case 'I':
			add_identifier(text, string);
			break;
		case 'L':
			add_literal(text, string);
			break;
		case 'S':
			add_word(text, string);
			break;
		case 'H':
			add_hba_name(text, string);
			break;
		case 'C':
			add_conninfo_value(text, string);
			break;
		case 'P':
			add_passfile_field(text, string);
			break;
		default:
			add_string(text, string);
	}
}

void
text_add_va(Text *text, const char *format, va_list arguments)
{
	char		number[16];

	for (; *format != '\0'; format++)
	{
		if (*format != '%')
		{
			add_char(text, *format);
			continue;
		}
		format++;
		if (*format == '%')
			add_char(text, '%');
		else if (*format == 'd')
		{
			snprintf(number, sizeof(number), "%d", va_arg(arguments, int));
			add_string(text, number);
		}
		else
			add_quoted(text, *format, va_arg(arguments, const char *));
	}
}

void
text_add(Text *text, const char *format,...)
{
	va_list		arguments;

	va_start(arguments, format);
	text_add_va(text, format, arguments);
	va_end(arguments);
}

/* ------------------------------------------------------------------------
 * Addresses
 * ------------------------------------------------------------------------
 */

/* Four numbers and three dots; what a report says may be anything. */
static bool
is_ipv4(const char *address)
{
	int			numbers = 0;

	for (;;)
	{
		int			value = 0;
		int			digits = 0;

		for (; is_digit(*address); address++, digits++)
			if (digits < 4)
				value = value * 10 + (*address - '0');
		if (digits < 1 || digits > 3 || value > 255)
			return false;
		numbers++;
		if (*address != '.')
			return *address == '\0' && numbers == 4;
		address++;
	}
}

/* Good enough to tell it from a name, and from what would mean something else. */
static bool
is_ipv6(const char *address)
{
	size_t		length = strspn(address, "0123456789abcdefABCDEF:.");
	const char *colon = strchr(address, ':');

	return length >= 2 && length <= 45 && address[length] == '\0' &&
		colon != NULL && strchr(colon + 1, ':') != NULL;
}

int
text_address_family(const char *address)
{
	return is_ipv4(address) ? 4 : is_ipv6(address) ? 6 : 0;
}
