#include "ui/lineparts.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>

#include "src/lang.h"
#include "ui/text.h"

LinePart *part_add(LineParts *l, Slot slot, int priority, const char *fmt, ...)
{
    int at = l->n < PARTS_MAX ? l->n++ : PARTS_MAX - 1;
    LinePart *f = &l->f[at];
    *f = (LinePart){.slot = slot, .priority = priority, .gap = PART_GAP};
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(f->text, sizeof f->text, tr(fmt), ap);
    va_end(ap);
    return f;
}

/* Cells that the parts take, the gaps between them included. */
static int total(const LineParts *l)
{
    int sum = 0;
    for (int i = 0; i < l->n; i++) {
        if (l->f[i].width > 0)
            sum += l->f[i].width + (sum > 0 ? l->f[i].gap : 0);
    }
    return sum;
}

/* Takes cells off the names until `over` are saved; those that matter least give first. What is still over. */
static int elide_names(LineParts *l, int over)
{
    while (over > 0) {
        LinePart *most = NULL;
        for (int i = 0; i < l->n; i++) {
            LinePart *f = &l->f[i];
            if (f->least > 0 && f->width > f->least && (!most || f->priority >= most->priority))
                most = f;
        }
        if (!most)
            break;
        int cut = most->width - most->least < over ? most->width - most->least : over;
        most->width -= cut;
        over -= cut;
    }
    return over;
}

int parts_fit(LineParts *l, int width)
{
    bool gone[PARTS_MAX] = {false};
    for (;;) {
        LinePart *last = NULL;
        for (int i = 0; i < l->n; i++) {
            LinePart *f = &l->f[i];
            f->width = gone[i] ? 0 : text_width(f->text);
            if (f->width > 0 && (!last || f->priority >= last->priority))
                last = f;
        }
        if (!last || elide_names(l, total(l) - width) <= 0)
            return total(l);
        gone[last - l->f] = true;
    }
}

int parts_kept(const LineParts *l)
{
    int least = INT_MAX;
    for (int i = 0; i < l->n; i++) {
        if (l->f[i].width == 0 && l->f[i].text[0] && l->f[i].priority < least)
            least = l->f[i].priority;
    }
    return least == INT_MAX ? INT_MAX : least - 1;
}
