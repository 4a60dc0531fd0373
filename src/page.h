#ifndef SLIM_SRC_PAGE_H
#define SLIM_SRC_PAGE_H

#include "session/session.h"
#include "src/axis.h"
#include "src/output.h"

/* The session as one page of HTML that needs nothing beside it: no scripts, no other files. What is text is escaped, so the
 * page is well-formed XML too. No time stamp: the same work gives the same bytes. */

/* Appends the page. Needs an open model. */
Status page_report(Session *s, Str *out, Error *err);

/* The tries of a tuning plan as such a page, report.html in the plan's folder: a SessionOptions.plan_report. Needs v->loop. */
struct AutotuneView;
Status page_plan_write(const struct AutotuneView *v, Error *err);

/* ---- for its parts ---- */

/* Appends a page's beginning up to its body, its end. */
void page_head(Str *out, const char *title);
void page_end(Str *out);

/* Appends text as content or the value of an attribute; what XML can't have becomes '?'. */
void page_text(Str *out, const char *s);
/* A number in few digits that carries all of them: <data value="0.123456789">0.1235</data>; nothing where it isn't finite. */
void page_number(Str *out, double v);

/* page_plots.c: each appends a <section>, or nothing where there is nothing to show. */
Status page_heat(const Session *s, const Metric *m, Str *out, Error *err);
void page_scatter(const Session *s, const Metric *x, const Metric *y, Str *out);
Status page_front(Session *s, Str *out, Error *err);
/* page_layers.c: the plots of the worst layers. */
Status page_layers(Session *s, const Metric *m, Str *out, Error *err);

/* Pictures of w x h pixels: begins one, the axis at a height y. */
void svg_open(Str *out, double w, double h, const char *label);
void svg_axis_x(Str *out, const Axis *a, double y, const char *name);
void svg_axis_y(Str *out, const Axis *a, double x, const char *name);
void svg_title(Str *out, const char *text);

#endif
