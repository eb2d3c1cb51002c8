/*
 * picture_cards.c
 *		The topology: a card for every node and member.
 *
 * A few nodes get large cards in one row, with the members in a second one; many
 * get small cards in a grid.
 *
 * See picture.h.  Must never do I/O or depend on the server.
 */
#include "picture_topology.h"

#include <inttypes.h>
#include <stdio.h>

#define LARGE_MAX			5	/* large cards in a row */
#define LARGE_MIN_WIDTH		236
#define LARGE_MAX_WIDTH		300
#define SMALL_WIDTH			180
#define SMALL_MAX_WIDTH		220
#define STRIP				26	/* the head of a card */

static bool
is_large(const Drawing *drawing)
{
	return drawing->nodes <= LARGE_MAX && drawing->n - drawing->nodes <= LARGE_MAX;
}

/*
 * topology_width
 *		What it needs to be legible.
 */
int
topology_width(const Drawing *drawing)
{
	int			most = drawing->n - drawing->nodes;

	if (drawing->nodes > most)
		most = drawing->nodes;
	if (!is_large(drawing))
		return 4 * (SMALL_WIDTH + PICTURE_GAP) - PICTURE_GAP;
	return most * (LARGE_MIN_WIDTH + PICTURE_GAP) - PICTURE_GAP;
}

/* ------------------------------------------------------------------------
 * Where the cards are
 * ------------------------------------------------------------------------
 */

/* Put the nodes, or the members, in rows; returns how many rows there are then. */
static int
place(const Drawing *drawing, Topology *topology, bool members, int columns,
	  int row)
{
	int			left = drawing->width - topology->width;
	int			gaps = columns > 1 ? columns - 1 : 1;
	int			k = 0;

	for (int i = 0; i < drawing->n; i++)
	{
		Card	   *card = &topology->card[i];

		if (drawing->picture->node[i].member != members)
			continue;
		/* the last one ends where everything ends */
		card->x = PICTURE_MARGIN + k % columns * left / gaps;
		card->row = row + k / columns;
		if (!topology->large)
			topology->height[card->row] = 80;
		else
			topology->height[card->row] = members ? 102 : 144;
		k++;
	}
	return k > 0 ? row + (k + columns - 1) / columns : row;
}

static void
place_all(const Drawing *drawing, Topology *topology)
{
	int			members = drawing->n - drawing->nodes;
	int			most = drawing->nodes > members ? drawing->nodes : members;
	int			columns = most;
	int			limit;

	topology->large = is_large(drawing);
	limit = topology->large ? LARGE_MAX_WIDTH : SMALL_MAX_WIDTH;
	if (!topology->large)
	{
		int			fit = (drawing->width + PICTURE_GAP) / (SMALL_WIDTH + PICTURE_GAP);
		int			rows = (most + fit - 1) / fit;

		columns = (most + rows - 1) / rows;
	}
	if (columns < 1)
		columns = 1;
	topology->width = (drawing->width + PICTURE_GAP) / columns - PICTURE_GAP;
	if (topology->width > limit)
		topology->width = limit;
	/* large cards: one row of each kind, however many of the other there are */
	topology->rows = place(drawing, topology, false, topology->large ?
						   drawing->nodes : columns, 0);
	topology->rows = place(drawing, topology, true, topology->large ?
						   members : columns, topology->rows);
}

/* The height of the gap below a row. */
static int
gap_height(const Topology *topology, int row)
{
	int			lanes = topology->lanes[row];

	if (lanes > 0)
		return lanes * LANE + 2 * PICTURE_GAP;
	return topology->large ? PICTURE_GAP : 16;
}

/* When it is known how many lanes each gap has. */
static void
place_rows(Drawing *drawing, Topology *topology)
{
	int			last = topology->rows - 1;

	for (int row = 0; row <= last; row++)
	{
		topology->top[row] = drawing->y;
		drawing->y += topology->height[row];
		if (row < last || topology->lanes[row] > 0)
			drawing->y += gap_height(topology, row);
	}
	for (int i = 0; i < drawing->n; i++)
		topology->card[i].y = topology->top[topology->card[i].row];
}

/* ------------------------------------------------------------------------
 * Cards
 * ------------------------------------------------------------------------
 */

/* A remark with a symbol; the symbol takes 16 of the room. */
static void
draw_remark(Drawing *drawing, const Text *at, const char *symbol, const char *look,
			const char *words)
{
	Text		line = *at;

	picture_mark(drawing, symbol, look, at->x + 5, at->y - at->size * 3 / 8, at->box);
	line.x += 16;
	line.room -= 16;
	line.look = look;
	picture_text(drawing, &line, words);
}

/* Red, or green, or neither: not all is well, and that is another node's fault. */
static const char *
tally_look(const Tally *tally)
{
	if (tally->own > 0)
		return status_look(PATH_UNREACHABLE);
	return status_look(tally->broken > 0 ? PATH_UNKNOWN : PATH_OK);
}

/* Who reaches this one. */
static void
draw_reached(Drawing *drawing, const Text *at, int node)
{
	const Tally *in = &drawing->in[node];
	Words		words;

	if (in->own > 0)
	{
		snprintf(words, sizeof(words), "unreachable from %d of %d", in->broken,
				 in->known);
		draw_remark(drawing, at, "bad", tally_look(in), words);
	}
	else if (in->known == 0)
		draw_remark(drawing, at, "none", "mu", "nobody has tried to reach it");
	else
	{
		snprintf(words, sizeof(words), "reached from %d of %d", in->known - in->broken,
				 in->known);
		draw_remark(drawing, at, "ok", tally_look(in), words);
	}
}

/* Whom it reaches: by its own word, if that is not old. */
static void
draw_reaches(Drawing *drawing, const Text *at, int node)
{
	const PictureNode *self = &drawing->picture->node[node];
	const Tally *out = &drawing->out[node];
	Words		age;
	char		words[96];

	if (self->age_ms < 0)
		draw_remark(drawing, at, "old", "mu", "has reported nothing");
	else if (!picture_fresh(drawing, node))
	{
		snprintf(words, sizeof(words), "last report %s old",
				 words_age(self->age_ms, age));
		draw_remark(drawing, at, "old", "mu", words);
	}
	else if (out->known == 0)
		draw_remark(drawing, at, "none", "mu", "has tried no path");
	else
	{
		snprintf(words, sizeof(words), "reaches %d of %d", out->known - out->broken,
				 out->known);
		draw_remark(drawing, at, out->own > 0 ? "bad" : "ok", tally_look(out), words);
	}
}

static const char *
role_words(const PictureNode *node)
{
	return node->role == NULL || node->role[0] == '\0' ? "role not known" : node->role;
}

/* How far behind; nobody is behind itself. */
static const char *
lag_words(const PictureNode *node, char *words, int size)
{
	Words		bytes;

	if (node->holder)
		return role_words(node);
	if (node->lag < 0)
		return "lag not known";
	if (node->lag == 0)
		return "up to date";
	snprintf(words, size, "%s behind", words_bytes(node->lag, bytes));
	return words;
}

/* What it is, in one line. */
static const char *
summary_words(const PictureNode *node, char *words, int size)
{
	char		lag[96];

	if (node->member)
		return "member of the store";
	if (node->holder)
		snprintf(words, size, "holds the lease, %s", role_words(node));
	else
		snprintf(words, size, "%s, %s", role_words(node),
				 lag_words(node, lag, sizeof(lag)));
	return words;
}

static const char *
alive_words(const PictureNode *node)
{
	if (node->member)
		return node->alive ? "answers" : "no answer";
	return node->alive ? "alive" : "no heartbeat";
}

/* All of it, also what did not fit, where a pointer rests on the card. */
static void
draw_tooltip(Drawing *drawing, const PictureNode *node)
{
	char		words[160];

	picture_put(drawing, "<title>");
	picture_escape(drawing, words_name(node));
	picture_put(drawing, ": ");
	picture_escape(drawing, summary_words(node, words, sizeof(words)));
	picture_put(drawing, ", %s; ", alive_words(node));
	picture_escape(drawing, node->address);
	picture_put(drawing, "</title>\n");
}

/* The head of a card: who holds stands out, in words and by its ground. */
static int
draw_strip(Drawing *drawing, const PictureNode *node, const Card *card, int width)
{
	const char *look = node->holder ? "holder" : "strip";
	int			box = picture_box(drawing, look, card->x + 1, card->y + 1, width - 2,
								  STRIP, 7);

	/* its lower corners are square */
	picture_put(drawing, "<rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"8\"/>\n",
				look, card->x + 1, card->y + STRIP - 7, width - 2);
	return box;
}

static void
draw_large_head(Drawing *drawing, const PictureNode *node, const Card *card,
				int width)
{
	const char *look = node->holder ? "on" : "mu";
	const char *alive = alive_words(node);
	int			taken = picture_width(alive, 10, false) + 16;
	Text		line = {
		.x = card->x + 12, .y = card->y + 18, .room = width - taken - 24,
		.size = 11, .look = look, .bold = node->holder
	};

	line.box = draw_strip(drawing, node, card, width);
	if (node->holder)
		draw_remark(drawing, &line, "key", look, "holds the lease");
	else if (node->member)
		draw_remark(drawing, &line, "store", look, "store");
	else
		picture_text(drawing, &line, role_words(node));
	line.x = card->x + width - taken - 8;
	line.room = taken;
	line.size = 10;
	line.bold = false;
	draw_remark(drawing, &line, node->alive ? "ok" : "bad",
				node->holder ? "on" : node->alive ? "ok" : "bd", alive);
}

static void
draw_large(Drawing *drawing, const Topology *topology, int node)
{
	const PictureNode *self = &drawing->picture->node[node];
	const Card *card = &topology->card[node];
	int			width = topology->width;
	Text		line = {
		.x = card->x + 12, .y = card->y + STRIP + 24, .room = width - 24, .size = 15,
		.look = "tx", .bold = true, .name = true
	};
	char		words[160];

	line.box = picture_box(drawing, self->alive ? "card" : "card dead", card->x, card->y,
						   width, topology->height[card->row], 8);
	picture_text(drawing, &line, words_name(self));
	line.size = 11;
	line.bold = false;
	line.y += 19;
	line.look = "mu";
	picture_text(drawing, &line, self->address);
	line.name = false;
	line.y += 22;
	if (!self->member)
	{
		picture_text(drawing, &line, lag_words(self, words, sizeof(words)));
		line.y += 19;
	}
	draw_reached(drawing, &line, node);
	line.y += 19;
	if (!self->member)
		draw_reaches(drawing, &line, node);
	draw_large_head(drawing, self, card, width);
}

/* Three lines for what is most worth knowing of this one. */
static void
draw_small(Drawing *drawing, const Topology *topology, int node)
{
	const PictureNode *self = &drawing->picture->node[node];
	const Card *card = &topology->card[node];
	int			width = topology->width;
	Text		line = {
		.x = card->x + 8, .y = card->y + STRIP + 15, .room = width - 16, .size = 10,
		.look = "mu"
	};
	char		words[160];

	line.box = picture_box(drawing, self->alive ? "card" : "card dead", card->x, card->y,
						   width, topology->height[card->row], 8);
	if (!self->alive)
		draw_remark(drawing, &line, "bad", "bd", alive_words(self));
	else
		picture_text(drawing, &line, summary_words(self, words, sizeof(words)));
	line.y += 16;
	draw_reached(drawing, &line, node);
	line.y += 16;
	if (!self->member && (drawing->out[node].own > 0 || !picture_fresh(drawing, node)))
		draw_reaches(drawing, &line, node);
	else
	{
		line.name = true;
		picture_text(drawing, &line, self->address);
	}
	line.y = card->y + 18;
	line.size = 12;
	line.bold = true;
	line.name = true;
	line.box = draw_strip(drawing, self, card, width);
	if (self->holder || self->member)
		draw_remark(drawing, &line, self->holder ? "key" : "store",
					self->holder ? "on" : "tx", words_name(self));
	else
	{
		line.look = "tx";
		picture_text(drawing, &line, words_name(self));
	}
}

/* What the lines do not show. */
static void
draw_topology_note(Drawing *drawing, const Topology *topology)
{
	Text		line = {
		.x = PICTURE_MARGIN, .y = drawing->y + 22, .room = drawing->width, .size = 11,
		.look = "mu"
	};

	if (!topology->more)
		return;
	picture_text(drawing, &line, "More paths are broken than can be drawn as lines: "
				 "the cards count them, the matrix has them all.");
	drawing->y += 24;
}

/*
 * draw_topology
 */
void
draw_topology(Drawing *drawing)
{
	const Picture *picture = drawing->picture;
	Topology	topology = {0};
	char		note[256] = "";

	for (int i = 0; i < drawing->n; i++)
		if (picture->node[i].self)
			snprintf(note, sizeof(note), "as %s knows it",
					 words_name(&picture->node[i]));
	picture_section(drawing, "Nodes and the store", note);
	if (drawing->n == 0)
	{
		Text		line = {
			.x = PICTURE_MARGIN, .y = drawing->y + 12, .room = drawing->width,
			.size = 12, .look = "mu"
		};

		picture_text(drawing, &line, "No node is known.");
		drawing->y += 16;
		return;
	}
	place_all(drawing, &topology);
	choose_wires(drawing, &topology);
	place_rows(drawing, &topology);
	draw_wires(drawing, &topology);
	for (int i = 0; i < drawing->n; i++)
	{
		picture_put(drawing, "<g>");
		draw_tooltip(drawing, &picture->node[i]);
		if (topology.large)
			draw_large(drawing, &topology, i);
		else
			draw_small(drawing, &topology, i);
		picture_put(drawing, "</g>\n");
	}
	draw_topology_note(drawing, &topology);
}
