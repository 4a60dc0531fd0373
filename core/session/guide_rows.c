/* The entries of the guide (docs of msModelSlim: quantization precision tuning; the order is loss-free and cheap first). */
#include "session/guide_impl.h"

const char *const guide_answers[ANSWERS] = {"", "yes", "no", "unknown"};

const char *const guide_ends[ENDS] = {"", "met", "missed", "stopped", "failed"};

const char *guide_state_word(GuideState s)
{
    static const char *const words[GUIDE_STATES] = {
        [GUIDE_TODO] = "todo", [GUIDE_ASKS] = "asks",      [GUIDE_RUNNING] = "runs",        [GUIDE_BETTER] = "better", [GUIDE_DONE] = "done", [GUIDE_OLD] = "old base", [GUIDE_HAS] = "has it",
        [GUIDE_SKIPPED] = "skipped", [GUIDE_MISSING] = "not built", [GUIDE_LATER] = "not now", [GUIDE_STOP] = "STOP",     [GUIDE_MET] = "not needed",
    };
    return words[s];
}

const char *guide_item_word(const GuideItem *it)
{
    static const char *const verdicts[] = {[VERDICT_WORSE] = "worse", [VERDICT_SAME] = "no gain", [VERDICT_UNDECIDED] = "in noise"};
    bool told = it->state == GUIDE_DONE && it->measured && it->against && it->verdict != VERDICT_BETTER;
    return told ? verdicts[it->verdict] : guide_state_word(it->state);
}

const struct GuideStepRow guide_steps[GUIDE_STEPS] = {
    {"S1", "confirm the problem", "Before anything is changed: is the float model right, are the outputs whole, and is the drop more than noise?"},
    {"S2", "suppress outliers", "The key step: a few channels with large values spoil the scales of all others. Moving their size into the weights "
     "costs nothing at run time. One processor smooths: another takes its place."},
    {"S3", "choose methods", "Scales and rounding. For speed: activations per_tensor (static); for accuracy: per_token (dynamic); pd_mix balances "
     "them. Of two within the noise the cheaper one stays."},
    {"S4", "calibration data", "Only when S2 and S3 stop helping: static ranges and searches are as good as the texts they come from."},
    {"S5", "roll back to float", "The last resort, as it costs bytes and speed: worst layers first, fused groups whole, then give back what is not needed."},
};

static const char smooth_risk[] = "the engine has to load the changed norms, which most do";
static const char *const weighs[] = {"block_error", "alone", NULL};
static const char *const ranges[] = {"text_range", NULL};

#define ACT(...) {.act = true, .types = {QT_INT8}, __VA_ARGS__}
#define WEIGHT(...) {.types = {QT_INT8, QT_INT4}, .symmetric = -1, __VA_ARGS__}
#define FRONT(...) {.symmetric = -1, .front = __VA_ARGS__}
#define SMOOTH(...) {.symmetric = -1, .instead = true, .front = __VA_ARGS__}

const GuideRow guide_rows[] = {
    /* ---- S1 ---- */
    {"S1a", "float scores as published",
     "A wrong chat template or engine looks like quantization loss. Run the float model on the target engine and compare with its published score.",
     "no: stop, and put the engine, the template or the prompt right first", 0, GUIDE_ASK, .processor = NULL},
    {"S1b", "quantized outputs are whole",
     "Look at its answers: none cut at the longest length, timed out, empty or garbled.",
     "no: garbled text means outliers, S2 comes first", 0, GUIDE_ASK, .processor = NULL},
    {"S1c", "the drop is more than noise",
     "The change of perplexity against float over the same texts, beside twice its error. A drop within that is no regression.",
     "none", 0, GUIDE_NOISE, .processor = NULL},
    /* ---- S2 ---- */
    {"S2a", "iter_smooth, alpha 0.9", "Always the first, and the only choice for very long calibration texts.", smooth_risk, 1, GUIDE_VARY,
     .change = SMOOTH("{type: iter_smooth, alpha: 0.9, symmetric: true}"), .processor = "iter_smooth"},
    {"S2b", "iter_smooth, asymmetric", "Usually better than symmetric.", "only where the engine supports asymmetric suppression", 1, GUIDE_VARY,
     .change = SMOOTH("{type: iter_smooth, alpha: 0.9, symmetric: false}"), .processor = "iter_smooth"},
    {"S2c", "iter_smooth, alpha 0.7", "Lower where the weights suffer.", smooth_risk, 1, GUIDE_VARY,
     .change = SMOOTH("{type: iter_smooth, alpha: 0.7, symmetric: true}"), .processor = "iter_smooth"},
    {"S2d", "iter_smooth, alpha 0.5", "Lower where the weights suffer.", smooth_risk, 1, GUIDE_VARY,
     .change = SMOOTH("{type: iter_smooth, alpha: 0.5, symmetric: true}"), .processor = "iter_smooth"},
    {"S2e", "flex_smooth_quant", "Searches alpha and beta for each subgraph: about five times the work of iter_smooth.", smooth_risk, 1, GUIDE_VARY,
     .change = SMOOTH("{type: flex_smooth_quant}"), .processor = "flex_smooth_quant"},
    {"S2f", "quarot", "Rotates outliers away; in front of the others.", "the engine must support rotation", 1, GUIDE_VARY,
     .change = FRONT("{type: quarot}"), .processor = "quarot"},
    {"S2g", "flex_awq_ssz", "INT4: searches alpha for each subgraph by the error of the weight as ssz rounds it.", smooth_risk, 1, GUIDE_VARY,
     .change = SMOOTH("{type: flex_awq_ssz, qconfig: {act: {scope: per_token, dtype: int8, symmetric: true, method: minmax}, "
                     "weight: {scope: per_channel, dtype: int4, symmetric: true, method: ssz}}}", .types = {QT_INT4}),
     .processor = "flex_awq_ssz"},
    {"S2h", "awq", "INT4: searches the share of the inputs' size for each subgraph by what its block gives. Slow.", smooth_risk, 1, GUIDE_VARY,
     .change = SMOOTH("{type: awq, weight_qconfig: {scope: per_channel, dtype: int4, symmetric: true, method: minmax}}", .types = {QT_INT4}),
     .processor = "awq"},
    {"S2i", "kv_smooth", "Keys: divides their channels by how large they become, and multiplies those of the queries.",
     "gains nothing for a cache with a scale for each channel (C8)", 1, GUIDE_VARY,
     .change = FRONT("{type: kv_smooth, smooth_factor: 1.0}"), .processor = "kv_smooth",
     .with = "fa3_quant",
     .aside = "for attention with a scale for each head, as fa3_quant makes: the open recipe has none, analyze alone_attention tells before and after"},
    {"S2j", "smooth_quant", "The oldest, to compare with: it reaches only pairs of a norm and what reads it.", "garbled text", 1, GUIDE_VARY,
     .change = SMOOTH("{type: smooth_quant, alpha: 0.5, symmetric: true}"), .processor = "smooth_quant",
     .aside = "not recommended for current models: it gave garbled text in the guide's case; run it by its name to see"},
    {"S2k", "flatquant", "INT4 weights and inputs: trains a transform for what linears read, layer by layer. The slowest of these.",
     "the engine has to transform inputs at run time", 1, GUIDE_VARY,
     .change = FRONT("{type: flatquant}", .types = {QT_INT4}), .processor = "flatquant"},
    /* ---- S3 ---- */
    {"S3a", "activations per_token (dynamic)", "Accuracy: a scale for every token needs no calibrated range. Symmetric, as only that deploys.",
     "a little slower at run time than static scales", 2, GUIDE_VARY,
     .change = ACT(.scope = "per_token", .method = "minmax", .symmetric = 1)},
    {"S3b", "activations pd_mix", "Balance: per_token while a prompt is read, static while text is made. Asymmetric, as only that deploys.",
     "engines without pd_mix refuse it", 2, GUIDE_VARY, .change = ACT(.scope = "pd_mix", .method = "minmax", .symmetric = 0)},
    {"S3c", "activations static by histogram", "For long tails: clips a range where that loses least. Only for per_tensor.", "clips rare values", 2,
     GUIDE_VARY, .change = ACT(.from_scope = "per_tensor", .method = "histogram", .symmetric = -1)},
    {"S3d", "activations per_tensor (static)", "Speed: one range, calibrated. Asymmetric, which loses least.",
     "ranges are as good as the calibration texts", 2, GUIDE_VARY, .change = ACT(.scope = "per_tensor", .method = "minmax", .symmetric = 0)},
    {"S3e", "weights by minmax", "INT8: the other methods measured worse there.", "none", 2, GUIDE_VARY,
     .change = WEIGHT(.method = "minmax")},
    {"S3f", "weights by ssz", "INT4: searches scale and zero point. At INT8 it measured worse than minmax.", "takes longer to quantize", 2, GUIDE_VARY,
     .change = WEIGHT(.method = "ssz")},
    {"S3g", "weights by gptq", "INT4: rounds with the inputs' second moments. Behind ssz.", "takes longest to quantize; needs the calibration texts", 2,
     GUIDE_VARY, .change = WEIGHT(.method = "gptq")},
    {"S3h", "weights by autoround", "INT4: the best ceiling, the slowest.", "takes hours on a large model", 2, GUIDE_VARY,
     .change = {.types = {QT_INT4}, .symmetric = -1, .method = "autoround"},
     .processor = "autoround_quant"},
    /* ---- S4 ---- */
    {"S4a", "10 to 50 texts", "Fewer make ranges that depend on chance, more only take time. Screen 6 lists them with their lengths and languages.", "none", 3,
     GUIDE_TEXTS, .processor = NULL},
    {"S4b", "texts that move ranges alone", "A text that alone widens many ranges may be broken: what it does stands on screen 6; calib drop takes it out.",
     "rare inputs that are real are lost with it", 3, GUIDE_ANALYZE, .metrics = ranges},
    {"S4c", "the changed set", "After calib drop, or calib add of texts where float is right and quantized wrong: measured against the set before.",
     "texts like the benchmark's flatter it", 3, GUIDE_CALIB, .processor = NULL},
    {"S4d", "leave texts out, one at a time", "Measures what is open, calibrated without a text: those that move ranges alone, else the four that widen "
     "them most (calib loo). What is better without a text can go: calib drop, then S4c.", "few evaluation tokens decide: a small gain may be chance", 3,
     GUIDE_LOO, .processor = NULL},
    /* ---- S5 ---- */
    {"S5a", "find what loses most", "block_error for every fused group, and the KL of each group alone.", "none", 4, GUIDE_ANALYZE, .metrics = weighs},
    {"S5b", "the worst down_proj to float", "Their inputs have the largest outliers: all of them, or as many of the worst as are foretold to do.",
     "more bytes, and float speed for these", 4, GUIDE_FLOAT, .layers = "down_proj"},
    {"S5c", "the worst o_proj to float", "After down_proj.", "more bytes, and float speed for these", 4, GUIDE_FLOAT, .layers = "o_proj"},
    {"S5d", "fused groups by prediction", "gate/up and q/k/v as whole groups: the fewest bytes that are foretold to hold the goal (fit).",
     "more bytes; a prediction can miss", 4, GUIDE_FIT, .processor = NULL},
    {"S5e", "search by measuring", "Measures few sets until the goal holds with the fewest bytes, then takes groups back one at a time (tune --until).",
     "about 8 measurements", 4, GUIDE_SEARCH, .processor = NULL},
    {"S5f", "give back what is not needed", "Drops each rule to float alone and measures again: what does not break the goal can go.", "none", 4,
     GUIDE_GIVE_BACK, .processor = NULL},
    {.id = NULL},
};
