/* A push on its way, step by step: the service's live events, and the build's output while it runs.
 * One table says which event shows what. */
#include "follow.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"

#define FOLLOW_DEADLINE_MS 3600000
#define AFTER_END_MS 1500 /* for what is told after the end: notifications */
#define LOG_LINES_SHOWN 400

struct follow {
    struct cli *cli;
    const json_t *service;
    const char *query;      /* of the stream: with what happened already, or only from now on */
    const char *commit;     /* followed by commit: full or its beginning; "" = the next push */
    const char *deployment; /* followed by deployment; "" = not known yet */
    const char *asked;      /* build that was asked for, and nothing before it; NULL = any */
    const char *build, *release; /* ids, once known; "" before */
    struct stream *logs;         /* output of the build */
    const char *logs_of;         /* which one's */
    int64_t began_unix_ms;       /* the push's arrival */
    int64_t ended_ms;            /* mono: when the final state came; 0 = not yet */
    bool notified;
    bool wants_logs; /* the build has begun */
    size_t log_lines;
    int status;
};

/* What one kind of event shows. {path} in text stands for a value of the event. */
struct row {
    const char *type;  /* without "dev.enclii." and ".v1" */
    const char *title; /* "" = the step's own name */
    const char *text;
    const char *style;
};
static const struct row rows[] = {
    {"push.received", "push received", "{pusher} {ref} {recovered}", NULL},
    {"delivery.accepted", "delivery accepted", "{commit.sha} {commit.message}", "green"},
    {"delivery.ignored", "delivery ignored", "{reason}: {detail}", "yellow"},
    {"approval.needed", "waits for approval", "{command}", "yellow"},
    {"approval.given", "approved", "{by}", "green"},
    {"approval.refused", "approval refused", "{reason}", "yellow"},
    {"approval.lapsed", "not approved", "{reason}", "yellow"},
    {"build.waiting", "waits for CI", "{detail}", "yellow"},
    {"build.queued", "build queued", "{again}", NULL},
    {"build.leased", "build leased", "attempt {attempt} to {builder_id}", NULL},
    {"build.started", "build started", "", NULL},
    {"build.step", "", "{step.detail}", NULL},
    {"build.succeeded", "image", "{image_repo}@{digest}", "green"},
    {"build.failed", "build failed", "{detail}", "red"},
    {"build.cancelled", "build cancelled", "{reason}", "yellow"},
    {"build.superseded", "build superseded", "{reason}", "yellow"},
    {"build.timed_out", "build timed out", "{reason}", "red"},
    {"release.step", "", "{step.detail}", NULL},
    {"release.signed", "signed, verified", "{sbom_components} components, {sbom_format}", "green"},
    {"release.refused", "release refused", "{reason}: {detail}", "red"},
    {"release.ready", "release ready", "{version}", "green"},
    {"release.rejected", "release rejected", "{reason}", "red"},
    {"deployment.created", "rollout", "{version} to {environment.name}", NULL},
    {"deployment.step", "", "{step.detail}", NULL},
    {"deployment.rolled_out", "all traffic", "", "green"},
    {"deployment.reverted", "going back", "{reason}: {detail}", "red"},
    {"deployment.healthy", "HEALTHY", "{version} {urls.0}", "green"},
    {"deployment.failed", "FAILED", "{version} {reason}", "red"},
    {"deployment.rolled_back", "ROLLED_BACK", "{version} {reason}", "red"},
    {"deployment.superseded", "SUPERSEDED", "{reason}", "yellow"},
    {"deployment.cancelled", "CANCELLED", "{reason}", "yellow"},
    {"domain.issued", "certificate", "{hostname} by {issuer}", "green"},
    {"domain.failed", "certificate failed", "{hostname} {detail}", "yellow"},
    {"notification.sent", "notified", "{kind} about {about}", "green"},
    {"notification.failed", "not notified", "{kind}: {reason}", "yellow"},
};

static const char *value_text(struct cli *cli, const json_t *body, const char *path)
{
    if (strcmp(path, "urls.0") == 0) {
        const char *url = json_string_value(json_array_get(ec_json_at(body, "urls"), 0));
        return url ? shown_text(cli, url) : "";
    }
    const json_t *value = ec_json_at(body, path);
    if (json_is_integer(value)) {
        return ec_arena_format(cli->arena, "%lld", (long long)json_integer_value(value));
    }
    if (json_is_true(value)) {
        return ec_arena_format(cli->arena, "(%s)", path);
    }
    const char *text = json_is_string(value) ? shown_text(cli, json_string_value(value)) : "";
    return strcmp(path, "commit.sha") == 0 ? ec_arena_format(cli->arena, "%.7s", text) : text;
}

static const char *fill_in(struct cli *cli, const char *text, const json_t *body)
{
    const char *out = "";
    while (*text) {
        size_t plain = strcspn(text, "{");
        out = ec_arena_format(cli->arena, "%s%.*s", out, (int)plain, text);
        text += plain;
        if (*text) {
            size_t len = strcspn(text, "}");
            const char *path = ec_arena_text(cli->arena, (struct ec_span){text + 1, len - 1});
            out = ec_arena_format(cli->arena, "%s%s", out, value_text(cli, body, path));
            text += len + 1;
        }
    }
    return out;
}

static void print_row(struct follow *follow, const char *title, const char *text, const char *style,
                      int64_t at_unix_ms, int64_t took_ms)
{
    struct cli *cli = follow->cli;
    int64_t since = follow->began_unix_ms ? at_unix_ms - follow->began_unix_ms : 0;
    char name[40];
    snprintf(name, sizeof name, "%-18s", title);
    size_t line = strcspn(text, "\n");
    printf("%s %s %8s  %.*s\n",
           paint(cli, ec_arena_format(cli->arena, "%7.2fs", (double)(since < 0 ? 0 : since) / 1000),
                 "dim"),
           paint(cli, name, style), took_ms > 0 ? ec_duration_text(cli->arena, took_ms) : "",
           (int)line, text);
    for (text += line + strspn(text + line, "\n"); *text;
         text += line + strspn(text + line, "\n")) {
        line = strcspn(text, "\n"); /* further lines stand under the first */
        printf("%38s%.*s\n", "", (int)line, text);
    }
    fflush(stdout);
}

/* ---- the build's output, while it runs ---- */
static void show_log_line(struct follow *follow, const json_t *line)
{
    struct cli *cli = follow->cli;
    const char *text = shown_text(cli, ec_json_text(line, "text"));
    /* What the registry client says about each layer is for `enclii logs`. */
    bool chatter = strcmp(ec_json_text(line, "step"), "push") == 0 && strncmp(text, "==>", 3) != 0;
    if (chatter || cli->json || ++follow->log_lines > LOG_LINES_SHOWN) {
        return;
    }
    printf("%s\n",
           paint(cli, ec_arena_format(cli->arena, "%9s %-18.18s %8s  %.140s", "", "", "|", text),
                 "dim"));
}

static bool on_log(void *arg, const struct sse_event *event)
{
    struct follow *follow = arg;
    json_t *line = NULL;
    if (strcmp(event->name, "log") == 0 &&
        !ec_failed(ec_json_parse(follow->cli->arena, ec_span_of(event->data), &line))) {
        show_log_line(follow, line);
        fflush(stdout);
    }
    json_decref(line);
    return strcmp(event->name, "end") != 0;
}

static void open_logs(struct follow *follow)
{
    bool other = follow->logs && strcmp(follow->logs_of, follow->build) != 0;
    if (follow->wants_logs && other) { /* the commit is built once more */
        stream_close(EC_TAKE(follow->logs));
    }
    if (follow->wants_logs && !follow->logs && !follow->cli->json) {
        follow->logs_of = follow->build;
        follow->logs = stream_open(
            follow->cli,
            &(struct stream_spec){
                .path = api_path(follow->cli, "/v1/builds/%s/logs/stream", follow->build),
                .deadline_ms = FOLLOW_DEADLINE_MS,
                .quiet = true, /* the events' stream tells it */
                .on_event = on_log,
                .arg = follow});
    }
}

/* ---- whose event is it? ---- */
static bool same_commit(const struct follow *follow, const char *sha)
{
    return follow->commit && sha[0] && strncmp(sha, follow->commit, strlen(follow->commit)) == 0;
}

static bool same(const char *known, const char *id)
{
    return known && known[0] && id[0] && strcmp(known, id) == 0;
}

static const char *keep(struct follow *follow, const char *text)
{
    return ec_arena_strdup(follow->cli->arena, text);
}

/* What this build, its release and their deployment say; what an earlier build of the same commit
 * came to is of no concern. */
static bool of_asked(struct follow *follow, const json_t *body)
{
    const char *build = ec_json_text(body, "build_id"), *release = ec_json_text(body, "release_id");
    const char *deployment = ec_json_text(body, "deployment_id");
    const char *about = ec_json_text(body, "subject_id"); /* of a notification */
    if (same(follow->asked, build)) {
        follow->build = follow->asked;
    }
    if (same(follow->release, release) && deployment[0] && !follow->deployment[0]) {
        follow->deployment = keep(follow, deployment);
    }
    return same(follow->build, build) || same(follow->release, release) ||
           same(follow->deployment, deployment) || same(follow->deployment, about) ||
           same(follow->build, about);
}

static bool ours(struct follow *follow, const char *type, const json_t *body)
{
    if (follow->asked && strncmp(type, "domain.", 7) != 0) {
        return of_asked(follow, body);
    }
    const char *sha = ec_json_text(body, "commit.sha"), *build = ec_json_text(body, "build_id");
    const char *release = ec_json_text(body, "release_id");
    const char *deployment = ec_json_text(body, "deployment_id");
    if (strncmp(type, "notification.", 13) == 0) {
        deployment = ec_json_text(body, "subject_id");
        return same(follow->deployment, deployment) || same(follow->build, deployment);
    }
    if (strncmp(type, "domain.", 7) == 0) {
        return follow->commit && follow->began_unix_ms;
    }
    bool new_deployment = strcmp(type, "deployment.created") == 0 && !follow->deployment[0] &&
                          same_commit(follow, sha);
    bool by_commit = follow->commit && same_commit(follow, sha);
    const char *ref = ec_json_text(body, "commit.ref");
    if (by_commit && !follow->commit[0] &&
        (strncmp(ref, "refs/pull/", 10) == 0 || strncmp(ref, "refs/merge-requests/", 20) == 0)) {
        return false; /* somebody's pull request is not the push that is waited for */
    }
    if (by_commit && !follow->commit[0]) {
        follow->commit = keep(follow, sha); /* "the next push" is the first one seen */
    }
    if (by_commit && build[0] && strcmp(type, "build.queued") == 0 &&
        strcmp(follow->build, build) != 0) {
        follow->build = keep(follow, build);
        follow->release = "";
        follow->deployment = "";
        follow->ended_ms = 0; /* an end that was told before was that of an earlier build */
        follow->status = EXIT_OK;
    }
    if (follow->commit && same(follow->build, build) && release[0]) {
        follow->release = keep(follow, release);
    }
    if (new_deployment) {
        follow->deployment = keep(follow, deployment);
    }
    return (by_commit && !deployment[0]) || same(follow->build, build) ||
           same(follow->release, release) || same(follow->deployment, deployment);
}

static void note_end(struct follow *follow, const char *type)
{
    static const struct {
        const char *type;
        int status;
    } ends[] = {
        {"deployment.healthy", EXIT_OK},
        {"deployment.failed", EXIT_DEPLOYMENT},
        {"deployment.rolled_back", EXIT_DEPLOYMENT},
        {"deployment.superseded", EXIT_DEPLOYMENT},
        {"deployment.cancelled", EXIT_DEPLOYMENT},
        {"build.failed", EXIT_BUILD},
        {"build.cancelled", EXIT_BUILD},
        {"build.superseded", EXIT_BUILD},
        {"build.timed_out", EXIT_BUILD},
        {"release.rejected", EXIT_BUILD},
        {"delivery.ignored", EXIT_ERROR},
    };
    /* A push that is built already, told once more (by a second webhook, or by a sweep). */
    bool repeated = strcmp(type, "delivery.ignored") == 0 && follow->build[0];
    for (size_t i = 0; i < EC_LEN(ends) && !repeated; i++) {
        if (strcmp(type, ends[i].type) == 0) {
            follow->ended_ms = ec_mono_ms();
            follow->status = ends[i].status;
        }
    }
    follow->notified = follow->ended_ms && strcmp(type, "notification.sent") == 0;
}

/* A step is called by its own name; the one that people wait for says what it means. */
static const char *step_title(const json_t *body, const char **text)
{
    const char *step = ec_json_text(body, "step.name");
    if (strcmp(step, "weight") != 0) {
        return step;
    }
    *text = ec_json_text(body, "step.detail")[0] ? "{weight} % of the requests, {step.detail}"
                                                 : "{weight} % of the requests";
    return "route switched";
}

static void show(struct follow *follow, const char *type, const json_t *body, int64_t at_unix_ms)
{
    for (size_t i = 0; i < EC_LEN(rows); i++) {
        if (strcmp(rows[i].type, type) == 0) {
            const char *title = rows[i].title, *text = rows[i].text;
            if (!title[0]) {
                title = step_title(body, &text);
            }
            print_row(follow, title, fill_in(follow->cli, text, body), rows[i].style, at_unix_ms,
                      ec_json_int(body, "step.duration_ms", 0));
            return;
        }
    }
}

const char *event_text(struct cli *cli, const char *type, const json_t *event,
                       const char **ret_style)
{
    for (size_t i = 0; i < EC_LEN(rows); i++) {
        if (strcmp(rows[i].type, type) == 0) {
            const char *text = rows[i].text;
            const char *title = rows[i].title[0] ? "" : step_title(event, &text);
            *ret_style = rows[i].style;
            return ec_arena_format(cli->arena, "%s%s%s", title, title[0] ? " " : "",
                                   fill_in(cli, text, event));
        }
    }
    return "";
}

static bool on_event(void *arg, const struct sse_event *event)
{
    struct follow *follow = arg;
    json_t *root = NULL;
    if (ec_failed(ec_json_parse(follow->cli->arena, ec_span_of(event->data), &root))) {
        return true;
    }
    const char *type = ec_arena_strdup(follow->cli->arena, ec_json_text(root, "type"));
    int64_t at = ec_rfc3339_parse(ec_json_text(root, "time"));
    if (ours(follow, type, root)) {
        if (!follow->began_unix_ms) {
            int64_t received = ec_json_int(root, "received_unix_ms", 0);
            follow->began_unix_ms = received > 0 ? received : at;
        }
        if (follow->cli->json) {
            printf("%s\n", ec_json_dump(follow->cli->arena, root));
            fflush(stdout);
        } else {
            show(follow, type, root, at);
        }
        if (strcmp(type, "build.started") == 0 && follow->build[0]) {
            follow->wants_logs =
                true; /* opened by run: not from within another answer's callback */
        }
        note_end(follow, type);
    }
    json_decref(root);
    return true;
}

static void on_tick(uv_timer_t *timer)
{
    (void)timer; /* only ends the wait, so that the loop below looks at the clock */
}

static int run(struct follow *follow)
{
    struct cli *cli = follow->cli;
    const char *limit = option(cli, "timeout");
    int64_t until = ec_mono_ms() + (limit ? atoll(limit) * 1000 : FOLLOW_DEADLINE_MS);
    struct stream *events = stream_open(
        cli, &(struct stream_spec){.path = api_path(cli, "/v1/services/%s/events%s",
                                                    service_id(follow->service), follow->query),
                                   .deadline_ms = FOLLOW_DEADLINE_MS,
                                   .on_event = on_event,
                                   .arg = follow});
    uv_timer_t tick;
    uv_timer_init(ec_loop_uv(cli->loop), &tick);
    uv_timer_start(&tick, on_tick, 100, 100);
    while (!stream_over(events) && ec_mono_ms() < until) {
        bool told = follow->notified || ec_mono_ms() - follow->ended_ms > AFTER_END_MS;
        if (follow->ended_ms && told) {
            break;
        }
        uv_run(ec_loop_uv(cli->loop), UV_RUN_ONCE);
        open_logs(follow);
    }
    bool cut = stream_over(events);
    uv_close((uv_handle_t *)&tick, NULL);
    int status = stream_close(events);
    if (follow->logs) {
        stream_close(follow->logs); /* whatever it had to say was said */
    }
    uv_run(ec_loop_uv(cli->loop), UV_RUN_NOWAIT);
    if (status != EXIT_OK || follow->ended_ms) {
        return status != EXIT_OK ? status : follow->status;
    }
    return cut ? give_up(EXIT_UNREACHABLE, "the stream of events ended early. Try again, or see:  "
                                           "enclii status")
               : give_up(EXIT_ERROR, "nothing ended within the time given. See:  enclii why");
}

int follow_commit(struct cli *cli, const json_t *service, const char *commit)
{
    struct follow follow = {
        .cli = cli,
        .service = service,
        .commit = commit,
        /* A whole id is picked by the server; a short one here, among all that is known. */
        .query = strlen(commit) >= 40 ? api_path(cli, "?commit=%s", commit)
                 : commit[0]          ? "?replay=true"
                                      : "",
        .deployment = "",
        .build = "",
        .release = ""};
    return run(&follow);
}

int follow_build(struct cli *cli, const json_t *service, const char *commit, const json_t *answer)
{
    struct follow follow = {.cli = cli,
                            .service = service,
                            .commit = commit,
                            .query = api_path(cli, "?commit=%s", commit),
                            .asked = ec_json_text(answer, "build_id"),
                            .deployment = "",
                            .build = "",
                            .release = ec_json_text(answer, "id")};
    return run(&follow);
}

int follow_deployment(struct cli *cli, const json_t *service, const char *deployment_id)
{
    struct follow follow = {.cli = cli,
                            .service = service,
                            .query = "?replay=true",
                            .deployment = deployment_id,
                            .build = "",
                            .release = ""};
    return run(&follow);
}

int cmd_watch(struct cli *cli)
{
    int status = EXIT_OK;
    json_t *service = find_service(cli, cli->args[0], &status);
    const char *commit = option(cli, "commit");
    if (service && commit) {
        commit = find_commit(cli, commit, false, &status);
    }
    return service && status == EXIT_OK ? follow_commit(cli, service, commit ? commit : "")
                                        : status;
}
