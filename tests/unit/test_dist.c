/* Ranks of one job, here threads that speak through sockets: what they agree on, gather and hand on, and how they end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "dist/deal.h"
#include "dist/dist.h"
#include "run/share.h"

#include "tests/lib/thread_ranks.h"

enum { MOST = THREAD_RANKS_MOST };
typedef ThreadRank Play;

static void run(int n, void (*act)(Dist *, Play *), Play *p)
{
    thread_ranks_run(n, act, NULL, p);
}

/* ---- data ---- */

static void fill(Pack *p, int rank)
{
    for (int i = 0; i < rank * 40000; i++) /* of rank 0 nothing */
        pack_i64(p, (int64_t)rank * 1000000 + i);
}

static void holds(const Pack *all, int n)
{
    for (int r = 0; r < n; r++) {
        Pack want = {0};
        fill(&want, r);
        assert_int_equal(all[r].len, want.len);
        if (want.len)
            assert_memory_equal(all[r].data, want.data, want.len);
        pack_fini(&want);
    }
}

static void gather_everything(Dist *d, Play *p)
{
    Pack mine = {0}, *all;
    const int n = dist_size(d);
    fill(&mine, p->rank);
    assert_int_equal(dist_gather(d, &mine, &all, &p->error), ST_OK);
    assert_true(dist_leads(d) == (all != NULL));
    if (all)
        holds(all, n);
    dist_packs_free(all, n);
    assert_int_equal(dist_gather_all(d, &mine, &all, &p->error), ST_OK);
    holds(all, n);
    dist_packs_free(all, n);
    pack_fini(&mine);
    uint64_t bits = 0xf0u | 1u << p->rank;
    assert_int_equal(dist_common(d, &bits, &p->error), ST_OK);
    assert_int_equal(bits, n == 1 ? 0xf1u : 0xf0u);
    assert_int_equal(dist_same(d, "word", "abc", 3, &p->error), ST_OK);
}

static void all_ranks_get_what_each_packed(void **state)
{
    (void)state;
    Play p[MOST];
    for (int n = 1; n <= MOST; n++) {
        run(n, gather_everything, p);
        for (int r = 0; r < n; r++)
            assert_true(p[r].status == ST_OK && p[r].heard);
    }
}

static void hand_around(Dist *d, Play *p)
{
    Pack state = {0}, word = {0};
    int64_t least = 10 - p->rank, last[2] = {p->rank, 7};
    assert_int_equal(dist_take(d, &state, &p->error), ST_OK);
    assert_int_equal(state.len, p->rank * 8);
    pack_i64(&state, p->rank);
    for (int i = 0; i <= p->rank; i++)
        assert_memory_equal(state.data + 8 * i, &(int64_t){i}, 8);
    dist_hand_on(d, &state);
    for (int i = 0; p->rank == 0 && i < 2; i++)
        pack_i64(&word, 5 + i);
    assert_int_equal(dist_hand_out(d, &word, &p->error), ST_OK);
    assert_int_equal(word.len, 16);
    assert_memory_equal(word.data + 8, &(int64_t){6}, 8);
    pack_fini(&word);
    assert_int_equal(dist_hand_out(d, &word, &p->error), ST_OK); /* of nothing */
    assert_int_equal(word.len, 0);
    pack_fini(&word);
    assert_int_equal(dist_from_last(d, last, sizeof last, &p->error), ST_OK);
    assert_int_equal(last[0], dist_size(d) - 1);
    assert_int_equal(dist_least(d, &least, &p->error), ST_OK);
    assert_int_equal(least, 11 - dist_size(d));
    pack_fini(&state);
}

static void a_state_goes_from_rank_to_rank(void **state)
{
    (void)state;
    Play p[MOST];
    for (int n = 1; n <= MOST; n++) {
        run(n, hand_around, p);
        for (int r = 0; r < n; r++)
            assert_true(p[r].status == ST_OK && p[r].heard);
    }
}

/* ---- a part of them ---- */

enum { PART = 3 };

static void work_in_part(Dist *d, Play *p)
{
    Dist *part;
    Pack mine = {0}, *all = NULL;
    const int *bad = p->ctx; /* the rank that fails while the others meet, -1: none */
    p->status = dist_part(&part, d, PART, &p->error);
    assert_true((part != NULL) == (p->rank < PART));
    if (part && *bad == p->rank)
        p->status = error_set(&p->error, ST_IO, "cannot read 'x'");
    if (part && p->status == ST_OK) {
        assert_int_equal(dist_size(part), PART);
        pack_i64(&mine, p->rank);
        p->status = dist_gather_all(part, &mine, &all, &p->error);
        if (p->status == ST_OK) {
            assert_memory_equal(all[2].data, &(int64_t){2}, 8);
            assert_true(dist_sent(d) == dist_sent(part) && dist_got(d) == dist_got(part));
        }
        dist_packs_free(all, PART);
    }
    dist_free(part);
    if (p->status == ST_OK)
        p->status = dist_gather_all(d, &mine, &all, &p->error);
    if (p->status == ST_OK)
        assert_true(all[0].len == 8 && all[PART - 1].len == 8 && !all[PART].len);
    dist_packs_free(p->status == ST_OK ? all : NULL, dist_size(d));
    pack_fini(&mine);
}

static void some_ranks_work_while_the_others_wait(void **state)
{
    (void)state;
    Play p[5];
    for (int bad = -1; bad < PART; bad++) {
        thread_ranks_run(5, work_in_part, &bad, p);
        for (int r = 0; r < 5; r++) {
            assert_int_equal(p[r].status, bad < 0 ? ST_OK : ST_IO);
            assert_true(p[r].heard && (bad < 0 || strstr(p[r].error.text, "cannot read 'x'")));
        }
    }
}

/* Parts of 0 to some 100,000 bytes, the whole that they make on every rank. */
static void exchange_parts(Dist *d, Play *p)
{
    enum { STEP = 40009 };
    const int n = dist_size(d);
    uint64_t cut[MOST + 1] = {0};
    for (int r = 0; r < n; r++)
        cut[r + 1] = cut[r] + (uint64_t)(r * r % 4) * STEP; /* none of rank 0 and 2 */
    unsigned char *data = calloc(cut[n] + 1, 1);
    assert_non_null(data);
    for (uint64_t i = cut[p->rank]; i < cut[p->rank + 1]; i++)
        data[i] = (unsigned char)(i * 31 % 251 + 1);
    assert_int_equal(dist_exchange(d, data, cut, &p->error), ST_OK);
    for (uint64_t i = 0; i < cut[n]; i++)
        assert_int_equal(data[i], (unsigned char)(i * 31 % 251 + 1));
    assert_int_equal(data[cut[n]], 0);
    free(data);
}

static void parts_go_round(void **state)
{
    (void)state;
    Play p[MOST];
    for (int n = 1; n <= MOST; n++) {
        thread_ranks_run(n, exchange_parts, NULL, p);
        for (int r = 0; r < n; r++)
            assert_true(p[r].status == ST_OK && p[r].heard);
    }
}

/* ---- failures ---- */

static void differ(Dist *d, Play *p)
{
    p->status = dist_same(d, "model", p->rank == 2 ? "b" : "a", 1, &p->error);
    Error again = {0};
    assert_int_equal(dist_same(d, "model", "a", 1, &again), ST_USAGE); /* and whatever comes next */
}

static void what_differs_is_told_on_every_rank(void **state)
{
    (void)state;
    Play p[4];
    run(4, differ, p);
    for (int r = 0; r < 4; r++) {
        assert_int_equal(p[r].status, ST_USAGE);
        assert_string_equal(p[r].error.text, "rank 2 has another model than rank 0");
    }
}

static void one_fails(Dist *d, Play *p)
{
    Pack none = {0}, *all = NULL;
    p->status = p->rank == 1 ? error_set(&p->error, ST_IO, "cannot read 'x'")
                             : dist_gather(d, &none, &all, &p->error);
}

static void a_rank_that_fails_ends_the_others(void **state)
{
    (void)state;
    Play p[3];
    run(3, one_fails, p);
    for (int r = 0; r < 3; r++) {
        assert_int_equal(p[r].status, ST_IO);
        assert_string_equal(p[r].error.text, r == 1 ? "cannot read 'x'" : "rank 1: cannot read 'x'");
    }
}

static void at_other_steps(Dist *d, Play *p)
{
    Pack none = {0}, *all = NULL;
    p->status = p->rank == 1 ? dist_same(d, "model", "a", 1, &p->error) : dist_gather(d, &none, &all, &p->error);
}

static void ranks_at_different_steps_are_told(void **state)
{
    (void)state;
    Play p[2];
    run(2, at_other_steps, p);
    assert_int_equal(p[0].status, ST_INTERNAL);
    assert_int_equal(p[1].status, ST_INTERNAL);
}

static void fails_unheard(Dist *d, Play *p)
{
    (void)d;
    if (p->rank == 1)
        p->status = error_set(&p->error, ST_DATA, "bad");
    else
        usleep(400000); /* in a long computation */
}

static void a_rank_that_is_not_heard_does_not_wait_for_ever(void **state)
{
    (void)state;
    Play p[2];
    run(2, fails_unheard, p);
    assert_false(p[1].heard);
    assert_int_equal(p[1].status, ST_DATA);
}

/* ---- shares of texts ---- */

enum { TEXTS = 11 };
static const int lengths[TEXTS] = {512, 3, 1, 700, 520, 40, 600, 33, 0, 2000, 5};

static TokenSet texts(int64_t *start)
{
    start[0] = 0;
    for (int i = 0; i < TEXTS; i++)
        start[i + 1] = start[i] + lengths[i];
    return (TokenSet){.samples = TEXTS, .start = start};
}

static void every_rank_has_a_text_while_there_are_enough(void **state)
{
    (void)state;
    int64_t start[TEXTS + 1];
    const TokenSet all = texts(start);
    double speed[2 * TEXTS];
    uint64_t seed = 7;
    for (int round = 0; round < 20; round++)
        for (int size = 1; size < 2 * TEXTS; size++) {
            int cut[2 * TEXTS + 1], some = 0;
            for (int r = 0; r < size; r++) {
                seed = seed * 6364136223846793005u + 1442695040888963407u;
                speed[r] = (double)(1 + (seed >> 61)) / 8;
            }
            assert_int_equal(share_cuts(&all, round ? speed : NULL, size, cut, NULL), ST_OK);
            assert_int_equal(cut[0], 0);
            assert_int_equal(cut[size], TEXTS);
            for (int r = 0; r < size; r++) {
                assert_true(cut[r] <= cut[r + 1]);
                some += start[cut[r + 1]] > start[cut[r]];
                assert_true(some == r + 1 || some == TEXTS - 1); /* the last have none */
            }
            assert_true(share_all_have(&all, size) == (some == size));
        }
}

static void shares_are_as_large_as_ranks_are_fast(void **state)
{
    (void)state;
    enum { MANY = 1000 };
    static const double speed[] = {1, 0.25, 0.5, 1};
    int64_t start[MANY + 1];
    double load[4] = {0};
    int cut[5], units[4] = {0};
    for (int i = 0; i <= MANY; i++)
        start[i] = 17 * i;
    const TokenSet all = {.samples = MANY, .start = start};
    assert_int_equal(share_cuts(&all, speed, 4, cut, NULL), ST_OK);
    assert_int_equal(cut[1], 364);
    assert_int_equal(cut[2], 455);
    assert_int_equal(cut[3], 636);
    assert_int_equal(share_cuts(&all, NULL, 4, cut, NULL), ST_OK);
    for (int r = 0; r < 4; r++)
        assert_int_equal(cut[r + 1] - cut[r], MANY / 4);
    for (int i = 0; i < 40; i++)
        units[share_taker(NULL, load, 2)]++;
    assert_int_equal(units[0], 40); /* alone */
    assert_true(load[0] == 80);
}

/* Ranks that measured 100, 97, 50, 1: noise is no difference. */
static void measure(Dist *d, Play *p)
{
    static const double found[] = {100, 97, 50, 1};
    double load[4] = {0};
    int own = 0;
    p->status = dist_set_speed(d, found[p->rank], &p->error);
    const double *s = dist_speeds(d);
    if (p->status == ST_OK && (!s || s[0] != 1 || s[1] != 1 || s[2] != 0.5 || s[3] != 0.125))
        p->status = error_set(&p->error, ST_INTERNAL, "other speeds");
    for (int i = 0; s && i < 21; i++)
        own += share_taker(d, load, 1) == p->rank;
    static const int want[] = {8, 8, 4, 1};
    if (p->status == ST_OK && own != want[p->rank])
        p->status = error_set(&p->error, ST_INTERNAL, "rank %d has %d units", p->rank, own);
}

static void all_ranks_know_their_speeds(void **state)
{
    (void)state;
    Play p[4];
    run(4, measure, p);
    for (int r = 0; r < 4; r++)
        assert_string_equal(p[r].error.text, "");
    assert_null(dist_speeds(NULL));
}

/* ---- work dealt out ---- */

static uint64_t most_of(const uint64_t *cost, const int32_t *rank, int n, int size)
{
    uint64_t has[MOST] = {0}, most = 0;
    for (int i = 0; i < n; i++) {
        assert_in_range(rank[i], 0, size - 1);
        has[rank[i]] += cost[i];
        most = has[rank[i]] > most ? has[rank[i]] : most;
    }
    return most;
}

static void work_is_dealt_evenly_and_always_alike(void **state)
{
    (void)state;
    /* q, k, v, o, gate, up, down of a layer with few key heads */
    static const uint64_t layer[] = {16, 4, 4, 16, 44, 44, 44};
    static const int32_t two[] = {1, 1, 1, 1, 0, 1, 0}, three[] = {0, 2, 2, 1, 0, 1, 2};
    int32_t rank[7];
    uint64_t experts[192], sum = 0;
    int32_t of[192];
    assert_int_equal(deal_out(layer, 7, NULL, 2, 0, rank, NULL), ST_OK);
    assert_memory_equal(rank, two, sizeof rank);
    assert_int_equal(most_of(layer, rank, 7, 2), 88);
    assert_int_equal(deal_out(layer, 7, NULL, 3, 0, rank, NULL), ST_OK);
    assert_memory_equal(rank, three, sizeof rank);
    for (int i = 0; i < 192; i++)
        sum += experts[i] = 1 + (uint64_t)(i * 37 % 11);
    for (int size = 1; size <= MOST; size++)
        for (int begin = 0; begin < size; begin++) {
            assert_int_equal(deal_out(experts, 192, NULL, size, begin, of, NULL), ST_OK);
            assert_true(most_of(experts, of, 192, size) * (uint64_t)size <= sum + 11 * (uint64_t)size);
        }
    /* a rank that is twice as fast */
    static const double speed[] = {1, 2};
    static const int32_t fast[] = {1, 1, 1, 0, 1, 0, 1};
    assert_int_equal(deal_out(layer, 7, speed, 2, 0, rank, NULL), ST_OK);
    assert_memory_equal(rank, fast, sizeof rank);
    /* fewer things than ranks, things that cost nothing, nothing at all */
    assert_int_equal(deal_out(layer, 2, NULL, MOST, 3, rank, NULL), ST_OK);
    assert_int_equal(rank[0], 3);
    assert_int_equal(rank[1], 4);
    assert_int_equal(deal_out((uint64_t[]){0, 0, 0}, 3, NULL, 2, 1, rank, NULL), ST_OK);
    assert_int_equal(deal_out(layer, 0, NULL, 2, 0, rank, NULL), ST_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_ranks_get_what_each_packed),
        cmocka_unit_test(a_state_goes_from_rank_to_rank),
        cmocka_unit_test(some_ranks_work_while_the_others_wait),
        cmocka_unit_test(parts_go_round),
        cmocka_unit_test(what_differs_is_told_on_every_rank),
        cmocka_unit_test(a_rank_that_fails_ends_the_others),
        cmocka_unit_test(ranks_at_different_steps_are_told),
        cmocka_unit_test(a_rank_that_is_not_heard_does_not_wait_for_ever),
        cmocka_unit_test(work_is_dealt_evenly_and_always_alike),
        cmocka_unit_test(every_rank_has_a_text_while_there_are_enough),
        cmocka_unit_test(shares_are_as_large_as_ranks_are_fast),
        cmocka_unit_test(all_ranks_know_their_speeds),
    };
    return cmocka_run_group_tests_name("dist", tests, NULL, NULL);
}
