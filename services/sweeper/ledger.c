/* Topics → tables: which repositories are bound, and every push that was told. A batch is one
 * transaction with the offsets it has consumed. What PostgreSQL refuses makes the batch run event
 * by event, so that a bad event costs itself only. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metric.h"
#include "service/offsets.h"
#include "sweeper.h"

static const char *const topics[] = {EC_TOPIC_REPOS, EC_TOPIC_INTAKE, NULL};

static const struct ec_route routes[] = {
    /* when this arrives            it carries */
    {"dev.enclii.repo.bound.v1", &enclii__v1__repo_bound__descriptor, NULL},
    {"dev.enclii.push.received.v1", &enclii__v1__push_received__descriptor, NULL},
    {"dev.enclii.paths.wanted.v1", &enclii__v1__paths_wanted__descriptor, NULL},
};

#define MARK_EVERY_MS 50 /* on a busy topic */

static void store(struct sweeper *sw);

/* ---- offsets ---- */

static const struct ec_offset_table offset_table = {"sweeper", SWEEPER_GROUP};

struct offset_ask {
    struct sweeper *sw;
    struct ec_offset *offsets;
    size_t count;
    void *token;
};

/* Kept for ledger_mark; the topic's name as in the table of topics, which lives on. */
static void keep_parts(struct sweeper *sw, const struct ec_offset *offsets, size_t count)
{
    sw->parts = ec_grow(sw->parts, count + 1, sizeof *sw->parts);
    sw->part_count = 0;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(offsets[i].topic, EC_TOPIC_INTAKE) == 0) {
            sw->parts[sw->part_count++] =
                (struct ec_offset){EC_TOPIC_INTAKE, offsets[i].partition, -1};
        }
    }
}

static void on_rows_there(void *arg, struct ec_err err, const struct ec_batch *batch)
{
    struct offset_ask *ask = arg;
    (void)batch;
    if (ec_failed(err)) {
        ec_offsets_loaded(ask->token, err);
    } else {
        ec_offsets_load(ask->sw->store, &offset_table, ask->offsets, ask->count, ask->token);
    }
    free(ask);
}

/* Every partition gets its row first, so that one that nobody has read yet is seen to be unread. */
static void load_offsets(void *state, struct ec_offset *offsets, size_t count, void *token)
{
    struct sweeper *sw = state;
    keep_parts(sw, offsets, count);
    if (count == 0) {
        ec_offsets_load(sw->store, &offset_table, offsets, count, token);
        return;
    }
    struct offset_ask *ask = ec_alloc(sizeof *ask);
    *ask = (struct offset_ask){sw, offsets, count, token};
    struct ec_batch *batch = ec_batch_new(sw->store);
    for (size_t i = 0; i < count; i++) {
        offsets[i].next = -1;
    }
    ec_offsets_put(batch, &offset_table, offsets, count);
    struct ec_err err = ec_batch_run(batch, on_rows_there, ask);
    if (ec_failed(err)) {
        free(ask);
        ec_offsets_loaded(token, err);
    }
}

static void put_offsets(const struct sweeper *sw, struct ec_batch *batch)
{
    const struct ec_offset *offsets;
    size_t count = ec_batch_in_offsets(sw->batch, &offsets);
    ec_offsets_put(batch, &offset_table, offsets, count);
}

/* ---- rows ---- */

static void put_hook(struct ec_batch *batch, const char *hook_key, const char *repo_key,
                     const char *hook_id)
{
    const char *args[] = {hook_key, repo_key, hook_id};
    ec_batch_add(batch,
                 "insert into sweeper.hook (hook_key, repo_key, hook_id) values ($1, $2, $3)"
                 " on conflict do nothing",
                 args, EC_LEN(args));
}

/* The repository's own webhook, and the one of a GitHub App; whether the host can be asked about
 * them is seen when it is. */
static void put_hooks(struct ec_batch *batch, struct ec_event *ev,
                      const Enclii__V1__RepoBound *bound)
{
    struct ec_arena *arena = ec_event_arena(ev);
    const char *key = ec_event_key(ev);
    const char *hook_key = ec_arena_format(arena, "%s#%s", key, bound->hook_id);
    const char *others[] = {key, hook_key};
    ec_batch_add(batch,
                 "delete from sweeper.hook where repo_key = $1 and hook_id <> 'app'"
                 " and hook_key <> $2",
                 others, EC_LEN(others));
    if (*bound->hook_id) {
        put_hook(batch, hook_key, key, bound->hook_id);
    }
    int server = (int)strcspn(key, "/");
    put_hook(batch, ec_arena_format(arena, "%.*s#app", server, key), key, "app");
}

/* What is known of it goes with it: the refs as they were told, so that what was pushed around the
 * rename is not taken for what was there from the beginning. Who looks at it now has lost it. */
static void put_rename(struct ec_batch *batch, const char *from, const char *to)
{
    const char *args[] = {from, to};
    if (!*from || strcmp(from, to) == 0) {
        return;
    }
    ec_batch_add(batch,
                 "update sweeper.repo set repo_key = $2, bound_at = now(), leased_by = '',"
                 " leased_until = '-infinity', lease = lease + 1, next_at = now(), failures = 0,"
                 " last_error = '', listed = '' where repo_key = $1"
                 " and not exists (select 1 from sweeper.repo where repo_key = $2)",
                 args, EC_LEN(args));
    ec_batch_add(batch,
                 "update sweeper.hook h set repo_key = $2, hook_key = case when hook_id = 'app'"
                 " then hook_key else $2 || '#' || hook_id end where repo_key = $1 and not exists"
                 " (select 1 from sweeper.hook o where o.hook_key = $2 || '#' || h.hook_id)",
                 args, EC_LEN(args));
}

static void put_repo(struct ec_batch *batch, struct ec_event *ev)
{
    const Enclii__V1__RepoBound *bound = ec_event_body(ev);
    const char *key = ec_event_key(ev);
    if (!bound) {
        ec_batch_add(batch, "delete from sweeper.repo where repo_key = $1", &key, 1);
        ec_batch_add(batch,
                     "delete from sweeper.hook h where repo_key = $1 and (hook_id <> 'app' or not"
                     " exists (select 1 from sweeper.repo r where split_part(r.repo_key, '/', 1)"
                     "  = split_part(h.hook_key, '#', 1)))",
                     &key, 1);
        return;
    }
    put_rename(batch, bound->renamed_from, key);
    const char *args[] = {key, bound->clone_url, bound->full_name, bound->host_repo_id,
                          bound->hook_id};
    ec_batch_add(batch,
                 "insert into sweeper.repo as r (repo_key, clone_url, full_name, host_repo_id,"
                 " hook_id) values ($1, $2, $3, $4, $5) on conflict (repo_key) do update set"
                 " clone_url = excluded.clone_url, full_name = excluded.full_name,"
                 " host_repo_id = excluded.host_repo_id, hook_id = excluded.hook_id,"
                 " next_at = case when r.clone_url = excluded.clone_url then r.next_at"
                 "  else now() end",
                 args, EC_LEN(args));
    put_hooks(batch, ev, bound);
}

static bool followed(const char *ref)
{
    return strncmp(ref, "refs/heads/", 11) == 0 || strncmp(ref, "refs/tags/", 10) == 0;
}

/* As pipeline waits for it: services/pipeline/decide_compare.c. */
static bool wants_paths(const Enclii__V1__PushReceived *push)
{
    return !push->changed_paths_complete && !push->created && !push->deleted && !push->recovered &&
           !push->by_hand;
}

/* Did it come because we had the host deliver it again? Asked before it is recorded: a push that a
 * sweep of the refs had found is not recovered twice. */
static void put_redelivered(struct sweeper *sw, struct ec_batch *batch,
                            const Enclii__V1__PushReceived *push)
{
    const char *args[] = {push->delivery_id, push->repo_key, push->ref, push->after};
    sw->redelivered[sw->redelivered_count++] = ec_batch_add(
        batch,
        "update sweeper.redelivery set state = 'taken', counted = true, updated_at = now()"
        " where guid = $1 and tries > 0 and not counted"
        " and split_part(hook_key, '#', 1) in ($2, split_part($2, '/', 1))"
        " returning not exists (select 1"
        "  from sweeper.ref where repo_key = $2 and ref = $3 and sha = $4) as news",
        args, EC_LEN(args));
}

static void count_redelivered(const struct sweeper *sw, const struct ec_batch *batch)
{
    for (size_t i = 0; i < sw->redelivered_count; i++) {
        const struct ec_rows *rows = ec_batch_rows(batch, sw->redelivered[i]);
        if (ec_rows_count(rows) > 0 && ec_rows_bool(rows, 0, "news")) {
            ec_metric_add(&pushes_recovered, "deliveries", 1);
        }
    }
}

static void put_push(struct sweeper *sw, struct ec_batch *batch, const struct ec_event *ev)
{
    const Enclii__V1__PushReceived *push = ec_event_body(ev);
    if (!push || push->by_hand || !followed(push->ref) || !decide_is_sha(push->after) ||
        !decide_is_sha(push->before)) {
        return; /* what a person has delivered again says nothing about the host */
    }
    if (!push->recovered) {
        put_redelivered(sw, batch, push);
    }
    const char *args[] = {push->repo_key, push->ref, push->before, push->after,
                          push->recovered ? "true" : "false"};
    ec_batch_add(batch, "select sweeper.heard($1, $2, $3, $4, $5::boolean)", args, EC_LEN(args));
    if (wants_paths(push)) {
        const char *row[] = {push->delivery_id, push->repo_key, push->ref,
                             push->before,      push->after,    ec_event_trace(ev)};
        ec_batch_add(batch,
                     "insert into sweeper.compare (delivery_id, repo_key, ref, before, after,"
                     " trace) select $1, $2, $3, $4, $5, $6"
                     " where exists (select 1 from sweeper.repo where repo_key = $2)"
                     " on conflict do nothing",
                     row, EC_LEN(row));
    }
}

/* Names that git would take for something else are no pull request's. */
static void put_wanted(struct ec_batch *batch, const struct ec_event *ev)
{
    const Enclii__V1__PathsWanted *wanted = ec_event_body(ev);
    if (!wanted || !decide_is_sha(wanted->head_sha) || !decide_is_ref(wanted->head_ref) ||
        !decide_is_ref(wanted->base_ref)) {
        return;
    }
    const char *row[] = {wanted->delivery_id, wanted->repo_key,   wanted->head_ref,
                         wanted->head_sha,    ec_event_trace(ev), wanted->base_ref};
    ec_batch_add(batch,
                 "insert into sweeper.compare (delivery_id, repo_key, ref, before, after, trace,"
                 " base_ref) select $1, $2, $3, '', $4, $5, $6"
                 " where exists (select 1 from sweeper.repo where repo_key = $2)"
                 " on conflict do nothing",
                 row, EC_LEN(row));
}

static void fill(struct sweeper *sw, struct ec_batch *batch)
{
    sw->redelivered_count = 0;
    for (size_t i = sw->from; i < sw->to; i++) {
        struct ec_event *ev = ec_batch_in_event(sw->batch, i);
        if (strcmp(ec_event_topic(ev), EC_TOPIC_REPOS) == 0) {
            put_repo(batch, ev);
        } else if (strcmp(ec_event_type(ev), "dev.enclii.paths.wanted.v1") == 0) {
            put_wanted(batch, ev);
        } else {
            put_push(sw, batch, ev);
        }
    }
}

/* ---- batches ---- */

static void finish(struct sweeper *sw, struct ec_err err)
{
    struct ec_batch_in *batch = EC_TAKE(sw->batch);
    ec_batch_in_finish(batch, err);
    if (!ec_failed(err)) {
        ledger_mark(sw); /* on a busy topic this is the moment when all may be read */
        looks_due(sw);   /* perhaps a repository was bound */
        compares_due(sw);
    }
    sweeper_rest(sw);
}

/* Refused: once more event by event; the one that is refused alone is the bad one. */
static void narrow(struct sweeper *sw, struct ec_err err)
{
    if (!sw->single) {
        sw->single = true;
        sw->to = sw->from + 1;
    } else {
        const struct ec_event *ev = ec_batch_in_event(sw->batch, sw->from);
        ec_log(EC_LOG_WARN, ec_event_trace(ev), "event.rejected", "event goes to the dead letters",
               EC_T("type", ec_event_type(ev)), EC_T("id", ec_event_id(ev)), EC_ERR(err));
        ec_batch_in_reject(sw->batch, sw->from, err.what);
        sw->from = sw->to;
        sw->to += sw->to < ec_batch_in_count(sw->batch);
    }
    store(sw);
}

static void on_stored(void *arg, struct ec_err err, const struct ec_batch *batch)
{
    struct sweeper *sw = arg;
    size_t count = ec_batch_in_count(sw->batch);
    sw->busy--;
    if (!ec_failed(err)) {
        count_redelivered(sw, batch);
    }
    if (err.fate == EC_FATE_REJECT && sw->from < sw->to) {
        narrow(sw, err);
    } else if (err.fate == EC_FATE_REJECT) {
        finish(sw, ec_fatal(err.sys, err.what)); /* the offsets themselves were refused */
    } else if (ec_failed(err) || sw->to == count) {
        finish(sw, err);
    } else {
        sw->from = sw->to++;
        store(sw);
    }
}

static void store(struct sweeper *sw)
{
    struct ec_batch *batch = ec_batch_new(sw->store);
    fill(sw, batch);
    if (sw->to == ec_batch_in_count(sw->batch)) {
        put_offsets(sw, batch);
    }
    sw->busy++;
    struct ec_err err = ec_batch_run(batch, on_stored, sw);
    if (ec_failed(err)) {
        sw->busy--;
        finish(sw, err);
    }
}

static void on_batch(void *state, struct ec_batch_in *batch)
{
    struct sweeper *sw = state;
    sw->batch = batch;
    sw->single = false;
    sw->from = 0;
    sw->to = ec_batch_in_count(batch);
    store(sw);
}

EC_RESULT ledger_start(struct sweeper *sw)
{
    return ec_bus_consume_batch(sw->bus,
                                &(struct ec_consume_batch_spec){
                                    .group = SWEEPER_GROUP,
                                    .topics = topics,
                                    .routes = routes,
                                    .route_count = EC_LEN(routes),
                                    .batch_max = BATCH_MAX,
                                    .ends = true,
                                    .state = sw,
                                    .load_offsets = load_offsets,
                                    .on_batch = on_batch,
                                },
                                &sw->consumer);
}

/* ---- read to the end ---- */

static void on_marked(void *arg, struct ec_err err, const struct ec_rows *rows)
{
    struct sweeper *sw = arg;
    (void)err; /* the next tick tries again */
    (void)rows;
    sw->marking = false;
    sw->busy--;
    sweeper_rest(sw);
}

void ledger_mark(struct sweeper *sw)
{
    if (sw->marking || sw->stopping || ec_mono_ms() < sw->mark_at_mono_ms ||
        !ec_consumer_at_end(sw->consumer)) {
        return;
    }
    sw->mark_at_mono_ms = ec_mono_ms() + MARK_EVERY_MS;
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(64 * 1024);
    ec_cleanup(ec_buf_done) struct ec_buf list;
    ec_buf_init(&list, 32 * 1024);
    ec_buf_add_text(&list, "{");
    for (size_t i = 0; i < sw->part_count; i++) {
        ec_buf_addf(&list, "%s%d", i ? "," : "", (int)sw->parts[i].partition);
    }
    ec_buf_add_text(&list, "}");
    const char *args[] = {SWEEPER_GROUP, EC_TOPIC_INTAKE, ec_arena_text(arena, ec_buf_span(&list))};
    struct ec_err err = ec_store_exec(sw->store,
                                      "update sweeper.consumed set at_end_at = now()"
                                      " where consumer = $1 and topic = $2"
                                      " and partition = any ($3::int[])",
                                      args, EC_LEN(args), on_marked, sw);
    if (!ec_failed(err)) {
        sw->marking = true;
        sw->busy++;
    }
}
