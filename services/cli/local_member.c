/* One component under the supervisor: starting it, asking whether it is ready, starting it again
 * when it ended, stopping it. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "local_supervise.h"

#define PROBE_EVERY_MS 60
#define READY_WITHIN_MS 90000
#define STEADY_MS 10000 /* after this long a crash counts as the first again */
#define EXITS_BEFORE_FAILED 3
#define FAILED_AFTER_MS 8000 /* what a kill left behind may be in the way for some seconds */
#define STOP_GRACE_MS 5000

/* The same platform, with the memory of one round. */
static struct local scratch_local(struct member *member)
{
    struct local local = *member->sup->local;
    local.arena = member->scratch;
    return local;
}

static void set_state(struct member *member, enum member_state state)
{
    member->state = state;
    supervise_soon(member->sup);
}

static void on_pause_over(void *arg)
{
    member_start(arg);
}

static void become_ready(struct member *member)
{
    member->ready_ms = ec_mono_ms();
    if (member->took_ms == 0) {
        member->took_ms = member->ready_ms - member->began_ms;
    }
    member->detail[0] = '\0';
    member->early_exits = 0;
    if (member->sup->failed == member->component->name) {
        member->sup->failed = NULL; /* it came after all */
    }
    set_state(member, READY);
}

static void on_probed(void *arg, bool ready)
{
    struct member *member = arg;
    member->probing = false;
    if (member->state != STARTING) {
        supervise_soon(member->sup); /* stopping may wait for this answer */
        return;
    }
    if (ready) {
        become_ready(member);
        return;
    }
    if (ec_mono_ms() - member->began_ms > READY_WITHIN_MS) {
        snprintf(member->detail, sizeof member->detail, "not ready after %d s",
                 READY_WITHIN_MS / 1000);
        member->sup->failed = member->component->name;
        member->began_ms = ec_mono_ms(); /* keeps asking: it may still come */
        supervise_soon(member->sup);
    }
    ec_timer_start(member->timer, PROBE_EVERY_MS, 0);
}

void member_ask(void *arg)
{
    struct member *member = arg;
    if (member->state == PAUSING || member->state == WAITING) {
        on_pause_over(member);
        return;
    }
    if (member->state != STARTING || member->probing) {
        return;
    }
    ec_arena_reset(member->scratch);
    struct local local = scratch_local(member);
    member->probing = true;
    local_probe_start(&local, member->component, member->sup->loop, member->sup->fetcher, on_probed,
                      member);
}

static void start_later(struct member *member)
{
    if (member->ready_ms && ec_mono_ms() - member->ready_ms > STEADY_MS) {
        ec_backoff_reset(&member->backoff);
    }
    if (!member->ready_ms && ++member->early_exits == 1) {
        member->first_exit_ms = ec_mono_ms();
    }
    if (member->early_exits >= EXITS_BEFORE_FAILED &&
        ec_mono_ms() - member->first_exit_ms >= FAILED_AFTER_MS) {
        member->sup->failed = member->component->name;
    }
    member->restarts++;
    set_state(member, PAUSING);
    ec_timer_start(member->timer, ec_backoff_next_ms(&member->backoff), 0);
}

static void on_process_end(void *arg, const struct ec_process_result *result)
{
    struct member *member = arg;
    struct supervisor *sup = member->sup;
    member->process = NULL;
    member->start = 0;
    bool well = result->exit_code == 0 && !member->component->probe;
    if (sup->stopping) {
        set_state(member, ENDED);
        return;
    }
    if (well) {
        become_ready(member);
        return;
    }
    if (result->signal) {
        snprintf(member->detail, sizeof member->detail, "ended by signal %d", result->signal);
    } else {
        snprintf(member->detail, sizeof member->detail, "ended with status %d", result->exit_code);
    }
    ec_log(EC_LOG_WARN, NULL, "component.ended", "a component ended and is started again",
           EC_T("component", member->component->name), EC_T("detail", member->detail));
    start_later(member);
}

/* A socket that a killed process left behind keeps some programs from starting. */
static void remove_socket(const struct local *local, const struct component *component)
{
    const char *const *words =
        local_words(local, component, component->probe ? component->probe : "");
    if (words[0] && (strcmp(words[0], "unix") == 0 || strcmp(words[0], "socket") == 0)) {
        unlink(words[1]);
    }
}

void member_start(struct member *member)
{
    const struct component *component = member->component;
    ec_arena_reset(member->scratch);
    struct local local = scratch_local(member);
    if (!component->probe && !local_needed(&local, component)) {
        member->shown = false;
        set_state(member, READY);
        return;
    }
    remove_socket(&local, component);
    const char *input = component->input ? local_secret(&local, component->input) : NULL;
    const struct ec_process_spec spec = {
        .argv = local_argv(&local, component),
        .env = local_env(&local, component),
        .cwd = local.home,
        .input = ec_span_of(input),
        .output_file = ec_arena_format(local.arena, "%s/logs/%s.log", local.home, component->name),
        .kill_grace_ms = STOP_GRACE_MS,
        .die_with_parent = true,
        .on_exit = on_process_end,
        .arg = member,
    };
    member->began_ms = ec_mono_ms();
    member->ready_ms = 0;
    struct ec_err err = ec_process_start(member->sup->loop, &spec, &member->process);
    if (ec_failed(err)) {
        member->process = NULL;
        snprintf(member->detail, sizeof member->detail, "%s", err.what);
        start_later(member);
        return;
    }
    member->start = local_process_start(ec_process_pid(member->process));
    set_state(member, STARTING);
    if (component->probe) {
        ec_timer_start(member->timer, PROBE_EVERY_MS / 2, 0);
    }
}

void member_stop(struct member *member)
{
    ec_timer_stop(member->timer);
    if (!member->process) {
        set_state(member, ENDED);
        return;
    }
    if (member->component->stop_signal) {
        kill(ec_process_pid(member->process), member->component->stop_signal);
    }
    ec_process_cancel(member->process);
    set_state(member, STOPPING);
}
