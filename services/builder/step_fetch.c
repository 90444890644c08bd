/* git, by commit: credential → init (once) → fetch → checkout. The fetch is partial (no history,
 * files only as the checkout needs them). Nothing of the repository's own can run: no hooks, no
 * submodules, no configuration but ours, and only the protocols we allow. The credential is in
 * git's environment, for its host alone, and gone when this step is over: no build step sees it. */
#include <string.h>

#include "base/mem.h"
#include "builder.h"
#include "githost/git.h"
#include "spec/spec.h"

#define ARGS_MAX 32

static void on_init(struct job *job, const struct ec_process_result *result);
static void on_fetched(struct job *job, const struct ec_process_result *result);
static void on_checked_out(struct job *job, const struct ec_process_result *result);

static const char *const *git_env(struct job *job)
{
    const char *more[] = {ec_arena_format(job->arena, "GIT_INDEX_FILE=%s/index", job->dir), NULL};
    const char *const *env = ec_git_env(
        job->arena, &(struct ec_git_env_spec){.home = job->home_dir,
                                              .protocols = job->builder->settings.git_protocols,
                                              .more = more});
    return ec_githost_git_env(job->arena, job->builder->githosts, job->repo_key, job->git_auth,
                              env);
}

void fetch_forget_auth(struct job *job)
{
    ec_secret_freep(&job->git_auth);
}

/* Runs "git --git-dir=G -c ... <args>". */
static struct ec_err git(struct job *job, const char *const *args,
                         void (*ended)(struct job *, const struct ec_process_result *))
{
    const char *words[ARGS_MAX] = {
        "-c", "remote.origin.promisor=true",
        "-c", "remote.origin.partialclonefilter=blob:none",
        "-c", ec_arena_format(job->arena, "remote.origin.url=%s", job->run->clone_url),
    };
    for (size_t count = 6; *args && count + 1 < ARGS_MAX; args++) {
        words[count++] = *args;
    }
    const char *const *env = git_env(job);
    struct ec_err err = job_run(
        job, &(struct command){
                 .argv = ec_git_argv(job->arena, job->git_dir, words),
                 .env = env,
                 .cwd = job->dir,
                 .deadline_ms = job_deadline_ms(job, job->builder->settings.fetch_timeout_ms),
                 .file_max_bytes = (uint64_t)job->builder->settings.clone_max_bytes,
                 .ended = ended,
             });
    ec_git_env_wipe(env);
    return err;
}

static void end_with(struct job *job, struct ec_err err)
{
    if (ec_failed(err)) {
        job_step_done(job, err);
    }
}

static struct ec_err fetch_failed(struct job *job, const struct ec_process_result *result)
{
    fetch_forget_auth(job);
    if (result->timed_out && job_deadline_ms(job, 1) == 0) {
        return job_out_of_time(job);
    }
    if (!result->cancelled && cache_made(job) && decide_cache_damaged(job->log.tail)) {
        cache_set_aside(job);
        return job_fail(
            job, (struct verdict){ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_FETCH, true,
                                  "the copy of the repository that is kept here is damaged"});
    }
    return job_fail(job, decide_fetch_end(job->arena, result, job->log.tail));
}

static struct ec_err fetch(struct job *job)
{
    const char *what = job->fetched_branch ? job->run->commit->ref : job->run->commit->sha;
    const char *const args[] = {"fetch",
                                "--no-tags",
                                "--no-write-fetch-head",
                                "--no-recurse-submodules",
                                "--depth",
                                job->fetched_branch ? "50" : "1",
                                "--filter=blob:none",
                                "--quiet",
                                "origin",
                                what,
                                NULL};
    return git(job, args, on_fetched);
}

static struct ec_err begin(struct job *job)
{
    if (cache_made(job)) {
        return fetch(job);
    }
    const char *const args[] = {"init", "--quiet", "--bare", job->git_dir, NULL};
    return git(job, args, on_init);
}

static void on_auth(void *arg, struct ec_err err, const struct ec_secret *header)
{
    struct job *job = arg;
    if (ec_failed(err)) {
        const char *detail = ec_arena_format(job->arena, "no credential for the git host: %s",
                                             err.what ? err.what : "");
        job_step_done(job,
                      job_fail(job, (struct verdict){ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_FETCH,
                                                     err.fate == EC_FATE_RETRY, detail}));
        return;
    }
    job->git_auth = header ? ec_secret_new(ec_secret_use(header)) : NULL;
    end_with(job, begin(job));
}

struct ec_err start_fetch(void *arg)
{
    struct job *job = arg;
    struct ec_githosts *hosts = job->builder->githosts;
    char *key = ec_repo_key(job->arena, job->run->clone_url);
    job->repo_key = key ? key : "";
    fetch_forget_auth(job); /* of the try before */
    job_enter(job, "fetch");
    cache_take(job);
    build_log_say(&job->log, job->step, "fetching %s at %s", job->run->clone_url,
                  job->run->commit->sha);
    return key ? ec_githost_git_auth(hosts, key, on_auth, job) : begin(job);
}

static void on_init(struct job *job, const struct ec_process_result *result)
{
    end_with(job, result->exit_code == 0 ? fetch(job) : fetch_failed(job, result));
}

static void on_fetched(struct job *job, const struct ec_process_result *result)
{
    if (result->exit_code == 0) {
        const char *const args[] = {ec_arena_format(job->arena, "--work-tree=%s", job->source_dir),
                                    "checkout",
                                    "--quiet",
                                    "--force",
                                    "--detach",
                                    "--no-recurse-submodules",
                                    job->run->commit->sha,
                                    NULL};
        end_with(job, git(job, args, on_checked_out));
    } else if (!job->fetched_branch && job->run->commit->ref[0] &&
               decide_fetch_wants_branch(job->log.tail)) {
        job->fetched_branch = true;
        build_log_say(&job->log, job->step, "the host gives no single commits; fetching %s",
                      job->run->commit->ref);
        end_with(job, fetch(job));
    } else {
        end_with(job, fetch_failed(job, result));
    }
}

static void on_checked_out(struct job *job, const struct ec_process_result *result)
{
    struct ec_err err = result->exit_code == 0 ? ec_ok() : fetch_failed(job, result);
    cache_release(job); /* the files are ours now, or it is taken again */
    fetch_forget_auth(job);
    job_step_done(job, err);
}
