/* Pictures of weights: a thread that makes the newest that is wished for, and the few that were looked at last. */
#include "session/picture.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/priority.h"
#include "session/parts.h"
#include "session/queue.h"

typedef struct Pictures {
    const Model *model;           /* of all of them */
    Queue *queue;                 /* whose owner is told */
    Picture *kept[PICTURES_KEPT]; /* owner */
    uint64_t clock;
    pthread_t thread;
    bool thread_on;
    pthread_mutex_t lock; /* over what follows; held for copies only */
    pthread_cond_t wake, made;
    bool quit, wanted, busy;
    PictureAsk want, now;         /* the newest wish; what is being made */
    Cancel cancel;                /* of what is being made */
    Picture *done;                /* not taken in yet */
} Pictures;

static void picture_free(Picture *p)
{
    if (!p)
        return;
    weight_look_fini(&p->look);
    weight_heat_fini(&p->heat);
    weight_cell_fini(&p->cell);
    free(p);
}

static bool same_area(const PictureAsk *a, const PictureAsk *b)
{
    return a->area.group0 == b->area.group0 && a->area.groups == b->area.groups && a->area.channel0 == b->area.channel0 &&
           a->area.channels == b->area.channels && a->rows == b->rows && a->cols == b->cols && a->group == b->group;
}

/* Whether picture `a` shows what `b` asks for. A look under a quantizer has the weight itself, too. */
static bool answers(const PictureAsk *a, const PictureAsk *b)
{
    if (a->kind != b->kind || a->linear != b->linear)
        return false;
    if (a->kind == PICTURE_LOOK && !b->quantized)
        return true;
    if (a->quantized != b->quantized || (a->quantized && qspec_key(&a->q) != qspec_key(&b->q)))
        return false;
    return a->kind == PICTURE_LOOK || same_area(a, b);
}

/* NULL without memory; stopped or out of memory within: *st says so. */
static Picture *make(const Model *m, const PictureAsk *ask, const Cancel *cancel, Status *st, Error *err)
{
    Picture *p = calloc(1, sizeof *p);
    const Source source = {.model = m};
    const QSpec *q = ask->quantized ? &ask->q : NULL;
    const HeatArea *area = &ask->area;
    const HeatArea cell = {area->group0, 1, area->channel0, 1};
    const HeatArea part = ask->kind == PICTURE_CELL ? cell : *area;
    const HeatAsk heat = {.q = q, .group = ask->group, .area = part, .rows = ask->rows, .cols = ask->cols};
    if (!p) {
        *st = error_nomem(err, "a picture of a weight");
        return NULL;
    }
    p->ask = *ask;
    if (ask->kind == PICTURE_LOOK)
        *st = weight_look(&source, ask->linear, q, cancel, &p->look, err);
    else if (ask->kind == PICTURE_HEAT)
        *st = weight_heat(&source, ask->linear, &heat, cancel, &p->heat, err);
    else
        *st = weight_cell(&source, ask->linear, &heat, &p->cell, err);
    if (*st == ST_CANCELLED || *st == ST_NOMEM) {
        picture_free(p);
        return NULL;
    }
    if (*st != ST_OK)
        snprintf(p->why, sizeof p->why, "%s", err->text);
    *st = ST_OK;
    return p;
}

/* ---- the thread ---- */

/* Waits for a wish; false: it is to end. */
static bool take_wish(Pictures *x)
{
    pthread_mutex_lock(&x->lock);
    x->busy = false;
    pthread_cond_broadcast(&x->made);
    while (!x->quit && !x->wanted)
        pthread_cond_wait(&x->wake, &x->lock);
    bool go = !x->quit;
    if (go) {
        x->now = x->want;
        x->wanted = false;
        x->busy = true;
        atomic_store(&x->cancel.level, 0);
    }
    pthread_mutex_unlock(&x->lock);
    return go;
}

static void *picture_main(void *arg)
{
    Pictures *x = arg;
    thread_computes(true); /* pictures are for those who look */
    while (take_wish(x)) {
        Status st;
        Error err = {0};
        Picture *p = make(x->model, &x->now, &x->cancel, &st, &err);
        if (!p)
            continue;
        pthread_mutex_lock(&x->lock);
        picture_free(x->done);
        x->done = p;
        pthread_mutex_unlock(&x->lock);
        queue_wake(x->queue);
    }
    return NULL;
}

static bool start_thread(Pictures *x)
{
    sigset_t all, old;
    if (x->thread_on)
        return true;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    x->quit = false;
    x->thread_on = pthread_create(&x->thread, NULL, picture_main, x) == 0;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return x->thread_on;
}

/* ---- the owner ---- */

/* NULL without memory. */
static Pictures *pictures_of(Session *s)
{
    if (s->pictures)
        return s->pictures;
    Pictures *x = calloc(1, sizeof *x);
    if (!x)
        return NULL;
    x->model = s->model;
    x->queue = s->queue;
    pthread_mutex_init(&x->lock, NULL);
    pthread_cond_init(&x->wake, NULL);
    pthread_cond_init(&x->made, NULL);
    return s->pictures = x;
}

void pictures_drop(Session *s)
{
    Pictures *x = s->pictures;
    if (!x)
        return;
    if (x->thread_on) {
        pthread_mutex_lock(&x->lock);
        x->quit = true;
        atomic_store(&x->cancel.level, 2);
        pthread_cond_signal(&x->wake);
        pthread_mutex_unlock(&x->lock);
        pthread_join(x->thread, NULL);
    }
    for (int i = 0; i < PICTURES_KEPT; i++)
        picture_free(x->kept[i]);
    picture_free(x->done);
    pthread_mutex_destroy(&x->lock);
    pthread_cond_destroy(&x->wake);
    pthread_cond_destroy(&x->made);
    free(x);
    s->pictures = NULL;
}

/* In the place of the one that was looked at longest ago. */
static void keep(Pictures *x, Picture *p)
{
    int at = 0;
    for (int i = 0; i < PICTURES_KEPT; i++) {
        uint64_t used = x->kept[i] ? x->kept[i]->used : 0, least = x->kept[at] ? x->kept[at]->used : 0;
        at = used < least ? i : at;
    }
    picture_free(x->kept[at]);
    p->used = ++x->clock;
    x->kept[at] = p;
}

unsigned pictures_pump(Session *s)
{
    Pictures *x = s->pictures;
    if (!x)
        return 0;
    pthread_mutex_lock(&x->lock);
    Picture *p = x->done;
    x->done = NULL;
    pthread_mutex_unlock(&x->lock);
    if (p)
        keep(x, p);
    return p ? EV_PICTURE : 0;
}

static Picture *find(Pictures *x, const PictureAsk *ask)
{
    for (int i = 0; i < PICTURES_KEPT; i++)
        if (x->kept[i] && answers(&x->kept[i]->ask, ask)) {
            x->kept[i]->used = ++x->clock;
            return x->kept[i];
        }
    return NULL;
}

const Picture *session_picture(Session *s, const PictureAsk *ask)
{
    Pictures *x = s->model ? pictures_of(s) : NULL;
    if (!x)
        return NULL;
    pictures_pump(s);
    const Picture *p = find(x, ask);
    if (p)
        return p;
    if (!start_thread(x)) /* then here and now */
        return session_picture_now(s, ask, NULL, &p, NULL) == ST_OK ? p : NULL;
    pthread_mutex_lock(&x->lock);
    bool being_made = x->busy && atomic_load(&x->cancel.level) == 0 && answers(&x->now, ask);
    if (being_made) {
        x->wanted = false;
    } else if (!x->wanted || !answers(&x->want, ask)) {
        x->want = *ask;
        x->wanted = true;
        atomic_store(&x->cancel.level, 1);
        pthread_cond_signal(&x->wake);
    }
    pthread_mutex_unlock(&x->lock);
    return NULL;
}

bool session_picture_waits(const Session *s)
{
    Pictures *x = s->pictures;
    if (!x)
        return false;
    pthread_mutex_lock(&x->lock);
    bool waits = x->wanted || x->busy || x->done;
    pthread_mutex_unlock(&x->lock);
    return waits;
}

void session_picture_wait(Session *s)
{
    Pictures *x = s->pictures;
    if (!x)
        return;
    pthread_mutex_lock(&x->lock);
    while (x->thread_on && (x->wanted || x->busy))
        pthread_cond_wait(&x->made, &x->lock);
    pthread_mutex_unlock(&x->lock);
    pictures_pump(s);
}

Status session_picture_now(Session *s, const PictureAsk *ask, const Cancel *cancel, const Picture **out, Error *err)
{
    Status st = ST_OK;
    if (!s->model)
        return error_set(err, ST_USAGE, "no model is open: open MODEL first");
    Pictures *x = pictures_of(s);
    *out = x ? find(x, ask) : NULL;
    if (*out)
        return ST_OK;
    Error why = {0};
    Picture *p = x ? make(s->model, ask, cancel, &st, &why) : NULL;
    if (!p)
        return st == ST_CANCELLED ? error_set(err, st, "%s", why.text) : error_nomem(err, "a picture of a weight");
    keep(x, p);
    *out = p;
    return ST_OK;
}
