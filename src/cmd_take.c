/* take: a measured assignment becomes the present one again. */
#include "session/comparing.h"
#include "src/commands.h"
#include "src/compare.h"

static Status take_run(App *a, const CommandLine *cl, Error *err)
{
    int i;
    int64_t changed = 0;
    RETURN_IF_ERROR(want_words(cl, 1, 1, err));
    RETURN_IF_ERROR(session_measurement_find(a->session, cl->words[0], &i, err));
    const Measurement m = session_measurement(a->session, i);
    RETURN_IF_ERROR(session_take(a->session, i, &changed, err));
    if (changed)
        app_note(a, "the assignment of measurement %s is in place: %lld linear%s changed; undo goes back", m.name,
                 (long long)changed, changed == 1 ? "" : "s");
    else
        app_note(a, "nothing new: these are the levels of measurement %s already", m.name);
    return ST_OK;
}

static void take_offer(const App *a, const char *const *words, int n, OfferWord *put, void *ctx)
{
    (void)words;
    if (n == 0)
        offer_measurements(a, put, ctx);
}

const Command command_take = {
    .name = "take",
    .args = "NUMBER",
    .summary = "Make a measured assignment the present one again.",
    .help = "The levels, rules and recipe of a measurement of 'compare list', as one undo step.",
    .flags = CMD_NEEDS_MODEL | CMD_EDIT,
    .run = take_run,
    .offer = take_offer,
};
