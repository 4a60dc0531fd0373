/* Scores that other programs wrote. */
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "export/scorefile.h"
#include "fuzz.h"

static const char *const names[] = {"x.csv", "x.json", "x.log", "x.dat"};

/* Variant: the file's name. */
static void run_scores(int variant, const uint8_t *data, size_t n)
{
    char *text = malloc(n + 1);
    ScoreFile f;
    Error err = {0};
    memcpy(text, data, n);
    text[n] = '\0';
    Status st = score_file_read(text, n, names[variant & 3], NULL, &f, &err);
    fuzz_error(st, &err);
    for (size_t i = 0; st == ST_OK && i < f.n; i++)
        for (size_t k = 0; k < f.column[i].n; k++) {
            const FileScore *s = &f.column[i].score[k];
            if (!*s->name)
                fuzz_bad("a score without a name", "");
            if (s->matrix < -1)
                fuzz_bad("a matrix below none", s->name);
        }
    score_file_fini(&f);
    free(text);
}

static const char *const score_seeds[] = {"tests/fuzz/seeds/scores*", NULL};
static const char *const score_words[] = {"=== Layer Analysis Results (std method) ===\n", "  1. a.b | Score:   1.5e+00\n", "name,score\n",
                                          "metric,", "\"layers\":[", "{\"name\":\"a\",\"score\":1}", "GGUF", ".in_sum2", ".counts",
                                          "nan", "1e300", "\"", "\n", ",", NULL};
const FuzzTarget fuzz_scores = {.name = "scores", .seeds = score_seeds, .words = score_words, .take = 20000, .run = run_scores};
