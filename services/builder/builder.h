/* The builder's one private header: its state, its jobs, and what its files offer each other.
 *   main.c        settings, routes, start and stop of the process
 *   builder.c     start and stop of the builder, commands, heartbeats
 *   job.c         one build attempt: its steps as a flow, and its end
 *   job_command.c its commands
 *   job_events.c  what it says on the bus
 *   step_fetch.c  git;  step_build.c  detect, build, push
 *   engine_buildah.c  the tool that builds, behind struct engine
 *   isolation.c, isolate.sh, root_folder.c  builds, apart from this machine
 *   decide_network.c  what strangers' code may reach
 *   layers.c      what Buildah's layer cache is told
 *   cache.c       git caches;  cache_trim.c, decide_cache.c  keeping the disk bounded
 *   publish.c     events that must arrive
 *   build_log, decide_build, dockerfile  pure parts */
#pragma once

#include "base/arena.h"
#include "build_log.h"
#include "bus/bus.h"
#include "decide_build.h"
#include "githost/githost.h"
#include "net/flow.h"
#include "net/process.h"

#define JOB_STEPS_MAX 8
#define JOB_ARENA_MAX ((size_t)32 * 1024 * 1024)
#define CAPTURE_MAX ((size_t)1024 * 1024) /* of a command whose output we read ourselves */
#define LOG_BATCHES_MAX 16                /* unacknowledged; above, the child's output waits */

struct builder;
struct job;

struct builder_settings {
    const char *builder_id; /* "" = the host's name */
    int64_t slots;
    const char *work_dir;     /* everything in it is ours and may be lost */
    int64_t build_timeout_ms; /* upper bound of every build */
    int64_t fetch_timeout_ms; /* of one git command */
    int64_t push_timeout_ms;  /* of one push */
    int64_t clone_max_bytes;  /* largest file git may write */
    int64_t log_max_bytes;
    int64_t cache_max_bytes;  /* git caches and image storage together */
    int64_t memory_max_bytes; /* of one build when the service says nothing, and its upper bound */
    int64_t pids_max;
    bool trusted_only;              /* takes no code of forks */
    const char *untrusted_network;  /* of forks' RUN lines: "isolated" or "none" */
    const char *untrusted_reach;    /* private networks that are open to them all the same */
    bool registry_insecure;         /* plain HTTP, loopback registries only */
    const char *registry_auth_file; /* "" = none */
    const char *git_protocols;      /* "http:https:ssh" */
    struct ec_githost_settings githost;
};

/* A tool that builds images. All functions only say what to run; job.c runs it. */
struct engine {
    const char *name;
    /* Once at start: configuration files below the work folder. */
    struct ec_err (*open)(struct builder *b);
    /* NULL-ended, from the arena. `trusted` false: nothing shared may be written. */
    const char *const *(*version_argv)(struct builder *b, struct ec_arena *arena);
    const char *const *(*tidy_argv)(struct builder *b,
                                    struct ec_arena *arena); /* after a kill -9 */
    const char *const *(*prune_argv)(struct builder *b, struct ec_arena *arena, bool all);
    /* An untrusted job's base image, into its storage: its build cannot reach our registry. */
    const char *const *(*pull_argv)(struct job *job, const char *base);
    const char *const *(*build_argv)(
        struct job *job); /* writes the image id to job->image_id_file */
    const char *const *(*images_argv)(struct job *job); /* prints "name:tag sha256:..." lines */
    const char *const *(*push_argv)(struct job *job);   /* writes the digest to job->digest_file */
    const char *const *(*size_argv)(struct job *job);   /* prints the image's manifest as JSON */
    const char *images_dir; /* in its storage: an entry per image; NULL = cannot be counted */
    const char *const *env; /* of all its commands; set by open */
    const char *const *(*job_env)(struct job *job); /* of a job's commands; NULL = env */
};

struct outgoing;

struct builder {
    struct builder_settings settings;
    struct ec_loop *loop;
    struct ec_bus *bus;
    struct ec_fetcher *fetcher;   /* for a GitHub App's tokens */
    struct ec_githosts *githosts; /* credentials of private repositories */
    struct ec_arena *arena;       /* lives as long as the builder */
    struct engine engine;
    const char *policy_file;        /* of the engine */
    const char *strict_policy_file; /* images of registries only */
    const char *isolate_file;       /* isolate.sh */
    const char *program;            /* our own, which makes the root folder of a build */
    struct ec_secret *layers_key;   /* of the marks of repositories */
    char engine_version[64];        /* "buildah 1.28.2"; "" until known */
    struct job *jobs;
    unsigned job_count;
    struct ec_consumer *commands; /* of build.commands; NULL before the start */
    struct ec_timer *heartbeat;
    bool heartbeat_due;          /* a change is to be told at the end of this turn */
    bool ready;                  /* leftovers are gone: jobs may begin */
    bool measuring;              /* on a worker: how much the caches have */
    bool trimming;               /* the caches are being cut: jobs wait */
    bool trim_wanted;            /* the images are over their share: jobs wait until none runs */
    struct ec_timer *trim_timer; /* nothing has run since a while: time to cut them */
    int64_t trimmed_mono_ms;     /* when that was done last */
    int64_t measured_mono_ms;    /* when git caches and cache mounts were measured last */
    int64_t images_mono_ms;      /* the same of images */
    unsigned evictions;          /* for names of folders that go */
    bool draining;               /* nothing new; running jobs are handed back */
    struct outgoing *outgoing;   /* events not yet acknowledged */
    ec_call_fn drained;          /* owed once everything has ended */
    ec_call_fn drained_now;      /* the same, on its way */
    void *drained_arg;
    struct ec_timer *drain_timer; /* gives up on unacknowledged events */
};

struct command {
    const char *const *argv;
    const char *const *env;
    const char *cwd;
    uint32_t deadline_ms;
    uint64_t memory_max_bytes, pids_max, file_max_bytes;
    bool capture; /* stdout goes to job->captured, not to the log */
    void (*ended)(struct job *job, const struct ec_process_result *result);
};

struct job {
    struct builder *builder;
    struct job *next;
    struct ec_arena *arena;
    Enclii__V1__RunBuild *run; /* in the arena */
    const char *trace;
    const char *dir, *source_dir, *git_dir, *home_dir;
    bool git_cached;     /* git_dir is the repository's shared cache, held by this job */
    bool fetched_branch; /* the host refused the commit by its id */
    const char *repo_key;
    struct ec_secret *git_auth; /* only while the step fetch runs; NULL = none is needed */
    struct build_plan plan;
    const char *dockerfile_path, *context_path;
    const char *ignore_path; /* the Dockerfile's own .dockerignore; NULL = there is none */
    const char *marked_path; /* the Dockerfile with its repository's mark */
    bool layered;            /* layers are kept, and those of the builds before serve it */
    const char *isolation, *isolation_dir; /* its network, and the folder of what keeps it apart */
    const char *image_id_file, *digest_file;
    const char *image_id, *digest;
    int64_t image_bytes;
    struct ec_process *sizer; /* tells image_bytes, beside the push; NULL when it has ended */
    struct ec_buf manifest;   /* what it says */
    bool pushed;              /* this try of the push is over, with push_err */
    struct ec_err push_err;
    struct limits limits;
    const char *bases[32];
    const char *base_digests[32];
    size_t base_count, bases_pulled;
    struct ec_flow flow;
    bool flow_running;
    const char *step;           /* running one, a literal; "" before the first */
    struct ec_process *process; /* running command, or NULL */
    struct command command;
    struct ec_buf captured;
    struct build_log log;
    unsigned log_batches; /* unacknowledged */
    Enclii__V1__StepTime steps[JOB_STEPS_MAX];
    Enclii__V1__StepTime *step_list[JOB_STEPS_MAX];
    size_t step_count;
    struct verdict verdict;    /* why it failed; detail NULL while nothing did */
    const char *cancel_reason; /* NULL = not cancelled */
    bool handed_back;          /* the builder stops: somebody else shall build it */
    int64_t began_unix_ms, deadline_mono_ms;
    unsigned owed; /* acknowledgements and clean-up before the job is gone */
    bool told;     /* its end was published */
};

/* builder.c */
struct ec_err builder_start(struct builder *b);
void builder_stop(struct builder *b, ec_call_fn drained, void *arg);
void builder_done(struct builder *b); /* after drained */
struct ec_err on_run_build(void *state, struct ec_event *ev);
struct ec_err on_cancel_build(void *state, struct ec_event *ev);
const char *builder_unready(const struct builder *b); /* why it takes no commands, or NULL */
void builder_changed(struct builder *b);              /* a heartbeat goes out in this turn */
void builder_job_gone(struct builder *b);
void builder_trim_wanted(struct builder *b); /* cuts the images, if that is due and nothing runs */
const char *builder_path(struct builder *b,
                         const char *name); /* below the work folder; start only */
extern const struct ec_route builder_routes[];
extern const size_t builder_route_count;

/* job.c */
void job_start(struct builder *b, Enclii__V1__RunBuild *run, struct ec_arena *arena,
               const char *trace); /* takes arena */
void job_begin(struct job *job);   /* its flow, once the builder is ready */
void job_cancel(struct job *job, const char *reason);
void job_enter(struct job *job, const char *step); /* a step begins; a literal */
struct ec_err job_fail(struct job *job, struct verdict verdict);
void job_step_done(struct job *job, struct ec_err err);
void job_let_go(void *job); /* one of `owed` is over */

/* job_command.c */
struct ec_err job_run(struct job *job, const struct command *command);
const char *const *job_env(struct job *job);                     /* of the engine's commands */
uint32_t job_deadline_ms(const struct job *job, int64_t own_ms); /* the nearer of both; 0 = over */
struct ec_err job_out_of_time(struct job *job);
char *job_read_file(struct job *job, const char *path); /* trimmed; NULL = absent or empty */

/* job_events.c */
void job_tell_started(struct job *job);
void job_tell_step(struct job *job, const char *name, int64_t duration_ms, bool failed);
void job_tell_log(void *job, int64_t first_seq, const struct build_log_line *lines, size_t count,
                  bool last, bool cut);
void job_tell_success(struct job *job);
void job_tell_failure(struct job *job, struct ec_err err);

/* step_fetch.c, step_build.c */
struct ec_err start_fetch(void *job);
void fetch_forget_auth(struct job *job);
struct ec_err start_detect(void *job);
struct ec_err start_build(void *job);
struct ec_err start_push(void *job);

/* engine_buildah.c */
extern const struct engine engine_buildah;
/* Environment of tools: a clean one plus the proxies and the container tools' own settings. */
const char *const *tool_env(struct ec_arena *arena, const char *home, const char *const *more);

/* isolation.c, root_folder.c */
struct ec_err isolation_open(struct builder *b);
struct ec_err isolation_prepare(struct job *job);
const char *const *isolation_words(struct job *job); /* before the command; NULL-ended */
/* "inside NETWORK DIR PATH... -- COMMAND...": becomes the command, in a root folder of its own. */
int root_folder_main(int argc, char **argv);

/* layers.c: for trusted jobs */
struct ec_err layers_open(struct builder *b);
const char *layers_mark(struct job *job);
const char *layers_mounts_dir(struct job *job); /* its repository's cache mounts */
void layers_prepare(struct job *job, struct ec_span dockerfile, bool complete);

/* cache.c */
void cache_take(struct job *job); /* sets git_dir */
bool cache_made(struct job *job); /* git_dir has served a build before */
void cache_release(struct job *job);
void cache_set_aside(struct job *job); /* goes with the job; the next try makes it anew */
size_t cache_urls(struct builder *b, struct ec_arena *arena, char **ret_urls, size_t max);

/* cache_trim.c */
/* Measures and cuts. `idle`: nothing runs, and nothing begins before the end; only then images are
 * pruned. `images`: they are looked at, too. */
void cache_trim(struct builder *b, bool idle, bool images);

/* publish.c */
/* Tries until the broker has it (or the builder gives up while stopping); then acked(arg), once. */
void publish(struct builder *b, const struct ec_message *message, ec_call_fn acked, void *arg);
void publish_give_up(struct builder *b); /* acked is called for all of them */
