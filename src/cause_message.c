/*
 * cause_message.c
 *		What libpq's error message says, taken apart.
 *
 * See fault_of_message() in cause.h.  A message is one or more blocks, of lines:
 *
 *		connection to server at "h" (10.0.0.2), port 5432 failed: FATAL:  28000: words
 *		DETAIL:  more words
 *		LOCATION:  ClientAuthentication, auth.c:543
 *
 * Before SQLSTATE and in the labels, all words may be translated; SQLSTATE, routine
 * and the name of the source file never are.  Must never do I/O or depend on the
 * server.
 */
#include "cause.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cause_words.h"

#define SQLSTATE_LEN	5
#define ROUTINE_LEN		48
#define MESSAGE_LEN		256

/* How much a block explains; see cause.h. */
typedef enum Worth
{
	WORTH_NOTHING,				/* no block at all */
	WORTH_LIBPQ,
	WORTH_HBA,
	WORTH_TLS,
	WORTH_SERVER
} Worth;

typedef struct Line
{
	const char *begin;
	size_t		length;
} Line;

/* One attempt. */
typedef struct Block
{
	bool		any;
	bool		labelled;		/* the words are over, the fields have begun */
	bool		ended;			/* its last field has been read */
	Fault		fault;
} Block;

static bool
next_line(const char **at, Line *line)
{
	if (**at == '\0')
		return false;
	line->begin = *at;
	line->length = strcspn(*at, "\n");
	*at += line->length;
	if (**at == '\n')
		(*at)++;
	return true;
}

static void
copy(char *to, size_t size, const char *from, size_t length)
{
	if (length >= size)
		length = size - 1;
	memcpy(to, from, length);
	to[length] = '\0';
}

static bool
begins(const Line *line, const char *word)
{
	return line->length >= strlen(word) &&
		memcmp(line->begin, word, strlen(word)) == 0;
}

/* Append, and leave out what are no characters; what is too much is cut off. */
static void
append(char message[MESSAGE_LEN], const char *from, size_t length)
{
	size_t		used = strlen(message);

	for (; length > 0 && used < MESSAGE_LEN - 1; from++, length--)
		message[used++] = (unsigned char) *from < ' ' || *from == 0x7F ? ' ' : *from;
	/* not within a character of UTF-8 */
	if (length > 0)
		while (used > 0 && ((unsigned char) message[used - 1] & 0xC0) == 0x80)
			used--;
	if (length > 0 && used > 0 && (unsigned char) message[used - 1] >= 0xC0)
		used--;
	message[used] = '\0';
}

/* ------------------------------------------------------------------------
 * Lines
 * ------------------------------------------------------------------------
 */

/* "FATAL:  28000: words": where SQLSTATE stands, or NULL. */
static const char *
find_sqlstate(const Line *line)
{
	const char *end = line->begin + line->length;

	for (const char *at = line->begin; end - at >= 3 + SQLSTATE_LEN + 1; at++)
	{
		size_t		n = 0;

		if (memcmp(at, ":  ", 3) != 0)
			continue;
		while (n < SQLSTATE_LEN && ((at[3 + n] >= '0' && at[3 + n] <= '9') ||
									(at[3 + n] >= 'A' && at[3 + n] <= 'Z')))
			n++;
		if (n == SQLSTATE_LEN && at[3 + n] == ':')
			return at + 3;
	}
	return NULL;
}

/* "LOCATION:  routine, file.c:543": the routine. */
static bool
find_routine(const Line *line, char routine[ROUTINE_LEN])
{
	char		text[256];
	char		name[ROUTINE_LEN];
	const char *colon;
	int			n = 0;

	if (line->length >= sizeof(text))
		return false;
	copy(text, sizeof(text), line->begin, line->length);
	colon = strchr(text, ':');
	if (colon == NULL ||
		sscanf(colon + 1, " %47[A-Za-z0-9_], %*[A-Za-z0-9_-].%*[a-z]:%*[0-9]%n",
			   name, &n) != 1 || colon[1 + n] != '\0')
		return false;
	memcpy(routine, name, ROUTINE_LEN);
	return true;
}

/* Does another attempt begin here? */
static bool
begins_block(const Line *line, const Block *block)
{
	return !block->any || block->ended || find_sqlstate(line) != NULL ||
		begins(line, "connection to server ") ||
		begins(line, "could not translate host name ");
}

/* ------------------------------------------------------------------------
 * Libpq's own words
 * ------------------------------------------------------------------------
 */

/*
 * A connection string that cannot be parsed: the part that libpq stumbled over may
 * be one of a password.
 */
static void
hide_values(char *message)
{
	char	   *first = strchr(message, '"');
	char	   *last = strrchr(message, '"');

	if (first == NULL || last - first < 5)
	{
		if (first != NULL && first != last)
			memmove(first + 1, last, strlen(last) + 1);
		return;
	}
	memcpy(first + 1, "...", 3);
	memmove(first + 4, last, strlen(last) + 1);
}

/* password=..., and what stands between colon and at sign of a URI. */
static void
hide_password(char *message)
{
	static const char word[] = "password=";
	char	   *at = message;

	while ((at = strstr(at, word)) != NULL)
	{
		size_t		length;

		at += sizeof(word) - 1;
		length = *at == '\'' ? strlen(at) : strcspn(at, " &\"");
		memmove(at, at + length, strlen(at + length) + 1);
	}
	at = strstr(message, "://");
	if (at != NULL)
	{
		char	   *colon = strchr(at + 3, ':');
		char	   *sign = strrchr(at, '@');

		if (colon != NULL && sign != NULL && colon < sign)
			memmove(colon + 1, sign, strlen(sign) + 1);
	}
}

/* The error of a system call, if its text is all that was said. */
static int
error_of(const char *message)
{
	static const int errors[] = {
		ECONNREFUSED, ETIMEDOUT, EHOSTUNREACH, ENETUNREACH, EHOSTDOWN, ENETDOWN,
		EACCES, EPERM, EADDRNOTAVAIL, EINVAL, ENOENT, ENOTDIR, ECONNRESET, EPIPE
	};
	static const char *const calls[] = {
		"could not receive data from server: ",
		"could not send startup packet: ",
		"could not send SSL negotiation packet: ",
		NULL
	};

	for (int i = 0; calls[i] != NULL; i++)
		if (strncmp(message, calls[i], strlen(calls[i])) == 0)
			message += strlen(calls[i]);
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
		if (strcmp(message, strerror(errors[i])) == 0)
			return errors[i];
	return 0;
}

static void
begin_libpq(Fault *fault, const Line *line)
{
	static const char failed[] = " failed: ";
	const char *words = line->begin;
	size_t		length = line->length;
	char		whole[1024];

	if (begins(line, "connection to server "))
	{
		char	   *end;

		copy(whole, sizeof(whole), line->begin, line->length);
		end = strstr(whole, failed);
		if (end != NULL)
		{
			words += (end - whole) + sizeof(failed) - 1;
			length -= (size_t) (end - whole) + sizeof(failed) - 1;
		}
	}
	/* whole at first: what is to be hidden may begin before the end */
	copy(whole, sizeof(whole), words, length);
	if (words_bad_address(whole))
		hide_values(whole);
	hide_password(whole);
	append(fault->message, whole, strlen(whole));
	fault->error = error_of(fault->message);
}

/* ------------------------------------------------------------------------
 * Blocks
 * ------------------------------------------------------------------------
 */

static void
begin_block(Block *block, const Line *line)
{
	const char *sqlstate = find_sqlstate(line);
	const char *words;

	memset(block, 0, sizeof(*block));
	block->any = true;
	if (sqlstate == NULL)
	{
		begin_libpq(&block->fault, line);
		return;
	}
	words = sqlstate + SQLSTATE_LEN + 1;
	if (words < line->begin + line->length && *words == ' ')
		words++;
	block->fault.by_server = true;
	copy(block->fault.sqlstate, sizeof(block->fault.sqlstate), sqlstate,
		 SQLSTATE_LEN);
	append(block->fault.message, words,
		   (size_t) (line->begin + line->length - words));
}

static void
append_words(char message[MESSAGE_LEN], const char *before, const Line *line,
			 size_t skip, const char *after)
{
	append(message, before, strlen(before));
	append(message, line->begin + skip, line->length - skip);
	append(message, after, strlen(after));
}

/* A further line of the server's. */
static void
go_on(Block *block, const Line *line)
{
	static const char detail[] = "DETAIL:  ";

	if (!block->fault.by_server)
		return;
	if (find_routine(line, block->fault.routine))
		block->ended = true;
	else if (begins(line, detail))
		append_words(block->fault.message, " (", line, sizeof(detail) - 1, ")");
	else if (!block->labelled && memchr(line->begin, ':', line->length) == NULL)
		append_words(block->fault.message, " ", line, 0, "");
	else
		block->labelled = true;
}

static Worth
worth_of(const Block *block)
{
	const Fault *fault = &block->fault;

	if (!block->any)
		return WORTH_NOTHING;
	if (!fault->by_server)
		return fault->error == 0 && fault->message[0] != '\0' ? WORTH_TLS :
			WORTH_LIBPQ;
	if (strcmp(fault->sqlstate, "28000") == 0 &&
		strcmp(fault->routine, "ClientAuthentication") == 0 &&
		words_hba(fault->message))
		return WORTH_HBA;
	return WORTH_SERVER;
}

void
fault_of_message(Fault *fault, const char *text)
{
	Block		best = {0};
	Block		block = {0};
	Line		line;
	int			error = fault->error;

	while (next_line(&text, &line))
	{
		if (line.length == 0)
			continue;
		if (begins_block(&line, &block))
		{
			if (worth_of(&block) >= worth_of(&best))
				best = block;
			begin_block(&block, &line);
		}
		else
			go_on(&block, &line);
	}
	if (worth_of(&block) >= worth_of(&best))
		best = block;

	fault->by_server = best.fault.by_server;
	fault->error = error != 0 ? error : best.fault.error;
	memcpy(fault->sqlstate, best.fault.sqlstate, sizeof(fault->sqlstate));
	memcpy(fault->routine, best.fault.routine, sizeof(fault->routine));
	memcpy(fault->message, best.fault.message, sizeof(fault->message));
}
