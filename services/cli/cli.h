/* The `enclii` command: a table of commands (main.c), one function each. A program that does one
 * thing after another, so api_call below turns the loop until its answer is there.
 *
 * Exit statuses (E-75), the same for every command: */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/secret.h"
#include "net/fetch.h"
#include "net/loop.h"

enum exit_status {
    EXIT_OK = 0,
    EXIT_ERROR = 1,        /* wrong use, bad input, anything else */
    EXIT_NOT_FOUND = 10,   /* no such project, service, release, ... */
    EXIT_BUILD = 20,       /* the build failed, or its release was refused */
    EXIT_DEPLOYMENT = 30,  /* the deployment failed or was rolled back */
    EXIT_NOT_ALLOWED = 40, /* not signed in, or the role does not suffice */
    EXIT_UNREACHABLE = 50, /* the platform does not answer */
};

#define CLI_ARGS_MAX 16
#define LIST_MAX 500 /* the API gives no more at once, and far fewer when it is not asked */

struct cli;

struct command {
    const char *words;   /* "project create" */
    const char *args;    /* "NAME", "[SERVICE]": for help; [..] may be left out */
    const char *options; /* "file|f= lines|n# wait|w": long name, short one, = takes a text, # a
                            number above 0 */
    const char *help;
    int (*run)(struct cli *cli);
    bool offline; /* does not talk to the API */
};
extern const struct command commands[]; /* ended by a row with words NULL */

struct cli {
    struct ec_arena *arena; /* lives as long as the program */
    struct ec_loop *loop;   /* NULL for offline commands */
    struct ec_fetcher *fetcher;
    const struct command *command;
    const char *args[CLI_ARGS_MAX + 1]; /* positional */
    size_t arg_count;
    struct {
        const char *name, *value;
    } options[CLI_ARGS_MAX];
    size_t option_count;
    const char *api_url;
    struct ec_secret *token; /* NULL = not signed in */
    const char *project;     /* --project, ENCLII_PROJECT or the configuration; may be "" */
    bool json;               /* --output json */
    bool color;              /* stdout is a terminal and NO_COLOR is not set */
    bool progress;           /* the same for lines that tell what goes on */
};

/* ---- args.c ---- */
/* Finds the command, sorts the words. false: it has said what is wrong. */
bool args_parse(struct cli *cli, int argc, char **argv);
const char *option(const struct cli *cli, const char *name); /* NULL = not given; "" = a flag */
void print_help(const struct cli *cli);
void print_help_markdown(void); /* the tables of docs/cli.md */
/* "local": all "local ..." commands, under the heading; false: there is none. */
bool print_commands_below(FILE *out, const char *first, const char *heading);
void print_command_help(const struct command *command);

/* ---- config.c ---- */
/* Options, then environment (ENCLII_API_URL, ENCLII_API_TOKEN, ENCLII_PROJECT), then the file of
 * `enclii login`, then a local platform on this machine. A token that was kept for one address is
 * not sent to another. */
EC_RESULT config_load(struct cli *cli);
EC_RESULT config_save(struct cli *cli, const char *url, const char *token, const char *project);
const char *config_path(struct cli *cli);
/* "https://host//" is "https://host": paths are added behind it. */
char *config_plain_url(struct cli *cli, const char *url);

/* ---- sse.c: events out of bytes as they come ---- */
#define SSE_EVENT_MAX_BYTES (2 << 20)
#define SSE_ID_MAX_BYTES 160 /* a longer one is not resumed from */
struct sse_event {
    const char *id, *name, *data;
};
typedef bool (*sse_fn)(void *arg, const struct sse_event *event);
struct sse_reader {
    struct ec_buf waiting; /* an event that is not complete yet; overflowed: it is too large */
    size_t looked_at;      /* bytes of it that hold no end */
    bool line_empty;       /* up to there, its last line is empty */
    bool began;            /* something complete came, if only a comment */
    char last_id[SSE_ID_MAX_BYTES];
};
void sse_init(struct sse_reader *reader);
void sse_done(struct sse_reader *reader);
/* Calls on_event for each event that has data and is complete now; false: it wants no more. */
bool sse_feed(struct sse_reader *reader, struct ec_span piece, sse_fn on_event, void *arg);

/* ---- call.c: the API ---- */
struct reply {
    int status;   /* 0 = no answer */
    json_t *body; /* borrowed, lives as long as the program; NULL when it is no JSON */
    const char *text;
};
/* Turns the loop until the answer is there. When it is no 2xx, *ret_exit is the exit status to
 * leave with and the reason has been printed, with the next command to try. */
bool api_call(struct cli *cli, const char *method, const char *path, const json_t *body,
              struct reply *ret_reply, int *ret_exit);
/* The same, quiet about a 404 (false with ret_exit EXIT_NOT_FOUND). */
bool api_look(struct cli *cli, const char *path, struct reply *ret_reply, int *ret_exit);

/* What is wrong with an answer that is none, in the same words. */
int api_refused(struct cli *cli, struct ec_err err, int status, const char *text);
char *api_path(struct cli *cli, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- stream.c: server-sent events until they end, or `on_event` (false) ends them ---- */
struct stream_spec {
    const char *path;
    const char *(*path_again)(void *arg); /* after a loss, where ids do not resume; may be NULL */
    uint32_t deadline_ms;                 /* of one connection */
    bool quiet;                           /* losses are not told */
    sse_fn on_event;
    void *arg;
};
struct stream;
struct stream *stream_open(struct cli *cli, const struct stream_spec *spec);
bool stream_over(const struct stream *stream);
/* Ends it if need be, frees it; an exit status, after having said what was wrong. */
int stream_close(struct stream *stream);
/* Opens, waits for the end, closes. */
int api_stream(struct cli *cli, const struct stream_spec *spec);

struct stream_end { /* how a connection ended */
    bool no_answer; /* none, or cut off */
    int status;
    bool wanted_no_more;
    int64_t lost_for_ms; /* since events stopped coming */
};
enum stream_fate { STREAM_OVER, STREAM_AGAIN };
enum stream_fate decide_stream_end(const struct stream_end *end);

/* ---- find.c: names to objects ---- */
json_t *find_project(struct cli *cli, int *ret_exit);
/* By the name given, the enclii.yaml here, or the only service there is; prints what is wrong. */
json_t *find_service(struct cli *cli, const char *name, int *ret_exit);
const char *service_id(const json_t *service);
/* By version, id or commit; NULL = the newest that is ready. Prints what is wrong. */
json_t *find_release(struct cli *cli, const json_t *service, const char *name, int *ret_exit);

/* A commit by what git calls it here, or by its id: all of it when `whole`, else its beginning
 * does. NULL = said what is wrong. */
const char *find_commit(struct cli *cli, const char *name, bool whole, int *ret_exit);

/* What a person calls a push: HEAD (the commit here) and v12 (a release of --service or of the one
 * here) become ids, anything else stays. NULL = said what is wrong. */
const char *find_what(struct cli *cli, const char *name, int *ret_exit);

/* ---- git_here.c: the working copy the command is called in; "" = there is none ---- */
const char *git_commit_here(struct cli *cli);
const char *git_commit_of(struct cli *cli,
                          const char *name);  /* of a branch, tag, short id, HEAD~1 */
const char *git_origin_here(struct cli *cli); /* the remote's URL */

/* ---- out.c: what people and scripts see ---- */
struct column {
    const char *title;
    const char *path; /* into each object; "a.b" */
    enum { PLAIN, STATE, AGO, SHORT_SHA, DURATION } kind;
};
struct table {
    const struct column *columns;
    size_t count;
    const char *none; /* said when there is no row: what that means, and what to do */
};
#define TABLE(columns, none) (&(const struct table){columns, EC_LEN(columns), none})
int print_list(struct cli *cli, const json_t *list, const struct table *table);
int print_json(const json_t *root);
const char *paint(const struct cli *cli, const char *text,
                  const char *style); /* "green", "dim" ... */
/* Without what a terminal would obey: texts of commits and tools come from strangers. */
const char *shown_text(struct cli *cli, const char *text);
const char *state_style(const char *state);
const char *ago_text(struct cli *cli, const char *rfc3339);
size_t text_letters(const char *text); /* UTF-8 letters */
int give_up(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- cmd_timeline.c ---- */
struct bar {
    int64_t offset_ms, duration_ms, span_ms; /* where in the whole; span: the whole */
    int width;                               /* letters of the whole */
    enum { BAR_STEP, BAR_WAIT, BAR_POINT } kind;
};
char *timeline_bar(struct ec_arena *arena, const struct bar *bar); /* without spaces behind */

/* ---- commands ---- */
int cmd_login(struct cli *cli);
int cmd_project_create(struct cli *cli);
int cmd_project_list(struct cli *cli);
int cmd_project_use(struct cli *cli);
int cmd_environment_create(struct cli *cli);
int cmd_environment_list(struct cli *cli);
int cmd_service_create(struct cli *cli);
int cmd_service_list(struct cli *cli);
int cmd_service_delete(struct cli *cli);
int cmd_channel_create(struct cli *cli);
int cmd_channel_list(struct cli *cli);
int cmd_channel_delete(struct cli *cli);
int cmd_deploy(struct cli *cli);
int cmd_rollback(struct cli *cli);
int cmd_status(struct cli *cli);
int cmd_releases(struct cli *cli);
int cmd_deployments(struct cli *cli);
int cmd_builds(struct cli *cli);
int cmd_approve(struct cli *cli);
int cmd_pull_requests(struct cli *cli);
int cmd_deliveries(struct cli *cli);
int cmd_delivery_show(struct cli *cli);
int cmd_delivery_again(struct cli *cli);
int cmd_hooks_setup(struct cli *cli);
int cmd_hooks_secret(struct cli *cli);
int cmd_hooks_test(struct cli *cli);
int cmd_hooks_show(struct cli *cli);
int cmd_hooks_list(struct cli *cli);
int cmd_logs(struct cli *cli);
int cmd_why(struct cli *cli);
int cmd_timeline(struct cli *cli);
int cmd_verify(struct cli *cli);
int cmd_sbom(struct cli *cli);
int cmd_watch(struct cli *cli);
int cmd_events_tail(struct cli *cli);
int cmd_dead_list(struct cli *cli);
int cmd_dead_show(struct cli *cli);
int cmd_dead_replay(struct cli *cli);
int cmd_dead_discard(struct cli *cli);
int cmd_version(struct cli *cli);
int cmd_help(struct cli *cli);
int cmd_topics_apply(struct cli *cli);
int cmd_topics_acls(struct cli *cli);
int cmd_topics_list(struct cli *cli);
int cmd_local_up(struct cli *cli);
int cmd_local_down(struct cli *cli);
int cmd_local_status(struct cli *cli);
int cmd_local_logs(struct cli *cli);
int cmd_local_backup(struct cli *cli);
int cmd_local_restore(struct cli *cli);
int cmd_local_rotate(struct cli *cli);
int cmd_local_env(struct cli *cli);
int cmd_local_repo(struct cli *cli);
int cmd_local_hook(struct cli *cli);
int cmd_local_supervise(struct cli *cli);
