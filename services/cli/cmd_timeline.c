/* enclii timeline: one push, step by step, with a bar for each step where it lies in the whole. */
#include "cli.h"

#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/encode.h"
#include "base/json.h"
#include "base/mem.h"

#define BAR_WIDTH 32
#define TITLE_WIDTH_MAX 58
#define TOTALS_MAX 6
#define BLINK_PART 200 /* of the whole: a shorter wait is not shown */
#define LINE_MAX_BYTES 4096

/* ---- bars ---- */

static const char *const eighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"};

char *timeline_bar(struct ec_arena *arena, const struct bar *bar)
{
    ec_cleanup(ec_buf_done) struct ec_buf out;
    ec_buf_init(&out, LINE_MAX_BYTES);
    int64_t span = bar->span_ms > 0 ? bar->span_ms : 1, width = bar->width;
    int64_t start = bar->offset_ms * width / span;
    start = start < 0 ? 0 : start >= width ? width - 1 : start;
    int64_t end8 = ((bar->offset_ms + bar->duration_ms) * width * 8 + span - 1) / span;
    int64_t left8 = end8 - start * 8, room8 = (width - start) * 8;
    left8 = left8 > room8 ? room8 : left8 < 1 ? 1 : left8;
    for (int64_t i = 0; i < start; i++) {
        ec_buf_add_text(&out, " ");
    }
    if (bar->kind == BAR_POINT) {
        ec_buf_add_text(&out, "·");
    }
    for (; bar->kind == BAR_WAIT && left8 > 0; left8 -= 8) {
        ec_buf_add_text(&out, "░");
    }
    for (; bar->kind == BAR_STEP && left8 > 0; left8 -= 8) {
        ec_buf_add_text(&out, eighths[left8 > 8 ? 8 : left8]);
    }
    return ec_arena_text(arena, ec_buf_span(&out));
}

static const char *stage_style(const char *stage)
{
    static const struct {
        const char *stage, *style;
    } styles[] = {{"receive", "dim"},   {"queue", "dim"},   {"build", "blue"},   {"sign", "cyan"},
                  {"rollout", "green"}, {"domain", "cyan"}, {"notify", "yellow"}};
    for (size_t i = 0; i < EC_LEN(styles); i++) {
        if (strcmp(styles[i].stage, stage) == 0) {
            return styles[i].style;
        }
    }
    return "dim";
}

/* ---- lines ---- */

/* At most `max` letters, the last one "…" when it is longer. */
static const char *cut(struct cli *cli, const char *text, size_t max)
{
    if (text_letters(text) <= max) {
        return text;
    }
    const char *at = text;
    for (size_t i = 0; i + 1 < max && *at; i++) {
        size_t len = ec_utf8_len(ec_span_of(at));
        at += len ? len : 1;
    }
    return ec_arena_format(cli->arena, "%.*s…", (int)(at - text), text);
}

static void print_padded(struct cli *cli, const char *text, const char *style, size_t width)
{
    fputs(paint(cli, text, style), stdout);
    for (size_t i = text_letters(text); i < width; i++) {
        putchar(' ');
    }
}

static const char *title_of(struct cli *cli, const json_t *item)
{
    const char *title = ec_json_text(item, "title");
    if (strcmp(ec_json_text(item, "kind"), "wait") != 0) {
        return title;
    }
    return ec_arena_format(cli->arena, "%s %s",
                           ec_json_bool(item, "open", false) ? "waits for" : "waited for", title);
}

static size_t title_width(struct cli *cli, const json_t *items)
{
    size_t i, width = 20;
    const json_t *item;
    json_array_foreach(items, i, item)
    {
        const char *detail = ec_json_text(item, "detail");
        size_t need =
            text_letters(title_of(cli, item)) + (detail[0] ? 2 : 0) + text_letters(detail);
        width = need > width ? need : width;
    }
    return width > TITLE_WIDTH_MAX ? TITLE_WIDTH_MAX : width;
}

static void print_item(struct cli *cli, const json_t *item, int64_t span_ms, size_t width)
{
    const char *kind = ec_json_text(item, "kind");
    bool failed = ec_json_bool(item, "failed", false), wait = strcmp(kind, "wait") == 0;
    int64_t offset = ec_json_int(item, "offset_ms", 0), took = ec_json_int(item, "duration_ms", 0);
    struct bar bar = {.offset_ms = offset,
                      .duration_ms = took,
                      .span_ms = span_ms,
                      .width = BAR_WIDTH,
                      .kind = wait                        ? BAR_WAIT
                              : strcmp(kind, "step") == 0 ? BAR_STEP
                                                          : BAR_POINT};
    const char *style = failed ? "red" : stage_style(ec_json_text(item, "stage"));
    const char *title = cut(cli, title_of(cli, item), width);
    size_t room = width - text_letters(title);
    const char *detail = room > 4 ? cut(cli, ec_json_text(item, "detail"), room - 2) : "";
    printf("%9s  ", ec_duration_text(cli->arena, offset));
    fputs(paint(cli, title, failed ? "red" : wait ? "dim" : NULL), stdout);
    fputs(detail[0] ? "  " : "", stdout);
    print_padded(cli, detail, "dim", room - (detail[0] ? 2 : 0));
    printf("%9s  %s\n", bar.kind == BAR_POINT ? "" : ec_duration_text(cli->arena, took),
           paint(cli, timeline_bar(cli->arena, &bar), wait ? "dim" : style));
}

/* ---- where the time went ---- */

static const json_t *largest_below(const json_t *totals, int64_t below, const json_t *after)
{
    const json_t *total, *best = NULL;
    bool passed = after == NULL;
    size_t i;
    json_array_foreach(totals, i, total)
    {
        int64_t ms = ec_json_int(total, "duration_ms", 0);
        bool next = ms < below || (ms == below && passed);
        if (total == after) {
            passed = true;
            continue;
        }
        if (next && (!best || ms > ec_json_int(best, "duration_ms", 0))) {
            best = total;
        }
    }
    return best;
}

static void print_totals(struct cli *cli, const json_t *lane)
{
    const json_t *totals = ec_json_at(lane, "totals"), *total = NULL;
    int64_t whole = ec_json_int(lane, "duration_ms", 0), below = INT64_MAX;
    if (whole <= 0 || json_array_size(totals) == 0) {
        return;
    }
    printf("\n  %s\n", paint(cli, "Where the time went", "bold"));
    for (int n = 0; n < TOTALS_MAX && (total = largest_below(totals, below, total)); n++) {
        below = ec_json_int(total, "duration_ms", 0);
        bool wait = strcmp(ec_json_text(total, "kind"), "wait") == 0;
        struct bar bar = {0, below, whole, BAR_WIDTH, wait ? BAR_WAIT : BAR_STEP};
        const char *what = ec_json_text(total, "what");
        what = wait ? ec_arena_format(cli->arena, "waiting for %s", what) : what;
        printf("  %9s %3d %%  ", ec_duration_text(cli->arena, below), (int)(below * 100 / whole));
        fputs(paint(cli, timeline_bar(cli->arena, &bar), wait ? "dim" : "blue"), stdout);
        printf("  %s\n", cut(cli, what, 80));
    }
}

/* ---- the whole ---- */

static const char *outcome_text(struct cli *cli, const json_t *lane)
{
    const char *outcome = ec_json_text(lane, "outcome"), *dot = strchr(outcome, '.');
    const char *took = ec_duration_text(cli->arena, ec_json_int(lane, "duration_ms", 0));
    if (ec_json_bool(lane, "open", false)) {
        return paint(cli, ec_arena_format(cli->arena, "under way for %s", took), "yellow");
    }
    bool failed = ec_json_bool(lane, "failed", false);
    const char *word = strcmp(outcome, "deployment.healthy") == 0 ? "serving" : outcome;
    if (word == outcome && failed) {
        word = ec_arena_format(cli->arena, "%.*s %s", (int)(dot ? dot - outcome : 0), outcome,
                               dot ? dot + 1 : outcome);
    } else if (word == outcome && dot) {
        word = ec_arena_format(cli->arena, "%.*s %s", (int)(dot - outcome), outcome, dot + 1);
    }
    return paint(cli, ec_arena_format(cli->arena, "%s after %s", word, took),
                 failed ? "red" : "green");
}

static void print_head(struct cli *cli, const json_t *story, const json_t *lane)
{
    const json_t *commit = ec_json_at(story, "commit");
    const char *ref = ec_json_text(commit, "ref"), *branch = "refs/heads/";
    const char *message = ec_json_text(commit, "message"), *who = ec_json_text(commit, "pusher");
    ref = strncmp(ref, branch, strlen(branch)) == 0 ? ref + strlen(branch) : ref;
    const char *service = ec_json_text(lane, "service");
    printf("%s%s%.7s%s%s%s%s%s%s%s\n", paint(cli, service, "bold"), service[0] ? "  " : "",
           ec_json_text(commit, "sha"), message[0] ? " \"" : "", message, message[0] ? "\"" : "",
           ref[0] ? " on " : "", ref, who[0] ? " by " : "", who);
    const char *started = ec_json_text(story, "started_at");
    printf(
        "%s, %s\n\n", outcome_text(cli, lane),
        paint(cli, ec_arena_format(cli->arena, "%s (%s)", started, ago_text(cli, started)), "dim"));
}

/* A wait too short for the eye; --output json has them all. */
static bool is_blink(const json_t *item, int64_t span_ms)
{
    return strcmp(ec_json_text(item, "kind"), "wait") == 0 && !ec_json_bool(item, "open", false) &&
           ec_json_int(item, "duration_ms", 0) * BLINK_PART < span_ms;
}

static void print_lane(struct cli *cli, const json_t *story, const json_t *lane)
{
    const json_t *items = ec_json_at(lane, "items"), *item;
    int64_t span = ec_json_int(lane, "span_ms", 0), blinked = 0;
    size_t i, width = title_width(cli, items);
    print_head(cli, story, lane);
    json_array_foreach(items, i, item)
    {
        if (is_blink(item, span)) {
            blinked += ec_json_int(item, "duration_ms", 0);
        } else {
            print_item(cli, item, span, width);
        }
    }
    if (blinked > 0) {
        printf("%9s  %s\n", "",
               paint(cli,
                     ec_arena_format(cli->arena, "and shorter waits on the way, %s together",
                                     ec_duration_text(cli->arena, blinked)),
                     "dim"));
    }
    print_totals(cli, lane);
}

static int print_story(struct cli *cli, const json_t *story)
{
    const json_t *services = ec_json_at(story, "services"), *lane;
    size_t i;
    if (json_array_size(services) == 0) {
        puts("Nothing of it is in the event history: it is older than what is kept, or "
             "enclii-history has not caught up yet.");
        return EXIT_OK;
    }
    json_array_foreach(services, i, lane)
    {
        fputs(i ? "\n\n" : "", stdout);
        print_lane(cli, story, lane);
        if (ec_json_bool(lane, "open", false)) {
            printf("\nWhat it waits for, rule by rule:  enclii why %s\n",
                   strchr(ec_json_text(lane, "service"), '/')
                       ? strchr(ec_json_text(lane, "service"), '/') + 1
                       : "");
        }
    }
    return EXIT_OK;
}

/* ---- what is meant ---- */

/* The id of the newest build of a service; NULL = said what is wrong. */
static const char *newest_build(struct cli *cli, const char *service_name, int *ret_exit)
{
    struct reply reply;
    json_t *service = find_service(cli, service_name, ret_exit);
    if (!service ||
        !api_call(cli, "GET", api_path(cli, "/v1/services/%s/builds?limit=1", service_id(service)),
                  NULL, &reply, ret_exit)) {
        return NULL;
    }
    const json_t *build = json_array_get(ec_json_at(reply.body, "builds"), 0);
    if (!build) {
        *ret_exit = give_up(EXIT_NOT_FOUND, "nothing of %s was built yet. Why:  enclii why %s",
                            ec_json_text(service, "name"), ec_json_text(service, "name"));
        return NULL;
    }
    return ec_json_text(build, "id");
}

static char *timeline_path(struct cli *cli, const char *what)
{
    return api_path(cli, "/v1/timeline/%s", ec_percent(cli->arena, ec_span_of(what)));
}

int cmd_timeline(struct cli *cli)
{
    int status = EXIT_OK;
    struct reply reply;
    const char *what = cli->arg_count ? find_what(cli, cli->args[0], &status)
                                      : newest_build(cli, option(cli, "service"), &status);
    if (!what) {
        return status;
    }
    if (!api_look(cli, timeline_path(cli, what), &reply, &status)) {
        if (status != EXIT_NOT_FOUND) {
            return status;
        }
        bool name = strspn(what, "0123456789abcdef-") != strlen(what);
        what = name ? newest_build(cli, what, &status) : what;
        if (!what || !api_call(cli, "GET", timeline_path(cli, what), NULL, &reply, &status)) {
            return status;
        }
    }
    return cli->json ? print_json(reply.body) : print_story(cli, reply.body);
}
