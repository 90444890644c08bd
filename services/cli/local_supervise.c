/* The supervisor: starts every component once what it needs is ready, starts it again when it ends,
 * stops all in the opposite order, and tells in state.json what is going on. It is one pass over
 * the members, `advance`, that is deferred after every change. One member is in local_member.c. */
#include "local_supervise.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

#define LOG_CHECK_MS 5000
#define SCRATCH_MAX_BYTES (4 << 20)

static const char *const state_names[] = {"waiting",    "starting", "ready",
                                          "restarting", "stopping", "stopped"};

static bool active(const struct member *member)
{
    return member->state == STARTING || member->state == READY || member->state == STOPPING;
}

static bool names(const char *list, const char *name)
{
    size_t len = strlen(name);
    for (const char *at = list; (at = strstr(at, name)); at += len) {
        if ((at == list || at[-1] == ' ') && (at[len] == ' ' || at[len] == '\0')) {
            return true;
        }
    }
    return false;
}

static bool needs_met(const struct supervisor *sup, const struct member *member)
{
    for (size_t i = 0; i < sup->count; i++) {
        const struct member *other = &sup->members[i];
        if (other->state != READY && names(member->component->after, other->component->name)) {
            return false;
        }
    }
    return true;
}

/* Also by way of others: what needs the topics needs Kafka, though the task that makes them is
 * over. The table has no circles. */
static bool depends_on(const struct supervisor *sup, const struct component *from, const char *name)
{
    bool does = names(from->after, name);
    for (size_t i = 0; i < sup->count && !does; i++) {
        const struct component *other = sup->members[i].component;
        does = names(from->after, other->name) && depends_on(sup, other, name);
    }
    return does;
}

static bool still_needed(const struct supervisor *sup, const struct member *member)
{
    for (size_t i = 0; i < sup->count; i++) {
        const struct member *other = &sup->members[i];
        if (active(other) && other->process &&
            depends_on(sup, other->component, member->component->name)) {
            return true;
        }
    }
    return false;
}

/* ---- what others may see ---- */
static json_t *member_json(const struct member *member)
{
    return json_pack(
        "{s:s, s:s, s:b, s:s, s:i, s:I, s:I, s:I, s:i, s:s}", "name", member->component->name,
        "help", member->component->help, "task", member->component->probe == NULL, "state",
        state_names[member->state], "pid", member->process ? ec_process_pid(member->process) : 0,
        "start", (json_int_t)member->start, "took_ms", (json_int_t)member->took_ms, "ready_unix_ms",
        (json_int_t)(member->ready_ms ? ec_unix_ms() - ec_mono_ms() + member->ready_ms : 0),
        "restarts", member->restarts, "detail", member->detail);
}

static bool all_ready(const struct supervisor *sup)
{
    for (size_t i = 0; i < sup->count; i++) {
        if (sup->members[i].state != READY) {
            return false;
        }
    }
    return true;
}

static void write_state(struct supervisor *sup)
{
    json_t *components = json_array();
    for (size_t i = 0; i < sup->count; i++) {
        if (sup->members[i].shown) {
            json_array_append_new(components, member_json(&sup->members[i]));
        }
    }
    json_t *state =
        json_pack("{s:{s:i, s:I}, s:b, s:b, s:s, s:I, s:o}", "supervisor", "pid", (int)getpid(),
                  "start", (json_int_t)local_process_start(getpid()), "ready", all_ready(sup),
                  "stopping", sup->stopping, "failed", sup->failed ? sup->failed : "", "up_ms",
                  (json_int_t)(ec_mono_ms() - sup->began_ms), "components", components);
    struct local local = *sup->local;
    local.arena = sup->scratch;
    struct ec_err err = local_state_write(&local, state);
    if (ec_failed(err)) {
        ec_log(EC_LOG_ERROR, NULL, "state.unwritten", "the state file cannot be written",
               EC_ERR(err));
    }
    json_decref(state);
    ec_arena_reset(sup->scratch);
}

/* ---- the whole ---- */
static void on_signal_closed(uv_handle_t *handle)
{
    (void)handle;
}

static void end(struct supervisor *sup)
{
    sup->ended = true;
    for (size_t i = 0; i < sup->count; i++) {
        ec_timer_free(sup->members[i].timer);
    }
    ec_timer_free(sup->logs);
    for (size_t i = 0; i < EC_LEN(sup->signals); i++) {
        uv_close((uv_handle_t *)&sup->signals[i], on_signal_closed);
    }
    ec_fetcher_close(sup->fetcher);
    ec_loop_stop(sup->loop);
}

static void advance_stop(struct supervisor *sup)
{
    bool all = !sup->rotating;
    for (size_t i = 0; i < sup->count; i++) {
        struct member *member = &sup->members[i];
        if (member->state != ENDED && member->state != STOPPING && !still_needed(sup, member)) {
            member_stop(member);
        }
        all = all && member->state == ENDED && !member->probing;
    }
    if (all && !sup->ended) {
        end(sup);
    }
}

static void advance(void *arg)
{
    struct supervisor *sup = arg;
    sup->advancing = false;
    if (sup->ended) {
        return;
    }
    if (sup->stopping) {
        advance_stop(sup);
    }
    for (size_t i = 0; i < sup->count && !sup->stopping; i++) {
        struct member *member = &sup->members[i];
        if (member->state == WAITING && needs_met(sup, member)) {
            member_start(member);
        }
    }
    write_state(sup);
}

void supervise_soon(struct supervisor *sup)
{
    if (!sup->advancing && !sup->ended) {
        sup->advancing = true;
        ec_loop_defer(sup->loop, advance, sup);
    }
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct supervisor *sup = handle->data;
    (void)number;
    sup->stopping = true;
    supervise_soon(sup);
}

/* ---- log files ---- */
static void rotate(void *arg)
{
    const struct supervisor *sup = arg;
    local_logs_cut(sup->local->home);
}

static void on_rotated(void *arg)
{
    struct supervisor *sup = arg;
    sup->rotating = false;
    supervise_soon(sup);
}

static void on_logs_due(void *arg)
{
    struct supervisor *sup = arg;
    if (!sup->rotating && !sup->stopping) {
        sup->rotating = !ec_failed(ec_loop_work(sup->loop, rotate, on_rotated, sup));
    }
}

static EC_RESULT set_up(struct supervisor *sup)
{
    sup->loop = ec_loop_new();
    EC_TRY(ec_fetcher_open(sup->loop, "enclii-local", 8, &sup->fetcher));
    sup->scratch = ec_arena_new(SCRATCH_MAX_BYTES);
    sup->began_ms = ec_mono_ms();
    for (size_t i = 0; i < local_component_count && i < MEMBERS_MAX; i++) {
        struct member *member = &sup->members[sup->count++];
        member->component = &local_components[i];
        member->sup = sup;
        member->shown = true;
        member->scratch = ec_arena_new(SCRATCH_MAX_BYTES);
        member->backoff = (struct ec_backoff){.first_ms = 100, .cap_ms = 5000};
        member->timer = ec_timer_new(sup->loop, member_ask, member);
    }
    sup->logs = ec_timer_new(sup->loop, on_logs_due, sup);
    ec_timer_start(sup->logs, LOG_CHECK_MS, LOG_CHECK_MS);
    static const int numbers[] = {SIGTERM, SIGINT};
    for (size_t i = 0; i < EC_LEN(numbers); i++) {
        uv_signal_init(ec_loop_uv(sup->loop), &sup->signals[i]);
        sup->signals[i].data = sup;
        uv_signal_start(&sup->signals[i], on_signal, numbers[i]);
    }
    supervise_soon(sup);
    return ec_ok();
}

int local_supervise(struct local *local)
{
    int lock = local_lock(local);
    if (lock < 0) {
        fprintf(stderr, "enclii: another supervisor holds %s/run/lock\n", local->home);
        return 1;
    }
    ec_log_setup("supervisor", EC_LOG_INFO);
    signal(SIGPIPE, SIG_IGN);
    struct supervisor *sup = ec_alloc(sizeof *sup);
    sup->local = local;
    struct ec_err err = set_up(sup);
    if (ec_failed(err)) {
        fprintf(stderr, "enclii: %s\n", err.what);
        return 1;
    }
    ec_loop_run(sup->loop);
    ec_loop_free(sup->loop);
    unlink(local_path(local, "run/state.json"));
    for (size_t i = 0; i < sup->count; i++) {
        ec_arena_free(sup->members[i].scratch);
    }
    ec_arena_free(sup->scratch);
    free(sup);
    close(lock);
    return 0;
}
