/* Builds: made by pushes and requests, reported on by builders. Every word of a builder carries the
 * attempt it was leased with; a word about any other attempt, or about a build that has ended,
 * changes nothing and is written down. */
#include "decide.h"

#include <string.h>

#include "base/id.h"
#include "base/metric.h"
#include "bus/topics.h"
#include "pulls.h"
#include "trust/digest.h"

static struct ec_metric builds =
    EC_COUNTER("enclii_builds_total", "Builds by how they ended.", "status");
static struct ec_metric ignored =
    EC_COUNTER("enclii_late_results_total", "Words about old attempts or ended things.", "kind");

static struct why why_of(const struct build *build, const char *rule)
{
    return (struct why){build->service->id, "build", build->id, rule, machine_text(&build->cell)};
}

static void tell(struct world *world, const struct build *build, const char *type,
                 const ProtobufCMessage *body)
{
    world_fact(world, &(struct fact_spec){.topic = EC_TOPIC_BUILD_EVENTS,
                                          .key = build->service->id,
                                          .type = type,
                                          .subject = build->id,
                                          .trace = build->trace,
                                          .body = body});
}

static int64_t timeout_ms(struct world *world, const struct build *build)
{
    const Enclii__V1__ServiceSpec *spec = world_spec(world, build->spec);
    return spec->build && spec->build->timeout_ms > 0 ? spec->build->timeout_ms : 1800 * 1000;
}

/* ---- new ones ---- */

/* A newer commit of the same branch or pull request. And the push of a commit that is also a pull
 * request's head: its build is the one that may deploy, so one is enough. */
static bool takes_place(const struct build *newer, const struct build *older)
{
    if (newer->pull_request != older->pull_request) {
        return newer->pull_request == 0 && strcmp(older->commit_sha, newer->commit_sha) == 0;
    }
    return strcmp(older->ref, newer->ref) == 0;
}

/* The older builds are not wanted any more. */
static void supersede_older(struct world *world, const struct build *newer)
{
    for (struct build *older = newer->service->first_build; older; older = older->next_of_service) {
        if (older == newer || machine_ended(&older->cell) || !takes_place(newer, older)) {
            continue;
        }
        bool same = newer->pull_request != older->pull_request;
        decide_build_end(
            world, older,
            &(struct build_end){BUILD_SUPERSEDED,
                                same ? "superseded_by_push" : "superseded_by_newer_push",
                                ec_arena_format(world->arena,
                                                same ? "commit %.12s was pushed to the repository"
                                                     : "commit %.12s is newer",
                                                newer->commit_sha),
                                newer->id});
    }
}

static void tell_queued(struct world *world, const struct build *build, const char *again)
{
    Enclii__V1__BuildQueued *fact = world_message(world, &enclii__v1__build_queued__descriptor);
    fact->build_id = world_text(world, build->id);
    fact->service = world_service_ref(world, build->service);
    fact->commit = world_commit(world, build->commit);
    fact->delivery_id = world_text(world, build->delivery_id);
    fact->actor = world_actor(world, build->actor);
    fact->pull_request = world_pull_ref(world, build->pull_request, build->trusted, build->author);
    fact->losses = build->losses;
    fact->again = world_text(world, again);
    tell(world, build, "dev.enclii.build.queued.v1", &fact->base);
}

static void tell_waiting(struct world *world, const struct build *build)
{
    Enclii__V1__BuildWaiting *fact = world_message(world, &enclii__v1__build_waiting__descriptor);
    fact->build_id = world_text(world, build->id);
    fact->service = world_service_ref(world, build->service);
    fact->commit = world_commit(world, build->commit);
    fact->delivery_id = world_text(world, build->delivery_id);
    fact->actor = world_actor(world, build->actor);
    fact->reason = world_text(world, build->reason);
    fact->detail = world_text(world, build->detail);
    tell(world, build, "dev.enclii.build.waiting.v1", &fact->base);
}

void decide_build_queue(struct world *world, struct build *build, const char *rule,
                        const char *detail)
{
    if (!machine_move(&build->cell, BUILD_QUEUED, world->now_ms, 0)) {
        return;
    }
    world_touch(&build->mark);
    build->queued_ms = world->now_ms;
    build->reason = "";
    build->detail = "";
    tell_queued(world, build, "");
    struct why why = why_of(build, rule);
    world_why(world, &why, "build #%d of %.12s on %s waits for a builder%s%s", build->number,
              build->commit_sha, build->ref, *detail ? ": " : "", detail);
}

/* The first word about a new build: it is in the queue, or waits for the host's CI. */
static void begin(struct world *world, struct build *build, const struct build_order *order)
{
    if (!order->wait_for_ci) {
        decide_build_queue(
            world, build,
            order->pull           ? "pull_request_accepted"
            : *order->delivery_id ? "push_accepted"
                                  : "asked_for",
            build->pull_request > 0
                ? ec_arena_format(world->arena, "pull request #%d, %s", build->pull_request,
                                  build->trusted ? "of this repository" : "from a fork: untrusted")
                : "");
        return;
    }
    machine_begin_plus(&build->cell, MACHINE_BUILD, world->now_ms, world->rules->ci_timeout_ms);
    build->reason = "wait_for_ci";
    build->detail = "no run of the host's CI about this commit is known yet";
    struct why why = why_of(build, "wait_for_ci");
    world_why(world, &why, "build #%d of %.12s waits for the host's CI (waitForCI)", build->number,
              build->commit_sha);
    tell_waiting(world, build);
    decide_ci_build(world, build);
}

static void take_pull(struct world *world, struct build *build, const struct pull *pull)
{
    if (!pull) {
        return;
    }
    const struct approval *approval =
        world_approval(world, build->service, pull->number, build->commit_sha);
    build->pull_request = pull->number;
    build->trusted = !pull->from_fork;
    build->author = pull->author;
    build->author_association = pull->author_association;
    build->approved_by = approval ? approval->approved_by : "";
}

struct build *decide_new_build(struct world *world, const struct build_order *order)
{
    struct service *svc = order->service;
    struct ec_id id =
        ec_id_derive(world->cause.id, ec_arena_format(world->arena, "build/%s", svc->id));
    svc->builds++;
    world_touch(&svc->mark);
    struct build row = {
        .id = world_text(world, id.text),
        .service = svc,
        .number = svc->builds,
        .delivery_id = world_text(world, order->delivery_id),
        .spec = svc->spec,
        .commit = world_pack(world, &order->commit->base),
        .actor = world_pack(world, &order->actor->base),
        .commit_sha = world_text(world, order->commit->sha),
        .ref = world_text(world, order->commit->ref),
        .builder_id = "",
        .priority = order->priority,
        .reason = "",
        .detail = "",
        .digest = "",
        .image_repo = ec_arena_format(world->arena, "%s/%s/%s", world->rules->registry,
                                      svc->project_slug, svc->name),
        .trace = world_text(world, world->cause.trace),
        .steps = "[]",
        .push_received_ms = order->push_received_ms,
        .queued_ms = world->now_ms,
        .trusted = true,
        .author = "",
        .author_association = "",
        .approved_by = "",
        .mark = ROW_NEW,
    };
    take_pull(world, &row, order->pull);
    machine_begin(&row.cell, MACHINE_BUILD, world->now_ms);
    struct build *build = world_add_build(world, &row);
    supersede_older(world, build);
    begin(world, build, order);
    return build;
}

Enclii__V1__BuildSpec *decide_build_spec(struct world *world, const Enclii__V1__ServiceSpec *spec,
                                         bool trusted)
{
    Enclii__V1__BuildSpec *copy = world_message(world, &enclii__v1__build_spec__descriptor);
    if (spec->build) {
        *copy = *spec->build;
    }
    if (!trusted) {
        copy->n_args = 0;
        copy->args = NULL;
    }
    return copy;
}

/* ---- endings ---- */

static bool move(struct world *world, struct build *build, uint8_t to, int64_t extra_ms)
{
    if (!machine_move(&build->cell, to, world->now_ms, extra_ms)) {
        return false;
    }
    world_touch(&build->mark);
    if (machine_ended(&build->cell)) {
        build->finished_ms = world->now_ms;
        ec_metric_add(&builds, machine_text(&build->cell), 1);
    }
    return true;
}

static void cancel_command(struct world *world, const struct build *build, const char *reason)
{
    Enclii__V1__CancelBuild *command = world_message(world, &enclii__v1__cancel_build__descriptor);
    command->build_id = world_text(world, build->id);
    command->attempt = build->attempt;
    command->builder_id = world_text(world, build->builder_id);
    command->reason = world_text(world, reason);
    world_fact(world, &(struct fact_spec){.topic = EC_TOPIC_BUILD_COMMANDS,
                                          .key = build->service->id,
                                          .type = "dev.enclii.build.cancel.v1",
                                          .subject = build->id,
                                          .trace = build->trace,
                                          .body = &command->base});
}

static const char *ended_type(uint8_t state)
{
    return state == BUILD_SUPERSEDED  ? "dev.enclii.build.superseded.v1"
           : state == BUILD_TIMED_OUT ? "dev.enclii.build.timed_out.v1"
                                      : "dev.enclii.build.cancelled.v1";
}

bool decide_build_end(struct world *world, struct build *build, const struct build_end *end)
{
    bool working = build->cell.state == BUILD_LEASED || build->cell.state == BUILD_RUNNING;
    if (!move(world, build, end->to, 0)) {
        return false;
    }
    build->reason = end->rule;
    build->detail = end->detail;
    if (working) {
        cancel_command(world, build, end->rule);
    }
    Enclii__V1__BuildEnded *fact = world_message(world, &enclii__v1__build_ended__descriptor);
    fact->build_id = world_text(world, build->id);
    fact->attempt = build->attempt;
    fact->reason = world_text(world, end->detail);
    fact->by_build_id = world_text(world, end->by_build_id);
    tell(world, build, ended_type(end->to), &fact->base);
    struct why why = why_of(build, end->rule);
    world_why(world, &why, "%s", end->detail);
    return true;
}

static void fail(struct world *world, struct build *build, Enclii__V1__BuildFailure reason,
                 const char *detail)
{
    const ProtobufCEnumValue *name =
        protobuf_c_enum_descriptor_get_value(&enclii__v1__build_failure__descriptor, reason);
    move(world, build, BUILD_FAILED, 0);
    build->reason = name ? name->name + strlen("BUILD_FAILURE_") : "INTERNAL";
    build->detail = world_text(world, detail);
    struct why why = why_of(build, "build_failed");
    world_why(world, &why, "%s: %s", build->reason, detail);
}

/* The builder did not say it (it is gone, or hopes for another try), so we do. */
static void tell_failed(struct world *world, const struct build *build,
                        Enclii__V1__BuildFailure reason)
{
    Enclii__V1__BuildFailed *fact = world_message(world, &enclii__v1__build_failed__descriptor);
    fact->build_id = world_text(world, build->id);
    fact->attempt = build->attempt;
    fact->reason = reason;
    fact->detail = world_text(world, build->detail);
    tell(world, build, "dev.enclii.build.failed.v1", &fact->base);
}

/* Silence, a builder that stops or has no slot or disk: its trouble, whatever is built. */
static bool is_loss(Enclii__V1__BuildFailure reason)
{
    return reason == ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_LOST ||
           reason == ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_INTERNAL;
}

static const char *times(struct world *world, int32_t count)
{
    return count == 1   ? "once"
           : count == 2 ? "twice"
                        : ec_arena_format(world->arena, "%d times", count);
}

/* One build can bring down builder after builder, so losses have an end, too. */
static bool ends_here(struct world *world, const struct build *build, bool lost)
{
    return lost ? build->losses >= world->rules->losses_max
                : build->attempt - build->losses >= world->rules->attempts_max;
}

void decide_build_again(struct world *world, struct build *build, Enclii__V1__BuildFailure reason,
                        const char *detail)
{
    bool lost = is_loss(reason);
    build->losses += lost;
    if (reason == ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_LOST) {
        cancel_command(world, build, "lost"); /* it may only be cut off, and still be building */
    }
    if (ends_here(world, build, lost)) {
        const char *text =
            lost ? ec_arena_format(world->arena, "the builder was lost %s, no more is tried: %s",
                                   times(world, build->losses), detail)
                 : ec_arena_format(world->arena, "%s (%d attempts)", detail,
                                   build->attempt - build->losses);
        fail(world, build, reason, text);
        tell_failed(world, build, reason);
        return;
    }
    move(world, build, BUILD_QUEUED, 0);
    build->steps = "[]";
    build->steps_replace = true;
    const char *again =
        lost ? ec_arena_format(world->arena,
                               "the builder was lost %s (of at most %d), no attempt of the build: "
                               "%s",
                               times(world, build->losses), world->rules->losses_max, detail)
             : ec_arena_format(world->arena, "attempt %d of %d has failed: %s",
                               build->attempt - build->losses, world->rules->attempts_max, detail);
    tell_queued(world, build, again);
    struct why why = why_of(build, lost ? "builder_lost" : "next_attempt");
    world_why(world, &why, "%s", again);
}

/* ---- words of builders ---- */

/* The build this is about, when the word counts; else says why it does not. */
static struct build *heard(struct world *world, const char *build_id, int32_t attempt,
                           const char *word)
{
    struct build *build = world_build(world, build_id);
    if (!build) {
        world_why(world, &(struct why){NULL, "build", build_id, "unknown_build", "ignored"},
                  "%s about a build that does not exist or whose service is gone", word);
        return NULL;
    }
    bool working = build->cell.state == BUILD_LEASED || build->cell.state == BUILD_RUNNING;
    if (working && build->attempt == attempt) {
        return build;
    }
    ec_metric_add(&ignored, "build", 1);
    struct why why = why_of(build, build->attempt == attempt ? "late_result" : "old_attempt");
    why.outcome = "ignored";
    world_why(world, &why, "%s of attempt %d came while the build is %s (attempt %d)", word,
              attempt, machine_text(&build->cell), build->attempt);
    return NULL;
}

void decide_build_started(struct world *world, const void *body)
{
    const Enclii__V1__BuildStarted *word = body;
    struct build *build = heard(world, word->build_id, word->attempt, "started");
    if (build && move(world, build, BUILD_RUNNING, timeout_ms(world, build))) {
        build->started_ms = world->now_ms;
        build->heard_ms = world->now_ms;
    }
}

void decide_build_step(struct world *world, const void *body)
{
    const Enclii__V1__BuildStepFinished *word = body;
    struct build *build = world_build(world, word->build_id);
    if (!build || !word->step || machine_ended(&build->cell) || build->attempt != word->attempt ||
        build->cell.state == BUILD_QUEUED || build->cell.state == BUILD_WAITING) {
        return; /* progress of the past is no news */
    }
    const char *more = world_steps(world, &word->step, 1);
    bool first = strcmp(build->steps, "[]") == 0;
    build->steps = first ? more
                         : ec_arena_format(world->arena, "%.*s,%s", (int)strlen(build->steps) - 1,
                                           build->steps, more + 1);
    build->heard_ms = world->now_ms;
    world_touch(&build->mark);
}

void decide_build_succeeded(struct world *world, const void *body)
{
    const Enclii__V1__BuildSucceeded *word = body;
    struct build *build = heard(world, word->build_id, word->attempt, "succeeded");
    if (!build) {
        return;
    }
    build->steps = world_steps(world, word->steps, word->n_steps);
    build->steps_replace = true;
    const char *bad = !ec_digest_valid(word->digest) ? "the builder gave no sha256 digest"
                      : *word->commit_sha && strcmp(word->commit_sha, build->commit_sha) != 0
                          ? "the builder checked out another commit"
                          : NULL;
    if (bad) {
        fail(world, build, ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_INTERNAL, bad);
        tell_failed(world, build, ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_INTERNAL);
        return;
    }
    move(world, build, BUILD_SUCCEEDED, 0);
    build->digest = world_text(world, word->digest);
    const struct release *release = decide_new_release(world, build, word);
    struct why why = why_of(build, "build_succeeded");
    world_why(world, &why, "%s is release %s, which waits for its signature", build->digest,
              release->version);
}

void decide_build_failed(struct world *world, const void *body)
{
    const Enclii__V1__BuildFailed *word = body;
    if (!*word->builder_id) {
        return; /* our own word, told to the others */
    }
    struct build *build = heard(world, word->build_id, word->attempt, "failed");
    if (!build) {
        return;
    }
    build->steps = world_steps(world, word->steps, word->n_steps);
    build->steps_replace = true;
    if (word->retryable) {
        decide_build_again(world, build, word->reason, word->detail);
        return;
    }
    if (word->reason == ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_TIMED_OUT) {
        decide_build_end(world, build,
                         &(struct build_end){BUILD_TIMED_OUT, "build_timed_out",
                                             world_text(world, word->detail), ""});
        return;
    }
    fail(world, build, word->reason, word->detail);
}
