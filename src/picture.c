/*
 * picture.c
 *		The group as a picture: the whole, its colours, and its heading.
 *
 * It is drawn twice: the first time without writing, to know how high it becomes.
 *
 * See picture.h.  Must never do I/O or depend on the server.
 */
#include "picture_parts.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define WIDTH_MIN			960
#define STALE_MS			30000
#define NAMED_MAX			5	/* broken paths that the description names */

/* ------------------------------------------------------------------------
 * Counting
 * ------------------------------------------------------------------------
 */

/* Is it a path from a node to another that is drawn? */
bool
picture_counts(const Drawing *drawing, const PicturePath *path)
{
	return path->source >= 0 && path->source < drawing->n &&
		path->target >= 0 && path->target < drawing->n &&
		path->source != path->target &&
		!drawing->picture->node[path->source].member;
}

/* Is what this node says of its paths true now? */
bool
picture_fresh(const Drawing *drawing, int node)
{
	int64_t		age_ms = drawing->picture->node[node].age_ms;
	int64_t		stale_ms = drawing->picture->stale_ms;

	return age_ms >= 0 && age_ms < (stale_ms > 0 ? stale_ms : STALE_MS);
}

static void
count_path(Drawing *drawing, const PicturePath *path)
{
	bool		broken = path->status == PATH_UNREACHABLE;
	Tally	   *tally[] = {
		&drawing->all, &drawing->out[path->source], &drawing->in[path->target]
	};

	if (path->status == PATH_UNKNOWN)
		return;
	if (!picture_fresh(drawing, path->source))
	{
		drawing->outdated += broken;
		return;
	}
	for (int i = 0; i < 3; i++)
	{
		tally[i]->known++;
		tally[i]->broken += broken;
	}
	drawing->flapping += path->status == PATH_FLAPPING;
	drawing->degraded += path->status == PATH_DEGRADED;
}

/* Is it most of the paths there are, and too many for a line each? */
static bool
is_most(int broken, int known)
{
	return broken > WIRES_AT_NODE && 2 * broken > known;
}

static bool
is_broken_now(const Drawing *drawing, const PicturePath *path)
{
	return picture_counts(drawing, path) && path->status == PATH_UNREACHABLE &&
		picture_fresh(drawing, path->source);
}

/*
 * One node in trouble breaks a path of every other node.  Most of the paths to it,
 * or else most of those from it, are broken: then those are its own, and nobody
 * else's.
 */
static void
blame(Drawing *drawing)
{
	const Picture *picture = drawing->picture;
	Tally	   *in = drawing->in;
	Tally	   *out = drawing->out;
	int			culprits = 0;

	for (int i = 0; i < drawing->n; i++)
	{
		in[i].culprit = is_most(in[i].broken, in[i].known);
		culprits += in[i].culprit;
	}
	for (int i = 0; i < picture->npaths; i++)
		if (is_broken_now(drawing, &picture->path[i]) &&
			!in[picture->path[i].target].culprit)
			out[picture->path[i].source].own++;
	for (int i = 0; i < drawing->n; i++)
		out[i].culprit = is_most(out[i].own, out[i].known - culprits);
	for (int i = 0; i < picture->npaths; i++)
		if (is_broken_now(drawing, &picture->path[i]) &&
			(in[picture->path[i].target].culprit ||
			 !out[picture->path[i].source].culprit))
			in[picture->path[i].target].own++;
}

static void
count_all(Drawing *drawing)
{
	const Picture *picture = drawing->picture;

	drawing->n = picture->nnodes < PICTURE_MAX ? picture->nnodes : PICTURE_MAX;
	for (int i = 0; i < drawing->n; i++)
		drawing->nodes += !picture->node[i].member;
	for (int i = 0; i < picture->npaths; i++)
		if (picture_counts(drawing, &picture->path[i]))
			count_path(drawing, &picture->path[i]);
	blame(drawing);
}

static int
holder_of(const Drawing *drawing)
{
	for (int i = 0; i < drawing->n; i++)
		if (drawing->picture->node[i].holder)
			return i;
	return -1;
}

static bool
is_empty(const char *text)
{
	return text == NULL || text[0] == '\0';
}

/* ------------------------------------------------------------------------
 * Colours and symbols
 * ------------------------------------------------------------------------
 */

/* Each look has a colour for symbol and text, or a ground and its edge. */
static const struct
{
	const char *selector;
	const char *light;
	const char *dark;
}			looks[] = {
	{".lh .tx", "color:#1c2530", "color:#e7ebf0"},
	{".lh .mu", "color:#556070", "color:#a5b0bd"},
	{".lh .ok", "color:#17703f", "color:#74cf98"},
	{".lh .wn", "color:#7f4f00", "color:#f0c25a"},
	{".lh .bd", "color:#b3231b", "color:#ff9a90"},
	{".lh .on", "color:#ffffff", "color:#ffffff"},
	{".lh .page", "fill:#f6f7f9", "fill:#14181d"},
	{".lh .card", "fill:#ffffff;stroke:#d3d9e0", "fill:#1d232a;stroke:#38424d"},
	{".lh .dead", "stroke:#b3231b", "stroke:#ff9a90"},
	{".lh .strip", "fill:#edf0f3", "fill:#272f38"},
	{".lh .holder", "fill:#1f5aa8", "fill:#2a63b0"},
	{".lh .self", "fill:#e3e7ec", "fill:#2b343e"},
	{".lh .aged", "fill:#f0f2f4", "fill:#20262d"},
	{".lh .stripe", "stroke:#d9dee4", "stroke:#313b45"},
	{".lh .ground.bd,.lh .pill.bd", "fill:#fde9e7;stroke:#e3a39e", "fill:#43201f;stroke:#8d4a45"},
	{".lh .ground.wn,.lh .pill.wn", "fill:#fdf1d8;stroke:#dcc08a", "fill:#392d13;stroke:#7d6531"},
	{".lh .under.wire", "stroke:#f6f7f9", "stroke:#14181d"},
	{".lh .rule", "stroke:#dde2e7", "stroke:#313a44"}
};

/* What is the same in any light. */
static const char style[] =
"svg.lh{max-width:100%;height:auto}"
".lh text{font-family:system-ui,-apple-system,\"Segoe UI\",Roboto,\"Helvetica Neue\",Arial,"
"\"DejaVu Sans\",sans-serif;font-weight:400;letter-spacing:0;word-spacing:0;"
"fill:currentColor;white-space:pre}"
".lh text.b{font-weight:700}"
".lh text.c{text-anchor:middle}"
".lh text.e{text-anchor:end}"
".lh .card.dead{stroke-dasharray:5 4}"
".lh .wire{fill:none;stroke:currentColor;stroke-width:2;stroke-dasharray:6 4}"
".lh .under.wire{stroke-width:8;stroke-dasharray:none}"
".lh .tip{fill:currentColor}"
".lh .rule{fill:none}"
".lh .hatch{fill:url(#lh-hatch)}";

/*
 * Symbols of twelve by twelve around 0, 0.  They are copied to where they are used,
 * and no rule that begins with ".lh" reaches there: hence attributes.
 */
#define LINE " fill=\"none\" stroke=\"currentColor\" stroke-linecap=\"round\" " \
"stroke-linejoin=\"round\" stroke-width="
static const char symbols[] =
"<pattern id=\"lh-hatch\" width=\"8\" height=\"8\" patternUnits=\"userSpaceOnUse\">"
"<path class=\"stripe\" d=\"M-2 2L2-2M0 8L8 0M6 10L10 6\"/></pattern>"
"<circle id=\"lh-ok\" fill=\"currentColor\" r=\"3\"/>"
"<path id=\"lh-slow\"" LINE "\"1.5\" d=\"M0-4.5L5 4H-5zM0-1V1\"/>"
"<path id=\"lh-flap\"" LINE "\"2\" d=\"M-5 2.5L-2-2.5L2 2.5L5-2.5\"/>"
"<path id=\"lh-bad\"" LINE "\"2\" d=\"M-3.5-3.5L3.5 3.5M3.5-3.5L-3.5 3.5\"/>"
"<circle id=\"lh-none\"" LINE "\"1.5\" r=\"2.5\"/>"
"<path id=\"lh-old\"" LINE "\"1.5\" d=\"M5 0A5 5 0 1 1-5 0A5 5 0 1 1 5 0M0-2.5V0L2 1.5\"/>"
"<path id=\"lh-key\"" LINE "\"1.8\" d=\"M0 0A2.7 2.7 0 1 1-5.4 0A2.7 2.7 0 1 1 0 0H6V2.5M3 0V2\"/>"
"<path id=\"lh-store\"" LINE "\"1.5\" d=\"M-4-3A4 1.8 0 1 1 4-3A4 1.8 0 1 1-4-3V3"
"A4 1.8 0 0 0 4 3V-3M-4 0A4 1.8 0 0 0 4 0\"/>"
"<path id=\"lh-to\"" LINE "\"1.5\" d=\"M-6 0H6M3-3L6 0L3 3\"/>";

static void
draw_style(Drawing *drawing)
{
	int			n = sizeof(looks) / sizeof(looks[0]);

	picture_put(drawing, "<style>");
	for (int size = 10; size <= 16; size++)
		picture_put(drawing, ".lh text.s%d{font-size:%dpx}", size, size);
	drawing->write(drawing->arg, style);
	for (int i = 0; i < n; i++)
		picture_put(drawing, "%s{%s}", looks[i].selector, looks[i].light);
	picture_put(drawing, "@media (prefers-color-scheme:dark){");
	for (int i = 0; i < n; i++)
		picture_put(drawing, "%s{%s}", looks[i].selector, looks[i].dark);
	picture_put(drawing, "}</style>\n<defs>");
	drawing->write(drawing->arg, symbols);
	picture_put(drawing, "</defs>\n");
}

/* ------------------------------------------------------------------------
 * The heading
 * ------------------------------------------------------------------------
 */

/* The state of all paths, in few words: the worst of what there is. */
static const char *
verdict(const Drawing *drawing, PathStatus *worst, Words words)
{
	int			known = drawing->all.known;
	int			n = 0;
	const char *what = "";

	*worst = PATH_UNKNOWN;
	if (known == 0)
		return "none tried";
	*worst = PATH_OK;
	if ((n = drawing->all.broken) > 0)
	{
		*worst = PATH_UNREACHABLE;
		what = "broken";
	}
	else if ((n = drawing->flapping) > 0)
	{
		*worst = PATH_FLAPPING;
		what = "flapping";
	}
	else if ((n = drawing->degraded) > 0)
	{
		*worst = PATH_DEGRADED;
		what = "slow";
	}
	if (n == 0)
		snprintf(words, sizeof(Words), "all %d stand", known);
	else
		snprintf(words, sizeof(Words), "%d of %d %s", n, known, what);
	return words;
}

/* One fact of the heading: its name, and what it is. */
static void
draw_fact(Drawing *drawing, int x, int width, int box, const char *name,
		  const char *symbol, const char *look, const char *fact)
{
	Text		line = {
		.x = x, .y = drawing->y + 24, .room = width, .size = 11, .look = "mu",
		.box = box
	};

	picture_text(drawing, &line, name);
	line.y += 25;
	line.size = 16;
	line.bold = true;
	line.name = symbol == NULL || look[0] == 't';
	line.look = look;
	if (symbol != NULL)
	{
		picture_mark(drawing, symbol, look, x + 6, line.y - 6, box);
		line.x += 18;
		line.room -= 18;
	}
	picture_text(drawing, &line, fact);
}

static void
draw_heading(Drawing *drawing)
{
	static const int edge[] = {0, 15, 36, 45, 74, 100};	/* hundredths of the width */
	const Picture *picture = drawing->picture;
	int			holder = holder_of(drawing);
	bool		leased = !is_empty(picture->lease);
	Words		epoch;
	Words		words;
	PathStatus	worst;
	const char *paths = verdict(drawing, &worst, words);
	int			x[6];
	int			box = picture_box(drawing, "card", PICTURE_MARGIN, drawing->y,
								  drawing->width, 66, 8);

	snprintf(epoch, sizeof(epoch), "%" PRId64, picture->epoch);
	for (int i = 0; i < 6; i++)
	{
		x[i] = PICTURE_MARGIN + drawing->width * edge[i] / 100 + 16;
		if (i > 0 && i < 5)
			picture_put(drawing, "<path class=\"rule\" d=\"M%d %dv42\"/>", x[i] - 16,
						drawing->y + 12);
	}
	draw_fact(drawing, x[0], x[1] - x[0] - 24, box, "Lease", NULL, "tx",
			  leased ? picture->lease : "none");
	if (holder >= 0)
		draw_fact(drawing, x[1], x[2] - x[1] - 24, box, "Holder", "key", "tx",
				  words_name(&picture->node[holder]));
	else
		draw_fact(drawing, x[1], x[2] - x[1] - 24, box, "Holder", leased ? "bad" : NULL,
				  leased ? "bd" : "tx", "nobody");
	draw_fact(drawing, x[2], x[3] - x[2] - 24, box, "Epoch", NULL, "tx",
			  leased ? epoch : "none");
	draw_fact(drawing, x[3], x[4] - x[3] - 24, box, "Store", NULL, "tx",
			  is_empty(picture->store) ? "none" : picture->store);
	draw_fact(drawing, x[4], x[5] - x[4] - 24, box, "Paths",
			  status_symbol(worst), status_look(worst), paths);
	drawing->y += 66;
}

/* ------------------------------------------------------------------------
 * For those who do not see it
 * ------------------------------------------------------------------------
 */

static void
describe_broken(Drawing *drawing)
{
	const Picture *picture = drawing->picture;
	char		words[160];
	int			named = 0;

	for (int i = 0; i < picture->npaths && named < NAMED_MAX; i++)
	{
		const PicturePath *path = &picture->path[i];

		if (!picture_counts(drawing, path) || path->status != PATH_UNREACHABLE ||
			!picture_fresh(drawing, path->source))
			continue;
		picture_put(drawing, "%s", named++ == 0 ? " Broken: " : "; ");
		picture_escape(drawing, words_name(&picture->node[path->source]));
		picture_put(drawing, " to ");
		picture_escape(drawing, words_name(&picture->node[path->target]));
		picture_put(drawing, " (");
		picture_escape(drawing, words_path(path, words, sizeof(words)));
		picture_put(drawing, ")");
	}
	if (named > 0)
		picture_put(drawing, drawing->all.broken > named ? "; and %d more." : ".",
					drawing->all.broken - named);
}

static void
describe(Drawing *drawing)
{
	const Picture *picture = drawing->picture;
	int			holder = holder_of(drawing);
	PathStatus	worst;
	Words		words;

	picture_put(drawing, "<title>Lease ");
	picture_escape(drawing, is_empty(picture->lease) ? "none" : picture->lease);
	picture_put(drawing, ", held by ");
	picture_escape(drawing, holder < 0 ? "nobody" : words_name(&picture->node[holder]));
	picture_put(drawing, ", epoch %" PRId64 "</title>\n<desc>%d nodes, %d members of the "
				"store. Store: ", picture->epoch, drawing->nodes,
				drawing->n - drawing->nodes);
	picture_escape(drawing, is_empty(picture->store) ? "none" : picture->store);
	picture_put(drawing, ". Paths: %s.", verdict(drawing, &worst, words));
	describe_broken(drawing);
	picture_put(drawing, "</desc>\n");
}

/* ------------------------------------------------------------------------
 * The whole
 * ------------------------------------------------------------------------
 */

static void
draw_body(Drawing *drawing)
{
	int			left_out = drawing->picture->nnodes - drawing->n;
	Words		words;

	drawing->boxes = 0;
	drawing->y = PICTURE_MARGIN;
	draw_heading(drawing);
	draw_topology(drawing);
	if (left_out > 0)
	{
		Text		line = {
			.x = PICTURE_MARGIN, .y = drawing->y + 22, .room = drawing->width,
			.size = 11, .look = "mu"
		};

		snprintf(words, sizeof(words), "%d more are not drawn", left_out);
		picture_text(drawing, &line, words);
		drawing->y += 24;
	}
	draw_list(drawing);
	draw_matrix(drawing);
	draw_legend(drawing);
	drawing->y += PICTURE_MARGIN;
}

void
picture_draw(const Picture *picture, PictureOut out, void *arg)
{
	Drawing		drawing = {.picture = picture, .arg = arg, .width = WIDTH_MIN};
	int			width;
	int			height;

	count_all(&drawing);
	if (topology_width(&drawing) > drawing.width)
		drawing.width = topology_width(&drawing);
	if (matrix_width(&drawing) > drawing.width)
		drawing.width = matrix_width(&drawing);
	draw_body(&drawing);
	width = drawing.width + 2 * PICTURE_MARGIN;
	height = drawing.y;

	drawing.write = out;
	picture_put(&drawing, "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"lh\" role=\"img\" "
				"width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\">\n", width, height, width,
				height);
	describe(&drawing);
	draw_style(&drawing);
	picture_put(&drawing, "<rect class=\"page\" width=\"%d\" height=\"%d\" data-box=\"0\"/>\n",
				width, height);
	draw_body(&drawing);
	picture_put(&drawing, "</svg>\n");
}
