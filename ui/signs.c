/* What the headings, signs and figures of each screen mean: one row each, told by Tab on the page of `?`. */
#include "ui/signs.h"

#include <string.h>

static const Sign rank[] = {
    {"#", "rank of the score; =: intervals meet, so the order is not sure"},
    {"S", "* tagged  X float  x partly  ! failed  s old score  ? no score"},
    {"score", "headed by its metric (m: another); more: quantizing hurts more"},
    {"95%", "half of the score's 95-percent interval, as a share of it"},
    {"bar", "the score, logarithmic, at most four decades"},
    {"level", "float, or quantized: W8A8 has weights and inputs in 8 bits"},
    {"cost", "bytes that it takes more in float (K: 1,024)"},
    {"grp", "fused group, decided as one: qkv (q k v_proj), gu (gate, up)"},
    {"#2", "rank by the metric beside it (c)"},
    {"n max mean", "of a fold: its layers, their largest and mean score"},
    {"+ -", "before a name: a fold, closed or open (o); . in grp: no group"},
    {"advice", "what a rule says to do with it; the details name the rule"},
    {"sort stale", "rows that arrived wait for their places (. puts them there)"},
    {"s '", "below a plot: 3 standard deviations; steps of the rounding"},
    {NULL, NULL},
};
static const Sign whatif[] = {
    {"on", "[x] the rule holds  [ ] it is switched off (x, Space)"},
    {"to", "the level that the rule gives"},
    {"rule", "a pattern of layers' names"},
    {"hits", "layers that it selects"},
    {"cost loss", "of the hits: bytes more, and the change of the predicted loss"},
    {"new cost loss", "the same of those that the rules above leave to it"},
    {"!", "a remark: no hits, a group that it splits, over the budget"},
    {"at first", "the first measurement of this session"},
    {"MSE", "squared error of the last layer's output, calibration texts"},
    {"@ K o", "on the front: the present set, the knee, what was measured"},
    {NULL, NULL},
};
static const Sign jobs[] = {
    {"run wait done", "state of the job; pause: P lets it go on"},
    {"STOP FAIL", "stopped: r goes on if that is said; failed: the row tells why"},
    {"4/30 ~16 s", "parts done of all, and the time that is left, foretold"},
    {"ok warn fail", "scores made, made with a warning, not made"},
    {"memory", "the most that was used, and the most that was planned"},
    {NULL, NULL},
};
static const Sign compare[] = {
    {"#", "number of a measurement; 3@NAME: of another session"},
    {"levels", "which kinds of layers have which level"},
    {"is", "now: what is decided; base: the recipe alone; other: not alike"},
    {"vs", "against A, else the newest: size, then better, worse or tie"},
    {"KL +-", "distance from float's predictions, nats a token; its error"},
    {"top-1", "tokens whose likeliest next token is float's"},
    {"of each", "what has one score: a linear, a fused group, a block"},
    {"B is", "^6: B ranks it 6 places higher than A, v6: lower"},
    {"Spearman", "how far rankings agree: 1 all, 0 not, -1 reversed; as Kendall"},
    {NULL, NULL},
};
static const Sign export[] = {
    {"- +", "a line of the recipe that goes, one that comes"},
    {"[ok]", "the check holds"},
    {"[..]", "a remark; the file can be written"},
    {"[!!]", "wrong: nothing is written until it is put right"},
    {NULL, NULL},
};
static const Sign calib[] = {
    {"S", "X out  c cut by seq_len  - empty  * tagged  ! sets too much"},
    {"tokens", "of the text, as the model's tokenizer counts"},
    {"script", "which writing most of its characters belong to"},
    {"sets", "linears whose range of inputs ends at a value of this text"},
    {">=1.5x", "of these, the ones that it makes 1.5 times wider or more"},
    {"factor", "how many times wider it makes them, median"},
    {"share", "of all ranges, the part that no other text needs"},
    {"loss", "its share of what block_error adds up to (B)"},
    {"KL without", "change of KL when the text is left out (L)"},
    {NULL, NULL},
};
static const Sign model[] = {
    {"+ -", "a layer, closed or open (Enter)"},
    {"shape", "rows x columns: outputs x inputs of a linear"},
    {"type size", "as the checkpoint stores it"},
    {"level", "how it would be written: copied, float, or quantized"},
    {NULL, NULL},
};
static const Sign guide[] = {
    {"todo", "not done yet; r runs it"},
    {"asks", "a question to you; e answers"},
    {"better", "measured: it helps; a applies it"},
    {"has it", "the recipe does it already"},
    {"not needed", "the goal is met without it"},
    {"not now", "something has to come first: the line tells what"},
    {"not built", "slimscope has no processor for it"},
    {"STOP", "put this right before anything else"},
    {NULL, NULL},
};
static const Sign figures[] = {
    {"float 2/56", "layers kept in float, of all that can be quantized"},
    {"size, bits", "of the model as it would be written; bits a weight on average"},
    {"KL", "distance from float's predictions, nats a token; 0: the same"},
    {"ppl", "perplexity of the evaluation texts; less is better"},
    {"loss -48 %~", "before a measurement: the part of the expected loss given back"},
    {"~", "predicted, not measured; its range in brackets"},
    {"STALE", "measured before the last edits; F5 measures again"},
    {"+-", "one standard error"},
    {"undo 2", "edits that u takes back"},
    {NULL, NULL},
};

static const struct {
    const char *view;
    const Sign *signs;
} table[] = {
    {"rank", rank}, {"whatif", whatif}, {"jobs", jobs}, {"compare", compare}, {"export", export}, {"calib", calib},
    {"model", model}, {"guide", guide},
};

const Sign *signs_of(const char *view)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(table[i].view, view) == 0)
            return table[i].signs;
    return NULL;
}

const Sign *signs_of_all(void)
{
    return figures;
}
