/* `enclii local up|down`. The work is the supervisor's; this side starts it, follows its state
 * file, and asks it to stop. */
#include "cli.h"
#include "local.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"

#define LOOK_EVERY_US 40000
#define UP_WITHIN_MS 180000
#define DOWN_WITHIN_MS 60000

/* Programs of the system that a user's PATH often lacks. */
static void widen_path(const struct cli *cli)
{
    const char *path = getenv("PATH");
    setenv("PATH",
           ec_arena_format(cli->arena,
                           "%s:/usr/lib/postgresql/15/bin:/usr/local/sbin:/usr/sbin:/sbin",
                           path ? path : "/usr/local/bin:/usr/bin:/bin"),
           1);
}

bool local_open_for(struct cli *cli, struct local *local, int *ret_exit)
{
    struct ec_err err = local_open(local, cli->arena);
    if (ec_failed(err)) {
        *ret_exit = give_up(EXIT_ERROR, "%s", err.what);
        return false;
    }
    widen_path(cli);
    const char *lock = local_path(local, "run/lock");
    if (access(lock, R_OK | W_OK) != 0 && errno == EACCES) {
        *ret_exit = give_up(EXIT_NOT_ALLOWED,
                            "the platform in %s belongs to another user. As that one:  sudo enclii "
                            "%s\nor have one of your own:  ENCLII_HOME=/other/folder",
                            local->home, cli->command->words);
        return false;
    }
    return true;
}

/* ---- up ---- */
static pid_t start_supervisor(const struct local *local)
{
    const char *log = local_path(local, "logs/supervisor.log");
    const char *program = ec_arena_format(local->arena, "%s/enclii", local->programs);
    fflush(stdout);
    pid_t pid = fork();
    if (pid != 0) {
        return pid;
    }
    setsid();
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int out = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    dup2(null, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(out, STDERR_FILENO);
    for (int fd = 3; fd < 256; fd++) {
        close(fd); /* whoever started us may wait for the end of a pipe */
    }
    setenv("ENCLII_HOME", local->home, 1);
    setenv("ENCLII_CACHE", local->cache, 1);
    execl(program, "enclii", "local", "supervise", (char *)NULL);
    _exit(127);
}

struct watch_up {
    struct cli *cli;
    const struct local *local;
    const char *shown[64]; /* components that have their line */
    size_t shown_count;
    int64_t began_ms;
    bool ours; /* started by this command, which stops it when it does not come up */
    bool seen; /* a supervisor was at work */
};

static bool has_line(struct watch_up *watch, const char *name)
{
    for (size_t i = 0; i < watch->shown_count; i++) {
        if (strcmp(watch->shown[i], name) == 0) {
            return true;
        }
    }
    if (watch->shown_count < EC_LEN(watch->shown)) {
        watch->shown[watch->shown_count++] = ec_arena_strdup(watch->cli->arena, name);
    }
    return false;
}

static void show_new(struct watch_up *watch, const json_t *state)
{
    size_t i;
    json_t *component;
    json_array_foreach(ec_json_at(state, "components"), i, component)
    {
        const char *name = ec_json_text(component, "name");
        if (strcmp(ec_json_text(component, "state"), "ready") == 0 && !watch->cli->json &&
            !has_line(watch, name)) {
            printf("  %s  %-14s %9s   %s\n", paint(watch->cli, "ready", "green"), name,
                   local_seconds(watch->cli, ec_json_int(component, "took_ms", 0)),
                   paint(watch->cli, ec_json_text(component, "help"), "dim"));
            fflush(stdout);
        }
    }
}

static int up_failed(struct watch_up *watch, const char *name, const char *why)
{
    const struct local *local = watch->local;
    const char *log = ec_arena_format(local->arena, "%s/logs/%s.log", local->home, name);
    printf("  %s %-14s %s\n", paint(watch->cli, "failed", "red"), name, why);
    printf("  last lines of %s:\n", log);
    local_print_tail(log, 15, "    ");
    if (!watch->ours) {
        return give_up(EXIT_ERROR,
                       "%s is not up. The platform, which was started before, is left "
                       "as it is. See:  enclii local status",
                       name);
    }
    local_stop(local);
    return give_up(EXIT_ERROR, "%s did not come up, everything was stopped again", name);
}

static const char *why_failed(const json_t *state, const char *name)
{
    size_t i;
    json_t *component;
    json_array_foreach(ec_json_at(state, "components"), i, component)
    {
        if (strcmp(ec_json_text(component, "name"), name) == 0) {
            return ec_json_text(component, "detail");
        }
    }
    return "";
}

/* One look at the state; true when it is over one way or the other. */
static bool follow_once(struct watch_up *watch, pid_t supervisor, int *ret_status)
{
    json_t *state = local_state_read(watch->local);
    bool over = true;
    const char *failed = ec_json_text(state, "failed");
    bool gone = supervisor > 0 ? kill(supervisor, 0) != 0 : !local_running(watch->local);
    show_new(watch, state);
    if (gone && !state && watch->seen) {
        *ret_status = give_up(EXIT_ERROR, "the platform was stopped while it started");
    } else if (failed[0]) {
        const char *name = ec_arena_strdup(watch->cli->arena, failed);
        *ret_status =
            up_failed(watch, name, ec_arena_strdup(watch->cli->arena, why_failed(state, name)));
    } else if (ec_json_bool(state, "ready", false)) {
        *ret_status = EXIT_OK;
    } else if (gone) {
        *ret_status = up_failed(watch, "supervisor", "ended");
    } else if (ec_mono_ms() - watch->began_ms > UP_WITHIN_MS) {
        *ret_status = up_failed(watch, "supervisor", "not everything was ready in 3 minutes");
    } else {
        over = false;
    }
    watch->seen = watch->seen || state;
    json_decref(state);
    return over;
}

static int follow_up(struct cli *cli, const struct local *local, pid_t supervisor)
{
    struct watch_up watch = {
        .cli = cli, .local = local, .began_ms = ec_mono_ms(), .ours = supervisor > 0};
    signal(SIGCHLD, SIG_IGN); /* so that kill(pid, 0) sees the end of it */
    int status = EXIT_OK;
    while (!follow_once(&watch, supervisor, &status)) {
        usleep(LOOK_EVERY_US);
    }
    if (status == EXIT_OK && !cli->json) {
        printf("up in %s\n", local_seconds(cli, ec_mono_ms() - watch.began_ms));
        local_print_addresses(cli, local);
    }
    return status;
}

/* One that is just going away is not the one that is wanted. */
static void wait_for_stop(const struct local *local)
{
    for (int64_t until = ec_mono_ms() + DOWN_WITHIN_MS; ec_mono_ms() < until;) {
        json_t *state = local_running(local) ? local_state_read(local) : NULL;
        bool stopping = ec_json_bool(state, "stopping", false);
        json_decref(state);
        if (!stopping) {
            return;
        }
        usleep(LOOK_EVERY_US);
    }
}

static int already_up(struct cli *cli, const struct local *local)
{
    json_t *state = local_state_read(local);
    bool ready = ec_json_bool(state, "ready", false);
    if (ready) {
        printf("already up, nothing to do (%s)\n", local->home);
        local_print_addresses(cli, local);
        local_tell_older(cli, local, state);
    } else {
        puts("the platform is already starting");
    }
    json_decref(state);
    return ready ? EXIT_OK : follow_up(cli, local, 0);
}

/* Until the supervisor is known as the platform. */
static void wait_for_lock(const struct local *local, pid_t supervisor)
{
    for (int i = 0; i < 100 && !local_running(local) && kill(supervisor, 0) == 0; i++) {
        usleep(LOOK_EVERY_US);
    }
}

int cmd_local_up(struct cli *cli)
{
    struct local local;
    int status = EXIT_ERROR;
    if (!local_open_for(cli, &local, &status)) {
        return status;
    }
    int starting = local_starting(&local);
    wait_for_stop(&local);
    if (local_running(&local)) {
        close(starting);
        return already_up(cli, &local);
    }
    local_sweep(&local, false); /* of one that was killed, before its ports count as taken */
    struct ec_err err = local_check_machine(&local);
    if (!ec_failed(err)) {
        err = local_prepare(&local);
    }
    if (ec_failed(err)) {
        return give_up(EXIT_ERROR, "%s", err.what);
    }
    unlink(local_path(&local, "run/state.json"));
    if (!cli->json) {
        printf("starting the platform in %s\n", local.home);
    }
    pid_t supervisor = start_supervisor(&local);
    if (supervisor < 0) {
        return give_up(EXIT_ERROR, "cannot start the supervisor: %s", strerror(errno));
    }
    wait_for_lock(&local, supervisor);
    close(starting);
    return follow_up(cli, &local, supervisor);
}

/* ---- down ---- */
void local_stop(const struct local *local)
{
    pid_t asked = 0;
    for (int64_t until = ec_mono_ms() + DOWN_WITHIN_MS; local_running(local);) {
        pid_t pid = local_supervisor(local);
        if (ec_mono_ms() > until) {
            if (pid > 0) {
                kill(pid, SIGKILL); /* its lock ends with it; the sweep does the rest */
            }
            break;
        }
        if (pid > 0 && pid != asked && kill(pid, SIGTERM) == 0) {
            asked = pid;
        }
        usleep(LOOK_EVERY_US);
    }
    local_sweep(local, true);
}

static int purge(const struct local *local)
{
    /* Only what is ours: the folder must carry our mark. */
    if (access(local_path(local, "local.json"), F_OK) != 0) {
        return give_up(EXIT_ERROR, "%s is no folder of a local platform, nothing was removed",
                       local->home);
    }
    pid_t pid = fork();
    if (pid == 0) {
        execlp("rm", "rm", "-rf", "--one-file-system", "--", local->home, (char *)NULL);
        _exit(127);
    }
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, 0) < 0 || status != 0) {
        return give_up(EXIT_ERROR, "%s could not be removed whole", local->home);
    }
    printf("removed %s\n", local->home);
    return EXIT_OK;
}

int cmd_local_down(struct cli *cli)
{
    struct local local;
    int status = EXIT_ERROR;
    if (!local_open_for(cli, &local, &status)) {
        return status;
    }
    int64_t began = ec_mono_ms();
    bool was_running = local_running(&local);
    if (access(local.home, F_OK) == 0) {
        local_stop(&local);
    }
    if (local_running(&local)) {
        return give_up(EXIT_ERROR,
                       "the platform in %s could not be stopped: its supervisor (pid %d) "
                       "does not end",
                       local.home, (int)local_supervisor(&local));
    }
    if (was_running) {
        printf("stopped in %s; data stays in %s\n", local_seconds(cli, ec_mono_ms() - began),
               local.home);
    } else {
        puts("the platform was not running");
    }
    return option(cli, "purge") ? purge(&local) : EXIT_OK;
}

/* ---- machinery ---- */
int cmd_local_supervise(struct cli *cli)
{
    struct local local;
    int status = EXIT_ERROR;
    return local_open_for(cli, &local, &status) ? local_supervise(&local) : status;
}

int cmd_local_hook(struct cli *cli)
{
    struct local local;
    int status = EXIT_ERROR;
    return local_open_for(cli, &local, &status) ? local_hook(&local) : status;
}

int cmd_local_repo(struct cli *cli)
{
    struct local local;
    int status = EXIT_ERROR;
    return local_open_for(cli, &local, &status) ? local_repo(&local, cli->args[0]) : status;
}
