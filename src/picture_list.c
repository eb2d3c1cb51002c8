/*
 * picture_list.c
 *		The broken paths in words, and what the symbols mean.
 *
 * When many nodes fail to reach one in the same way, or one fails to reach many,
 * that is one entry: the list names causes, not pairs.
 *
 * See picture.h.  Must never do I/O or depend on the server.
 */
#include "picture_parts.h"

#include <stdio.h>

#define ENTRIES_MAX			20
#define ALIKE				3	/* so many paths are one entry */
#define ENTRY				24	/* height, without the error */

typedef enum Bundle
{
	BUNDLE_NONE,
	BUNDLE_SOURCES,				/* many do not reach one target */
	BUNDLE_TARGETS				/* one does not reach many */
} Bundle;

typedef struct Entry
{
	const PicturePath *path;	/* the first of them */
	Bundle		bundle;
	int			paths;			/* that it stands for */
} Entry;

/* ------------------------------------------------------------------------
 * What is in the list
 * ------------------------------------------------------------------------
 */

/* The list is in two passes: what is broken, then what flaps.  Old news is none. */
static int
pass_of(const Drawing *drawing, const PicturePath *path)
{
	if (!picture_counts(drawing, path) || !picture_fresh(drawing, path->source))
		return -1;
	if (path->status == PATH_UNREACHABLE)
		return 0;
	return path->status == PATH_FLAPPING ? 1 : -1;
}

static bool
is_alike(const Drawing *drawing, const PicturePath *a, const PicturePath *b)
{
	return same_failure(a, b) && pass_of(drawing, a) == pass_of(drawing, b);
}

/* How many do not reach this one's target in the same way; the first of them. */
static int
count_sources(const Drawing *drawing, const PicturePath *path,
			  const PicturePath **first)
{
	const Picture *picture = drawing->picture;
	int			n = 0;

	/* mostly so few are broken that there is no need to look */
	if (path->status == PATH_UNREACHABLE && drawing->in[path->target].broken < ALIKE)
		return 0;
	for (int i = 0; i < picture->npaths; i++)
	{
		const PicturePath *other = &picture->path[i];

		if (other->target == path->target && is_alike(drawing, other, path) && n++ == 0)
			*first = other;
	}
	return n;
}

/* How many this one's source does not reach in the same way, unless many do not. */
static int
count_targets(const Drawing *drawing, const PicturePath *path,
			  const PicturePath **first)
{
	const Picture *picture = drawing->picture;
	const PicturePath *ignored;
	int			n = 0;

	for (int i = 0; i < picture->npaths; i++)
	{
		const PicturePath *other = &picture->path[i];

		if (other->source == path->source && is_alike(drawing, other, path) &&
			count_sources(drawing, other, &ignored) < ALIKE && n++ == 0)
			*first = other;
	}
	return n;
}

/* The entry that this path belongs to: one, and no other. */
static Entry
entry_of(const Drawing *drawing, const PicturePath *path)
{
	Entry		entry = {path, BUNDLE_SOURCES, 0};

	entry.paths = count_sources(drawing, path, &entry.path);
	if (entry.paths >= ALIKE)
		return entry;
	entry.bundle = BUNDLE_TARGETS;
	entry.paths = count_targets(drawing, path, &entry.path);
	if (entry.paths >= ALIKE)
		return entry;
	return (Entry) {path, BUNDLE_NONE, 1};
}

/* ------------------------------------------------------------------------
 * How it is drawn
 * ------------------------------------------------------------------------
 */

/* One end of an entry: a name, and how many others. */
static void
draw_end(Drawing *drawing, const Text *at, int node, int others)
{
	Text		line = *at;
	Words		suffix;

	if (others > 0)
	{
		snprintf(suffix, sizeof(suffix), " and %d other%s", others,
				 others == 1 ? "" : "s");
		line.suffix = suffix;
	}
	picture_text(drawing, &line, words_name(&drawing->picture->node[node]));
}

static void
draw_entry(Drawing *drawing, const Entry *entry)
{
	const PicturePath *path = entry->path;
	const char *look = status_look(path->status);
	int			suffix = picture_width(" and 999 others", 12, true);
	int			column = names_width(drawing, 12, 0, 190) + suffix + 36;
	int			others = entry->paths - 1;
	char		words[160];
	Text		line = {
		.x = PICTURE_MARGIN + 20, .y = drawing->y + 16, .room = column - 36, .size = 12,
		.look = "tx", .bold = true, .name = true
	};

	picture_mark(drawing, status_symbol(path->status), look, PICTURE_MARGIN + 6,
				 line.y - 4, 0);
	draw_end(drawing, &line, path->source,
			 entry->bundle == BUNDLE_SOURCES ? others : 0);
	picture_mark(drawing, "to", "mu", line.x + column - 18, line.y - 4, 0);
	line.x += column;
	draw_end(drawing, &line, path->target,
			 entry->bundle == BUNDLE_TARGETS ? others : 0);
	line.x += column;
	line.room = PICTURE_MARGIN + drawing->width - line.x;
	line.look = look;
	line.name = false;
	picture_text(drawing, &line, words_path(path, words, sizeof(words)));
	drawing->y += ENTRY;
	if (path->error == NULL || path->error[0] == '\0')
		return;
	line.x = PICTURE_MARGIN + 20;
	line.y = drawing->y + 10;
	line.room = drawing->width - 20;
	line.size = 11;
	line.look = "mu";
	line.bold = false;
	picture_text(drawing, &line, path->error);
	drawing->y += 18;
}

/* One line that says what there is to say when nothing is broken, or what is left. */
static void
draw_sentence(Drawing *drawing, const char *symbol, const char *look,
			  const char *words)
{
	Text		line = {
		.x = PICTURE_MARGIN + 20, .y = drawing->y + 16, .room = drawing->width - 20,
		.size = 12, .look = look
	};

	if (symbol != NULL)
		picture_mark(drawing, symbol, look, PICTURE_MARGIN + 7, line.y - 4, 0);
	picture_text(drawing, &line, words);
	drawing->y += ENTRY;
}

/* What the entries do not say. */
static void
draw_rest(Drawing *drawing, int entries, int more)
{
	char		words[96];

	if (more > 0)
	{
		snprintf(words, sizeof(words), "and %d more", more);
		draw_sentence(drawing, NULL, "mu", words);
	}
	else if (entries == 0 && drawing->all.known > 0)
		draw_sentence(drawing, "ok", "ok", "None: every path that was tried stands.");
	else if (entries == 0)
		draw_sentence(drawing, "none", "mu", "No path has been tried of late.");
	if (drawing->outdated > 0)
	{
		snprintf(words, sizeof(words), "%d broken in reports that are old",
				 drawing->outdated);
		draw_sentence(drawing, "old", "mu", words);
	}
}

/*
 * draw_list
 *		A path is drawn with the entry that it is the first of.
 */
void
draw_list(Drawing *drawing)
{
	const Picture *picture = drawing->picture;
	int			entries = 0;
	int			left = 0;

	picture_section(drawing, "Broken paths", "");
	drawing->y -= 6;
	for (int pass = 0; pass < 2; pass++)
		for (int i = 0; i < picture->npaths; i++)
		{
			Entry		entry;

			if (pass_of(drawing, &picture->path[i]) != pass)
				continue;
			left++;
			if (entries == ENTRIES_MAX)
				continue;
			entry = entry_of(drawing, &picture->path[i]);
			if (entry.path != &picture->path[i])
				continue;
			draw_entry(drawing, &entry);
			entries++;
			left -= entry.paths;
		}
	draw_rest(drawing, entries, left);
	drawing->y -= 10;
}

/*
 * draw_legend
 */
void
draw_legend(Drawing *drawing)
{
	static const struct
	{
		const char *symbol;
		const char *look;
		const char *words;
	}			sign[] = {
		{"ok", "ok", "stands"},
		{"slow", "wn", "slower than usual"},
		{"flap", "wn", "comes and goes"},
		{"bad", "bd", "unreachable"},
		{"none", "mu", "not tried"},
		{"old", "tx", "old report"},
		{"key", "mu", "holds the lease"},
		{"store", "mu", "member of the store"}
	};
	int			right = PICTURE_MARGIN + drawing->width;
	Text		line = {
		.x = PICTURE_MARGIN, .y = drawing->y + 40, .size = 11, .look = "mu"
	};

	for (size_t i = 0; i < sizeof(sign) / sizeof(sign[0]); i++)
	{
		line.room = picture_width(sign[i].words, line.size, false);
		if (line.x + 18 + line.room > right)
		{
			line.x = PICTURE_MARGIN;
			line.y += 22;
		}
		picture_mark(drawing, sign[i].symbol, sign[i].look, line.x + 6, line.y - 4, 0);
		line.x += 18;
		picture_text(drawing, &line, sign[i].words);
		line.x += line.room + 12;
	}
	drawing->y = line.y;
}
