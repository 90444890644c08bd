/* The table says of each kind of event how it reads and what is waited for after it; the rest is
 * arithmetic. The frontier is the time up to which the way of a push is explained: what begins
 * later than it leaves a gap, which gets the name that the mark before it gives. */
#include "decide_timeline.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"

#define GAP_MIN_MS 5 /* below it nobody waits: it is the way through Kafka */
#define STEP_MAX_MS ((int64_t)86400000)
#define TEXT_MAX_BYTES 400
#define ENDED_READY_MS 10000 /* a ready release that nobody deploys is an end, too */

enum place {
    MAIN,   /* on the way: it moves the frontier */
    END,    /* so does this, and nothing needs to follow */
    BESIDE, /* goes on beside the way */
};

struct kind {
    const char *type, *stage, *who;
    enum place place;
    bool failed;
    const char *title, *detail; /* {path}: of the body */
    const char *then;           /* what is waited for after it */
};

static const struct kind kinds[] = {
    {"push.received", "receive", "webhook", MAIN, false, "push received", "{ref} {recovered}",
     "pipeline to decide about it"},
    {"delivery.accepted", "receive", "pipeline", MAIN, false, "accepted", "",
     "its build to be queued"},
    {"delivery.ignored", "receive", "pipeline", END, false, "ignored", "{reason}: {detail}", ""},
    {"delivery.received", "receive", "webhook", END, false, "{delivery.event} received",
     "{reason}: {detail}", ""},
    {"pull_request.changed", "receive", "webhook", END, false, "pull request {delivery.action}",
     "{title}", ""},
    {"ref.changed", "receive", "webhook", END, false, "ref changed", "{ref}", ""},
    {"repository.changed", "receive", "webhook", END, false, "repository {delivery.action}",
     "{new_full_name}", ""},
    {"ci.changed", "receive", "webhook", END, false, "CI {status}", "{name}", ""},
    {"release_tag.changed", "receive", "webhook", END, false, "release {delivery.action}", "{tag}",
     ""},
    {"image.pushed", "receive", "webhook", END, false, "image pushed", "{repository}:{tag}", ""},
    {"installation.changed", "receive", "webhook", END, false, "installation {delivery.action}",
     "{account}", ""},
    {"board_item.changed", "receive", "webhook", END, false, "board item {delivery.action}",
     "{field}", ""},
    {"request.build", "receive", "api", MAIN, false, "build asked for", "{actor.name}",
     "pipeline to decide about it"},
    {"request.deploy", "receive", "api", MAIN, false, "deployment asked for", "{actor.name}",
     "pipeline to decide about it"},
    {"request.rollback", "receive", "api", MAIN, false, "rollback asked for", "{actor.name}",
     "pipeline to decide about it"},
    {"request.cancel", "receive", "api", BESIDE, false, "cancel asked for", "{actor.name}", ""},
    {"request.remove_service", "receive", "api", MAIN, false, "removal asked for", "{actor.name}",
     "pipeline to decide about it"},
    {"request.approve", "receive", "api", BESIDE, false, "commit approved", "{actor.name}", ""},
    {"paths.wanted", "receive", "pipeline", MAIN, false, "its changes asked for", "",
     "sweeper to tell what it changes"},
    {"push.compared", "receive", "sweeper", MAIN, false, "changes compared", "{detail}",
     "pipeline to decide about it"},
    {"approval.needed", "receive", "pipeline", MAIN, false, "waits for an approval", "{command}",
     "a member to approve it"},
    {"approval.given", "receive", "pipeline", MAIN, false, "approved", "{by}",
     "its build to be queued"},
    {"approval.refused", "receive", "pipeline", BESIDE, false, "approval refused", "{reason}", ""},
    {"approval.lapsed", "receive", "pipeline", END, false, "nobody approved it", "{reason}", ""},
    {"approval.superseded", "receive", "pipeline", END, false, "nobody approved it", "{reason}",
     ""},
    {"build.waiting", "queue", "pipeline", MAIN, false, "waiting", "{detail}", "the git host's CI"},
    {"build.queued", "queue", "pipeline", MAIN, false, "queued", "{again}",
     "a builder with a free slot"},
    {"build.leased", "queue", "pipeline", MAIN, false, "given to a builder",
     "{builder_id}, attempt {attempt}", "the builder to begin"},
    {"build.started", "build", "builder", MAIN, false, "build begins", "{builder_id}",
     "the builder to finish its next step"},
    {"build.step", "build", "builder", MAIN, false, "{step.name}", "{step.detail}",
     "the builder to finish its next step"},
    {"build.succeeded", "build", "builder", MAIN, false, "image built", "{digest}",
     "pipeline to make the release"},
    {"build.failed", "build", "builder", END, true, "build failed", "{detail}", "the next attempt"},
    {"build.cancelled", "build", "pipeline", END, true, "build cancelled", "{reason}", ""},
    {"build.superseded", "build", "pipeline", END, true, "build superseded", "{reason}", ""},
    {"build.timed_out", "build", "pipeline", END, true, "build timed out", "{reason}", ""},
    {"release.created", "sign", "pipeline", MAIN, false, "release made", "{version}",
     "the signer to take it up"},
    {"release.step", "sign", "signer", MAIN, false, "{step.name}", "{step.detail}",
     "the signer to finish its next step"},
    {"release.signed", "sign", "signer", MAIN, false, "signed and verified",
     "{sbom_components} components", "pipeline to accept it"},
    {"release.refused", "sign", "signer", MAIN, true, "refused", "{reason}: {detail}",
     "pipeline to note it"},
    {"release.ready", "sign", "pipeline", MAIN, false, "release ready", "{version}",
     "its deployment"},
    {"release.rejected", "sign", "pipeline", END, true, "release rejected", "{reason}", ""},
    {"deployment.created", "rollout", "pipeline", MAIN, false, "deployment begins",
     "{version} to {environment.name}", "the reconciler to take it up"},
    {"deployment.step", "rollout", "reconciler", MAIN, false, "{step.name}", "{step.detail}",
     "the next step of the rollout"},
    {"deployment.rolled_out", "rollout", "reconciler", MAIN, false, "all traffic on it", "",
     "pipeline to note it"},
    {"deployment.reverted", "rollout", "reconciler", MAIN, true, "went back", "{reason}: {detail}",
     "pipeline to note it"},
    {"deployment.status", "rollout", "reconciler", BESIDE, false, "what runs changed", "{note}",
     ""},
    {"deployment.healthy", "rollout", "pipeline", END, false, "healthy", "{version}", ""},
    {"deployment.failed", "rollout", "pipeline", END, true, "deployment failed",
     "{reason}: {detail}", ""},
    {"deployment.rolled_back", "rollout", "pipeline", END, true, "rolled back",
     "{reason}: {detail}", ""},
    {"deployment.superseded", "rollout", "pipeline", END, true, "deployment superseded", "{detail}",
     ""},
    {"deployment.cancelled", "rollout", "pipeline", END, true, "deployment cancelled", "{detail}",
     ""},
    {"domain.desired", "domain", "pipeline", BESIDE, false, "certificate wanted", "{hostname}", ""},
    {"domain.issued", "domain", "domain", BESIDE, false, "certificate served", "{hostname}", ""},
    {"domain.failed", "domain", "domain", BESIDE, true, "no certificate", "{hostname}: {detail}",
     ""},
    {"notification.sent", "notify", "notifier", BESIDE, false, "told by {kind}", "{about}", ""},
    {"notification.failed", "notify", "notifier", BESIDE, true, "could not tell", "{reason}", ""},
};

static const struct kind *kind_of(const char *type)
{
    for (size_t i = 0; i < EC_LEN(kinds); i++) {
        if (strcmp(kinds[i].type, type) == 0) {
            return &kinds[i];
        }
    }
    return NULL; /* desired states, commands, audit: the story tells what came of them */
}

/* ---- texts ---- */

static void fill_in(struct ec_buf *out, const json_t *body, struct ec_span path)
{
    char name[64];
    if (path.len >= sizeof name) {
        return;
    }
    memcpy(name, path.ptr, path.len);
    name[path.len] = '\0';
    const json_t *value = ec_json_at(body, name);
    if (json_is_integer(value)) {
        ec_buf_addf(out, "%lld", (long long)json_integer_value(value));
    } else if (json_is_true(value)) {
        ec_buf_addf(out, "(%s)", name);
    } else if (strcmp(name, "digest") == 0) {
        ec_buf_addf(out, "%.19s", ec_json_text(body, name)); /* sha256: and 12 digits */
    } else {
        ec_buf_add_text(out, ec_json_text(body, name));
    }
}

/* Fills {path}s in; separators that have lost a side go. */
static const char *text_of(struct ec_arena *arena, const char *template, const json_t *body)
{
    ec_cleanup(ec_buf_done) struct ec_buf out;
    ec_buf_init(&out, 64 << 10);
    while (*template) {
        size_t plain = strcspn(template, "{");
        ec_buf_add(&out, template, plain);
        template += plain;
        if (*template == '{') {
            size_t len = strcspn(template, "}");
            fill_in(&out, body, (struct ec_span){template + 1, len - 1});
            template += len + (template[len] == '}');
        }
    }
    ec_buf_add(&out, "", 0);
    const char *begin = out.ptr ? out.ptr : "";
    size_t len = strcspn(begin, "\n"); /* the first line is enough here */
    while (len > 0 && strchr(": ,", begin[len - 1])) {
        len--;
    }
    size_t skip = strspn(begin, ": ,");
    begin += len > skip ? skip : 0;
    len = len > skip ? len - skip : 0;
    if (len > TEXT_MAX_BYTES) {
        for (len = TEXT_MAX_BYTES; len > 0 && ((unsigned char)begin[len] & 0xc0) == 0x80; len--) {
        }
    }
    return ec_arena_text(arena, (struct ec_span){begin, len});
}

/* ---- marks ---- */

struct mark {
    const struct kind *kind;
    const struct timeline_event *event;
    size_t index;
    int64_t from_ms, to_ms;
    bool step;
};

static bool is_weight(const struct mark *mark)
{
    return strcmp(mark->kind->type, "deployment.step") == 0 &&
           strcmp(ec_json_text(mark->event->body, "step.name"), "weight") == 0;
}

static struct mark mark_of(const struct timeline_event *event, const struct kind *kind,
                           size_t index)
{
    struct mark mark = {kind, event, index, event->at_ms, event->at_ms, false};
    const json_t *step = ec_json_at(event->body, "step");
    int64_t took = ec_json_int(step ? step : event->body, "duration_ms", -1);
    if (took < 0 || took > STEP_MAX_MS) {
        return mark;
    }
    int64_t from = ec_json_int(step, "started_unix_ms", 0);
    bool sane = from > event->at_ms - STEP_MAX_MS && from <= event->at_ms;
    mark.from_ms = sane ? from : event->at_ms - took;
    mark.to_ms = mark.from_ms + took;
    mark.step = true;
    return mark;
}

static int by_time(const void *a, const void *b)
{
    const struct mark *x = a, *y = b;
    if (x->from_ms != y->from_ms) {
        return x->from_ms < y->from_ms ? -1 : 1;
    }
    if (x->event->at_ms != y->event->at_ms) {
        return x->event->at_ms < y->event->at_ms ? -1 : 1;
    }
    return x->index < y->index ? -1 : 1;
}

/* ---- one service ---- */

struct lane {
    struct ec_arena *arena;
    int64_t begin_ms, frontier_ms, span_ms;
    const struct mark *last; /* on the way */
    json_t *items, *totals;
};

static void add_total(struct lane *lane, const char *what, const char *kind, int64_t took_ms)
{
    size_t i;
    json_t *total;
    if (took_ms <= 0) {
        return;
    }
    json_array_foreach(lane->totals, i, total)
    {
        if (strcmp(ec_json_text(total, "what"), what) == 0) {
            took_ms += ec_json_int(total, "duration_ms", 0);
            json_object_set_new(total, "duration_ms", json_integer(took_ms));
            return;
        }
    }
    json_array_append_new(lane->totals, json_pack("{s:s, s:s, s:I}", "what", what, "kind", kind,
                                                  "duration_ms", (json_int_t)took_ms));
}

/* After some steps of a rollout it is the new version that is waited for. */
static const char *then_of_step(struct lane *lane, const struct mark *mark)
{
    static const char *const after[][2] = {
        {"pull", "it to start"},
        {"start", "it to become healthy"},
        {"healthy", "traffic to be given to it"},
        {"remove", "pipeline to note it"},
    };
    const char *name = ec_json_text(mark->event->body, "step.name");
    int64_t weight = ec_json_int(mark->event->body, "weight", 0);
    if (strcmp(name, "weight") == 0 && weight > 0 && weight < 100) {
        return ec_arena_format(lane->arena, "it to prove itself with %lld %% of the traffic",
                               (long long)weight);
    }
    for (size_t i = 0; i < EC_LEN(after); i++) {
        if (strcmp(after[i][0], name) == 0) {
            return after[i][1];
        }
    }
    return mark->kind->then;
}

static const char *then_of(struct lane *lane, const struct mark *mark)
{
    if (strcmp(mark->kind->type, "deployment.step") == 0) {
        return then_of_step(lane, mark);
    }
    return mark->kind->then[0] ? mark->kind->then : "what came next";
}

static json_t *item_new(const struct lane *lane, int64_t from_ms, int64_t to_ms, const char *kind)
{
    char at[EC_RFC3339_SIZE];
    ec_rfc3339(from_ms, at);
    return json_pack("{s:s, s:I, s:I, s:s}", "at", at, "offset_ms",
                     (json_int_t)(from_ms - lane->begin_ms), "duration_ms",
                     (json_int_t)(to_ms - from_ms), "kind", kind);
}

static void add_gap(struct lane *lane, int64_t to_ms, bool open)
{
    const char *what = then_of(lane, lane->last);
    json_t *item = item_new(lane, lane->frontier_ms, to_ms, "wait");
    json_object_set_new(item, "stage", json_string(lane->last->kind->stage));
    json_object_set_new(item, "title", json_string(what));
    json_object_set_new(item, "open", json_boolean(open));
    json_array_append_new(lane->items, item);
    add_total(lane, what, "wait", to_ms - lane->frontier_ms);
}

static void add_mark(struct lane *lane, const struct mark *mark)
{
    const json_t *body = mark->event->body;
    const char *title = is_weight(mark) ? ec_arena_format(lane->arena, "%lld %% of the traffic",
                                                          (long long)ec_json_int(body, "weight", 0))
                                        : text_of(lane->arena, mark->kind->title, body);
    json_t *item = item_new(lane, mark->from_ms, mark->to_ms, mark->step ? "step" : "fact");
    json_object_set_new(item, "stage", json_string(mark->kind->stage));
    json_object_set_new(item, "who", json_string(mark->kind->who));
    json_object_set_new(item, "title", json_string(title));
    json_object_set_new(item, "detail",
                        json_string(text_of(lane->arena, mark->kind->detail, body)));
    json_object_set_new(item, "failed", json_boolean(mark->kind->failed));
    json_object_set_new(item, "side", json_boolean(mark->kind->place == BESIDE));
    json_array_append_new(lane->items, item);
    if (mark->kind->place != BESIDE && mark->step) {
        int64_t from = mark->from_ms > lane->frontier_ms ? mark->from_ms : lane->frontier_ms;
        add_total(lane, title, "step", mark->to_ms - from);
    }
}

static void walk(struct lane *lane, const struct mark *mark)
{
    bool main = mark->kind->place != BESIDE;
    if (main && lane->last && mark->from_ms - lane->frontier_ms >= GAP_MIN_MS) {
        add_gap(lane, mark->from_ms, false);
    }
    add_mark(lane, mark);
    if (main) {
        lane->frontier_ms = mark->to_ms > lane->frontier_ms ? mark->to_ms : lane->frontier_ms;
        lane->last = mark;
    }
    int64_t end_ms = mark->to_ms - lane->begin_ms;
    lane->span_ms = end_ms > lane->span_ms ? end_ms : lane->span_ms;
}

/* Whether more is to come: the last word on the way was no end. */
static bool is_open(const struct lane *lane, int64_t now_ms)
{
    if (!lane->last) {
        return false;
    }
    const struct mark *last = lane->last;
    if (strcmp(last->kind->type, "release.ready") == 0) {
        return now_ms - last->to_ms < ENDED_READY_MS;
    }
    return last->kind->place != END || ec_json_bool(last->event->body, "retryable", false);
}

static bool concerns(const struct timeline_event *event, const char *service_id)
{
    return !event->service_id[0] || strcmp(event->service_id, service_id) == 0;
}

static json_t *lane_json(struct ec_arena *arena, const struct timeline_event *events, size_t count,
                         const struct timeline_event *of, int64_t now_ms)
{
    struct mark *marks = ec_arena_alloc(arena, (count + 1) * sizeof *marks);
    size_t mark_count = 0;
    for (size_t i = 0; i < count; i++) {
        const struct kind *kind = kind_of(events[i].type);
        if (kind && concerns(&events[i], of->service_id)) {
            marks[mark_count++] = mark_of(&events[i], kind, i);
        }
    }
    qsort(marks, mark_count, sizeof *marks, by_time);
    struct lane lane = {.arena = arena, .items = json_array(), .totals = json_array()};
    lane.begin_ms = lane.frontier_ms = mark_count ? marks[0].from_ms : now_ms;
    for (size_t i = 0; i < mark_count; i++) {
        walk(&lane, &marks[i]);
    }
    bool open = is_open(&lane, now_ms);
    const char *outcome = lane.last ? lane.last->kind->type : "";
    if (open && now_ms > lane.frontier_ms) {
        add_gap(&lane, now_ms, true);
        lane.frontier_ms = now_ms;
        lane.span_ms =
            now_ms - lane.begin_ms > lane.span_ms ? now_ms - lane.begin_ms : lane.span_ms;
    }
    return json_pack("{s:s, s:s, s:s, s:b, s:b, s:I, s:I, s:o, s:o}", "service_id", of->service_id,
                     "service", of->service, "outcome", outcome, "open", open, "failed",
                     lane.last && lane.last->kind->failed, "duration_ms",
                     (json_int_t)(lane.frontier_ms - lane.begin_ms), "span_ms",
                     (json_int_t)lane.span_ms, "items", lane.items, "totals", lane.totals);
}

/* ---- the whole ---- */

static json_t *commit_json(const struct timeline_event *events, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const json_t *body = events[i].body, *commit = ec_json_at(body, "head");
        commit = commit ? commit : ec_json_at(body, "commit");
        if (!ec_json_text(commit, "sha")[0]) {
            continue;
        }
        const char *pusher = ec_json_text(body, "pusher");
        pusher = pusher[0] ? pusher : ec_json_text(body, "actor.name");
        const char *ref = ec_json_text(body, "ref");
        return json_pack("{s:s, s:s, s:s, s:s, s:s}", "sha", ec_json_text(commit, "sha"), "ref",
                         ref[0] ? ref : ec_json_text(commit, "ref"), "message",
                         ec_json_text(commit, "message"), "author",
                         ec_json_text(commit, "author_name"), "pusher", pusher);
    }
    return json_null();
}

static bool is_first_of_service(const struct timeline_event *events, size_t index)
{
    for (size_t i = 0; i < index; i++) {
        if (strcmp(events[i].service_id, events[index].service_id) == 0) {
            return false;
        }
    }
    return events[index].service_id[0] != '\0' && kind_of(events[index].type);
}

json_t *decide_timeline(struct ec_arena *arena, const struct timeline_event *events, size_t count,
                        int64_t now_ms)
{
    json_t *services = json_array();
    for (size_t i = 0; i < count; i++) {
        if (is_first_of_service(events, i)) {
            json_array_append_new(services, lane_json(arena, events, count, &events[i], now_ms));
        }
    }
    if (json_array_size(services) == 0 && count > 0) { /* an ignored push concerns no service */
        struct timeline_event nobody = {.service_id = "", .service = ""};
        json_array_append_new(services, lane_json(arena, events, count, &nobody, now_ms));
    }
    char at[EC_RFC3339_SIZE] = "";
    if (count > 0) {
        ec_rfc3339(events[0].at_ms, at);
    }
    return json_pack("{s:s, s:o, s:o}", "started_at", at, "commit", commit_json(events, count),
                     "services", services);
}
