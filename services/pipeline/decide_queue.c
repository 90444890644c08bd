/* The build queue: which build goes to which builder next. Fair between projects within a class of
 * urgency: the project with the fewest builds at work is next, then the one whose turn was longest
 * ago, so that a backlog of one never holds up the others, even with one slot; then who waits
 * longest. Waiting lifts a build up to the class of pushes and not above, so that nobody starves. A
 * builder that has the repository's cache is preferred, the one a lost attempt was on is avoided,
 * then the emptiest. */
#include "decide.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/metric.h"
#include "bus/topics.h"

/* A build gains one step of priority for each such time of waiting. */
#define AGEING_MS (5 * 60 * 1000)
#define PROJECTS_MAX 100000

static struct ec_metric waited =
    EC_HISTOGRAM("enclii_build_queued_seconds", "Time builds waited for a builder.", NULL);

struct project_share {
    const char *id;
    int32_t busy;
    int64_t turn_ms; /* when it last got a builder */
};

/* The queue's own scratch: nothing of it outlives decide_queue. */
struct queue {
    const struct world *world;
    struct ec_map *shares; /* project id -> struct project_share */
    bool *taken;           /* per candidate */
    struct build **candidates;
    size_t count;
    int32_t busy;   /* builds at work, of all projects */
    int32_t *given; /* leases given in this round, per builder in list order */
};

static struct project_share *share_of(struct queue *queue, const char *project_id)
{
    struct project_share *share = ec_map_get(queue->shares, project_id);
    if (!share) {
        share = ec_arena_alloc(queue->world->arena, sizeof *share);
        share->id = project_id;
        ec_map_put(queue->shares, project_id, share);
    }
    return share;
}

static bool may_take(const struct world *world, const struct builder *builder, int32_t given)
{
    return !builder->draining && builder->busy + given < builder->slots &&
           world->now_ms - builder->heard_ms < world->rules->silence_ms;
}

static bool has_cache(const struct world *world, const struct builder *builder, const char *url)
{
    const char *quoted = ec_arena_format(world->arena, "\"%s\"", url);
    return strstr(builder->cached_repos, quoted) != NULL;
}

/* Larger is better. */
static int32_t liking(const struct world *world, const struct builder *builder,
                      const struct build *build, int32_t given)
{
    int32_t free_slots = builder->slots - builder->busy - given;
    int32_t score = free_slots > 1000 ? 1000 : free_slots;
    score += has_cache(world, builder, build->service->repo_url) ? 2000 : 0;
    score -= strcmp(builder->id, build->builder_id) == 0 ? 4000 : 0; /* lost it last time */
    return score;
}

static struct builder *choose_builder(struct queue *queue, const struct build *build,
                                      int32_t **ret_given)
{
    struct builder *best = NULL;
    int32_t best_score = 0;
    size_t i = 0;
    for (struct builder *b = queue->world->first_builder; b; b = b->next, i++) {
        if (!may_take(queue->world, b, queue->given[i]) || (b->trusted_only && !build->trusted)) {
            continue;
        }
        int32_t score = liking(queue->world, b, build, queue->given[i]);
        if (!best || score > best_score || (score == best_score && strcmp(b->id, best->id) < 0)) {
            best = b;
            best_score = score;
            *ret_given = &queue->given[i];
        }
    }
    return best;
}

static int64_t urgency(const struct world *world, const struct build *build)
{
    if (build->priority >= PRIORITY_PUSH) {
        return build->priority;
    }
    int64_t aged = build->priority + (world->now_ms - build->queued_ms) / AGEING_MS;
    return aged < PRIORITY_PUSH ? aged : PRIORITY_PUSH;
}

/* Whether a should go before b. */
static bool before(struct queue *queue, const struct build *a, const struct build *b)
{
    int64_t urgent_a = urgency(queue->world, a), urgent_b = urgency(queue->world, b);
    if (urgent_a != urgent_b) {
        return urgent_a > urgent_b;
    }
    const struct project_share *share_a = share_of(queue, a->service->project_id);
    const struct project_share *share_b = share_of(queue, b->service->project_id);
    if (share_a->busy != share_b->busy) {
        return share_a->busy < share_b->busy;
    }
    if (share_a->turn_ms != share_b->turn_ms) {
        return share_a->turn_ms < share_b->turn_ms;
    }
    if (a->queued_ms != b->queued_ms) {
        return a->queued_ms < b->queued_ms;
    }
    return strcmp(a->id, b->id) < 0;
}

static size_t choose_build(struct queue *queue)
{
    int32_t limit = queue->world->rules->project_builds_max;
    size_t best = queue->count;
    for (size_t i = 0; i < queue->count; i++) {
        if (queue->taken[i] ||
            (limit > 0 &&
             share_of(queue, queue->candidates[i]->service->project_id)->busy >= limit)) {
            continue;
        }
        if (best == queue->count || before(queue, queue->candidates[i], queue->candidates[best])) {
            best = i;
        }
    }
    return best;
}

static void collect(struct queue *queue, const struct queue_load *load)
{
    struct ec_arena *arena = queue->world->arena;
    size_t builds = ec_map_count(queue->world->builds);
    queue->candidates = ec_arena_alloc(arena, builds * sizeof *queue->candidates + 1);
    queue->taken = ec_arena_alloc(arena, builds * sizeof *queue->taken + 1);
    queue->given =
        ec_arena_alloc(arena, ec_map_count(queue->world->builders) * sizeof *queue->given + 1);
    for (struct build *build = queue->world->first_build; build; build = build->next) {
        if (build->cell.state == BUILD_QUEUED && !build->service->removed) {
            queue->candidates[queue->count++] = build;
        }
    }
    for (struct builder *b = queue->world->first_builder; b; b = b->next) {
        b->busy = 0;
    }
    for (; load; load = load->next) {
        struct project_share *share = share_of(queue, load->project_id);
        share->busy += load->count;
        share->turn_ms = load->leased_ms > share->turn_ms ? load->leased_ms : share->turn_ms;
        queue->busy += load->count;
        struct builder *builder = world_builder(queue->world, load->builder_id);
        if (builder) {
            builder->busy += load->count;
        }
    }
}

size_t decide_queue(const struct world *world, const struct queue_load *load,
                    struct lease *ret_leases, size_t room)
{
    struct queue queue = {.world = world, .shares = ec_map_new(PROJECTS_MAX)};
    collect(&queue, load);
    size_t count = 0;
    int32_t most = world->rules->builds_max;
    while (count < room && (most <= 0 || queue.busy + (int32_t)count < most)) {
        size_t at = choose_build(&queue);
        int32_t *given = NULL;
        struct builder *builder =
            at < queue.count ? choose_builder(&queue, queue.candidates[at], &given) : NULL;
        bool none = !builder && (at == queue.count || queue.candidates[at]->trusted);
        if (none) {
            break;
        }
        queue.taken[at] = true;
        if (!builder) {
            continue; /* nobody takes a fork's code now: it does not hold up the others */
        }
        struct project_share *share = share_of(&queue, queue.candidates[at]->service->project_id);
        share->busy++;
        share->turn_ms = world->now_ms;
        (*given)++;
        ret_leases[count++] = (struct lease){queue.candidates[at], builder};
    }
    ec_map_free(queue.shares, NULL);
    return count;
}

static void tell_leased(struct world *world, const struct build *build)
{
    Enclii__V1__BuildLeased *fact = world_message(world, &enclii__v1__build_leased__descriptor);
    fact->build_id = world_text(world, build->id);
    fact->attempt = build->attempt;
    fact->builder_id = world_text(world, build->builder_id);
    fact->queued_ms = world->now_ms - build->queued_ms;
    world_fact(world, &(struct fact_spec){.topic = EC_TOPIC_BUILD_EVENTS,
                                          .key = build->service->id,
                                          .type = "dev.enclii.build.leased.v1",
                                          .subject = build->id,
                                          .trace = build->trace,
                                          .body = &fact->base});
}

static void command_run(struct world *world, const struct build *build)
{
    Enclii__V1__BuildSpec *build_spec =
        decide_build_spec(world, world_spec(world, build->spec), build->trusted);
    int64_t timeout_ms = build_spec->timeout_ms > 0 ? build_spec->timeout_ms : 1800 * 1000;
    Enclii__V1__RunBuild *command = world_message(world, &enclii__v1__run_build__descriptor);
    command->build_id = world_text(world, build->id);
    command->attempt = build->attempt;
    command->builder_id = world_text(world, build->builder_id);
    command->service = world_service_ref(world, build->service);
    command->commit = world_commit(world, build->commit);
    command->clone_url = world_text(world, build->service->repo_url);
    command->spec = build_spec;
    command->image_repo = world_text(world, build->image_repo);
    command->trusted = build->trusted;
    command->deadline_unix_ms = world->now_ms + timeout_ms;
    world_fact(world, &(struct fact_spec){.topic = EC_TOPIC_BUILD_COMMANDS,
                                          .key = build->service->id,
                                          .type = "dev.enclii.build.run.v1",
                                          .subject = build->id,
                                          .trace = build->trace,
                                          .body = &command->base});
}

void decide_lease(struct world *world, const struct lease *lease)
{
    struct build *build = lease->build;
    /* The lease's own ids: the same (build, attempt) is never told under two ids. */
    world->cause =
        (struct cause){ec_arena_format(world->arena, "lease/%s/%d", build->id, build->attempt + 1),
                       build->trace, build->service->id};
    if (!machine_move(&build->cell, BUILD_LEASED, world->now_ms, 0)) {
        return;
    }
    world_touch(&build->mark);
    build->attempt++;
    build->builder_id = world_text(world, lease->builder->id);
    build->leased_ms = world->now_ms;
    build->heard_ms = world->now_ms;
    build->steps = "[]";
    build->steps_replace = true;
    command_run(world, build);
    tell_leased(world, build);
    ec_metric_observe_s(&waited, NULL, (double)(world->now_ms - build->queued_ms) / 1000);
    world_why(world,
              &(struct why){build->service->id, "build", build->id, "builder_free", "leased"},
              "attempt %d goes to builder %s after %lld ms in the queue", build->attempt,
              build->builder_id, (long long)(world->now_ms - build->queued_ms));
}

/* A heartbeat says that the builder lives, and which builds live with it. */
void decide_heartbeat(struct world *world, const void *body)
{
    const Enclii__V1__BuilderHeartbeat *word = body;
    struct builder *builder = world_builder(world, word->builder_id);
    if (!builder) {
        builder = world_add_builder(
            world, &(struct builder){.id = world_text(world, word->builder_id), .mark = ROW_NEW});
    }
    ec_cleanup(ec_buf_done) struct ec_buf repos;
    ec_buf_init(&repos, 64 * 1024);
    ec_buf_add_text(&repos, "[");
    for (size_t i = 0; i < word->n_cached_repos; i++) {
        ec_buf_add_text(&repos, i ? "," : "");
        ec_buf_add_json_text(&repos, ec_span_of(word->cached_repos[i]));
    }
    ec_buf_add_text(&repos, "]");
    builder->slots = word->slots < 0 ? 0 : word->slots;
    builder->draining = word->draining;
    builder->trusted_only = word->trusted_only;
    builder->version = world_text(world, word->version);
    builder->cached_repos =
        repos.overflowed ? "[]" : ec_arena_text(world->arena, ec_buf_span(&repos));
    builder->heard_ms = world->now_ms;
    world_touch(&builder->mark);
    for (size_t i = 0; i < word->n_running; i++) {
        struct build *build = world_build(world, word->running[i]->build_id);
        if (build && build->attempt == word->running[i]->attempt &&
            (build->cell.state == BUILD_LEASED || build->cell.state == BUILD_RUNNING)) {
            build->heard_ms = world->now_ms;
            world_touch(&build->mark);
        }
    }
}
