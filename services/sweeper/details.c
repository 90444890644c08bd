/* What a push changed, asked of git: a scratch repository gets the two commits (no history, no
 * files), says which paths differ and how the commit describes itself, and goes again. Then, when
 * wanted, a bounded part of the history (no trees) says whether the push was forced. Of a pull
 * request history comes first: it changes what differs from where it left its base branch. No
 * cache: this is rare, and a folder of its own needs no lock. */
#include "base/clock.h"
#include "base/encode.h"
#include "base/file.h"
#include "base/mem.h"
#include "sweeper.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define ARGS_MAX 32
#define LOG_MAX_BYTES (64u << 10)

typedef void (*next_fn)(void *arg, struct ec_err err, int exit_code);

/* ---- the end ---- */

static void remove_dir(void *arg)
{
    const struct details *d = arg;
    ec_file_remove_tree(d->dir);
}

static void on_removed(void *arg)
{
    struct details *d = arg;
    d->sw->busy--;
    ec_timer_free(d->again);
    ec_buf_done(&d->text);
    d->done(d->arg);
}

static void finish(struct details *d)
{
    d->sw->busy++;
    if (ec_failed(ec_loop_work(d->sw->loop, remove_dir, on_removed, d))) {
        ec_loop_defer(d->sw->loop, on_removed, d); /* the next start removes it */
    }
}

static void give_up(struct details *d, const char *why)
{
    d->complete = false;
    d->why = why;
    finish(d);
}

/* ---- one command after another ---- */

/* `remote`: it asks the host. */
static void run(struct details *d, bool remote, const char *const *args,
                void (*on_line)(void *, struct ec_span), next_fn next)
{
    const char **words = ec_arena_alloc(d->arena, ARGS_MAX * sizeof *words);
    size_t count = 0;
    int64_t left_ms = d->end_mono_ms - ec_mono_ms();
    if (remote) {
        words[count++] = "-c";
        words[count++] = "remote.origin.promisor=true";
        words[count++] = "-c";
        words[count++] = ec_arena_format(d->arena, "remote.origin.url=%s", d->clone_url);
    }
    for (; *args && count + 1 < ARGS_MAX; args++) {
        words[count++] = *args;
    }
    d->run = (struct git_run){.sw = d->sw,
                              .arena = d->arena,
                              .repo_key = remote ? d->repo_key : NULL,
                              .clone_url = d->clone_url,
                              .git_dir = d->dir,
                              .args = words,
                              .deadline_ms = left_ms > 1 ? (uint32_t)left_ms : 1,
                              .on_line = on_line,
                              .done = next,
                              .arg = d};
    struct ec_err err = git_run_start(&d->run);
    if (ec_failed(err)) {
        give_up(d, ec_arena_strdup(d->arena, err.what));
    }
}

static void fetch(struct details *d, const char *depth, const char *filter, next_fn next)
{
    bool both = !d->without_before && !decide_all_zeros(d->before);
    const char *const args[] = {
        "fetch",
        /* What came without trees is there, and would not come again. */
        d->base_ref ? "--refetch" : "--quiet", "--quiet", "--no-tags", "--no-write-fetch-head",
        "--no-recurse-submodules", "--depth", depth, filter, "origin",
        d->base_ref ? d->head_ref : d->after, /* hosts hide forks' commits */
        both ? d->before : NULL, NULL};
    run(d, true, args, NULL, next);
}

/* ---- was it forced? ---- */

static void on_base_line(void *arg, struct ec_span line)
{
    struct details *d = arg;
    snprintf(d->base, sizeof d->base, "%.*s", (int)line.len, line.ptr);
}

/* No common ancestor within the depth: not known, and not claimed. */
static void on_based(void *arg, struct ec_err err, int exit_code)
{
    struct details *d = arg;
    (void)err;
    d->forced = exit_code == 0 && *d->base && strcmp(d->base, d->before) != 0;
    finish(d);
}

static void on_deepened(void *arg, struct ec_err err, int exit_code)
{
    struct details *d = arg;
    const char *const args[] = {"merge-base", d->before, d->after, NULL};
    (void)exit_code;
    if (ec_failed(err)) {
        finish(d);
        return;
    }
    run(d, false, args, on_base_line, on_based);
}

/* ---- paths ---- */

static void on_path_line(void *arg, struct ec_span line)
{
    struct details *d = arg;
    decide_path(d->arena, &d->paths, line);
}

static void on_diffed(void *arg, struct ec_err err, int exit_code)
{
    struct details *d = arg;
    (void)exit_code;
    if (ec_failed(err)) {
        give_up(d, err.what);
        return;
    }
    d->complete = !d->paths.cut;
    d->why = d->paths.cut ? "more paths changed than fit into an event" : "";
    if (d->head) {
        fetch(d, ANCESTRY_DEPTH, "--filter=tree:0", on_deepened);
    } else {
        finish(d);
    }
}

static void diff(struct details *d)
{
    const char *const args[] = {"diff-tree",     "-r",      "--name-only", "--no-renames",
                                "--no-ext-diff", d->before, d->after,      NULL};
    if (d->without_before) {
        give_up(d, "the host does not give the commit that was there before");
    } else if (decide_all_zeros(d->before)) {
        give_up(d, "the ref is new");
    } else {
        run(d, false, args, on_path_line, on_diffed);
    }
}

/* ---- the commit ---- */

static void on_log_line(void *arg, struct ec_span line)
{
    struct details *d = arg;
    if (d->line == 0) {
        d->author_name = ec_text_clean(d->arena, line, SUBJECT_MAX_BYTES);
    } else if (d->line == 1) {
        d->author_email = ec_text_clean(d->arena, line, SUBJECT_MAX_BYTES);
    } else if (d->line == 2) {
        d->committed_unix_ms = strtoll(ec_arena_text(d->arena, line), NULL, 10) * 1000;
    } else {
        ec_buf_add_span(&d->text, line);
        ec_buf_add_text(&d->text, "\n");
    }
    d->line += d->line < 3;
}

static void on_logged(void *arg, struct ec_err err, int exit_code)
{
    struct details *d = arg;
    (void)exit_code;
    if (ec_failed(err)) {
        give_up(d, err.what);
        return;
    }
    d->message = ec_text_clean(d->arena, ec_buf_span(&d->text), MESSAGE_MAX_BYTES);
    for (size_t len = strlen(d->message); len > 0 && d->message[len - 1] == '\n'; len--) {
        d->message[len - 1] = '\0';
    }
    diff(d);
}

static void on_fetched(void *arg, struct ec_err err, int exit_code)
{
    struct details *d = arg;
    const char *const args[] = {"log", "-1", "--format=%an%n%ae%n%ct%n%B", d->after, "--", NULL};
    (void)exit_code;
    if (ec_failed(err) && !d->base_ref && !d->without_before && !decide_all_zeros(d->before)) {
        d->without_before = true; /* after a forced push the host may have thrown it away */
        fetch(d, "1", "--filter=blob:none", on_fetched);
    } else if (ec_failed(err)) {
        give_up(d, err.what);
    } else if (d->head) {
        run(d, false, args, on_log_line, on_logged);
    } else {
        diff(d);
    }
}

/* ---- where a pull request left its base branch ---- */

static void fetch_history(void *arg);

/* Exit code 1: they have nothing in common, as far as we see. */
static void on_parted(void *arg, struct ec_err err, int exit_code)
{
    struct details *d = arg;
    if (exit_code == 0 && decide_is_sha(d->base)) {
        d->before = ec_arena_strdup(d->arena, d->base);
        fetch(d, "1", "--filter=blob:none", on_fetched);
    } else if (exit_code == 1 && !d->deeper) {
        d->deeper = true;
        fetch_history(d);
    } else if (exit_code == 1) {
        give_up(d, "it left its base branch more than " PARTING_DEEPER " commits ago");
    } else {
        give_up(d, exit_code > 1 ? "its head is another commit by now" : err.what);
    }
}

static void on_history(void *arg, struct ec_err err, int exit_code)
{
    struct details *d = arg;
    const char *const args[] = {"merge-base", "refs/enclii/base", d->after, NULL};
    (void)exit_code;
    if (!ec_failed(err)) {
        run(d, false, args, on_base_line, on_parted);
    } else if (d->sw->stopping || d->end_mono_ms - ec_mono_ms() < 2 * HEAD_AGAIN_MS) {
        give_up(d, err.what);
    } else {
        ec_timer_start(d->again, HEAD_AGAIN_MS, 0);
    }
}

static void fetch_history(void *arg)
{
    struct details *d = arg;
    const char *const args[] = {"fetch",
                                "--quiet",
                                "--no-tags",
                                "--no-write-fetch-head",
                                "--no-recurse-submodules",
                                "--depth",
                                d->deeper ? PARTING_DEEPER : PARTING_DEPTH,
                                "--filter=tree:0",
                                "origin",
                                ec_arena_format(d->arena, "+%s:refs/enclii/head", d->head_ref),
                                ec_arena_format(d->arena, "+%s:refs/enclii/base", d->base_ref),
                                NULL};
    run(d, true, args, NULL, on_history);
}

static void on_made(void *arg, struct ec_err err, int exit_code)
{
    struct details *d = arg;
    (void)exit_code;
    if (ec_failed(err)) {
        give_up(d, err.what);
    } else if (d->base_ref) {
        fetch_history(d);
    } else {
        fetch(d, "1", "--filter=blob:none", on_fetched);
    }
}

void details_start(struct details *d)
{
    struct sweeper *sw = d->sw;
    d->dir = ec_arena_format(d->arena, "%s/scratch/%s-%llu", sw->settings.work_dir,
                             sw->instance.text, (unsigned long long)++sw->scratch_count);
    d->paths = (struct paths){.count = 0};
    d->complete = d->forced = d->without_before = d->deeper = false;
    d->again = ec_timer_new(sw->loop, fetch_history, d);
    d->message = d->author_name = d->author_email = ec_arena_strdup(d->arena, "");
    d->committed_unix_ms = 0;
    d->line = 0;
    d->base[0] = '\0';
    ec_buf_init(&d->text, LOG_MAX_BYTES);
    const char *const args[] = {
        "init",   "--quiet",
        "--bare", strlen(d->after) == 64 ? "--object-format=sha256" : "--object-format=sha1",
        d->dir,   NULL};
    run(d, false, args, NULL, on_made);
}
