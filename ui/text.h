#ifndef SLIM_UI_TEXT_H
#define SLIM_UI_TEXT_H

#include <stddef.h>
#include <stdint.h>
#include <wchar.h>

#include "src/format.h"

/* Text for cells: pure, by the locale's wcwidth. */

/* The next character of *s as it may be drawn: control and ill-formed bytes become '?' (U+FFFD is not drawable
 * everywhere), characters without a width are passed over. 0 at the end. *width gets its cells. */
wchar_t text_next(const char **s, int *width);
/* Cells that a text takes. */
int text_width(const char *s);
/* s in at most `width` cells, cut in the middle with the ellipsis; names only, never numbers. */
void text_elide(char *out, size_t size, const char *s, int width, const char *ellipsis);
/* s in at most `width` cells, cut behind a word with the ellipsis: sentences. */
void text_cut(char *out, size_t size, const char *s, int width, const char *ellipsis);
/* The beginning of s in at most `width` cells, the ellipsis where it is cut, which is never within a number: lines of a
 * document. */
void text_clip(char *out, size_t size, const char *s, int width, const char *ellipsis);
/* Bytes of s that fit in `width` cells, broken at a space where there is one, in the right half rather at two. For wrapping;
 * 0 only for an empty text. */
size_t text_break(const char *s, int width);

/* Numbers as the screens show them. Each writes at most `size` bytes. */
enum { SCORE_WIDTH = 8 };
/* 1.534e2, -1.53e-12: as many digits as SCORE_WIDTH cells hold, at most four */
void fmt_score(char *out, size_t size, double v);
void fmt_bytes(char *out, size_t size, double bytes);        /* 723 KiB, 1.3 GiB */
void fmt_delta(char *out, size_t size, double bytes);        /* +3.0M, -120K, 0 */
/* +2.9 %, +2.9 % +-0.4; se NaN: no error is known */
void fmt_change(char *out, size_t size, double change, double se);

#endif
