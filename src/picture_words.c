/*
 * picture_words.c
 *		What the picture says in words and symbols.
 *
 * See picture.h.  Must never do I/O or depend on the server.
 */
#include "picture_parts.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/*
 * words_bytes
 *		In whole numbers, and tenths only where there is one digit before them; never
 *		by floating point, whose decimal point depends on the locale.
 */
const char *
words_bytes(int64_t bytes, Words words)
{
	static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
	int			unit = 0;
	int64_t		tenths = 0;

	for (; bytes >= 1024; bytes /= 1024)
	{
		tenths = bytes % 1024 * 10 / 1024;
		unit++;
	}
	if (unit > 0 && bytes < 10)
		snprintf(words, sizeof(Words), "%" PRId64 ".%" PRId64 " %s", bytes, tenths,
				 units[unit]);
	else
		snprintf(words, sizeof(Words), "%" PRId64 " %s", bytes, units[unit]);
	return words;
}

const char *
words_age(int64_t ms, Words words)
{
	static const struct
	{
		int64_t		ms;
		const char *unit;
	}			scale[] = {
		{INT64_C(86400000) * 2, "d"}, {INT64_C(3600000) * 2, "h"},
		{INT64_C(60000) * 2, "min"}, {INT64_C(1000), "s"}
	};

	for (int i = 0; i < 4; i++)
		if (ms >= scale[i].ms)
		{
			int64_t		one = i == 3 ? scale[i].ms : scale[i].ms / 2;

			snprintf(words, sizeof(Words), "%" PRId64 " %s", ms / one, scale[i].unit);
			return words;
		}
	return strcpy(words, "0 s");
}

const char *
words_latency(int64_t us, Words words)
{
	if (us <= 0)
		words[0] = '\0';
	else if (us < 1000)
		snprintf(words, sizeof(Words), "0.%02d ms", us < 10 ? 1 : (int) us / 10);
	else if (us < 10000)
		snprintf(words, sizeof(Words), "%d.%d ms", (int) us / 1000,
				 (int) us / 100 % 10);
	else if (us < 10000000)
		snprintf(words, sizeof(Words), "%d ms", (int) us / 1000);
	else
		snprintf(words, sizeof(Words), "%" PRId64 " s", us / 1000000);
	return words;
}

const char *
words_name(const PictureNode *node)
{
	return node->name == NULL || node->name[0] == '\0' ? "(no name)" : node->name;
}

/* The longest name, within limits. */
int
names_width(const Drawing *drawing, int size, int least, int most)
{
	int			width = least;

	for (int i = 0; i < drawing->n; i++)
	{
		const char *name = words_name(&drawing->picture->node[i]);
		int			one = picture_width(name, size, true);

		if (one > width)
			width = one;
	}
	return width < most ? width : most;
}

static const char *
cause_of_path(const PicturePath *path)
{
	return path->cause == NULL ? "" : path->cause;
}

/* Where it ends and why: "connect: refused". */
const char *
words_path(const PicturePath *path, char *words, int size)
{
	const char *cause = cause_of_path(path);

	if (path->phase == PHASE_READY && cause[0] == '\0')
		snprintf(words, size, "%s", path_status_name(path->status));
	else
		snprintf(words, size, "%s%s%s", path_phase_name(path->phase),
				 cause[0] != '\0' ? ": " : "", cause);
	return words;
}

const char *
status_symbol(PathStatus status)
{
	switch (status)
	{
		case PATH_OK:
			return "ok";
		case PATH_DEGRADED:
			return "slow";
		case PATH_FLAPPING:
			return "flap";
		case PATH_UNREACHABLE:
			return "bad";
		case PATH_UNKNOWN:
			break;
	}
	return "none";
}

const char *
status_look(PathStatus status)
{
	switch (status)
	{
		case PATH_OK:
			return "ok";
		case PATH_DEGRADED:
		case PATH_FLAPPING:
			return "wn";
		case PATH_UNREACHABLE:
			return "bd";
		case PATH_UNKNOWN:
			break;
	}
	return "mu";
}

/* Do both fail in the same way? */
bool
same_failure(const PicturePath *a, const PicturePath *b)
{
	return a->status == b->status && a->phase == b->phase &&
		strcmp(cause_of_path(a), cause_of_path(b)) == 0;
}
