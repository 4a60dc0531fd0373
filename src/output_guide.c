/* The guide as text, and as JSON. */
#include "session/guide.h"
#include "src/output.h"

static void item_text(const GuideItem *it, bool next, Str *out)
{
    str_printf(out, "  %c %-4s %-10s %s\n", next ? '>' : ' ', it->id, guide_item_word(it), it->title);
    if (it->evidence.parts)
        str_printf(out, "         %s\n", it->evidence.text);
    if (it->reason.parts)
        str_printf(out, "         %s\n", it->reason.text);
    if (it->delta.parts)
        str_printf(out, "         changes: %s\n", it->delta.text);
    if (it->note[0])
        str_printf(out, "         noted: %s\n", it->note);
}

static void guide_text(const GuideView *v, bool brief, Str *out)
{
    str_printf(out, "=== guide: %s ===\n", v->status.text);
    if (v->back.parts)
        str_printf(out, "%s\n", v->back.text);
    for (int k = 0; k < GUIDE_STEPS; k++) {
        const GuideStep *st = &v->step[k];
        str_printf(out, "%s %-10s %s", st->id, guide_state_word(st->state), st->title);
        str_printf(out, "%s%s\n", brief && st->line.parts ? ": " : "", brief ? st->line.text : "");
        for (int i = st->first; !brief && i < st->first + st->n; i++)
            item_text(&v->item[i], i == v->next, out);
    }
    if (v->take >= 0)
        str_printf(out, "to take: guide apply %s\n", v->item[v->take].id);
    if (v->next >= 0)
        str_printf(out, "next: guide run %s\n", v->item[v->next].id);
}

static void text_member(const char *key, const char *text, Str *out)
{
    if (!text[0])
        return;
    str_printf(out, ",\"%s\":", key);
    str_json(out, text);
}

static void item_json(const GuideItem *it, Str *out)
{
    str_printf(out, "{\"id\":\"%s\",\"state\":\"%s\",\"can_run\":%s,\"can_apply\":%s,\"title\":", it->id, guide_state_word(it->state),
               it->can_run ? "true" : "false", it->can_apply ? "true" : "false");
    str_json(out, it->title);
    text_member("why", it->why, out);
    text_member("risk", it->risk, out);
    text_member("changes", it->delta.text, out);
    text_member("cost", it->cost.text, out);
    text_member("evidence", it->evidence.text, out);
    text_member("reason", it->reason.text, out);
    text_member("note", it->note, out);
    if (it->measured)
        str_printf(out, ",\"measurement\":%d", it->measured);
    if (it->against)
        str_printf(out, ",\"against\":%d", it->against);
    str_putc(out, '}');
}

static void guide_json(const GuideView *v, Str *out)
{
    str_puts(out, "{\"goal\":");
    str_json(out, v->goal);
    str_printf(out, ",\"measured\":%s,\"met\":%s,\"stopped\":%s,\"status\":", v->measured ? "true" : "false", v->met ? "true" : "false",
               v->stopped ? "true" : "false");
    str_json(out, v->status.text);
    text_member("back", v->back.text, out);
    if (v->next >= 0)
        text_member("next", v->item[v->next].id, out);
    if (v->take >= 0)
        text_member("take", v->item[v->take].id, out);
    str_puts(out, ",\"steps\":[");
    for (int k = 0; k < GUIDE_STEPS; k++) {
        const GuideStep *st = &v->step[k];
        str_printf(out, "%s\n{\"id\":\"%s\",\"state\":\"%s\",\"title\":", k ? "," : "", st->id, guide_state_word(st->state));
        str_json(out, st->title);
        text_member("line", st->line.text, out);
        str_puts(out, ",\"entries\":[");
        for (int i = st->first; i < st->first + st->n; i++) {
            str_puts(out, i > st->first ? ",\n" : "\n");
            item_json(&v->item[i], out);
        }
        str_puts(out, "]}");
    }
    str_puts(out, "]}\n");
}

Status output_guide(Session *s, OutFormat f, bool brief, Str *out, Error *err)
{
    const GuideView *v;
    RETURN_IF_ERROR(session_guide(s, &v, err));
    if (f == OUT_JSON)
        guide_json(v, out);
    else
        guide_text(v, brief, out);
    return out->oom ? error_nomem(err, "the result's text") : ST_OK;
}
