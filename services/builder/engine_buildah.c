/* Buildah: no daemon, runs where we run. Its storage lives in our work folder unless the
 * environment names another (CONTAINERS_STORAGE_CONF), and names of images resolve as
 * CONTAINERS_REGISTRIES_CONF says. Builds of strangers (forks) get a storage and a home of their
 * own that die with the job (Buildah takes any local image for a cache, so a shared one could be
 * poisoned), no credentials of the registry for their bases, and run apart from this machine: all
 * of Buildah, because ADD fetches, too, and it is Buildah that mounts what a RUN line asks for.
 * Their bases are pulled before that, in the builder's network, and come from registries only: a
 * Dockerfile could also name archives and image storages of this machine, other services' caches
 * among them. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "builder.h"

#define ARGS_MAX 256
#define BUILD_ARGS_MAX 64

struct args {
    struct ec_arena *arena;
    const char **list;
    size_t count;
};

static void add(struct args *args, const char *word)
{
    if (args->count + 1 < ARGS_MAX) {
        args->list[args->count++] = word;
    }
}

static struct args begin(struct ec_arena *arena)
{
    struct args args = {arena, ec_arena_alloc(arena, ARGS_MAX * sizeof(char *)), 0};
    add(&args, "buildah");
    return args;
}

/* On to the command `args` begins with, for a job. */
static void begin_job_with(struct args *into, struct job *job)
{
    if (!job->run->trusted) {
        add(into, "--root");
        add(into, ec_arena_format(job->arena, "%s/storage", job->dir));
        add(into, "--runroot");
        add(into, ec_arena_format(job->arena, "%s/run", job->dir));
    }
}

static struct args begin_job(struct job *job)
{
    struct args args = begin(job->arena);
    begin_job_with(&args, job);
    return args;
}

static struct args begin_build(struct job *job)
{
    struct args args = {job->arena, ec_arena_alloc(job->arena, ARGS_MAX * sizeof(char *)), 0};
    for (const char *const *words = isolation_words(job); *words; words++) {
        add(&args, *words);
    }
    add(&args, "buildah");
    begin_job_with(&args, job);
    return args;
}

const char *const *tool_env(struct ec_arena *arena, const char *home, const char *const *more)
{
    static const char *const passed[] = {
        "PATH",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "CONTAINERS_CONF",
        "CONTAINERS_REGISTRIES_CONF",
    };
    const char **env = ec_arena_alloc(arena, 32 * sizeof(*env));
    size_t count = 0;
    env[count++] = ec_arena_format(arena, "HOME=%s", home);
    env[count++] = "LANG=C.UTF-8";
    for (size_t i = 0; i < EC_LEN(passed); i++) {
        if (getenv(passed[i])) {
            env[count++] = ec_arena_format(arena, "%s=%s", passed[i], getenv(passed[i]));
        }
    }
    for (; more && *more && count < 31; more++) {
        env[count++] = *more;
    }
    return env;
}

static EC_RESULT write_text(struct builder *b, const char *path, const char *content)
{
    struct ec_span bytes = ec_span_of(content);
    int code = ec_file_replace(&(struct ec_file_spec){path, 0600, false, &bytes, 1});
    return code ? ec_fatal(code, ec_arena_format(b->arena, "cannot write %s", path)) : ec_ok();
}

static struct ec_err buildah_open(struct builder *b)
{
    const char *storage = builder_path(b, "storage.conf");
    b->policy_file = builder_path(b, "policy.json");
    b->strict_policy_file = builder_path(b, "strict-policy.json");
    EC_TRY(
        write_text(b, b->policy_file, "{\"default\":[{\"type\":\"insecureAcceptAnything\"}]}\n"));
    EC_TRY(write_text(b, b->strict_policy_file,
                      "{\"default\":[{\"type\":\"reject\"}],\"transports\":{\"docker\":{\"\":"
                      "[{\"type\":\"insecureAcceptAnything\"}]}}}\n"));
    EC_TRY(write_text(b, storage,
                      ec_arena_format(b->arena,
                                      "[storage]\ndriver = \"overlay\"\ngraphroot = \"%s\"\n"
                                      "runroot = \"%s\"\n",
                                      builder_path(b, "storage"), builder_path(b, "run"))));
    const char *more[] = {
        ec_arena_format(b->arena, "CONTAINERS_STORAGE_CONF=%s", storage),
        ec_arena_format(b->arena, "TMPDIR=%s", builder_path(b, "tmp")),
        ec_arena_format(b->arena, "XDG_RUNTIME_DIR=%s", builder_path(b, "tmp")),
        "BUILDAH_ISOLATION=chroot",
        NULL,
    };
    b->engine.env = tool_env(b->arena, builder_path(b, "home"), more);
    return ec_ok();
}

/* Cache mounts stand in TMPDIR, and what Buildah remembers of registries in its home. */
static const char *const *buildah_job_env(struct job *job)
{
    struct builder *b = job->builder;
    bool trusted = job->run->trusted;
    const char *work_dir = b->settings.work_dir;
    const char *more[] = {
        ec_arena_format(job->arena, "CONTAINERS_STORAGE_CONF=%s/storage.conf", work_dir),
        ec_arena_format(job->arena, "TMPDIR=%s", trusted ? layers_mounts_dir(job) : job->home_dir),
        ec_arena_format(job->arena, "XDG_RUNTIME_DIR=%s", job->home_dir),
        "BUILDAH_ISOLATION=chroot",
        NULL,
    };
    return tool_env(job->arena, job->home_dir, more);
}

static const char *const *version_argv(struct builder *b, struct ec_arena *arena)
{
    (void)b;
    struct args args = begin(arena);
    add(&args, "--version");
    return args.list;
}

static const char *const *tidy_argv(struct builder *b, struct ec_arena *arena)
{
    (void)b;
    struct args args = begin(arena);
    add(&args, "rm");
    add(&args, "--all");
    return args.list;
}

static const char *const *prune_argv(struct builder *b, struct ec_arena *arena, bool all)
{
    (void)b;
    struct args args = begin(arena);
    add(&args, "rmi");
    add(&args, all ? "--all" : "--prune");
    add(&args, "--force");
    return args.list;
}

/* Of whoever may use the registry in our name: the push, and builds of code we trust. */
static void add_credentials(struct args *args, struct job *job)
{
    const struct builder_settings *settings = &job->builder->settings;
    if (settings->registry_auth_file[0]) {
        add(args, "--authfile");
        add(args, settings->registry_auth_file);
    }
}

/* In the builder's network: its own registry may be one that strangers' code must not reach. What
 * is named is a registry's image (the policy), and no option. */
static const char *const *pull_argv(struct job *job, const char *base)
{
    struct args args = begin_job(job);
    add(&args, "pull");
    add(&args, "--signature-policy");
    add(&args, job->builder->strict_policy_file);
    add(&args, "--");
    add(&args, base);
    return args.list;
}

static const char *const *build_argv(struct job *job)
{
    const Enclii__V1__RunBuild *run = job->run;
    struct args args = begin_build(job);
    add(&args, "bud");
    add(&args, "--isolation=chroot");
    add(&args, "--format=docker"); /* keeps HEALTHCHECK */
    add(&args, job->layered ? "--layers=true" : "--layers=false");
    add(&args, "--signature-policy");
    add(&args, run->trusted ? job->builder->policy_file : job->builder->strict_policy_file);
    if (run->trusted) {
        add_credentials(&args, job);
    }
    add(&args, "--cap-drop=CAP_SYS_CHROOT"); /* a second chroot would lead out of the first */
    add(&args, "--iidfile");
    add(&args, job->image_id_file);
    add(&args, "--file");
    add(&args, job->marked_path ? job->marked_path : job->dockerfile_path);
    if (job->marked_path && job->ignore_path) {
        add(&args, "--ignorefile");
        add(&args, job->ignore_path);
    }
    if (run->spec && run->spec->target && run->spec->target[0]) {
        add(&args, "--target");
        add(&args, run->spec->target);
    }
    size_t count = run->trusted && run->spec ? run->spec->n_args : 0;
    for (size_t i = 0; i < count && i < BUILD_ARGS_MAX; i++) {
        add(&args, "--build-arg");
        add(&args, ec_arena_format(args.arena, "%s=%s", run->spec->args[i]->key,
                                   run->spec->args[i]->value));
    }
    add(&args, "--label");
    add(&args,
        ec_arena_format(args.arena, "org.opencontainers.image.revision=%s", run->commit->sha));
    /* The tag keeps this service's layers for its next build; prune takes what has none. Nobody
     * else can name it in a FROM. */
    add(&args, "--tag");
    add(&args, ec_arena_format(args.arena, "localhost/enclii/%s/%s:cache", layers_mark(job),
                               run->service->service_id));
    add(&args, job->context_path);
    return args.list;
}

static const char *const *images_argv(struct job *job)
{
    struct args args = begin_job(job);
    add(&args, "images");
    add(&args, "--noheading");
    add(&args, "--digests");
    add(&args, "--format");
    add(&args, "{{.Name}}:{{.Tag}} {{.Digest}}");
    return args.list;
}

static const char *const *push_argv(struct job *job)
{
    struct args args = begin_job(job);
    add(&args, "push");
    add(&args, "--signature-policy");
    add(&args, job->builder->policy_file);
    add_credentials(&args, job);
    if (job->builder->settings.registry_insecure) {
        add(&args, "--tls-verify=false");
    }
    add(&args, "--digestfile");
    add(&args, job->digest_file);
    add(&args, job->image_id);
    add(&args, ec_arena_format(args.arena, "docker://%s:build-%s", job->run->image_repo,
                               job->run->build_id));
    return args.list;
}

static const char *const *size_argv(struct job *job)
{
    struct args args = begin_job(job);
    add(&args, "inspect");
    add(&args, "--type=image");
    add(&args, "--format={{.Manifest}}");
    add(&args, job->image_id);
    return args.list;
}

const struct engine engine_buildah = {
    .name = "buildah",
    .open = buildah_open,
    .version_argv = version_argv,
    .tidy_argv = tidy_argv,
    .prune_argv = prune_argv,
    .pull_argv = pull_argv,
    .build_argv = build_argv,
    .images_argv = images_argv,
    .push_argv = push_argv,
    .size_argv = size_argv,
    .job_env = buildah_job_env,
    .images_dir = "overlay-images",
};
