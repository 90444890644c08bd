/* The supervisor: starts every component once what it needs is ready, starts it again when it ends,
 * stops all in the opposite order, and tells in state.json what is going on. It is one pass over
 * the members, `advance`, that is deferred after every change. */
#include "local.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/backoff.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/process.h"

#define MEMBERS_MAX 32
#define PROBE_EVERY_MS 60
#define READY_WITHIN_MS 90000
#define STEADY_MS 10000 /* after this long a crash counts as the first again */
#define EXITS_BEFORE_FAILED 3
#define STOP_GRACE_MS 5000
#define LOG_MAX_BYTES (16 << 20)
#define LOG_CHECK_MS 5000
#define SCRATCH_MAX_BYTES (4 << 20)

enum member_state { WAITING, STARTING, READY, PAUSING, STOPPING, ENDED };
static const char *const state_names[] = {"waiting",    "starting", "ready",
                                          "restarting", "stopping", "stopped"};

struct supervisor;

struct member {
    const struct component *component;
    struct supervisor *sup;
    enum member_state state;
    bool shown;   /* false: a task that this start does not need */
    bool probing; /* an answer is owed; the next question waits for it */
    struct ec_process *process;
    struct ec_timer *timer;   /* next probe, or next start */
    struct ec_arena *scratch; /* of one start or one probe */
    struct ec_backoff backoff;
    int64_t start;              /* /proc start time of its process */
    int64_t began_ms, ready_ms; /* mono: of this round; ready_ms 0 = not yet */
    int64_t took_ms;            /* began → ready of the first round */
    int restarts;
    int early_exits; /* before it was ever ready */
    char detail[256];
};

struct supervisor {
    const struct local *local;
    struct ec_loop *loop;
    struct ec_fetcher *fetcher;
    struct ec_arena *scratch; /* of one state file */
    struct ec_timer *logs;    /* looks at the sizes of the log files */
    bool rotating;
    uv_signal_t signals[2];
    struct member members[MEMBERS_MAX];
    size_t count;
    int64_t began_ms;
    bool advancing; /* a pass is deferred */
    bool stopping, ended;
    const char *failed; /* name of what does not come up */
};

static void advance_soon(struct supervisor *sup);
static void start_member(struct member *member);

/* The same platform, with the memory of one round. */
static struct local scratch_local(struct member *member)
{
    struct local local = *member->sup->local;
    local.arena = member->scratch;
    return local;
}

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

static bool still_needed(const struct supervisor *sup, const struct member *member)
{
    for (size_t i = 0; i < sup->count; i++) {
        const struct member *other = &sup->members[i];
        if (active(other) && other->process &&
            names(other->component->after, member->component->name)) {
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

/* ---- one member ---- */
static void set_state(struct member *member, enum member_state state)
{
    member->state = state;
    advance_soon(member->sup);
}

static void on_pause_over(void *arg)
{
    start_member(arg);
}

static void ask_again(void *arg);

static void become_ready(struct member *member)
{
    member->ready_ms = ec_mono_ms();
    if (member->took_ms == 0) {
        member->took_ms = member->ready_ms - member->began_ms;
    }
    member->detail[0] = '\0';
    set_state(member, READY);
}

static void on_probed(void *arg, bool ready)
{
    struct member *member = arg;
    member->probing = false;
    if (member->state != STARTING) {
        advance_soon(member->sup); /* stopping may wait for this answer */
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
        advance_soon(member->sup);
    }
    ec_timer_start(member->timer, PROBE_EVERY_MS, 0);
}

static void ask_again(void *arg)
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
    if (!member->ready_ms && ++member->early_exits >= EXITS_BEFORE_FAILED) {
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

static void start_member(struct member *member)
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

static void stop_member(struct member *member)
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
            stop_member(member);
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
            start_member(member);
        }
    }
    write_state(sup);
}

static void advance_soon(struct supervisor *sup)
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
    advance_soon(sup);
}

/* ---- log files: bounded, by copying and cutting, since the writers keep them open ---- */
static void rotate_one(const char *path)
{
    struct stat status;
    char old[4200], bytes[65536];
    if (stat(path, &status) != 0 || status.st_size < LOG_MAX_BYTES) {
        return;
    }
    snprintf(old, sizeof old, "%s.1", path);
    int from = open(path, O_RDWR | O_CLOEXEC);
    int to = open(old, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    ssize_t n = -1;
    while (from >= 0 && to >= 0 && (n = read(from, bytes, sizeof bytes)) > 0) {
        if (write(to, bytes, (size_t)n) != n) {
            break; /* a full disk: the cut below is what helps */
        }
    }
    if (from >= 0 && ftruncate(from, 0) != 0) {
        perror(path);
    }
    if (to >= 0) {
        close(to);
    }
    if (from >= 0) {
        close(from);
    }
}

static void rotate(void *arg)
{
    const struct supervisor *sup = arg;
    char path[4200];
    for (size_t i = 0; i < local_component_count; i++) {
        snprintf(path, sizeof path, "%s/logs/%s.log", sup->local->home, local_components[i].name);
        rotate_one(path);
    }
    snprintf(path, sizeof path, "%s/logs/supervisor.log", sup->local->home);
    rotate_one(path);
}

static void on_rotated(void *arg)
{
    struct supervisor *sup = arg;
    sup->rotating = false;
    advance_soon(sup);
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
        member->timer = ec_timer_new(sup->loop, ask_again, member);
    }
    sup->logs = ec_timer_new(sup->loop, on_logs_due, sup);
    ec_timer_start(sup->logs, LOG_CHECK_MS, LOG_CHECK_MS);
    static const int numbers[] = {SIGTERM, SIGINT};
    for (size_t i = 0; i < EC_LEN(numbers); i++) {
        uv_signal_init(ec_loop_uv(sup->loop), &sup->signals[i]);
        sup->signals[i].data = sup;
        uv_signal_start(&sup->signals[i], on_signal, numbers[i]);
    }
    advance_soon(sup);
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
