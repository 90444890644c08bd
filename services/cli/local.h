/* The platform on one machine: what `enclii local` shares between its files. Everything it keeps
 * lives in one folder (`home`), everything it downloads in another (`cache`, filled by
 * tools/setup).
 *
 *   home/secrets     made at first start, 0600          home/logs      one file per component
 *   home/run         sockets, state.json, the lock      home/conf      what we write for the tools
 *   home/postgres kafka registry engine builder git objects router ca   data, one folder each
 *
 * `enclii local up` starts `enclii local supervise`, which holds the lock for as long as it lives
 * and tells in state.json what runs: whoever holds the lock is the platform, a pid alone proves
 * nothing. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/arena.h"
#include "base/err.h"
#include "net/fetch.h"
#include "net/loop.h"

enum local_port {
    PORT_API,
    PORT_WEBHOOK,
    PORT_HTTP,
    PORT_HTTPS,
    PORT_REGISTRY,
    PORT_GIT,
    PORT_POSTGRES,
    PORT_KAFKA,
    PORT_KAFKA_CONTROLLER,
    PORT_ADMIN, /* the first of PORT_ADMIN_COUNT: /metrics and /health of each service */
    PORT_COUNT
};
#define PORT_ADMIN_COUNT 10

struct local_port_row {
    const char *setting; /* environment variable that changes it */
    const char *purpose;
    int fallback;
    int shift; /* its place after ENCLII_LOCAL_PORT_BASE */
};
extern const struct local_port_row local_ports[PORT_COUNT];

struct local {
    struct ec_arena *arena; /* lives as long as the program */
    const char *home;
    const char *cache;
    const char *programs;  /* folder of our own programs, from /proc/self/exe */
    const char *log_level; /* of our services; ENCLII_LOCAL_LOG_LEVEL */
    int ports[PORT_COUNT];
    int kept_ports[PORT_COUNT]; /* of the last start; 0 = there was none */
};

/* ---- local_config.c: where things are ---- */
/* Reads the environment and, for ports that it does not name, what home/local.json remembers. */
EC_RESULT local_open(struct local *local, struct ec_arena *arena);
char *local_path(const struct local *local, const char *relative);
/* A secret's text without newline, or NULL when the platform has never been started. */
char *local_secret(const struct local *local, const char *name);
const char *local_api_url(const struct local *local);
char *local_read_file(const struct local *local, const char *path); /* NULL when unreadable */
/* Whole or not at all: writes beside, then renames. */
EC_RESULT local_write_file(const struct local *local, const char *path, const char *text,
                           mode_t mode);
EC_RESULT local_make_folder(const struct local *local, const char *path, mode_t mode);

/* ---- local_files.c: folders, secrets and the tools' configuration ---- */
#define LOCAL_OLDER_KEYS "signing.pub.before" /* of secrets: a rotation has put it there */
EC_RESULT local_prepare(struct local *local);

/* ---- local_check.c: is this machine ready for it? ---- */
/* Missing tools, ports in use, too little disk, no root: REJECT with all that is to be done. */
EC_RESULT local_check_machine(const struct local *local);

/* ---- local_table.c: the components, and the environment of each ---- */
/* In command, probe, done_file and environment {name} stands for what local_expand knows:
 * {home} {cache} {programs} {log_level}, a port by its name ({api} {kafka} ...), {admin} for the
 * component's own admin port, {classpath} for Kafka's jars. */
struct component {
    const char *name;
    const char *help;
    const char *after;     /* names it needs, separated by spaces */
    const char *command;   /* words separated by spaces, each expanded after the splitting */
    const char *script;    /* or: for sh -ec, with home as $1 */
    const char *input;     /* name of the secret that the script reads from stdin, or NULL */
    const char *probe;     /* "tcp PORT", "unix SOCKET", "http PORT PATH", "socket SOCKET PATH",
                              "exec COMMAND"; NULL: a task, ready when it has ended well */
    const char *done_file; /* a task is not needed when this exists; NULL = always */
    int stop_signal;       /* sent before SIGTERM; 0 = none */
    int admin;             /* its place after PORT_ADMIN, + 1; 0 = not one of our services */
};
extern const struct component local_components[];
extern const size_t local_component_count;

bool local_needed(const struct local *local, const struct component *component);
const char *const *local_argv(const struct local *local, const struct component *component);
const char *const *local_env(const struct local *local, const struct component *component);

/* ---- local_expand.c ---- */
char *local_expand(const struct local *local, const struct component *component, const char *text);
const char *const *local_words(const struct local *local, const struct component *component,
                               const char *text);

/* ---- local_router.c ---- */
char *local_router_config(const struct local *local);

/* ---- local_probe.c ---- */
struct local_probe;
typedef void (*probe_fn)(void *arg, bool ready);
/* Asks once; calls back once, never before returning. */
void local_probe_start(const struct local *local, const struct component *component,
                       struct ec_loop *loop, struct ec_fetcher *fetcher, probe_fn done, void *arg);

/* ---- local_state.c: who runs ---- */
/* Takes the lock; -1 when somebody holds it. Lives as long as the descriptor. */
int local_lock(const struct local *local);
/* One `up` at a time prepares: waits for another one, until that has its supervisor. A descriptor
 * to close; -1 when the folder cannot be made, which the checks will tell. */
int local_starting(const struct local *local);
bool local_running(const struct local *local);
/* The process that holds it; 0 when nobody does, or it cannot be told who. */
pid_t local_supervisor(const struct local *local);
json_t *local_state_read(const struct local *local); /* NULL when there is none */
EC_RESULT local_state_write(const struct local *local, json_t *state);
/* Start time of a process, from /proc, so that a reused pid is not taken for the old process. */
int64_t local_process_start(pid_t pid);
/* Names, each with a space before it, of what runs a program that is no longer the one on disk. */
const char *local_older(const struct local *local, const json_t *state);
/* Environment variable of every process of the platform: its home. */
#define LOCAL_MARK "LOCAL_PLATFORM"
/* What a supervisor that was killed left behind: processes and, with `containers`, also app
 * containers and mounts. */
void local_sweep(const struct local *local, bool containers);

/* ---- local_up.c: what commands share ---- */
struct cli;
/* local_open, and a PATH with the tools on it; false: said what is wrong. */
bool local_open_for(struct cli *cli, struct local *local, int *ret_exit);
/* Stops whatever of it runs, with what it left behind. */
void local_stop(const struct local *local);

/* ---- local_show.c: what they print ---- */
const char *local_seconds(struct cli *cli, int64_t ms);
void local_print_addresses(struct cli *cli, const struct local *local);
/* The last lines of a file; nothing when there is none. */
void local_print_tail(const char *path, int lines, const char *indent);
/* What runs and is older than its program on disk; `state` is the supervisor's. */
void local_tell_older(struct cli *cli, const struct local *local, const json_t *state);

/* ---- local_rest.c ---- */
/* Stops a running platform for `act` (with --stop only), starts it again; says what went wrong. */
typedef struct ec_err (*local_rest_fn)(struct local *local, void *arg);
int local_at_rest(struct cli *cli, struct local *local, local_rest_fn act, void *arg);

/* ---- local_supervise.c ---- */
int local_supervise(struct local *local);

/* ---- local_hook.c: the git server's side ---- */
int local_hook(struct local *local);

/* ---- local_repo.c: its repositories ---- */
int local_repo(struct local *local, const char *name);
bool local_repo_name_fits(const char *name); /* "acme/shop" */
EC_RESULT local_renew_hooks(const struct local *local);
/* Output of a command, or NULL when it failed. Waits: nothing else runs meanwhile. */
char *local_output(const struct local *local, const char *const *argv);

/* ---- local_moved.c: files that name their own place ---- */
/* After a start in another folder than before, and after a restore. */
EC_RESULT local_mend_places(const struct local *local);

/* ---- local_hook_secret.c: with which secret that side signs, when not with the common one ---- */
char *local_repo_secret(const struct local *local, const char *name); /* NULL = it has none */
/* For the command, which knows repositories by their keys. */
enum local_kept {
    LOCAL_ELSEWHERE, /* no repository of this machine's git server */
    LOCAL_KEPT,
    LOCAL_NOT_KEPT, /* not for us to write */
};
/* secret NULL: the common one again. */
enum local_kept local_repo_keep_secret(struct ec_arena *arena, const char *repo_key,
                                       const char *secret);
bool local_repo_has_secret(struct ec_arena *arena, const char *repo_key);
