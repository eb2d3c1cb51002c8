/*
 * picture_pen.c
 *		Text that stays where it is put: escaped, measured, and cut to its room.
 *
 * Whoever looks at a picture has fonts that nobody here knows.  So the width of a
 * text is estimated from above, by what kind of characters it has, as in the widest
 * of the usual fonts; what is not ASCII is clipped to its room besides.
 *
 * See picture.h.  Must never do I/O or depend on the server.
 */
#include "picture_parts.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define REPLACEMENT			0xfffd	/* for what is not UTF-8 */
#define ELLIPSIS			0x2026
#define CHARACTERS_MAX		320	/* of one line */
#define PIECE				256	/* bytes handed on at once */

/* A character as it will be drawn, with its width in hundredths of the size. */
typedef struct Glyph
{
	uint32_t	code;
	int			width;
} Glyph;

/* ------------------------------------------------------------------------
 * Characters
 * ------------------------------------------------------------------------
 */

/* How many bytes follow this first one; -1: it is none. */
static int
bytes_after(unsigned char first)
{
	if (first < 0x80)
		return 0;
	if (first < 0xc2)
		return -1;
	return first < 0xe0 ? 1 : first < 0xf0 ? 2 : first < 0xf5 ? 3 : -1;
}

/* The next character of a text that is not at its end. */
static uint32_t
next_character(const char **at)
{
	static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
	const unsigned char *byte = (const unsigned char *) *at;
	int			after = bytes_after(byte[0]);
	uint32_t	code = byte[0];

	if (after > 0)
		code &= 0x3f >> after;
	for (int i = 1; i <= after; i++)
	{
		if ((byte[i] & 0xc0) != 0x80)
		{
			*at += i;
			return REPLACEMENT;
		}
		code = code << 6 | (byte[i] & 0x3f);
	}
	*at += after < 0 ? 1 : after + 1;
	if (after < 0 || code < least[after] || code > 0x10ffff ||
		(code >= 0xd800 && code <= 0xdfff))
		return REPLACEMENT;
	return code;
}

/*
 * What is left out: what XML forbids, control characters, and what would turn
 * around or hide the text beside it.
 */
static bool
is_dropped(uint32_t code)
{
	return code < 0x20 || (code >= 0x7f && code <= 0x9f) ||
		(code & 0xfffe) == 0xfffe || code == 0xfeff ||
		code == 0x200b || code == 0x200e || code == 0x200f ||
		(code >= 0x202a && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069);
}

/* The next character that is drawn; 0 at the end. */
static uint32_t
next_drawn(const char **at)
{
	while (**at != '\0')
	{
		uint32_t	code = next_character(at);

		if (code == '\t' || code == '\n' || code == '\r' ||
			code == 0x2028 || code == 0x2029)
			return ' ';
		if (!is_dropped(code))
			return code;
	}
	return 0;
}

static bool
is_wide(uint32_t code)
{
	return (code >= 0x1100 && code <= 0x115f) ||
		(code >= 0x2e80 && code <= 0xa4cf) ||
		(code >= 0xac00 && code <= 0xd7a3) ||
		(code >= 0xf900 && code <= 0xfaff) ||
		(code >= 0xfe30 && code <= 0xfe6f) ||
		(code >= 0xff00 && code <= 0xff60) ||
		(code >= 0xffe0 && code <= 0xffe6) || code >= 0x1f000;
}

/* In hundredths of the font's size. */
static int
character_width(uint32_t code)
{
	if (code >= 0x80)
	{
		if (is_wide(code))
			return 140;
		/* a whole sentence each */
		if (code >= 0xfdfa && code <= 0xfdfd)
			return 1000;
		return code < 0x590 || (code >= 0x2000 && code < 0x2c00) ? 110 : 130;
	}
	if (strchr("ijl.,:;|!'`", (int) code) != NULL)
		return 40;
	if (strchr("frtIJ-()[]/\\\" ", (int) code) != NULL)
		return 46;
	if (strchr("mwMW@%", (int) code) != NULL)
		return 108;
	if (strchr("<>=+#~^&", (int) code) != NULL)
		return 84;
	return code >= 'A' && code <= 'Z' ? 80 : 64;
}

/* ------------------------------------------------------------------------
 * Writing
 * ------------------------------------------------------------------------
 */

/* Markup of our own: short, and without a text from elsewhere. */
void
picture_put(Drawing *drawing, const char *format,...)
{
	char		piece[512];
	va_list		args;

	if (drawing->write == NULL)
		return;
	va_start(args, format);
	vsnprintf(piece, sizeof(piece), format, args);
	va_end(args);
	drawing->write(drawing->arg, piece);
}

/* One character, in ASCII: so it survives any encoding on its way. */
static int
write_character(char *to, size_t size, uint32_t code)
{
	if (code >= 0x80 || strchr("<>&\"'", (int) code) != NULL)
		return snprintf(to, size, "&#%u;", (unsigned int) code);
	to[0] = (char) code;
	return 1;
}

static void
write_glyphs(Drawing *drawing, const Glyph *glyph, int n)
{
	char		piece[PIECE + 16];
	int			used = 0;

	for (int i = 0; i < n && drawing->write != NULL; i++)
	{
		used += write_character(piece + used, 16, glyph[i].code);
		if (used >= PIECE || i == n - 1)
		{
			piece[used] = '\0';
			drawing->write(drawing->arg, piece);
			used = 0;
		}
	}
}

/* As many of the characters as one line can have. */
static int
read_glyphs(const char *text, bool bold, Glyph glyph[CHARACTERS_MAX])
{
	int			n = 0;

	while (n < CHARACTERS_MAX)
	{
		uint32_t	code = next_drawn(&text);

		if (code == 0)
			break;
		glyph[n].code = code;
		glyph[n].width = character_width(code) * (bold ? 114 : 100) / 100;
		n++;
	}
	return n;
}

/*
 * picture_escape
 *		A text of any length, as the content of an element.
 */
void
picture_escape(Drawing *drawing, const char *text)
{
	Glyph		glyph;

	if (text == NULL)
		return;
	while ((glyph.code = next_drawn(&text)) != 0)
		write_glyphs(drawing, &glyph, 1);
}

/* ------------------------------------------------------------------------
 * Measuring
 * ------------------------------------------------------------------------
 */

static int
glyphs_width(const Glyph *glyph, int n)
{
	int			width = 0;

	for (int i = 0; i < n; i++)
		width += glyph[i].width;
	return width;
}

/*
 * picture_width
 *		The room that a text takes at most.
 */
int
picture_width(const char *text, int size, bool bold)
{
	Glyph		glyph[CHARACTERS_MAX];

	if (text == NULL)
		return 0;
	return (glyphs_width(glyph, read_glyphs(text, bold, glyph)) * size + 99) / 100;
}

/*
 * Cut to a width; returns what remains, an ellipsis in place of the rest.  Of a name
 * a part of its end is kept.
 */
static int
cut_glyphs(Glyph *glyph, int n, int width, bool name)
{
	Glyph		ellipsis = {ELLIPSIS, character_width(ELLIPSIS)};
	int			left = width - ellipsis.width;
	int			head = 0;
	int			tail = 0;
	int			tail_width = 0;

	if (glyphs_width(glyph, n) <= width)
		return n;
	if (left < 0)
		return 0;
	while (name && tail_width + glyph[n - 1 - tail].width <= left * 2 / 5)
		tail_width += glyph[n - 1 - tail++].width;
	left -= tail_width;
	while (glyph[head].width <= left)
		left -= glyph[head++].width;
	memmove(&glyph[head + 1], &glyph[n - tail], tail * sizeof(Glyph));
	glyph[head] = ellipsis;
	return head + 1 + tail;
}

static bool
is_ascii(const Glyph *glyph, int n)
{
	for (int i = 0; i < n; i++)
		if (glyph[i].code >= 0x80 && glyph[i].code != ELLIPSIS)
			return false;
	return true;
}

/* ------------------------------------------------------------------------
 * Drawing
 * ------------------------------------------------------------------------
 */

/*
 * picture_text
 *		data-in names the box that the text must lie in, for the test that looks.
 */
void
picture_text(Drawing *drawing, const Text *how, const char *text)
{
	Glyph		glyph[CHARACTERS_MAX];
	const char *suffix = how->suffix != NULL ? how->suffix : "";
	int			room = how->room - picture_width(suffix, how->size, how->bold);
	int			n = text == NULL ? 0 : read_glyphs(text, how->bold, glyph);
	int			x = how->x;
	bool		clip;

	n = cut_glyphs(glyph, n, room * 100 / how->size, how->name);
	if (n == 0)
		return;
	clip = !is_ascii(glyph, n);
	if (clip)
	{
		int			shift = how->anchor == 'e' ? how->room :
			how->anchor == 'm' ? how->room / 2 : 0;

		picture_put(drawing, "<svg x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\">",
					x - shift, how->y - how->size * 5 / 4, how->room,
					how->size * 7 / 4);
		x = shift;
	}
	picture_put(drawing, "<text class=\"%s s%d%s%s\" x=\"%d\" y=\"%d\" data-in=\"%d\">",
				how->look, how->size, how->bold ? " b" : "",
				how->anchor == 'e' ? " e" : how->anchor == 'm' ? " c" : "",
				x, clip ? how->size * 5 / 4 : how->y, how->box);
	write_glyphs(drawing, glyph, n);
	picture_put(drawing, "%s</text>%s", suffix, clip ? "</svg>" : "");
}

/*
 * picture_box
 *		A rectangle that texts stand in; returns the number they know it by.
 */
int
picture_box(Drawing *drawing, const char *look, int x, int y, int width,
			int height, int radius)
{
	drawing->boxes++;
	picture_put(drawing, "<rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\"",
				look, x, y, width, height);
	if (radius > 0)
		picture_put(drawing, " rx=\"%d\"", radius);
	picture_put(drawing, " data-box=\"%d\"/>", drawing->boxes);
	return drawing->boxes;
}

/* One of the symbols that picture.c defines, with its centre at x, y. */
void
picture_mark(Drawing *drawing, const char *symbol, const char *look, int x, int y,
			 int box)
{
	picture_put(drawing, "<use href=\"#lh-%s\" class=\"%s\" x=\"%d\" y=\"%d\" data-in=\"%d\"/>\n",
				symbol, look, x, y, box);
}

/*
 * picture_section
 *		The title of a part, with a remark at the right.
 */
void
picture_section(Drawing *drawing, const char *title, const char *note)
{
	Text		line = {
		.x = PICTURE_MARGIN, .y = drawing->y + 52, .room = drawing->width / 2 - 8,
		.size = 14, .look = "tx", .bold = true
	};

	picture_text(drawing, &line, title);
	line.x += drawing->width;
	line.anchor = 'e';
	line.size = 11;
	line.bold = false;
	line.look = "mu";
	picture_text(drawing, &line, note);
	drawing->y += 68;
}
