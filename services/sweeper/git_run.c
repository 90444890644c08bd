/* One git command: the host's credential, then the process, then what its end means. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "githost/git.h"
#include "githost/githost.h"
#include "sweeper.h"

#define LINE_MAX_BYTES (32u << 10)
#define KILL_GRACE_MS 1000
#define MEMORY_MAX_BYTES (512ull << 20)

static void unlink_run(struct git_run *run)
{
    struct git_run **at = &run->sw->runs;
    while (*at && *at != run) {
        at = &(*at)->next;
    }
    if (*at) {
        *at = run->next;
    }
}

static void on_line(void *arg, bool is_stderr, struct ec_span line)
{
    struct git_run *run = arg;
    if (!is_stderr) {
        if (run->on_line) {
            run->on_line(run->arg, line);
        }
        return;
    }
    size_t have = strlen(run->tail), room = sizeof run->tail - have - 2;
    size_t len = line.len < room ? line.len : room;
    if (have + 2 < sizeof run->tail && !memchr(line.ptr, '\0', line.len)) {
        memcpy(run->tail + have, line.ptr, len);
        memcpy(run->tail + have + len, "\n", 2);
    }
}

static void on_exit_of(void *arg, const struct ec_process_result *result)
{
    struct git_run *run = arg;
    struct sweeper *sw = run->sw;
    unlink_run(run);
    run->process = NULL;
    struct ec_err err = ec_ok();
    if (result->exit_code != 0) {
        err = ec_retry(result->exit_code,
                       decide_git_error(run->arena, run->clone_url, run->tail, result));
    }
    sw->busy--;
    run->done(run->arg, err, result->exit_code);
}

static EC_RESULT start_process(struct git_run *run, const struct ec_secret *header)
{
    const struct sweeper *sw = run->sw;
    const char *const *env = ec_git_env(
        run->arena, &(struct ec_git_env_spec){
                        .home = ec_arena_format(run->arena, "%s/home", sw->settings.work_dir),
                        .protocols = sw->settings.git_protocols});
    if (run->repo_key) {
        env = ec_githost_git_env(run->arena, sw->hosts, run->repo_key, header, env);
    }
    const struct ec_process_spec spec = {
        .argv = ec_git_argv(run->arena, run->git_dir, run->args),
        .env = env,
        .cwd = sw->settings.work_dir,
        .deadline_ms = run->deadline_ms,
        .kill_grace_ms = KILL_GRACE_MS,
        .memory_max_bytes = MEMORY_MAX_BYTES,
        .file_max_bytes = (uint64_t)sw->settings.fetch_max_bytes,
        .line_max_bytes = LINE_MAX_BYTES,
        .die_with_parent = true,
        .on_line = on_line,
        .on_exit = on_exit_of,
        .arg = run,
    };
    struct ec_err err = ec_process_start(sw->loop, &spec, &run->process);
    ec_git_env_wipe(env);
    return err;
}

static EC_RESULT launch(struct git_run *run, const struct ec_secret *header)
{
    if (run->sw->stopping) {
        return ec_retry(0, "we are stopping");
    }
    EC_TRY(start_process(run, header));
    run->next = run->sw->runs;
    run->sw->runs = run;
    return ec_ok();
}

static void on_auth(void *arg, struct ec_err err, const struct ec_secret *header)
{
    struct git_run *run = arg;
    if (!ec_failed(err)) {
        err = launch(run, header);
    }
    if (ec_failed(err)) { /* the text lives only until we return */
        err.what = ec_arena_strdup(run->arena, err.what);
        run->sw->busy--;
        run->done(run->arg, err, -1);
    }
}

EC_RESULT git_run_start(struct git_run *run)
{
    run->tail[0] = '\0';
    if (run->sw->stopping) {
        return ec_retry(0, "we are stopping");
    }
    EC_TRY(run->repo_key ? ec_githost_git_auth(run->sw->hosts, run->repo_key, on_auth, run)
                         : launch(run, NULL));
    run->sw->busy++;
    return ec_ok();
}

void git_run_cancel_all(struct sweeper *sw)
{
    for (struct git_run *run = sw->runs; run; run = run->next) {
        ec_process_cancel(run->process);
    }
}
